"""A clustering: who belongs where, who stands for a cluster, and what is kept from the last one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from imageherd.errors import ImageherdError
from imageherd.naming import ClusterName

NOWHERE = -1
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
    """

    name: str
    version: str
    rows: NDArray[np.int64]
    uids: NDArray[np.int32]
    probability: NDArray[np.float32]
    second: NDArray[np.int32]
    clusters: list[Cluster]
    config: dict[str, Any] = field(default_factory=dict)

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


def by_centrality(
    X: NDArray[np.float32], labels: NDArray[np.int64], n_clusters: int
) -> list[NDArray[np.int64]]:
    """Order the members of each cluster by their mean cosine similarity to all its members.

    The first is the medoid. A member's mean similarity is its product with the mean of the
    normalised members, so the cost is O(n d), not O(n²); memory is one block.

    Parameters
    ----------
    X : ndarray, shape (n, d)
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
    centers = np.zeros((n_clusters, X.shape[1]))
    for start, block in _normalised_blocks(X):
        columns = labels[start : start + len(block)]
        shape = (n_clusters, len(block))
        centers += csr_array((np.ones(len(block)), (columns, np.arange(len(block)))), shape) @ block
    similarity = np.empty(len(X))
    for start, block in _normalised_blocks(X):
        end = start + len(block)
        similarity[start:end] = np.einsum("nd,nd->n", block, centers[labels[start:end]])
    # Rounding makes equal images equal, so that position decides between them on every machine.
    order = np.lexsort((np.arange(len(X)), -np.round(similarity, 6), labels))
    edges = np.searchsorted(labels[order], np.arange(n_clusters + 1))
    return [order[edges[c] : edges[c + 1]].astype(np.int64) for c in range(n_clusters)]


def _normalised_blocks(X: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    for start in range(0, len(X), BLOCK):
        block = np.asarray(X[start : start + BLOCK], dtype=np.float64)
        norms = np.linalg.norm(block, axis=1, keepdims=True)
        yield start, block / np.where(norms == 0, 1, norms)


def match_uids(
    labels: NDArray[np.int64], rows: NDArray[np.int64], n_clusters: int, previous: Clustering | None
) -> list[int]:
    """Give each new cluster a uid: an old cluster's if they share most images, else a fresh one.

    Two clusters are the same if the shared images are more than half of those in either of them
    (Jaccard index over 1/2), which lets at most one old cluster match a new one. Images that only
    one of the clusterings has do not count.
    """
    if previous is None:
        return list(range(1, n_clusters + 1))
    known = {c.uid for c in previous.clusters}
    _, new_at, old_at = np.intersect1d(rows, previous.rows, return_indices=True)
    old_uids = np.array(sorted(known), dtype=np.int64)
    placed = np.isin(previous.uids[old_at], old_uids)
    overlap = np.zeros((n_clusters, len(old_uids)))
    columns = np.searchsorted(old_uids, previous.uids[old_at][placed])
    np.add.at(overlap, (labels[new_at][placed], columns), 1)
    union = overlap.sum(1, keepdims=True) + overlap.sum(0, keepdims=True) - overlap
    jaccard = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    kept = {int(i): int(old_uids[j]) for i, j in np.argwhere(jaccard > 0.5)}
    fresh = previous.config["next_uid"]
    uids = []
    for c in range(n_clusters):
        if c in kept:
            uids.append(kept[c])
        else:
            uids.append(fresh)
            fresh += 1
    return uids


def top_two(
    probabilities: NDArray[np.float32],
    uids: list[int],
    labels: NDArray[np.integer[Any]] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]:
    """Return the cluster of each image, its probability and the most probable of the others.

    Equal probabilities go to the earlier column. A single column is its own second.

    Parameters
    ----------
    probabilities : ndarray, shape (n, n_clusters)
        From a head.
    uids : list of int
        Cluster of each column.
    labels : ndarray of int, shape (n,), optional
        Column each image is put in, -1 for none; by default the most probable one. An image in
        none gets -1 and the probability of the best column.
    """
    columns = np.array(uids, dtype=np.int32)
    first, second = np.empty((2, len(probabilities)), dtype=np.intp)
    best = np.empty(len(probabilities), dtype=np.float32)
    for start in range(0, len(probabilities), BLOCK):
        block = np.array(probabilities[start : start + BLOCK])
        each, rows = np.arange(len(block)), slice(start, start + BLOCK)
        first[rows] = block.argmax(1)
        if labels is not None:
            first[rows] = np.where(labels[rows] < 0, first[rows], labels[rows])
        best[rows] = block[each, first[rows]]
        block[each, first[rows]] = -1
        second[rows] = block.argmax(1)
    found = columns[first]
    if labels is not None:
        found[labels < 0] = NOWHERE
    return found, best, columns[second]


def describe(
    rows: NDArray[np.int64],
    X: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    labels: NDArray[np.integer[Any]] | None = None,
    *,
    name: str,
    config: dict[str, Any],
    previous: Clustering | None = None,
) -> Clustering:
    """Turn a head's probabilities into a clustering: uids, sizes, medoids.

    Parameters
    ----------
    rows : ndarray of int64, shape (n,)
        Rows of the images.
    X : ndarray, shape (n, d)
        Their features.
    probabilities : ndarray, shape (n, n_clusters)
        From the head; a column that wins no image gives no cluster.
    labels : ndarray of int, shape (n,), optional
        The column each image is in, -1 for none; by default the most probable one.
    name : str
        Of the clustering.
    config : dict
        Settings to keep; "uids" (of every column) and "next_uid" are added.
    previous : Clustering, optional
        The version before, whose uids are kept where the clusters are the same.
    """
    n_clusters = probabilities.shape[1]
    if labels is None:
        labels = probabilities.argmax(1)
    placed = np.flatnonzero(labels >= 0)
    sizes = np.bincount(labels[placed], minlength=n_clusters)
    rank = np.empty(n_clusters, dtype=np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(n_clusters)
    ranked = match_uids(rank[labels[placed]], rows[placed], n_clusters, previous)
    columns = [ranked[r] for r in rank]
    uids, probability, second = top_two(probabilities, columns, labels)
    X = X if len(placed) == len(X) else X[placed]
    central = [
        placed[members] for members in by_centrality(X, labels[placed].astype(np.int64), n_clusters)
    ]
    clusters = [
        Cluster(
            uid=columns[column],
            name=f"cluster {columns[column]}",
            size=len(members),
            confidence=float(probability[members].mean()),
            medoids=[int(row) for row in rows[members[:N_MEDOIDS]]],
        )
        for column, members in enumerate(central)
        if len(members)
    ]
    clusters.sort(key=lambda c: (-c.size, c.uid))
    floor = previous.config["next_uid"] if previous else 1
    config = config | {"uids": columns, "next_uid": max(floor, max(columns) + 1)}
    return Clustering(name, "", rows, uids, probability, second, clusters, config)


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
) -> Clustering:
    """Return the clustering with more images placed in it; names and medoids stay."""
    order = np.argsort(np.concatenate([clustering.rows, rows]), kind="stable")
    everyone = np.concatenate([clustering.uids, uids])[order]
    sizes = dict(zip(*(a.tolist() for a in np.unique(everyone, return_counts=True)), strict=True))
    clusters = [replace(c, size=sizes.get(c.uid, 0)) for c in clustering.clusters]
    return replace(
        clustering,
        rows=np.concatenate([clustering.rows, rows])[order],
        uids=everyone,
        probability=np.concatenate([clustering.probability, probability])[order],
        second=np.concatenate([clustering.second, second])[order],
        clusters=sorted(clusters, key=lambda c: (-c.size, c.uid)),
    )
