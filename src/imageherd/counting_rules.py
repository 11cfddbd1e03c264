"""What speaks for a number of clusters: rules that give every number a score, without training.

A rule is a function from `Evidence` to one score for each of its `ks`; `RULES` says how the scores
are read. The rules share a sample's neighbour graph and its partitions, so all of them together
take little longer than the slowest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

from imageherd.heads.coding import coding_length as length_of
from imageherd.metrics import generalization_score
from imageherd.neighbors import knn_graph

N_COMPONENTS = 50
_MOST_NEIGHBORS = 20
_N_STARTS = 5
_N_SPLITS = 3
_EPS2 = 0.1

Directions = NDArray[np.float64]
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
    def links(self) -> NDArray[np.float64]:
        """The symmetric neighbour graph (n, n): 1 where one row is a neighbour, 2 where both."""
        n = len(self.Z)
        n_neighbors = min(_MOST_NEIGHBORS, max(5, n // (3 * self.ks[-1])), n - 1)
        links = np.zeros((n, n))
        ids = knn_graph(self.Z, n_neighbors, device="cpu").ids
        np.put_along_axis(links, ids.astype(np.intp), 1.0, axis=1)
        return links + links.T

    @cached_property
    def _spectrum(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        scale = 1 / np.sqrt(self.links.sum(axis=1))
        n, wanted = len(self.Z), self.ks[-1] + 1
        values, vectors = eigh(
            self.links * scale[:, None] * scale, subset_by_index=(n - wanted, n - 1)
        )
        return values[::-1], vectors[:, ::-1]

    @property
    def eigenvalues(self) -> NDArray[np.float64]:
        """Greatest max(ks) + 1 eigenvalues of D^-½ W D^-½, the greatest (1) first."""
        return self._spectrum[0]

    def partition(self, k: int) -> Labels:
        """Cut the neighbour graph into k groups: labels (n,), of Ng, Jordan and Weiss (2002)."""
        if k not in self._partitions:
            means = KMeans(k, n_init=_N_STARTS, random_state=self.random_state)
            self._partitions[k] = means.fit_predict(unit_rows(self._spectrum[1][:, :k]))
        return self._partitions[k]

    @cached_property
    def null(self) -> Evidence:
        """The same columns, each shuffled on its own: as spread out, but without groups."""
        rng = np.random.default_rng(self.random_state)
        columns = [rng.permutation(column) for column in self.Z.T]
        return Evidence(unit_rows(np.stack(columns, axis=1)), self.ks, self.random_state)

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
    means = (KMeans(k, n_init=_N_STARTS, random_state=evidence.random_state) for k in evidence.ks)
    return np.array([_silhouette(distances, m.fit_predict(evidence.map)) for m in means])


def coding_length(evidence: Evidence) -> Scores:
    """Nats a row that code the rows group by group, and their labels (CPP, algorithm 1)."""
    lengths = [length_of(evidence.Z, evidence.partition(k), _EPS2) for k in evidence.ks]
    return np.array(lengths) / len(evidence.Z)


def eigengap(evidence: Evidence) -> Scores:
    """λ_k - λ_k+1 of the normalised graph (von Luxburg 2007, sec. 8.3)."""
    values = evidence.eigenvalues
    return np.array([values[k - 1] - values[k] for k in evidence.ks])


def generalization(evidence: Evidence) -> Scores:
    """TURTLE's generalisation score of the partition, beyond that of rows without groups.

    Both as Cohen's kappa: a linear classifier learns any compact parts well, and fewer parts
    better; only what it learns beyond `Evidence.null`'s speaks for a number.
    """
    return _kappas(evidence) - _kappas(evidence.null)


def _kappas(evidence: Evidence) -> Scores:
    rows, seed = evidence.Z, evidence.random_state
    return np.array(
        [
            generalization_score(rows, evidence.partition(k), adjusted=True, random_state=seed)
            for k in evidence.ks
        ]
    )


def modularity(evidence: Evidence) -> Scores:
    """Newman and Girvan's modularity of the partition (White and Smyth 2005), below 1."""
    degree = evidence.links.sum(axis=1)
    total = degree.sum()
    found = []
    for k in evidence.ks:
        member = np.eye(k)[evidence.partition(k)]
        inside = np.einsum("nk,nk->k", member, evidence.links @ member)
        found.append(inside.sum() / total - ((degree @ member / total) ** 2).sum())
    return np.array(found)


def stability(evidence: Evidence) -> Scores:
    """Agreement (adjusted Rand index) of two halves on how one of them is parted, up to 1.

    Each half of the rows is partitioned on its own; the second is also labelled by the first's
    partition, every row as its nearest neighbour there (Lange et al. 2004). Mean of 3 splits.
    """
    n = len(evidence.Z)
    rng = np.random.default_rng(evidence.random_state)
    total = np.zeros(len(evidence.ks))
    ks = tuple(k for k in evidence.ks if k < n // 2)
    for _ in range(_N_SPLITS):
        order = rng.permutation(n)
        rows = order[: n // 2], order[n // 2 :]
        halves = [Evidence(evidence.Z[r], ks, evidence.random_state) for r in rows]
        nearest = (halves[1].Z @ halves[0].Z.T).argmax(axis=1)
        for i, k in enumerate(ks):
            carried = halves[0].partition(k)[nearest]
            total[i] += adjusted_rand_score(carried, halves[1].partition(k))
    return total / _N_SPLITS


@dataclass(frozen=True)
class Rule:
    """How a rule's scores are found and read.

    Attributes
    ----------
    score : callable
        From `Evidence` to one score for each of its ks.
    lowest : bool
        Whether the lowest score wins, not the highest.
    """

    score: Callable[[Evidence], Scores]
    lowest: bool = False


RULES: dict[str, Rule] = {
    "silhouette": Rule(silhouette),
    "map-silhouette": Rule(map_silhouette),
    "coding-length": Rule(coding_length, lowest=True),
    "eigengap": Rule(eigengap),
    "generalization": Rule(generalization),
    "modularity": Rule(modularity),
    "stability": Rule(stability),
}


COMBINED = ("mean curve", "geometric mean")


def combine(how: str, ks: Sequence[int], curves: Mapping[str, Sequence[float]]) -> int:
    """Return the number that several rules' curves over the same `ks` speak for together."""
    if how == "mean curve":
        return ks[int(mean_curve(curves).argmax())]
    return round(float(np.exp(np.mean([np.log(ks[best(r, c)]) for r, c in curves.items()]))))


def mean_curve(curves: Mapping[str, Sequence[float]]) -> Scores:
    """Mean of several rules' curves, each from 0 (its worst number) to 1 (its best)."""
    scaled = []
    for rule, curve in curves.items():
        scores = -np.array(curve) if RULES[rule].lowest else np.array(curve)
        scaled.append((scores - scores.min()) / max(float(np.ptp(scores)), 1e-12))
    return np.asarray(np.mean(scaled, axis=0))


def best(rule: str, scores: Sequence[float]) -> int:
    """Return the index of the best score, the first of equal ones."""
    return int(np.argmin(scores) if RULES[rule].lowest else np.argmax(scores))


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


def unit_rows(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale rows (n, d) to length one; a row of zeros stays as it is."""
    length = np.linalg.norm(X, axis=1, keepdims=True)
    return np.asarray(X / np.where(length > 1e-12, length, 1.0))


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
