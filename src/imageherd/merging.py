"""Coarser or finer after the fact: which clusters to make one, and the way back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage

from imageherd.clustering import (
    NOWHERE,
    Clustering,
    clusters_of,
    direction_sums,
    probabilities_of,
    some_rows,
    top_two,
    with_names,
)
from imageherd.derived import N_NEIGHBORS, Features, feature_set, kept_graph, voted_names
from imageherd.edits.carrying import before_another
from imageherd.errors import ImageherdError
from imageherd.neighbors import Rows
from imageherd.quality import Quality, judge
from imageherd.versions import Versions, versions_of

# Up to here the tree costs next to nothing beside the fit before it.
MOST_AT_FIT = 2000


@dataclass(frozen=True)
class Dendrogram:
    """In which order fitted clusters become one.

    Attributes
    ----------
    uids : list of int
        The K fitted clusters that have images, ascending.
    children : list of [int, int]
        The two that each of the K - 1 steps joins: below K a place in `uids`, K + j what step j
        made.
    heights : list of float
        How far apart the two were; never less than the step before.
    first_uid : int or None
        The uid of what step 0 makes, of step j it is j more; None before anything was merged.
    """

    uids: list[int]
    children: list[list[int]]
    heights: list[float]
    first_uid: int | None = None

    def cut(self, n_clusters: int) -> dict[int, list[int]]:
        """Return the uids joined in each of `n_clusters` groups, by the group's number.

        The numbers are those in `children`.

        Raises
        ------
        ValueError
            If `n_clusters` is not from 1 to the number of fitted clusters.
        """
        k = len(self.uids)
        if not 1 <= n_clusters <= k:
            raise ValueError(f"n_clusters={n_clusters} must be from 1 to {k}.")
        groups = {place: [uid] for place, uid in enumerate(self.uids)}
        for step, (left, right) in enumerate(self.children[: k - n_clusters]):
            groups[k + step] = sorted(groups.pop(left) + groups.pop(right))
        return groups


def build(X: NDArray[np.float32] | Rows, parts: NDArray[np.int32]) -> Dendrogram:
    """Join the clusters two at a time, by Ward's criterion on their mean directions.

    The images are scaled to length 1 and averaged in each cluster; of all pairs of groups the one
    is joined whose union raises the sum of squared distances between these means and their groups'
    centres least (Ward 1963). Every fitted cluster counts once, however many images it has:
    weighted by images, a small cluster far from all others would be joined first because it is
    small. The criterion is reducible, so heights never fall and every number of groups is a cut of
    one tree. Links of the k-NN graph between clusters were no choice: clusters that lie well apart
    have none, nor do all the neighbors of an image fit in a cluster of fewer than k. By the mean
    cosine between members broad clusters are far from everything, themselves included, and the rest
    ends in a heap: 69 % of 3,781 photographs in one of five groups, where this leaves 41 %.

    Costs O(n d + K² d) time; memory for K² / 2 distances and one block of images. Equal distances
    go by uid.

    Parameters
    ----------
    X : ndarray or Rows, shape (n, d)
        Features.
    parts : ndarray of int, shape (n,)
        Uid of each image's cluster; negative for an image that is in none.
    """
    placed = parts >= 0
    uids, labels = np.unique(parts[placed], return_inverse=True)
    if len(uids) < 2:
        return Dendrogram(uids.tolist(), [], [])
    sums = direction_sums(some_rows(X, np.flatnonzero(placed)), labels, len(uids))
    # Rounded, so that the order in which images were added up decides nothing.
    means = np.round(sums / np.bincount(labels)[:, None], 9)
    steps = linkage(means, "ward")
    return Dendrogram(
        uids.tolist(),
        np.sort(steps[:, :2], axis=1).astype(int).tolist(),
        steps[:, 2].tolist(),
    )


def with_dendrogram(clustering: Clustering, X: NDArray[np.float32] | Rows) -> Clustering:
    """Return a clustering just fitted on X (n, d) with its dendrogram among the settings kept.

    Of more than 2,000 clusters it is left to be built when asked for.
    """
    if len(clustering.clusters) > MOST_AT_FIT:
        return clustering
    tree = asdict(build(X, clustering.uids))
    return replace(clustering, config=clustering.config | {"dendrogram": tree})


def dendrogram(clustering: Clustering) -> Dendrogram:
    """Return a clustering's dendrogram: the one kept, or built anew where there is none to use."""
    parts = clustering.uids if clustering.parts is None else clustering.parts
    kept = clustering.config.get("dendrogram")
    if kept and kept["uids"] == np.unique(parts[parts >= 0]).tolist():
        return Dendrogram(**kept)
    return build(_features(clustering).vectors, parts)


def merged(clustering: Clustering, n_clusters: int) -> Clustering:
    """Join the clusters most alike until `n_clusters` are left, or part again what was joined.

    The clusters are always unions of those that were fitted; no image changes from one to another,
    and with as many as were fitted the clustering is as it was. A union gets a uid of its own, the
    same whenever this union comes up again; a cluster that is joined with none keeps its uid. Names
    are voted anew; a name that a person gave to the largest of the clusters joined goes over to
    the union, unless that has been given one. An image's probability is the sum of the head's
    probabilities for the clusters joined. Nothing is written.

    Parameters
    ----------
    clustering : Clustering
        As a herd returns it.
    n_clusters : int
        From 1 to the number of clusters that were fitted.

    Raises
    ------
    ImageherdError
        If `n_clusters` is out of range, or no herd keeps the clustering.
    """
    clustering = clustering.as_trained or clustering
    data, versions = _features(clustering), Versions(_folder(clustering))
    herd = versions.folder.parents[1]
    tree, config = dendrogram(clustering), clustering.config
    if not 1 <= n_clusters <= len(tree.uids):
        raise ImageherdError(
            f"Clustering {clustering.name!r} was fitted with {len(tree.uids)} clusters, so "
            f"n_clusters={n_clusters} cannot be had by merging; give 1 to {len(tree.uids)}, or run "
            "`imageherd cluster` for more."
        )
    if tree.first_uid is None:
        # As many as there may ever be, so that a union's uid does not depend on what was asked for.
        tree = replace(tree, first_uid=config["next_uid"])
        config = config | {"next_uid": config["next_uid"] + len(tree.children)}
    assert tree.first_uid is not None
    fitted = config.get("parts", config["uids"])
    becomes = {uid: uid for uid in fitted}
    for group, joined in tree.cut(n_clusters).items():
        if len(joined) > 1:
            becomes |= dict.fromkeys(joined, tree.first_uid + group - len(tree.uids))
    parts = clustering.uids if clustering.parts is None else clustering.parts
    columns = [becomes[uid] for uid in fitted]
    P = probabilities_of(versions.head(clustering.version), data.vectors)
    uids, probability, second = top_two(P, columns, _places(fitted, parts))
    if clustering.by_hand is not None:
        probability = np.where(clustering.by_hand & (uids >= 0), np.float32(1), probability)
    config = config | {"uids": columns, "dendrogram": asdict(tree)}
    for about in ("parts", "edits_of"):
        config.pop(about, None)
    is_merged = columns != fitted
    found = replace(
        clustering,
        uids=uids,
        probability=probability,
        second=second,
        clusters=clusters_of(data.rows, data.vectors, uids, probability),
        config=config | ({"parts": fitted} if is_merged else {}),
        parts=parts if is_merged else None,
        quality=_judged(clustering.quality, uids, data, herd),
    )
    found = with_names(found, voted_names(herd, data, uids))
    given = versions.given_names()
    names = given | _handed_on(clustering, found, given)
    clusters = [replace(c, name=names.get(c.uid, c.name)) for c in found.clusters]
    return replace(found, clusters=clusters)


def keep_merged(herd: Path, clustering: Clustering, n_clusters: int, to: str | None) -> Clustering:
    """Write `merged` as the next version; the herd's lock must be held.

    Parameters
    ----------
    herd : Path
        The herd.
    clustering : Clustering
        The current version of what is to be merged.
    n_clusters : int
        As in `merged`.
    to : str, optional
        Name of a new clustering to keep the result as, with the names given by a person; by
        default it is the next version of the same one.

    Raises
    ------
    ImageherdError
        As in `merged`, or if there is a clustering `to` already.
    """
    target = versions_of(herd, to or clustering.name)
    if to is not None and target.current() is not None:
        raise ImageherdError(
            f"{herd} has a clustering {to!r} already; choose another name, or merge that one."
        )
    source = versions_of(herd, clustering.name)
    if to is None:
        n = len(clustering.config["uids"])
        clustering = before_another(source, n, placed_stay=True) or clustering
    clustering = clustering.as_trained or clustering
    found, given = merged(clustering, n_clusters), source.given_names()
    head = source.head(clustering.version)
    target.write(replace(found, name=target.folder.name), head, [])
    # Last: a name without its cluster would go to whatever gets that uid next.
    names = _handed_on(clustering, found, given) | (given if to is not None else {})
    for uid, name in names.items():
        target.give_name(uid, name)
    kept = target.current()
    assert kept is not None
    return kept


def origins(old: Clustering, new: Clustering) -> dict[int, list[int]]:
    """Return for each cluster of `new` the uids in `old` of its images, most images first.

    Equal ones by uid. Both must hold the same images.
    """
    pairs = np.column_stack([new.uids, old.uids])[new.uids != NOWHERE]
    known, counts = np.unique(pairs, axis=0, return_counts=True)
    found: dict[int, list[int]] = {}
    for (uid, before), _ in sorted(
        zip(known.tolist(), counts.tolist(), strict=True), key=lambda e: (-e[1], e[0])
    ):
        found.setdefault(uid, []).append(before)
    return found


def _handed_on(old: Clustering, new: Clustering, given: dict[int, str]) -> dict[int, str]:
    """Names given by a person to the largest of the clusters that have become one."""
    return {
        uid: given[before[0]]
        for uid, before in origins(old, new).items()
        if len(before) > 1 and uid not in given and before[0] in given
    }


def _judged(
    quality: Quality | None, uids: NDArray[np.int32], data: Features, herd: Path
) -> Quality | None:
    """Say anew how the images sit in their places; how far out they lie stays as it was."""
    if quality is None:
        return None
    graph = None
    if not np.isnan(quality.agreement).all():
        graph = kept_graph(herd, data, min(N_NEIGHBORS, len(data.rows) - 1), "auto")
    return replace(judge(uids, graph, quality.duplicate_of), outlier=quality.outlier)


def _places(fitted: list[int], parts: NDArray[np.int32]) -> NDArray[np.int64]:
    """Column of each image's cluster, -1 for none."""
    order = np.argsort(fitted)
    found = order[np.searchsorted(np.array(fitted)[order], np.maximum(parts, min(fitted)))]
    return np.where(parts < 0, -1, found)


def _folder(clustering: Clustering) -> Path:
    if clustering.folder is None:
        raise ImageherdError(
            f"No herd keeps clustering {clustering.name!r}, so it cannot be merged; take the one "
            "that `Herd.cluster` or `Herd.clustering` returns."
        )
    return clustering.folder


def _features(clustering: Clustering) -> Features:
    key: Any = clustering.config["features"]
    return Features(clustering.rows, key, feature_set(_folder(clustering).parents[1], key))
