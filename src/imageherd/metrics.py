"""How well a clustering agrees with labels, and how sure and how even it is.

All scores are fractions: 1 is perfect, not 100.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
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


def generalization_score(
    X: ArrayLike,
    labels: ArrayLike,
    *,
    blocks: tuple[int, ...] | None = None,
    folds: int = 5,
    adjusted: bool = False,
    max_rows: int | None = 50_000,
    random_state: int = 0,
) -> float:
    """How well a linear classifier learns the labels: its accuracy on rows it was not shown.

    Needs no true labels, so it can choose among clusterings of the same features, of whatever
    method (TURTLE, Gadetsky, Jiang and Brbić, ICML 2024). It asks whether groups are easy to tell
    apart, not whether they are the ones wanted, and linear methods start with an advantage. Plain
    accuracy rewards fewer and more uneven clusters, and is 1 where all is one cluster: compare
    clusterings of equal numbers of clusters, by the adjusted score where their sizes differ.

    The classifier is ridge regression on the clusters' indicators, on centred features, its
    penalty a tenth of their mean variance: it is found in closed form, and the matrix to be
    factored serves all clusters and all folds. A logistic regression has to be iterated for each.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Features, finite.
    labels : array-like of int or str, shape (n,)
        Cluster of each row; rows with -1 are left out. A cluster of one row counts as wrong: its
        row is never known to the classifier that is asked.
    blocks : tuple of int, optional
        Columns of each feature space where X holds several side by side; the scores of the spaces
        are averaged.
    folds : int, default=5
        Parts that take turns at being held out; every cluster is spread evenly over them.
    adjusted : bool, default=False
        Subtract what guessing would give: Cohen's kappa, 1 for perfect and 0 for guessing; 0 also
        for a single cluster. The paper: plain accuracy.
    max_rows : int or None, default=50,000
        Of more rows, so many are drawn; None takes all.
    random_state : int, default=0
        Of the sample and the folds.

    Raises
    ------
    ValueError
        If X is not 2-D or not finite, the lengths differ, blocks do not add up to d, a number is
        out of range, or fewer than `folds` rows have a cluster.

    Notes
    -----
    O(n d²) time for one pass over the rows and O(folds d³) for the factors: about 4 s for 50,000
    rows of 1,280 columns on one core. Memory: folds d² numbers and a copy of the rows used.
    """
    X, codes = _labelled_rows(X, labels)
    sizes = (X.shape[1],) if blocks is None else blocks
    if min(sizes, default=0) < 1 or sum(sizes) != X.shape[1]:
        raise ValueError(f"blocks={blocks!r} must be positive and add up to {X.shape[1]} columns.")
    if not 2 <= folds <= len(codes):
        raise ValueError(
            f"folds={folds} must be at least 2 and at most the {len(codes)} rows with a cluster."
        )
    if max_rows is not None and max_rows < folds:
        raise ValueError(f"max_rows={max_rows} must be at least folds={folds}, or None.")
    rng = np.random.default_rng(random_state)
    if max_rows is not None and max_rows < len(codes):
        rows = np.sort(rng.choice(len(codes), max_rows, replace=False))
        X, codes = X[rows], np.unique(codes[rows], return_inverse=True)[1]
    part = _spread(codes, folds, rng)
    edges = np.cumsum([0, *sizes])
    found = []
    for start, end in pairwise(edges):
        predicted = _held_out_ridge(X[:, start:end], codes, part)
        chance = 0.0
        if adjusted:
            counts = [np.bincount(c, minlength=codes.max() + 1) for c in (codes, predicted)]
            chance = float(counts[0] @ counts[1]) / len(codes) ** 2
        accuracy = float((predicted == codes).mean())
        found.append((accuracy - chance) / (1 - chance) if chance < 1 else 0.0)
    return float(np.mean(found))


def _labelled_rows(X: ArrayLike, labels: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    features = np.asarray(X)
    if features.ndim != 2:
        raise ValueError(f"X must be 2-D; its shape is {features.shape}.")
    values, codes = _encode(labels, "labels")
    _check_lengths(len(features), len(codes), "X", "labels")
    if values.dtype.kind in "if":
        kept = values[codes] != -1
        features, codes = features[kept], codes[kept]
    if not np.isfinite(features).all():
        raise ValueError("X holds a NaN or an infinity.")
    return features, np.unique(codes, return_inverse=True)[1]


def _spread(codes: NDArray[np.int64], folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Deal the rows out to the folds, one cluster after the other, each in random order."""
    order = np.lexsort((rng.random(len(codes)), codes))
    part = np.empty(len(codes), dtype=np.int64)
    part[order] = np.arange(len(codes)) % folds
    return part


def _held_out_ridge(
    X: NDArray[Any], codes: NDArray[np.int64], part: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Each row's cluster by ridge regression on the rows of all other parts."""
    X = X.astype(np.float64)
    X -= X.mean(axis=0)
    n_clusters, d = int(codes.max()) + 1, X.shape[1]
    sums, products, moments, counts = [], [], [], []
    for fold in range(part.max() + 1):
        rows, own = X[part == fold], codes[part == fold]
        sums.append(rows.sum(axis=0))
        products.append(rows.T @ rows)
        shape = (n_clusters, len(own))
        members = csr_array((np.ones(len(own)), (own, np.arange(len(own)))), shape)
        moments.append((members @ rows).T)
        counts.append(np.bincount(own, minlength=n_clusters))
    predicted = np.empty(len(codes), dtype=np.int64)
    for fold in range(part.max() + 1):
        count = sum(counts) - counts[fold]
        n = count.sum()
        mean, share = (sum(sums) - sums[fold]) / n, count / n
        scatter = sum(products) - products[fold] - n * np.outer(mean, mean)
        scatter[np.diag_indices(d)] += max(0.1 * np.trace(scatter) / d, np.finfo(float).tiny)
        target = sum(moments) - moments[fold] - n * np.outer(mean, share)
        weight = cho_solve(cho_factor(scatter, overwrite_a=True), target, overwrite_b=True)
        held = part == fold
        predicted[held] = ((X[held] - mean) @ weight + share).argmax(axis=1)
    return predicted


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
