"""How well a clustering agrees with labels, and how sure and how even it is.

All scores are fractions: 1 is perfect, not 100.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import entr
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    normalized_mutual_info_score,
)

from imageherd.neighbors import NeighborGraph

_BLOCK_ELEMENTS = 2**24


class Confusion(NamedTuple):
    """Counts of classes in clusters.

    Attributes
    ----------
    matrix : ndarray of int64, shape (n_classes, n_clusters)
        Points of each class (row) in each cluster (column).
    classes : ndarray, shape (n_classes,)
        The rows' labels, ascending.
    clusters : ndarray, shape (n_clusters,)
        The columns' labels: those matched to a class in the order of the classes, the others after
        them, ascending.
    """

    matrix: NDArray[np.int64]
    classes: NDArray[Any]
    clusters: NDArray[Any]


def clustering_accuracy(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Share of points whose cluster is matched to their class, by the best one-to-one match (ACC).

    The match is found by the Hungarian method; the numbers of classes and of clusters may differ,
    and points of a class or cluster left without a partner count as wrong.

    Parameters
    ----------
    labels_true, labels_pred : array-like of int or str, shape (n,)
        Classes and clusters.

    Raises
    ------
    ValueError
        If the two are empty, not 1-D, or of different lengths.
    """
    matrix, _, _ = _contingency(labels_true, labels_pred)
    rows, columns = linear_sum_assignment(matrix, maximize=True)
    return float(matrix[rows, columns].sum() / matrix.sum())


def nmi(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Mutual information over the arithmetic mean of the two entropies.

    Parameters and errors as in `clustering_accuracy`.
    """
    return float(normalized_mutual_info_score(*_encode_pair(labels_true, labels_pred)))


def ari(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Rand index adjusted for chance (Hubert and Arabie 1985); below 0 is worse than chance.

    Parameters and errors as in `clustering_accuracy`.
    """
    return float(adjusted_rand_score(*_encode_pair(labels_true, labels_pred)))


def ami(labels_true: ArrayLike, labels_pred: ArrayLike) -> float:
    """Mutual information adjusted for chance, arithmetic mean (Vinh, Epps and Bailey 2010).

    The one to compare clusterings of different numbers of clusters by. Parameters and errors as in
    `clustering_accuracy`.
    """
    return float(adjusted_mutual_info_score(*_encode_pair(labels_true, labels_pred)))


def scores(labels_true: ArrayLike, labels_pred: ArrayLike) -> dict[str, float]:
    """All four agreements, under the keys "ACC", "NMI", "ARI" and "AMI".

    Parameters and errors as in `clustering_accuracy`.
    """
    return {
        "ACC": clustering_accuracy(labels_true, labels_pred),
        "NMI": nmi(labels_true, labels_pred),
        "ARI": ari(labels_true, labels_pred),
        "AMI": ami(labels_true, labels_pred),
    }


def confusion(labels_true: ArrayLike, labels_pred: ArrayLike) -> Confusion:
    """Count classes in clusters, clusters in the order of the classes they are matched to.

    With as many clusters as classes the diagonal holds the points that `clustering_accuracy` counts
    as right. Parameters and errors as there.
    """
    matrix, classes, clusters = _contingency(labels_true, labels_pred)
    _, matched = linear_sum_assignment(matrix, maximize=True)
    order = np.concatenate([matched, np.setdiff1d(np.arange(len(clusters)), matched)])
    return Confusion(matrix[:, order], classes, clusters[order])


def neighbor_consistency(
    X_or_graph: ArrayLike | NeighborGraph, labels: ArrayLike, k: int = 20
) -> float:
    """Share of a point's k nearest neighbours that have its label, on average (TSP, fig. 1).

    Neighbours in features are by inner product, as in the paper, a point not its own; where the
    k-th place is tied, the tied points share it. A graph is taken as it is. Features cost about
    n² d multiplications, in blocks of 128 MB.

    Parameters
    ----------
    X_or_graph : array-like of shape (n, d), or NeighborGraph
        Features, or neighbours already found, at least `k` a point.
    labels : array-like of int or str, shape (n,)
        The points' labels.
    k : int, default=20
        Neighbours a point.

    Raises
    ------
    ValueError
        If the lengths differ, the labels are empty or not 1-D, X is not 2-D or not finite, or k is
        out of range.
    """
    _, codes = _encode(labels, "labels")
    if isinstance(X_or_graph, NeighborGraph):
        ids = X_or_graph.slice(k).ids
        _check_lengths(len(ids), len(codes), "The graph", "labels")
        return float((codes[ids] == codes[:, None]).mean())
    X = np.asarray(X_or_graph)
    if X.ndim != 2:
        raise ValueError(f"X must be 2-D; its shape is {X.shape}.")
    n = len(X)
    _check_lengths(n, len(codes), "X", "labels")
    if not 1 <= k < n:
        raise ValueError(f"k={k} must be at least 1 and below the number of points, {n}.")
    X = X.astype(np.float64)
    if not np.isfinite(X).all():
        raise ValueError("X holds a NaN or an infinity.")
    step = max(1, _BLOCK_ELEMENTS // n)
    total = 0.0
    for start in range(0, n, step):
        # As float32: what is equal stays equal, however the product was blocked.
        similar = (X[start : start + step] @ X.T).astype(np.float32)
        own = np.arange(len(similar))
        similar[own, start + own] = -np.inf
        last = np.partition(similar, n - k, axis=1)[:, n - k, None]
        same = codes[start : start + step, None] == codes
        nearer, tied = similar > last, similar == last
        places = k - nearer.sum(axis=1)
        tied_share = (tied & same).sum(axis=1) / tied.sum(axis=1)
        total += float(((nearer & same).sum(axis=1) + places * tied_share).sum()) / k
    return total / n


def mean_entropies(P: ArrayLike) -> tuple[float, float]:
    """H(q(c)), how even the clusters are, and the mean H(q(c|x)), how unsure the points are; nats.

    The first is at most log K, reached by clusters of equal size; their difference is the mutual
    information of point and cluster.

    Parameters
    ----------
    P : array-like of shape (n, K)
        Cluster probabilities of every point.

    Raises
    ------
    ValueError
        If P is not 2-D, is empty, or a row is no distribution (to 1e-3).
    """
    P = np.asarray(P, dtype=np.float64)
    if P.ndim != 2 or 0 in P.shape:
        raise ValueError(f"P must be 2-D and not empty; its shape is {P.shape}.")
    # Written so that a NaN fails too.
    sound = (P >= 0).all(axis=1) & (np.abs(P.sum(axis=1) - 1) <= 1e-3)
    if not sound.all():
        row = int(np.flatnonzero(~sound)[0])
        raise ValueError(
            f"P must hold probabilities that add up to 1 in a row; row {row} does not."
        )
    return float(entr(P.mean(axis=0)).sum()), float(entr(P).sum(axis=1).mean())


def _contingency(
    labels_true: ArrayLike, labels_pred: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]]:
    classes, true = _encode(labels_true, "labels_true")
    clusters, predicted = _encode(labels_pred, "labels_pred")
    _check_lengths(len(true), len(predicted), "labels_true", "labels_pred")
    shape = (len(classes), len(clusters))
    counts = np.bincount(true * shape[1] + predicted, minlength=shape[0] * shape[1])
    return counts.reshape(shape).astype(np.int64), classes, clusters


def _encode_pair(
    labels_true: ArrayLike, labels_pred: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    _, true = _encode(labels_true, "labels_true")
    _, predicted = _encode(labels_pred, "labels_pred")
    _check_lengths(len(true), len(predicted), "labels_true", "labels_pred")
    return true, predicted


def _encode(labels: ArrayLike, name: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    array = np.asarray(labels)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"{name} must be 1-D and not empty; its shape is {array.shape}.")
    values, codes = np.unique(array, return_inverse=True)
    return values, codes.astype(np.int64)


def _check_lengths(first: int, second: int, first_name: str, second_name: str) -> None:
    if first != second:
        raise ValueError(f"{first_name} has {first} points, {second_name} has {second}.")
