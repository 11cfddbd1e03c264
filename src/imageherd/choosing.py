"""Which method, which seed, which β: chosen without labels, by what can be seen without them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imageherd.errors import ImageherdError
from imageherd.heads import HEADS
from imageherd.heads.base import CollapseWarning
from imageherd.metrics import generalization_score, mean_entropies
from imageherd.neighbors import NeighborGraph, knn_graph

AUTO = "auto"
CANDIDATES = ("tsp", "spectral", "lsdc", "spherical-kmeans", "turtle")
# Scores nearer than this part say nothing; the method named first, the default, then stays.
TIE = 0.05
BETAS = (0.55, 0.6, 0.65, 0.7, 0.8, 0.9, 1.0)
# Of the most that any β reaches, the part that is enough.
ENOUGH = 0.95
_MOST_NEIGHBORS = 20
_ALWAYS = ("random_state", "device")
_SAMPLE, _SAMPLE_PER_CLUSTER = 5000, 20


@dataclass(frozen=True)
class Run:
    """One candidate from one seed, and what speaks for it.

    Attributes
    ----------
    method : str
        One of `imageherd.heads.HEADS`.
    random_state : int
        Its seed.
    information : float
        See `neighbor_information`; nats.
    generalization : float
        See `imageherd.metrics.generalization_score`, adjusted for chance.
    seconds : float
        How long the fit took.
    """

    method: str
    random_state: int
    information: float
    generalization: float
    seconds: float

    @property
    def score(self) -> float:
        """What is chosen by: the product of the two; 0 where either is below 0."""
        return max(self.information, 0.0) * max(self.generalization, 0.0)


@dataclass(frozen=True)
class Choice:
    """A method and its seed, and the runs it was chosen from.

    Attributes
    ----------
    method : str
        The first named of those whose mean score over seeds is within 5 % of the highest.
    random_state : int
        The seed of its run with the highest score; of equal ones the lowest.
    runs : tuple of Run
        All of them, by method in the order they were named, then by seed.
    n_rows : int
        How many rows they were fitted on.
    """

    method: str
    random_state: int
    runs: tuple[Run, ...]
    n_rows: int

    @property
    def reason(self) -> str:
        """Why this one, in a sentence without its stop."""
        means = self.means()
        scores = ", ".join(f"{method} {mean:.2f}" for method, mean in means.items())
        n_seeds = len(self.runs) // len(means)
        return (
            f"Chosen without labels: {self.method}, by what neighbours and a linear classifier "
            f"tell of its clusters ({scores}; less than 5 % apart says nothing; "
            f"{n_seeds} seeds of each on {self.n_rows:,} images)"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        runs = [asdict(run) | {"score": run.score} for run in self.runs]
        return {"reason": self.reason, "n_rows": self.n_rows, "runs": runs}

    def means(self) -> dict[str, float]:
        """Return the mean score of each method, the highest first."""
        scores: dict[str, list[float]] = {}
        for run in self.runs:
            scores.setdefault(run.method, []).append(run.score)
        means = {method: float(np.mean(of_seeds)) for method, of_seeds in scores.items()}
        return dict(sorted(means.items(), key=lambda entry: -entry[1]))


@dataclass(frozen=True)
class BetaChoice:
    """A β for TEMI and what it was chosen from.

    Attributes
    ----------
    beta : float
        The lowest whose H(q(c)) - H(q(c|x)) is at least 95 % of the greatest.
    betas : tuple of float
        Those tried, ascending.
    clusters, images : tuple of float
        H(q(c)), how even the clusters are, and H(q(c|x)), how unsure the head is of an image, of
        each; nats.
    """

    beta: float
    betas: tuple[float, ...]
    clusters: tuple[float, ...]
    images: tuple[float, ...]

    @property
    def reason(self) -> str:
        """Why this one, in a sentence without its stop."""
        at = self.betas.index(self.beta)
        return (
            f"Chosen without labels: β = {self.beta:g}, the lowest of {len(self.betas)} whose "
            f"clusters are even (entropy {self.clusters[at]:.2f}) while images are sure of theirs "
            f"({self.images[at]:.2f})"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {"reason": self.reason} | asdict(self)


def neighbor_information(labels: ArrayLike, ids: ArrayLike) -> float:
    """How much the cluster of a row tells of the cluster of its neighbours: nats, at most log K.

    The mutual information of the two clusters over all pairs of a row and a neighbour, each pair
    taken both ways. Unlike the share of neighbours in the same cluster it rewards neither few
    clusters nor one that swallows the others: for these it is near 0. Pairs with a row in no
    cluster (-1) are left out, and the result is multiplied by the share of the pairs kept.

    Parameters
    ----------
    labels : array-like of int, shape (n,)
        Cluster of each row.
    ids : array-like of int, shape (n, k)
        Its neighbours, such as `NeighborGraph.ids`.

    Raises
    ------
    ValueError
        If the shapes do not fit each other.
    """
    own, near = np.asarray(labels), np.asarray(ids)
    if own.ndim != 1 or near.ndim != 2 or len(own) != len(near) or near.size == 0:
        raise ValueError(
            f"labels of shape {own.shape} and ids of shape {near.shape} must be (n,) and (n, k)."
        )
    first, second = np.repeat(own, near.shape[1]), own[near].ravel()
    kept = (first >= 0) & (second >= 0)
    if not kept.any():
        return 0.0
    _, codes = np.unique(np.r_[first[kept], second[kept]], return_inverse=True)
    a, b, k = codes[: kept.sum()], codes[kept.sum() :], int(codes.max()) + 1
    joint = np.bincount(a * k + b, minlength=k * k).reshape(k, k) / kept.sum()
    joint = (joint + joint.T) / 2
    there = joint > 0
    chance = np.outer(joint.sum(1), joint.sum(0))
    return float((joint[there] * np.log(joint[there] / chance[there])).sum() * kept.mean())


def choose_method(
    X: ArrayLike,
    n_clusters: int,
    *,
    candidates: Sequence[str] = CANDIDATES,
    n_seeds: int = 3,
    sample: int = 5000,
    random_state: int = 0,
    device: str = "auto",
) -> Choice:
    """Choose a method and a seed without labels.

    Every candidate clusters the rows, or a sample of them, from several seeds. A clustering is
    scored by the product of two numbers: how much the cluster of a row tells of the cluster of its
    neighbours (`neighbor_information`; of neighbours that come after those the methods train on,
    as far as there are so many alike), and how well a linear classifier learns it on rows it was
    not shown (TURTLE's score, above chance). Each alone has favourites: methods that follow the
    neighbour graph, and linear ones. Compared are clusterings of one number of clusters.

    No proof: a clustering by something nobody asked for can be as even, connected and learnable.
    Takes the time of all the fits, about a minute and a half for 5,000 rows of 1,280 columns on a
    core, and the memory of one.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Features; may be memory-mapped.
    n_clusters : int
        How many clusters to make.
    candidates : sequence of str
        Methods that are told the number of clusters, the preferred first.
    n_seeds : int, default=3
        Runs of each, seeded `random_state`, `random_state` + 1 and so on.
    sample : int, default=5000
        Of more rows, so many are drawn.
    random_state : int, default=0
        Seed.
    device : str, default="auto"
        Where the methods train.

    Raises
    ------
    ValueError
        If a method is not known or counts itself, or a number is out of range.
    """
    unfit = [m for m in candidates if m not in HEADS or HEADS[m].counts_itself]
    if unfit or not candidates:
        raise ValueError(
            f"candidates={tuple(candidates)!r} must be methods that are told a number of clusters."
        )
    if n_seeds < 1:
        raise ValueError(f"n_seeds={n_seeds} must be at least 1.")
    rows = _sampled(X, n_clusters, sample, random_state)
    graph, n_trained = graph_to_score(rows, n_clusters, device=device)
    runs = [
        scored(method, n_clusters, seed, device, rows, graph, n_trained)[0]
        for method in candidates
        for seed in range(random_state, random_state + n_seeds)
    ]
    choice = Choice(candidates[0], random_state, tuple(runs), len(rows))
    means = choice.means()
    method = next(m for m in candidates if means[m] >= (1 - TIE) * max(means.values()))
    of_method = [run for run in runs if run.method == method]
    return Choice(
        method, max(of_method, key=lambda r: r.score).random_state, choice.runs, len(rows)
    )


def choose_beta(
    X: ArrayLike,
    n_clusters: int,
    betas: Sequence[float] = BETAS,
    *,
    sample: int = 5000,
    random_state: int = 0,
    device: str = "auto",
    **params: Any,
) -> BetaChoice:
    """Choose TEMI's β without labels: the lowest whose predictions stay both even and sure.

    The paper (sec. 4.2, fig. 2) asks for the lowest β whose H(q(c|x)) stays low while H(q(c)) stays
    high and gives no threshold. Ours: their difference, what a prediction tells of an image, must
    be at least 95 % of the greatest among the βs tried. Below it heads grow unsure, above it they
    leave clusters empty; either way the difference falls.

    Takes one TEMI of 4 heads for each β.

    Parameters
    ----------
    X, n_clusters, sample, random_state, device
        As in `choose_method`.
    betas : sequence of float
        In (0.5, 1].
    **params
        Of `imageherd.TEMI`, for all runs; n_heads is 4 unless said otherwise.

    Raises
    ------
    ValueError
        If there is no β, or one is out of range.
    """
    tried = sorted(set(betas))
    if not tried or not 0.5 < tried[0] <= tried[-1] <= 1:
        raise ValueError(f"betas={tuple(betas)!r} must be numbers in (0.5, 1].")
    rows = _sampled(X, n_clusters, sample, random_state)
    graph = knn_graph(rows, min(50, len(rows) - 1), device=device)
    entropies = []
    for beta in tried:
        settings = {"n_heads": 4, **params, "beta": beta, "n_clusters": n_clusters}
        head = HEADS["temi"](**settings, random_state=random_state, device=device)
        entropies.append(mean_entropies(_fitted(head, rows, graph).predict_proba(rows)))
    clusters, images = zip(*entropies, strict=True)
    return BetaChoice(lowest_enough(tried, entropies), tuple(tried), clusters, images)


def lowest_enough(betas: Sequence[float], entropies: Sequence[tuple[float, float]]) -> float:
    """Return the first β whose H(q(c)) - H(q(c|x)), of `entropies`, is 95 % of the greatest."""
    told = [clusters - images for clusters, images in entropies]
    return next(b for b, nats in zip(betas, told, strict=True) if nats >= ENOUGH * max(told))


def stand_in(method: str, params: dict[str, Any]) -> str:
    """Return the method to check a call by: itself, or one that is tried where it is "auto".

    Raises
    ------
    ImageherdError
        If parameters are given to a method that is to be chosen.
    """
    if method != AUTO:
        return method
    given = [name for name in params if name not in _ALWAYS]
    if given:
        raise ImageherdError(
            f"{', '.join(given)}: a method that is chosen takes no parameters; name the method."
        )
    return CANDIDATES[0]


def decide(
    method: str, params: dict[str, Any], X: ArrayLike, n_clusters: int, settings: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return method and parameters with what is "auto" in them chosen: the method, or TEMI's β.

    Parameters
    ----------
    method, params
        What `stand_in` found right; params hold random_state and device.
    X, n_clusters
        As in `choose_method`.
    settings : dict
        What will be kept beside the result; "chosen" is added, with the reason in a sentence.
    """
    sample = max(_SAMPLE, _SAMPLE_PER_CLUSTER * n_clusters)
    if method == AUTO:
        base = {name: params[name] for name in _ALWAYS}
        choice = choose_method(X, n_clusters, sample=sample, **base)
        settings["chosen"] = choice.as_dict()
        return choice.method, base | {"random_state": choice.random_state}
    if method == "temi" and params.get("beta") == AUTO:
        others = {name: value for name, value in params.items() if name != "beta"}
        found = choose_beta(X, n_clusters, sample=sample, **others)
        settings["chosen"] = found.as_dict()
        return method, params | {"beta": found.beta}
    return method, params


def _sampled(
    X: ArrayLike, n_clusters: int, sample: int, random_state: int
) -> NDArray[np.floating[Any]]:
    X = np.asanyarray(X)
    if X.ndim != 2 or not 2 <= n_clusters <= min(len(X), sample):
        raise ValueError(
            f"n_clusters={n_clusters} must be from 2 to the number of rows looked at; X has shape "
            f"{X.shape}, sample={sample}."
        )
    if len(X) <= sample:
        return np.asarray(X)
    chosen = np.random.default_rng(random_state).choice(len(X), sample, replace=False)
    return np.asarray(X[np.sort(chosen)])


def graph_to_score(
    rows: NDArray[Any], n_clusters: int, *, device: str = "auto"
) -> tuple[NeighborGraph, int]:
    """Return the k-NN graph that candidates are fitted and scored with, and how many train.

    Of its nearest about n / K are of a row's kind: 20 or a third of these train, and as many that
    come next are asked about.
    """
    n = len(rows)
    n_trained = min(_MOST_NEIGHBORS, max(5, n // (3 * n_clusters)), max(1, (n - 1) // 2))
    return knn_graph(rows, min(max(50, 2 * n_trained), n - 1), device=device), n_trained


def scored(
    method: str,
    n_clusters: int,
    random_state: int,
    device: str,
    rows: NDArray[Any],
    graph: NeighborGraph,
    n_trained: int,
) -> tuple[Run, NDArray[np.int32]]:
    """Fit a candidate and score it; return its labels too."""
    started = time.perf_counter()
    head = HEADS[method](n_clusters=n_clusters, random_state=random_state, device=device)
    labels = _fitted(head, rows, graph).labels_
    seconds = time.perf_counter() - started
    information = neighbor_information(labels, graph.ids[:, n_trained : 2 * n_trained])
    linear = generalization_score(rows, labels, adjusted=True, folds=min(5, len(rows)))
    return Run(method, random_state, information, linear, seconds), labels


def _fitted(head: Any, rows: NDArray[Any], graph: NeighborGraph) -> Any:
    with warnings.catch_warnings():
        # That a candidate collapses shows in its score.
        warnings.simplefilter("ignore", CollapseWarning)
        return head.fit(rows, neighbors=graph if hasattr(head, "n_neighbors") else None)
