"""Copies, near-copies and bursts among images, by their features: found before anything is fitted.

No threshold of similarity fits every backbone, so distances are measured by an image's own
neighbourhood. Where n images lie without plan in m dimensions, of the k nearest of one of them
(k - 1) tᵐ are expected within t times the distance of the k-th (a Poisson process; Levina and
Bickel 2004 read m off the same law). Two images are near-copies where chance, in all n
neighbourhoods together, would bring less than a hundredth of a pair so near. Images taken within
three seconds of each other are few pairs beside all there are: the same odds let them be farther
apart.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from imageherd.neighbors import NeighborGraph, knn_query

SECONDS = 3.0
# Pairs expected by chance, in all.
ODDS = 0.01
# In very many dimensions chance alone would call far images near.
NEAREST, NEAREST_IN_BURST = 0.6, 0.7
FEWEST, MOST, SHARE = 5, 20, 40


def find_duplicates(
    X: NDArray[np.float32],
    graph: NeighborGraph | None = None,
    times: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """Tell which images repeat another one, and which one stands for them.

    Equal rows of X are copies. Two different ones are linked if their distance (of the rows scaled
    to length 1) is at most t times the scale of either, which is its distance to the k-th
    neighbour, or the median of all images' where that is less; k is a fortieth of n, between 5
    and 20. Neighbours that are copies, or taken at the same time, do not count for the scale, as
    long as k others are known. But more than k images as near to each other as near-copies
    are a group of their own and stay. ``t = (0.01 / (n (k - 1)))^(1/m)``, at most 0.6; of images
    taken within three seconds ``t = (0.01 n / (T k))^(1/m)``, at most 0.7, if there are T such
    pairs. m is read off how much farther the 2k-th neighbour is than the k-th, by the median.

    Groups are stars: the image with most links (then with the greatest sum of similarities, then
    first) stands for those linked to it; then the next of what is left. So every image of a group
    is near the one that stands for it, and a chain of small steps joins nothing.

    Takes O(n d) for equal rows and O(n k) for the rest.

    Parameters
    ----------
    X : ndarray, shape (n, d)
        Features.
    graph : NeighborGraph, optional
        Their k-NN graph; without it, or with fewer than 2k neighbours, only equal rows are found.
    times : ndarray of float64, shape (n,), optional
        When each image was taken, in seconds; NaN if not known. See `seconds_of`.

    Returns
    -------
    ndarray of int64, shape (n,)
        Position of the image that stands for this one; -1 if it stands for itself.
    """
    n = len(X)
    stands = _first_equal(X)
    if graph is not None:
        times = np.full(n, np.nan) if times is None else times
        a, b, similarity = _links(graph, stands, times)
        stands = _stars(n, a, b, similarity)[stands]
    return np.where(stands == np.arange(n), -1, stands)


def seconds_of(taken_at: list[str | None]) -> NDArray[np.float64]:
    """Turn moments in ISO 8601 into seconds; NaN where there is none.

    A moment without offset is taken as UTC: of one camera all have it or none has.
    """
    found = np.full(len(taken_at), np.nan)
    for i, text in enumerate(taken_at):
        if text:
            moment = datetime.fromisoformat(text)
            found[i] = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return found


def graph_among(
    graph: NeighborGraph,
    X: NDArray[np.float32],
    kept: NDArray[np.int64],
    k: int,
    *,
    device: str = "cpu",
) -> NeighborGraph:
    """Return the k-NN graph of some rows, as `knn_graph` would, from that of all.

    Only rows that lose too many neighbours are searched for anew.

    Parameters
    ----------
    graph : NeighborGraph
        Of all n rows.
    X : ndarray, shape (n_kept, d)
        Features of the rows kept.
    kept : ndarray of int64, shape (n_kept,)
        Their positions, ascending.
    k : int
        Neighbours a row, below n_kept.
    device : str, default="cpu"
        Where to search.
    """
    place = np.full(len(graph.ids), -1, dtype=np.int32)
    place[kept] = np.arange(len(kept), dtype=np.int32)
    ids, similarities = place[graph.ids[kept]], graph.similarities[kept]
    there = ids >= 0
    order = np.argsort(~there, axis=1, kind="stable")[:, :k]
    ids = np.take_along_axis(ids, order, axis=1)
    similarities = np.take_along_axis(similarities, order, axis=1)
    short = np.flatnonzero(there.sum(1) < k)
    if len(short):
        fresh, similar = knn_query(X, X[short], k + 1, device=device)
        own = fresh == short[:, None]
        # Where many are equal the row itself may be beyond the last.
        own[~own.any(1), -1] = True
        if ids.shape[1] < k:
            ids = np.empty((len(kept), k), dtype=np.int32)
            similarities = np.empty((len(kept), k), dtype=np.float32)
        ids[short] = fresh[~own].reshape(-1, k)
        similarities[short] = similar[~own].reshape(-1, k)
    return NeighborGraph(ids, similarities, graph.metric)


def _first_equal(X: NDArray[np.float32]) -> NDArray[np.int64]:
    """Position of the first row that is equal to each."""
    seen: dict[bytes, int] = {}
    first = np.empty(len(X), dtype=np.int64)
    for i, row in enumerate(X):
        first[i] = seen.setdefault(hashlib.blake2b(row.tobytes(), digest_size=16).digest(), i)
    return first


def _links(
    graph: NeighborGraph, stands: NDArray[np.int64], times: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of different images that are near-copies, each once or twice, and how similar."""
    n = len(stands)
    k = min(MOST, max(FEWEST, n // SHARE))
    nothing = np.empty(0, dtype=np.int64)
    if graph.k < 2 * k:
        return nothing, nothing, np.empty(0)
    distance = np.sqrt(np.maximum(2 - 2 * graph.similarities.astype(np.float64), 0))
    of_others = stands == np.arange(n)
    together = np.abs(times[:, None] - times[graph.ids]) <= SECONDS
    outside = of_others[graph.ids] & (stands[graph.ids] != stands[:, None]) & ~together
    enough = outside.cumsum(axis=1) >= k
    at = np.where(enough.any(1), enough.argmax(1), k - 1)
    scale = distance[np.arange(n), at]
    scale = np.minimum(scale, np.median(scale))
    near, burst = _reach(distance, k, times)
    pair_scale = np.minimum(scale[:, None], scale[graph.ids])
    linked = distance <= np.where(together, burst, near) * pair_scale
    linked &= of_others[:, None] & of_others[graph.ids]
    a, c = np.nonzero(linked)
    return a, graph.ids[a, c].astype(np.int64), graph.similarities[a, c].astype(np.float64)


def _reach(
    distance: NDArray[np.float64], k: int, times: NDArray[np.float64]
) -> tuple[float, float]:
    """How near two images must be, in units of the scale: any two, and two of one moment."""
    n = len(distance)
    kth = distance[:, k - 1]
    growth = distance[kth > 0, 2 * k - 1] / kth[kth > 0]
    farther = float(np.median(growth)) if len(growth) else 1.0
    if farther <= 1:
        return 0.0, 0.0
    inverse_m = np.log2(farther)
    near = min((ODDS / (n * (k - 1))) ** inverse_m, NEAREST)
    known = np.sort(times[~np.isnan(times)])
    until = np.searchsorted(known, known + SECONDS, side="right")
    n_pairs = max(int((until - np.arange(len(known)) - 1).sum()), 1)
    burst = min((ODDS * n / (n_pairs * k)) ** inverse_m, NEAREST_IN_BURST)
    return near, max(near, burst)


def _stars(
    n: int, a: NDArray[np.int64], b: NDArray[np.int64], similarity: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Position of the image that stands for each, itself where it has no links."""
    stands = np.arange(n)
    if len(a) == 0:
        return stands
    pairs, at = np.unique(np.sort(np.stack([a, b], axis=1)), axis=0, return_index=True)
    ends = np.concatenate([pairs, pairs[:, ::-1]])
    degree = np.bincount(ends[:, 0], minlength=n)
    closeness = np.bincount(ends[:, 0], np.tile(similarity[at], 2), n).round(6)
    ends = ends[np.lexsort((ends[:, 1], ends[:, 0]))]
    starts = np.concatenate([[0], np.cumsum(degree)])
    free = np.ones(n, dtype=bool)
    members = np.flatnonzero(degree)
    for leader in members[np.lexsort((members, -closeness[members], -degree[members]))]:
        if free[leader]:
            linked = ends[starts[leader] : starts[leader + 1], 1]
            linked = linked[free[linked]]
            stands[linked] = leader
            free[linked] = free[leader] = False
    return stands
