"""How many clusters: for now, the number whose clusters have the best silhouette."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from imageherd.neighbors import knn_graph

_MOST_BY_DEFAULT = 30
_ROWS_PER_CLUSTER = 20
_N_COMPONENTS = 50
_MOST_NEIGHBORS = 20
_GRID_STEP = 0.1
_N_STARTS = 5


@dataclass(frozen=True)
class Count:
    """A number of clusters and what speaks for it.

    Attributes
    ----------
    n_clusters : int
        The number with the best score; the smallest such, if several.
    ks : tuple of int
        The numbers tried, ascending; just (n_clusters,) where the data leave no choice.
    scores : tuple of float
        Mean silhouette of each, from -1 to 1; 0 where there was no choice. Below about 0.1 no
        number is much better than another.
    """

    n_clusters: int
    ks: tuple[int, ...]
    scores: tuple[float, ...]


def count_clusters(
    X: ArrayLike,
    k_min: int = 2,
    k_max: int | None = None,
    *,
    sample: int = 2000,
    random_state: int = 0,
) -> Count:
    """Choose the number of clusters with the best mean silhouette (Rousseeuw 1987) on a sample.

    The sampled rows are scaled to unit length, reduced to their first 50 principal components and
    scaled to unit length again, so that all distances are between directions, as everywhere here.
    For each number K they are grouped by spectral clustering of their neighbour graph (Ng, Jordan
    and Weiss 2002: k-means, the best of 5 seeded starts, on K eigenvectors), and the groups are
    scored by their distances. On Gaussian clusters that overlap, groups cut from the graph find the
    right number where plain k-means, which follows the widest directions, often stops at 2.

    Every number from `k_min` up is tried, then steps of a tenth. The silhouette favours few, broad
    groups where small ones lie inside them: take the answer for a start, not for a truth.

    Where there are fewer than 10 rows, or no more different rows than `k_min`, nothing can be
    compared and the answer is `k_min`, or the number of different rows where that is less.

    Takes a few seconds for a sample of 2,000 and 30 numbers; memory for sample² distances.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Features; may be memory-mapped.
    k_min : int, default=2
        The least number, at least 2.
    k_max : int, optional
        The greatest number; by default 30, or a 20th of the rows if that is less, but not below
        `k_min`. Lowered to one below the number of different rows in the sample.
    sample : int, default=2000
        Rows to look at, at least 10.
    random_state : int, default=0
        Seeds the sample and the starts.

    Returns
    -------
    Count

    Raises
    ------
    ValueError
        If X is not 2-D, is empty or holds a NaN or an infinity in the sample, or a number is out of
        range.
    """
    X = np.asarray(X)
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(f"X must be 2-D and not empty; its shape is {X.shape}.")
    n = len(X)
    if k_max is None:
        k_max = max(k_min, min(_MOST_BY_DEFAULT, n // _ROWS_PER_CLUSTER))
    if not 2 <= k_min <= k_max:
        raise ValueError(f"k_min={k_min} and k_max={k_max} must satisfy 2 <= k_min <= k_max.")
    if sample < 10:
        raise ValueError(f"sample={sample} must be at least 10.")
    rows = np.arange(n)
    if n > sample:
        rows = np.sort(np.random.default_rng(random_state).choice(n, sample, replace=False))
    Z = X[rows].astype(np.float64)
    if not np.isfinite(Z).all():
        raise ValueError("X holds a NaN or an infinity.")
    Z = _unit(Z)
    n_different = len(np.unique(Z, axis=0))
    if n < 10 or n_different <= k_min:
        k = min(k_min, n_different)
        return Count(k, (k,), (0.0,))
    k_max = min(k_max, n_different - 1)
    # One thread: with more, sums are taken in the order the threads happen to finish.
    with threadpool_limits(limits=1):
        Z = _directions(Z, random_state)
        vectors = _graph_vectors(Z, k_max)
        distances = np.sqrt(np.maximum(2 - 2 * (Z @ Z.T), 0))
        np.fill_diagonal(distances, 0)
        ks, scores = _grid(k_min, k_max), []
        for k in ks:
            means = KMeans(k, n_init=_N_STARTS, random_state=random_state)
            scores.append(_silhouette(distances, means.fit_predict(_unit(vectors[:, :k]))))
    return Count(ks[int(np.argmax(scores))], tuple(ks), tuple(scores))


def _directions(Z: NDArray[np.float64], random_state: int) -> NDArray[np.float64]:
    if min(Z.shape) <= _N_COMPONENTS:
        return _unit(Z - Z.mean(axis=0))
    # K centres span K - 1 dimensions: this leaves room beyond the clusters looked for.
    pca = PCA(_N_COMPONENTS, svd_solver="randomized", random_state=random_state)
    return _unit(pca.fit_transform(Z))


def _graph_vectors(Z: NDArray[np.float64], k_max: int) -> NDArray[np.float64]:
    """Leading `k_max` eigenvectors of the normalised neighbour graph, the greatest first."""
    n = len(Z)
    n_neighbors = min(_MOST_NEIGHBORS, max(5, n // (3 * k_max)), n - 1)
    links = np.zeros((n, n))
    np.put_along_axis(links, knn_graph(Z, n_neighbors).ids.astype(np.intp), 1.0, axis=1)
    links += links.T
    scale = 1 / np.sqrt(links.sum(axis=1))
    _, vectors = eigh(links * scale[:, None] * scale, subset_by_index=(n - k_max, n - 1))
    return np.asarray(vectors[:, ::-1])


def _unit(X: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(length > 1e-12, length, 1.0)


def _grid(k_min: int, k_max: int) -> list[int]:
    """Every number at first, then steps of a tenth, and always the last."""
    ks = [k_min]
    while ks[-1] < k_max:
        ks.append(min(k_max, ks[-1] + max(1, int(ks[-1] * _GRID_STEP))))
    return ks


def _silhouette(distances: NDArray[np.float64], labels: NDArray[np.int32]) -> float:
    """Mean silhouette; 0 for a row alone in its cluster, as Rousseeuw has it."""
    _, codes = np.unique(labels, return_inverse=True)
    rows = np.arange(len(codes))
    member = np.eye(codes.max() + 1)[codes]
    sizes = member.sum(axis=0)
    sums = distances @ member
    own_size = sizes[codes]
    inside = sums[rows, codes] / np.maximum(own_size - 1, 1)
    means = sums / sizes
    means[rows, codes] = np.inf
    outside = means.min(axis=1)
    widest = np.maximum(inside, outside)
    score = (outside - inside) / np.where(widest > 0, widest, 1.0)
    return float(np.where(own_size > 1, score, 0.0).mean())
