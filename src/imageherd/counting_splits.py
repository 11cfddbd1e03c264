"""Groups that fall apart: the spectrum of a neighbour graph against that of one heap."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.cluster import KMeans

from imageherd.neighbors import knn_graph

MOST_NEIGHBORS = 20
N_STARTS = 3
# Of `split_scores`, by the count study.
SPLIT_FROM = 3.2
_N_HEAPS = 2
_SMALLEST_SPLIT = 40
_NO_SPLIT = -1.0
_NEARLY_1 = 0.999

Directions = NDArray[np.float64]


class Spectrum(NamedTuple):
    """Leading eigenvalues (w,) and eigenvectors (n, w) of D^-½ W D^-½, the greatest first."""

    values: NDArray[np.float64]
    vectors: NDArray[np.float64]


def split_scores(Z: Directions, k_max: int, random_state: int) -> NDArray[np.float64]:
    """How far cuts in two stand out from those of one heap, the farthest first.

    A group's neighbour graph falls apart the more, the nearer its second eigenvalue λ is to 1; a
    heap's is λ₀, that of Gaussian rows of the same number n and covariance. The cut counts
    (λ - λ₀)/(1 - λ₀), the share of the way from chance to falling apart altogether, times the cube
    root of n, less `SPLIT_FROM`. Of all groups the one whose cut counts most is cut, until there
    are `k_max`. A test of clusters as in SigClust (Liu et al. 2008), down a tree as in Kimes et al.
    (2017), but on the neighbour graph; the power of n and the threshold are the count study's.

    Parameters
    ----------
    Z : ndarray of shape (n, d)
        Unit rows.
    k_max : int
        Groups at which to stop, at least 2.
    random_state : int
        Seeds the heaps.

    Returns
    -------
    ndarray of shape (k_max - 1,)
        Descending; the last one again where no group is left that could be cut.
    """
    rng = np.random.default_rng(random_state)
    groups = [_Group.of(Z, rng)]
    scores: list[float] = []
    while len(scores) < k_max - 1:
        best = int(np.argmax([group.excess for group in groups]))
        scores.append(groups[best].excess - SPLIT_FROM)
        if not groups[best].halves:
            break
        groups[best : best + 1] = [_Group.of(half, rng) for half in groups[best].halves]
    scores += [min(scores)] * (k_max - 1 - len(scores))
    # A poor cut may lay bare good ones: what counts is how many there are, not when.
    return np.sort(scores)[::-1]


class _Group(NamedTuple):
    """Rows of a tree of splits: their halves, and how far these stand out."""

    excess: float
    halves: tuple[Directions, ...]

    @classmethod
    def of(cls, Z: Directions, rng: np.random.Generator) -> _Group:
        n = len(Z)
        if n < _SMALLEST_SPLIT:
            return cls(_NO_SPLIT, ())
        n_neighbors = max(5, n // 8)
        found = graph_spectrum(Z, n_neighbors, 2)
        heaps = [
            graph_spectrum(one_heap(Z, rng), n_neighbors, 2).values[1] for _ in range(_N_HEAPS)
        ]
        means = KMeans(2, n_init=N_STARTS, random_state=0)
        labels = means.fit_predict(unit_rows(found.vectors))
        chance = min(float(np.mean(heaps)), _NEARLY_1)
        excess = (float(found.values[1]) - chance) / (1 - chance) * n ** (1 / 3)
        return cls(excess, (Z[labels == 0], Z[labels == 1]))


def one_heap(Z: Directions, rng: np.random.Generator) -> Directions:
    """Return unit rows drawn from a Gaussian with the mean and covariance of Z's rows."""
    mean = Z.mean(axis=0)
    _, sizes, axes = np.linalg.svd(Z - mean, full_matrices=False)
    drawn = rng.standard_normal((len(Z), len(sizes))) * (sizes / np.sqrt(len(Z) - 1))
    return unit_rows(mean + drawn @ axes)


def graph_spectrum(Z: Directions, n_neighbors: int, n_values: int) -> Spectrum:
    """Leading eigenpairs of the neighbour graph: 1 for a neighbour, 2 for a mutual one."""
    n = len(Z)
    links = np.zeros((n, n))
    ids = knn_graph(Z, min(n_neighbors, MOST_NEIGHBORS, n - 1), device="cpu").ids
    np.put_along_axis(links, ids.astype(np.intp), 1.0, axis=1)
    links += links.T
    scale = 1 / np.sqrt(links.sum(axis=1))
    values, vectors = eigh(links * scale[:, None] * scale, subset_by_index=(n - n_values, n - 1))
    return Spectrum(values[::-1], vectors[:, ::-1])


def unit_rows(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale rows (n, d) to length one; a row of zeros stays as it is."""
    length = np.linalg.norm(X, axis=1, keepdims=True)
    return np.asarray(X / np.where(length > 1e-12, length, 1.0))
