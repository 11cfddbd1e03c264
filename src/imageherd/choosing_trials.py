"""Trials of methods and settings, scored by what can be seen without labels, and kept."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imageherd.files import read_json, write_json
from imageherd.heads import HEADS
from imageherd.heads.base import CollapseWarning
from imageherd.metrics import generalization_score
from imageherd.neighbors import NeighborGraph, knn_graph

_MOST_NEIGHBORS, _FEWEST_NEIGHBORS = 20, 5
# Of its nearest about n / K are of a row's kind; a third of them trains a method.
_PART_THAT_TRAINS = 3
ROWS_PER_CLUSTER = _PART_THAT_TRAINS * _FEWEST_NEIGHBORS
"""With fewer, most of the neighbours that a clustering is asked about are of other kinds."""


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


def remembered(
    path: Path | None, name: str, compute: Callable[[], tuple[float, ...]]
) -> tuple[float, ...]:
    """Return what a trial came to: read from a file if it was run before, else run and added to it.

    Parameters
    ----------
    path : Path or None
        A JSON file, ``{name: numbers}``, for trials of one kind on the same rows; None keeps none.
        One that is damaged counts as empty.
    name : str
        Which trial.
    compute : callable
        Runs it.
    """
    if path is None:
        return compute()
    known: dict[str, list[float]] = {}
    with suppress(OSError, ValueError):
        known = dict(read_json(path))
    if name not in known:
        known[name] = list(compute())
        write_json(path, known)
    return tuple(known[name])


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


def sampled(
    X: ArrayLike, n_clusters: int, sample: int, random_state: int
) -> NDArray[np.floating[Any]]:
    """Return all rows, or `sample` of them drawn at random, in their order.

    Raises
    ------
    ValueError
        If `n_clusters` is not from 2 to the number of rows returned, or X is not 2-D.
    """
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
    n_trained = min(
        _MOST_NEIGHBORS,
        max(_FEWEST_NEIGHBORS, n // (_PART_THAT_TRAINS * n_clusters)),
        max(1, (n - 1) // 2),
    )
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
    labels = fitted(head, rows, graph).labels_
    seconds = time.perf_counter() - started
    information = neighbor_information(labels, graph.ids[:, n_trained : 2 * n_trained])
    linear = generalization_score(rows, labels, adjusted=True, folds=min(5, len(rows)))
    return Run(method, random_state, information, linear, seconds), labels


def fitted(head: Any, rows: NDArray[Any], graph: NeighborGraph) -> Any:
    """Fit a candidate, with the graph if it takes one; a collapse is not warned of."""
    with warnings.catch_warnings():
        # That a candidate collapses shows in its score.
        warnings.simplefilter("ignore", CollapseWarning)
        return head.fit(rows, neighbors=graph if hasattr(head, "n_neighbors") else None)
