"""A 2-D map of the features: t-SNE of a sample, the others placed beside their neighbours.

t-SNE as in van der Maaten & Hinton 2008, approximated by interpolation (Linderman et al. 2019)
through openTSNE; started from the principal components, which keeps the large-scale arrangement
and makes the map repeatable (Kobak & Berens 2019).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

N_COMPONENTS = 50
PERPLEXITY = 30
# Below this t-SNE has too few neighbours to say anything; two principal components say it better.
SMALLEST_TSNE = 12
# Interpolation beats the tree from here on.
FFT_FROM = 2_000
N_ANCHORS = 5
BLOCK_ROWS = 16_384


def layout(X: NDArray[np.floating], *, random_state: int = 0, max_points: int = 10_000) -> Array:
    """Place every row of `X` on a plane so that neighbours stay neighbours.

    Rows are compared by cosine: each is scaled to length one, then reduced to 50 principal
    components. At most `max_points` rows, sampled at random, are laid out by t-SNE; each other
    row goes to the mean position of its 5 nearest laid-out rows, weighted by closeness.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Features, in memory or memory-mapped; finite.
    random_state : int, default=0
        Seed of the sample and of the start; the same seed gives the same bytes on one machine.
    max_points : int, default=10_000
        Most rows t-SNE sees.

    Returns
    -------
    ndarray of shape (n, 2), float32
        Positions, centred on the origin. The unit has no meaning.

    Raises
    ------
    ValueError
        If `X` is not 2-D or holds a value that is not finite.

    Notes
    -----
    t-SNE takes about 40 s of one core for 10,000 rows, 10 s for 3,800, 1 s for 600. Placing costs
    O(n · max_points); memory is O(max_points · d) and does not grow with n but for the result.
    """
    if X.ndim != 2:
        raise ValueError(f"X must be 2-D (n, d), got shape {X.shape}.")
    rng = np.random.default_rng(random_state)
    n = len(X)
    sampled = np.arange(n)
    if n > max_points:
        sampled = np.sort(rng.choice(n, max_points, replace=False))
    if n == 0:
        return np.zeros((0, 2), np.float32)
    sample = _unit_rows(X[sampled])
    mean = sample.mean(axis=0)
    components = _principal_components(sample - mean, random_state)
    reduced = _as_float32((sample - mean) @ components.T)
    positions = _lay_out(reduced, rng)
    if n == len(sampled):
        return positions
    return _place(X, sampled, mean, components, reduced, positions)


def _unit_rows(X: NDArray[np.floating]) -> Array:
    rows = np.asarray(X, dtype=np.float32)
    if not np.isfinite(rows).all():
        raise ValueError("X holds values that are not finite; leave out unreadable images.")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return _as_float32(rows / np.where(lengths > 0, lengths, 1))


def _as_float32(values: Any) -> Array:
    return np.asarray(values, dtype=np.float32)


def _principal_components(centred: Array, random_state: int) -> Array:
    from sklearn.decomposition import PCA

    n, d = centred.shape
    n_components = min(N_COMPONENTS, d, n)
    # Rows that are all the same have no variance to divide by, and no directions to find.
    if n < 2 or (centred == centred[0]).all():
        return np.eye(n_components, d, dtype=np.float32)
    fitted = PCA(n_components, random_state=random_state).fit(centred)
    return _as_float32(fitted.components_)


def _lay_out(reduced: Array, rng: np.random.Generator) -> Array:
    n = len(reduced)
    start = np.zeros((n, 2))
    width = min(2, reduced.shape[1])
    start[:, :width] = reduced[:, :width]
    scale = start[:, 0].std()
    # Rounding leaves equal rows a hair apart; a map of that hair would be noise made large.
    if scale < 1e-6:
        return _disc(n)
    start /= scale
    if n < SMALLEST_TSNE:
        return _as_float32(start - start.mean(axis=0))
    # Equal rows at equal places would never part, so each starts a little off.
    start = (start + rng.normal(scale=0.01, size=start.shape)) * 1e-4
    return _tsne(reduced, start)


def _disc(n: int) -> Array:
    """Spread points with nothing to tell them apart evenly over a disc (a sunflower)."""
    step = np.arange(n)
    radius, angle = np.sqrt(step / max(n, 1)), step * np.pi * (3 - np.sqrt(5))
    return _as_float32(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))


def _tsne(reduced: Array, start: NDArray[np.float64]) -> Array:
    import openTSNE

    n = len(reduced)
    perplexity = min(PERPLEXITY, (n - 1) / 3)
    ids, distances = _nearest(reduced, reduced, min(n - 1, int(3 * perplexity)) + 1)
    ids, distances = _without_self(ids, distances)
    index = openTSNE.nearest_neighbors.PrecomputedNeighbors(ids, distances)
    affinities = openTSNE.affinity.PerplexityBasedNN(perplexity=perplexity, knn_index=index)
    # One thread: sums come out the same on every machine, and on busy cores it is not slower.
    tsne = openTSNE.TSNE(n_jobs=1, negative_gradient_method="fft" if n > FFT_FROM else "bh")
    fitted = np.asarray(tsne.fit(affinities=affinities, initialization=start))
    return _as_float32(fitted - fitted.mean(axis=0))


def _nearest(points: Array, queries: Array, k: int) -> tuple[NDArray[np.int64], Array]:
    """Find the `k` nearest points of each query and their Euclidean distances, exactly."""
    import faiss

    index = faiss.IndexFlatL2(points.shape[1])
    index.add(np.ascontiguousarray(points))
    squared, ids = index.search(np.ascontiguousarray(queries), k)
    return ids, np.sqrt(np.maximum(squared, 0))


def _without_self(ids: NDArray[np.int64], distances: Array) -> tuple[NDArray[np.int64], Array]:
    """Drop each row from its own neighbours; among equal rows it may stand anywhere or be out."""
    n, k = ids.shape
    keep = ids != np.arange(n)[:, None]
    keep[keep.all(axis=1), -1] = False
    return ids[keep].reshape(n, k - 1), distances[keep].reshape(n, k - 1)


def _place(
    X: NDArray[np.floating],
    sampled: NDArray[np.int64],
    mean: Array,
    components: Array,
    reduced: Array,
    positions: Array,
) -> Array:
    placed = np.zeros((len(X), 2), np.float32)
    for begin in range(0, len(X), BLOCK_ROWS):
        rows = _unit_rows(X[begin : begin + BLOCK_ROWS])
        block = _as_float32((rows - mean) @ components.T)
        ids, distances = _nearest(reduced, block, min(N_ANCHORS, len(reduced)))
        weights = 1 / (distances + 1e-6)
        weights /= weights.sum(axis=1, keepdims=True)
        placed[begin : begin + len(block)] = (weights[:, :, None] * positions[ids]).sum(axis=1)
    placed[sampled] = positions
    return placed
