"""Fitting a sample: which images it has, and what is said of the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imageherd.clustering import MOST_PROBABLE, NOWHERE, some_rows
from imageherd.derived import Features
from imageherd.errors import ImageherdError
from imageherd.neighbors import NeighborGraph, knn_query
from imageherd.quality import N_NEIGHBORS, similarity_to_nearest


def draw(
    data: Features, train_on: int | None, random_state: int, always: NDArray[np.int64] | None
) -> tuple[Features, NDArray[np.int64]]:
    """Draw the images to fit, all by default; with their positions, ascending.

    Parameters
    ----------
    data : Features
        Of all images.
    train_on : int or None
        How many to draw.
    random_state : int
        Seed.
    always : ndarray of int64 or None
        Rows of images that come on top of those drawn.

    Raises
    ------
    ImageherdError
        If `train_on` is less than 2.
    """
    n = len(data.rows)
    if train_on is not None and train_on < 2:
        raise ImageherdError(f"train_on={train_on} images are too few to fit; give 2 or more.")
    if train_on is None or train_on >= n:
        return data, np.arange(n)
    drawn = np.random.default_rng(random_state).choice(n, train_on, replace=False)
    if always is not None:
        drawn = np.concatenate([drawn, np.flatnonzero(np.isin(data.rows, always))])
    drawn = np.unique(drawn)
    return Features(data.rows[drawn], data.key, data.store), drawn


def of_all(
    labels: NDArray[np.int32],
    copies: NDArray[np.int64],
    drawn: NDArray[np.int64],
    far: NDArray[np.bool_],
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Spread what is known of those drawn over all images; the head puts the others, but `far`."""
    every = np.where(far, np.int32(NOWHERE), np.int32(MOST_PROBABLE))
    of = np.full(len(far), -1)
    every[drawn], of[drawn] = labels, copies
    return every, of


def strangers(
    graph: NeighborGraph | None,
    sample: Features,
    data: Features,
    drawn: NDArray[np.int64],
    reject: float,
    device: str,
) -> NDArray[np.bool_]:
    """Tell which images outside the sample lie farther out than all but `reject` of the sample."""
    far = np.zeros(len(data.rows), dtype=bool)
    if graph is None:
        return far
    others = np.setdiff1d(np.arange(len(data.rows)), drawn)
    k = min(N_NEIGHBORS, graph.k)
    similar = knn_query(sample.X, some_rows(data.vectors, others), k, device=device)[1]
    mean = similar.mean(1, dtype=np.float64).astype(np.float32)
    far[others] = mean < np.quantile(similarity_to_nearest(graph), reject)
    return far
