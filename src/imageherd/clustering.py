"""A clustering: who belongs where, who stands for a cluster, and what is kept from the last one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from imageherd.errors import ImageherdError
from imageherd.naming import ClusterName
from imageherd.neighbors import Rows
from imageherd.quality import Quality, joined
from imageherd.uids import match_uids

if TYPE_CHECKING:
    from imageherd.heads.base import Head

NOWHERE = -1
MOST_PROBABLE = -2
"""In place of a column: the one that the head finds most probable."""
N_MEDOIDS = 12
BLOCK = 8192


@dataclass(frozen=True)
class Cluster:
    """One cluster of a clustering.

    Attributes
    ----------
    uid : int
        Permanent number of the cluster; a refit that finds it again keeps it.
    name : str
        What it is called.
    size : int
        Number of images.
    confidence : float
        Mean probability of its members.
    medoids : list of int
        Rows of the members most similar to all the others, best first.
    share, runner_up, runner_up_share, winner, lift, voters, evidence
        The vote behind the name, where there was one; see `imageherd.naming.ClusterName`.
    """

    uid: int
    name: str
    size: int
    confidence: float
    medoids: list[int]
    share: float | None = None
    runner_up: str | None = None
    runner_up_share: float | None = None
    winner: str | None = None
    lift: float | None = None
    voters: int | None = None
    evidence: list[int] | None = None


@dataclass(frozen=True)
class Clustering:
    """What a head found, one entry a clustered image, in row order.

    Attributes
    ----------
    name, version : str
        Which clustering of the herd, and which version of it.
    rows : ndarray of int64, shape (n,)
        Rows of the items table.
    uids : ndarray of int32, shape (n,)
        Cluster of each image; -1 is "fits nowhere".
    probability : ndarray of float32, shape (n,)
        The head's probability for that cluster.
    second : ndarray of int32, shape (n,)
        The second most probable cluster.
    clusters : list of Cluster
        Largest first.
    config : dict
        Method, feature set and settings that gave it.
    parts : ndarray of int32, shape (n,), or None
        Where clusters were merged, the cluster of each image before, as it was fitted.
    folder : Path or None
        Where its versions are kept.
    quality : Quality or None
        How well each image sits in its place; None if made before that was kept.
    by_hand : ndarray of bool, shape (n,), or None
        Which images a person has placed; None where there are none.
    as_trained : Clustering or None
        What it was before a person's edits; None where there are none.
    """

    name: str
    version: str
    rows: NDArray[np.int64]
    uids: NDArray[np.int32]
    probability: NDArray[np.float32]
    second: NDArray[np.int32]
    clusters: list[Cluster]
    config: dict[str, Any] = field(default_factory=dict)
    parts: NDArray[np.int32] | None = None
    folder: Path | None = None
    quality: Quality | None = None
    by_hand: NDArray[np.bool_] | None = None
    as_trained: Clustering | None = None

    def merge(self, n_clusters: int) -> Clustering:
        """Return it with `n_clusters` of them, coarser or finer; see `imageherd.merging.merged`.

        Nothing is written; `imageherd.Herd.merge` keeps the result.
        """
        from imageherd.merging import merged

        return merged(self, n_clusters)

    def cluster(self, uid: int) -> Cluster:
        """Return the cluster with this uid."""
        for cluster in self.clusters:
            if cluster.uid == uid:
                return cluster
        known = ", ".join(str(c.uid) for c in sorted(self.clusters, key=lambda c: c.uid))
        raise ImageherdError(
            f"Clustering {self.name!r} has no cluster {uid}; its clusters are {known}."
        )

    def names(self) -> dict[int, str]:
        """Return the name of each uid, "fits nowhere" included."""
        return {NOWHERE: "fits nowhere"} | {c.uid: c.name for c in self.clusters}


def some_rows(X: NDArray[np.float32] | Rows, at: NDArray[np.int64]) -> NDArray[np.float32] | Rows:
    """Return rows of X (n, d), ascending, without a copy of them: X itself where they are all."""
    if len(at) == len(X):
        return X
    return Rows(lambda i: X[at[i]], (len(at), X.shape[1]))


def probabilities_of(head: Head, X: NDArray[np.float32] | Rows) -> Rows:
    """Return what a head says of the rows of X (n, d), (n, n_clusters): asked a block at a time."""
    return Rows(lambda at: head.predict_proba(X[at]), (len(X), head.n_clusters_))


def by_centrality(
    X: NDArray[np.float32] | Rows, labels: NDArray[np.int64], n_clusters: int
) -> list[NDArray[np.int64]]:
    """Order the members of each cluster by their mean cosine similarity to all its members.

    The first is the medoid. A member's mean similarity is its product with the mean of the
    normalised members, so the cost is O(n d), not O(n²); memory is one block.

    Parameters
    ----------
    X : ndarray or Rows, shape (n, d)
        Features.
    labels : ndarray of int, shape (n,)
        Cluster numbers from 0 to n_clusters - 1.
    n_clusters : int
        Number of clusters; an empty one gets an empty array.

    Returns
    -------
    list of ndarray of int64
        Positions in X, most central first; equal ones by position.
    """
    centers = direction_sums(X, labels, n_clusters)
    similarity = np.empty(len(X))
    for start, block in _normalised_blocks(X):
        end = start + len(block)
        similarity[start:end] = np.einsum("nd,nd->n", block, centers[labels[start:end]])
    # Rounding makes equal images equal, so that position decides between them on every machine.
    order = np.lexsort((np.arange(len(X)), -np.round(similarity, 6), labels))
    edges = np.searchsorted(labels[order], np.arange(n_clusters + 1))
    return [order[edges[c] : edges[c + 1]].astype(np.int64) for c in range(n_clusters)]


def direction_sums(
    X: NDArray[np.float32] | Rows, labels: NDArray[np.int64], n_clusters: int
) -> NDArray[np.float64]:
    """Add up the members of each cluster, scaled to length 1: shape (n_clusters, d)."""
    sums = np.zeros((n_clusters, X.shape[1]))
    for start, block in _normalised_blocks(X):
        columns = labels[start : start + len(block)]
        shape = (n_clusters, len(block))
        sums += csr_array((np.ones(len(block)), (columns, np.arange(len(block)))), shape) @ block
    return sums


def _normalised_blocks(
    X: NDArray[np.float32] | Rows,
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    for start in range(0, len(X), BLOCK):
        block = np.asarray(X[start : start + BLOCK], dtype=np.float64)
        norms = np.linalg.norm(block, axis=1, keepdims=True)
        yield start, block / np.where(norms == 0, 1, norms)


def by_cluster(probabilities: NDArray[np.float32], uids: list[int]) -> NDArray[np.float32]:
    """Add up the columns of one cluster: shape (n, number of different uids), in uids' order."""
    order = list(dict.fromkeys(uids))
    if len(order) == len(uids):
        return probabilities
    place = {uid: c for c, uid in enumerate(order)}
    found = np.zeros((len(probabilities), len(order)))
    for column, uid in enumerate(uids):
        found[:, place[uid]] += probabilities[:, column]
    return np.minimum(found, 1).astype(np.float32)


def top_two(
    probabilities: NDArray[np.float32] | Rows,
    uids: list[int],
    labels: NDArray[np.integer[Any]] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]:
    """Return the cluster of each image, its probability and the most probable of the others.

    A cluster of several columns, merged ones, has the sum of their probabilities; an image is in
    the cluster of its most probable column all the same, so that merging moves none. Equal
    probabilities go to the earlier column. A single cluster is its own second.

    Parameters
    ----------
    probabilities : ndarray or Rows, shape (n, n_columns)
        From a head; each row is looked at once.
    uids : list of int
        Cluster of each column.
    labels : ndarray of int, shape (n,), optional
        Column each image is put in, -1 for none, -2 (`MOST_PROBABLE`) for the most probable one,
        which is the default. An image in none gets -1 and the probability of the best column's
        cluster.
    """
    clusters = np.array(list(dict.fromkeys(uids)), dtype=np.int32)
    place = {uid: c for c, uid in enumerate(clusters.tolist())}
    of_column = np.array([place[uid] for uid in uids], dtype=np.intp)
    first, second = np.empty((2, len(probabilities)), dtype=np.intp)
    best = np.empty(len(probabilities), dtype=np.float32)
    for start in range(0, len(probabilities), BLOCK):
        block = np.array(probabilities[start : start + BLOCK])
        each, rows = np.arange(len(block)), slice(start, start + BLOCK)
        column = block.argmax(1)
        if labels is not None:
            column = np.where(labels[rows] < 0, column, labels[rows])
        first[rows] = of_column[column]
        block = by_cluster(block, uids)
        best[rows] = block[each, first[rows]]
        block[each, first[rows]] = -1
        second[rows] = block.argmax(1)
    found = clusters[first]
    if labels is not None:
        found[labels == NOWHERE] = NOWHERE
    return found, best, clusters[second]


def describe(
    rows: NDArray[np.int64],
    X: NDArray[np.float32] | Rows,
    probabilities: NDArray[np.float32] | Rows,
    labels: NDArray[np.integer[Any]] | None = None,
    *,
    name: str,
    config: dict[str, Any],
    previous: Clustering | None = None,
    uids: list[int] | None = None,
    by_hand: NDArray[np.bool_] | None = None,
) -> Clustering:
    """Turn a head's probabilities into a clustering: uids, sizes, medoids.

    Parameters
    ----------
    rows : ndarray of int64, shape (n,)
        Rows of the images.
    X : ndarray or Rows, shape (n, d)
        Their features.
    probabilities : ndarray or Rows, shape (n, n_clusters)
        From the head; a column that wins no image gives no cluster.
    labels : ndarray of int, shape (n,), optional
        The column each image is in, as in `top_two`.
    name : str
        Of the clustering.
    config : dict
        Settings to keep, "warm_start" among them where there was one; "uids" (of every column)
        and "next_uid" are added.
    previous : Clustering, optional
        The version before, whose uids are kept where the clusters are the same.
    uids : list of int, optional
        The cluster of each column, where that is known.
    by_hand : ndarray of bool, shape (n,), optional
        Which images a person has placed: of their clusters they are certain.
    """
    n_clusters = probabilities.shape[1]
    every = list(range(n_clusters))
    labels, probability, second = top_two(probabilities, every, labels)
    placed = np.flatnonzero(labels >= 0)
    sizes = np.bincount(labels[placed], minlength=n_clusters)
    rank = np.empty(n_clusters, dtype=np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(n_clusters)
    if uids is None:
        ranked = match_uids(
            rank[labels[placed]], rows[placed], n_clusters, previous, warm="warm_start" in config
        )
    columns = [ranked[r] for r in rank] if uids is None else uids
    of_column = np.array(columns, dtype=np.int32)
    cluster = np.where(labels < 0, np.int32(NOWHERE), of_column[labels])
    if by_hand is not None:
        probability = np.where(by_hand & (labels >= 0), np.float32(1), probability)
    clusters = clusters_of(rows, X, cluster, probability)
    floor = previous.config["next_uid"] if previous else 1
    config = config | {"uids": columns, "next_uid": max(floor, max(columns) + 1)}
    about = (rows, cluster, probability, of_column[second], clusters, config)
    return Clustering(name, "", *about, by_hand=by_hand)


def clusters_of(
    rows: NDArray[np.int64],
    X: NDArray[np.float32] | Rows,
    uids: NDArray[np.int32],
    probability: NDArray[np.float32],
) -> list[Cluster]:
    """Return the clusters that images have been put in, largest first, not yet named.

    Parameters as the attributes of `Clustering`; X, shape (n, d), are the images' features.
    """
    placed = np.flatnonzero(uids != NOWHERE)
    known, labels = np.unique(uids[placed], return_inverse=True)
    central = by_centrality(some_rows(X, placed), labels, len(known))
    found = []
    for uid, order in zip(known.tolist(), central, strict=True):
        members = placed[order]
        confidence = float(probability[members].mean())
        medoids = rows[members[:N_MEDOIDS]].tolist()
        found.append(Cluster(uid, f"cluster {uid}", len(members), confidence, medoids))
    return sorted(found, key=lambda c: (-c.size, c.uid))


def with_names(clustering: Clustering, names: dict[int, ClusterName]) -> Clustering:
    """Return the clustering with the names that were voted for its clusters."""
    clusters = [
        replace(c, **vars(names[c.uid])) if c.uid in names else c for c in clustering.clusters
    ]
    return replace(clustering, clusters=clusters)


def extended(
    clustering: Clustering,
    rows: NDArray[np.int64],
    uids: NDArray[np.int32],
    probability: NDArray[np.float32],
    second: NDArray[np.int32],
    parts: NDArray[np.int32] | None = None,
    quality: Quality | None = None,
) -> Clustering:
    """Return the clustering with more images placed in it; names and medoids stay.

    A cluster that no image was in until now has the new ones for medoids, the most probable first.
    `parts` are the new images' clusters as fitted, for a clustering that has been merged;
    `quality` is theirs, for one that has it.
    """
    order = np.argsort(np.concatenate([clustering.rows, rows]), kind="stable")
    everyone = np.concatenate([clustering.uids, uids])[order]
    sizes = dict(zip(*(a.tolist() for a in np.unique(everyone, return_counts=True)), strict=True))
    clusters = [replace(c, size=sizes.get(c.uid, 0)) for c in clustering.clusters]
    for uid in sorted(sizes.keys() - {-1} - {c.uid for c in clusters}):
        mine = np.flatnonzero(uids == uid)
        mine = mine[np.argsort(-probability[mine], kind="stable")]
        medoids = rows[mine[:N_MEDOIDS]].tolist()
        confidence = float(probability[mine].mean())
        clusters.append(Cluster(uid, f"cluster {uid}", len(mine), confidence, medoids))
    return replace(
        clustering,
        rows=np.concatenate([clustering.rows, rows])[order],
        uids=everyone,
        probability=np.concatenate([clustering.probability, probability])[order],
        second=np.concatenate([clustering.second, second])[order],
        clusters=sorted(clusters, key=lambda c: (-c.size, c.uid)),
        parts=None if parts is None else np.concatenate([clustering.parts, parts])[order],
        quality=joined(clustering.quality, quality, order)
        if clustering.quality and quality
        else None,
        by_hand=None
        if clustering.by_hand is None
        else np.concatenate([clustering.by_hand, np.zeros(len(rows), dtype=bool)])[order],
    )
