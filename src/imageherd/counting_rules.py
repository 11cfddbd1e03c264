"""What speaks for a number of clusters: rules that give every number a score, without training.

A rule is a function from `Evidence` to one score for each of its `ks`; `RULES` says how the scores
are read. The rules share a sample's neighbour graph and its partitions, so all of them together
take little longer than the slowest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from imageherd.counting_splits import (
    N_STARTS,
    Directions,
    Spectrum,
    graph_spectrum,
    one_heap,
    split_scores,
    unit_rows,
)
from imageherd.heads.coding import coding_length as length_of
from imageherd.metrics import generalization_score

N_COMPONENTS = 50
_N_SPLITS = 2
_EPS2 = 0.1

Labels = NDArray[np.int32]
Scores = NDArray[np.float64]


@dataclass
class Evidence:
    """A sample of rows, and what the rules compute from it once.

    Attributes
    ----------
    Z : ndarray of shape (n, d'), float64
        Unit rows, see `directions`.
    ks : tuple of int
        The numbers of clusters to score, ascending, from 2 to at most n - 1.
    random_state : int
        Seeds every draw.
    """

    Z: Directions
    ks: tuple[int, ...]
    random_state: int = 0
    _partitions: dict[int, Labels] = field(default_factory=dict)

    @cached_property
    def _spectrum(self) -> Spectrum:
        n_neighbors = max(5, len(self.Z) // (3 * self.ks[-1]))
        return graph_spectrum(self.Z, n_neighbors, self.ks[-1] + 1)

    @property
    def eigenvalues(self) -> NDArray[np.float64]:
        """Greatest max(ks) + 1 eigenvalues of D^-½ W D^-½, the greatest (1) first."""
        return self._spectrum.values

    def partition(self, k: int) -> Labels:
        """Cut the neighbour graph into k groups: labels (n,), of Ng, Jordan and Weiss (2002)."""
        if k not in self._partitions:
            means = KMeans(k, n_init=N_STARTS, random_state=self.random_state)
            self._partitions[k] = means.fit_predict(unit_rows(self._spectrum.vectors[:, :k]))
        return self._partitions[k]

    @cached_property
    def null(self) -> Evidence:
        """Rows of one heap: a Gaussian as wide as the sample in each of its columns."""
        rng = np.random.default_rng(self.random_state)
        return Evidence(one_heap(self.Z, rng), self.ks, self.random_state)

    @cached_property
    def distances(self) -> NDArray[np.float64]:
        """Euclidean distances of the unit rows, (n, n)."""
        return _distances(self.Z)

    @cached_property
    def map(self) -> NDArray[np.float64]:
        """The 2-D map of the rows, (n, 2); see `imageherd.report.map.layout`."""
        from imageherd.report.map import layout

        return layout(self.Z, random_state=self.random_state).astype(np.float64)


def silhouette(evidence: Evidence) -> Scores:
    """Mean silhouette (Rousseeuw 1987) of the graph's partition, -1 to 1.

    It favours few, broad groups where small ones lie inside them.
    """
    return np.array([_silhouette(evidence.distances, evidence.partition(k)) for k in evidence.ks])


def map_silhouette(evidence: Evidence) -> Scores:
    """Mean silhouette in the 2-D map (t-SNE) of k-means groups of the map, -1 to 1."""
    distances = _distances(evidence.map)
    means = (KMeans(k, n_init=N_STARTS, random_state=evidence.random_state) for k in evidence.ks)
    return np.array([_silhouette(distances, m.fit_predict(evidence.map)) for m in means])


def coding_length(evidence: Evidence) -> Scores:
    """Nats a row that code the rows group by group, and their labels (CPP, algorithm 1)."""
    lengths = [length_of(evidence.Z, evidence.partition(k), _EPS2) for k in evidence.ks]
    return np.array(lengths) / len(evidence.Z)


def eigengap(evidence: Evidence) -> Scores:
    """λ_k - λ_k+1 of the normalised graph (von Luxburg 2007, sec. 8.3)."""
    values = evidence.eigenvalues
    return np.array([values[k - 1] - values[k] for k in evidence.ks])


def spectrum(evidence: Evidence) -> Scores:
    """λ_k of the normalised graph, less the second λ of the graph of one heap.

    Were the rows one heap, the second eigenvalue would be the greatest below 1; as many as exceed
    what a Gaussian of the same spread has there stand for groups (Horn's parallel analysis, 1965,
    for a graph instead of a covariance). The answer is the last number above 0.
    """
    chance = evidence.null.eigenvalues[1]
    return np.asarray(evidence.eigenvalues[np.array(evidence.ks) - 1] - chance)


def splits(evidence: Evidence) -> Scores:
    """How far the (k-1)th best cut in two of a tree of groups stands out from chance.

    See `imageherd.counting_splits.split_scores`; the answer is one more than the cuts above 0.
    """
    scores = split_scores(evidence.Z, evidence.ks[-1], evidence.random_state)
    return np.asarray(scores[np.array(evidence.ks) - 2])


def generalization(evidence: Evidence) -> Scores:
    """TURTLE's generalisation score of the partition, beyond that of one heap.

    Both as Cohen's kappa: a linear classifier learns any compact parts well, and fewer parts
    better; only what it learns beyond `Evidence.null`'s speaks for a number.
    """
    return _kappas(evidence) - _kappas(evidence.null)


def stability(evidence: Evidence) -> Scores:
    """Agreement of two halves on how one of them is parted, beyond that of one heap's halves.

    Each half of the rows is partitioned on its own; the second is also labelled by the first's
    partition, every row as its nearest neighbour there (Lange et al. 2004). The adjusted Rand
    index of the two labellings, a mean of 2 splits.
    """
    return _agreement(evidence) - _agreement(evidence.null)


def _kappas(evidence: Evidence) -> Scores:
    rows, seed = evidence.Z, evidence.random_state
    return np.array(
        [
            generalization_score(rows, evidence.partition(k), adjusted=True, random_state=seed)
            for k in evidence.ks
        ]
    )


def _agreement(evidence: Evidence) -> Scores:
    n = len(evidence.Z)
    rng = np.random.default_rng(evidence.random_state)
    total = np.zeros(len(evidence.ks))
    ks = tuple(k for k in evidence.ks if k < n // 2 - 1)
    for _ in range(_N_SPLITS if ks else 0):
        order = rng.permutation(n)
        first, second = (
            Evidence(evidence.Z[rows], ks, evidence.random_state)
            for rows in (order[: n // 2], order[n // 2 :])
        )
        nearest = (second.Z @ first.Z.T).argmax(axis=1)
        for i, k in enumerate(ks):
            carried = first.partition(k)[nearest]
            total[i] += adjusted_rand_score(carried, second.partition(k))
    return total / _N_SPLITS


def highest(scores: Scores) -> Scores:
    """Read a curve whose greatest score wins."""
    return scores


def lowest(scores: Scores) -> Scores:
    """Read a curve whose least score wins."""
    return -scores


def until_0(scores: Scores) -> Scores:
    """Read a curve that is followed down to 0: the last number before wins, else the first."""
    below = np.flatnonzero(scores <= 0)
    end = int(below[0]) if len(below) else len(scores)
    # Of the others those come next that a slightly other threshold would have chosen.
    heights = -np.abs(scores)
    heights[max(end - 1, 0)] = 1
    return heights


@dataclass(frozen=True)
class Rule:
    """How a rule's scores are found and read.

    Attributes
    ----------
    score : callable
        From `Evidence` to one score for each of its ks.
    read : callable
        From the scores to heights of the same order as the numbers' merits, the highest the answer.
    """

    score: Callable[[Evidence], Scores]
    read: Callable[[Scores], Scores] = highest


RULES: dict[str, Rule] = {
    "silhouette": Rule(silhouette),
    "map-silhouette": Rule(map_silhouette),
    "coding-length": Rule(coding_length, lowest),
    "eigengap": Rule(eigengap),
    "generalization": Rule(generalization),
    "spectrum": Rule(spectrum, until_0),
    "splits": Rule(splits, until_0),
    "stability": Rule(stability),
}


def standing(rule: str, score: float) -> str:
    """Say what makes a score of this rule the answer's: "the highest", for one."""
    read = RULES[rule].read
    if read is until_0:
        return "the last one above 0" if score > 0 else "none being above 0"
    return "the lowest" if read is lowest else "the highest"


def directions(X: NDArray[Any], random_state: int) -> Directions:
    """Return unit rows: scaled to length one, at most 50 principal components, scaled again.

    So all distances are between directions, as everywhere here. K centres span K - 1 dimensions:
    50 leave room beyond the clusters looked for.
    """
    Z = unit_rows(X.astype(np.float64))
    if min(Z.shape) <= N_COMPONENTS:
        return unit_rows(Z - Z.mean(axis=0))
    pca = PCA(N_COMPONENTS, svd_solver="randomized", random_state=random_state)
    return unit_rows(pca.fit_transform(Z))


def _distances(points: NDArray[np.float64]) -> NDArray[np.float64]:
    squares = (points**2).sum(axis=1)
    squared = squares[:, None] + squares - 2 * (points @ points.T)
    np.fill_diagonal(squared, 0)
    return np.asarray(np.sqrt(np.maximum(squared, 0)))


def _silhouette(distances: NDArray[np.float64], labels: Labels) -> float:
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
