"""Copies, near-copies and bursts among images, by their features: found before anything is fitted.

No threshold of similarity fits every backbone, so distances are measured by an image's own
neighbourhood. Where n images lie without plan in m dimensions, of the k nearest of one of them
(k - 1) tᵐ are expected within t times the distance of the k-th (a Poisson process; Levina and
Bickel 2004 read m off the same law). Two images are near-copies where chance, in all n
neighbourhoods together, would bring less than a hundredth of a pair so near. Images taken within
three seconds of each other are few pairs beside all there are: the same odds let them be farther
apart.

What that finds with the bundled backbone, of copies of 60 of 400 photographs 240 pixels wide: all
that were saved again as JPEG of quality 50 or more, 47 of quality 30, 59 at three quarters of the
side or cropped by a twentieth, but 18 at half the side. Those moved by 0.37 to 0.58 (8 of 10),
while photographs of different jeans on one door are 0.43 apart: no rule on these features tells
the two from each other.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imageherd.clustering import some_rows
from imageherd.neighbors import NeighborGraph, knn_query

SECONDS = 3.0
# Pairs expected by chance, in all.
ODDS = 0.01
# In very many dimensions chance alone would call far images near.
NEAREST, NEAREST_IN_BURST = 0.6, 0.7
FEWEST, MOST, SHARE = 10, 40, 20


def find_duplicates(
    X: NDArray[np.float32],
    graph: NeighborGraph | None = None,
    times: NDArray[np.float64] | None = None,
    *,
    device: str = "cpu",
) -> NDArray[np.int64]:
    """Tell which images repeat another one, and which one stands for them.

    Equal rows of X are copies. Of the n that differ, two are linked if their distance (of the rows
    scaled to length 1) is at most t times the scale of either, which is its distance to the k-th
    neighbour, or the median of all images' where that is less; k is a twentieth of n, between 10
    and 40. ``t = (0.01 / (n (k - 1)))^(1/m)``, at most 0.6; of images taken within three seconds
    ``t = (0.01 n / (T k))^(1/m)``, at most 0.7, if there are T such pairs. m is read off how much
    farther the k-th neighbour is than the one half as far down the list, by the median.

    Groups are stars: the image with most links (then with the greatest sum of similarities, then
    first) stands for those linked to it; then the next of what is left. So every image of a group
    is near the one that stands for it, and a chain of small steps joins nothing.

    Near-copies by the dozen are each other's neighbours, which makes their scale small. So it is
    measured again among those that stand for themselves, where they have become fewer, and links
    are looked for anew, until none is found. More than k images of which no two are much nearer to
    each other than the rest are no copies but a cluster, and stay.

    Takes O(n d) for equal rows and O(n k) for the rest; a search, O(n d), for every image that has
    lost neighbours of the graph because they are copies.

    Parameters
    ----------
    X : ndarray, shape (n, d)
        Features.
    graph : NeighborGraph, optional
        Their k-NN graph; without it, or with fewer than k neighbours, only equal rows are found.
    times : ndarray of float64, shape (n,), optional
        When each image was taken, in seconds; NaN if not known. See `seconds_of`.
    device : str, default="cpu"
        Where to search.

    Returns
    -------
    ndarray of int64, shape (n,)
        Position of the image that stands for this one; -1 if it stands for itself.
    """
    n = len(X)
    stands = _first_equal(X)
    if graph is not None:
        kept = np.flatnonzero(stands == np.arange(n))
        times = np.full(n, np.nan) if times is None else times
        stands[kept] = kept[_near_copies(X, graph, kept, times[kept], device)]
        # What stands for the first of equal ones stands for all of them.
        stands = stands[stands]
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
    X : ndarray, shape (n, d)
        Features of all of them.
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
        fresh, similar = knn_query(some_rows(X, kept), X[kept[short]], k + 1, device=device)
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
    digests = np.empty(len(X), dtype="S16")
    for i, row in enumerate(X):
        digests[i] = hashlib.blake2b(row.tobytes(), digest_size=16).digest()
    _, first, which = np.unique(digests, return_index=True, return_inverse=True)
    return first[which]


def _near_copies(
    X: NDArray[np.float32],
    graph: NeighborGraph,
    kept: NDArray[np.int64],
    times: NDArray[np.float64],
    device: str,
) -> NDArray[np.int64]:
    """Place, among the images kept, of the one that stands for each; no two of them are equal."""
    n = len(kept)
    k = min(MOST, max(FEWEST, n // SHARE))
    stands, leaders, scale = np.arange(n), np.arange(n), np.zeros(n)
    near = burst = most = 0.0
    pairs: list[tuple[NDArray[Any], ...]] = []
    while min(graph.k, len(leaders) - 1) >= k:
        among = graph_among(graph, X, kept[leaders], k, device=device)
        distance = np.sqrt(np.maximum(2 - 2 * among.similarities.astype(np.float64), 0))
        if not pairs:
            near, burst = _reach(distance, times)
            most = float(np.median(distance[:, -1]))
        scale[leaders] = np.maximum(scale[leaders], np.minimum(distance[:, -1], most))
        ids = leaders[among.ids]
        reach = np.where(np.abs(times[leaders, None] - times[ids]) <= SECONDS, burst, near)
        # No scale is more than `most`: these are the only pairs that may ever be linked.
        i, c = np.nonzero(distance <= reach * most)
        similarity = among.similarities[i, c].astype(np.float64)
        pairs.append((leaders[i], ids[i, c], similarity, distance[i, c], reach[i, c]))
        a, b, similarity, apart, reach = (np.concatenate(part) for part in zip(*pairs, strict=True))
        linked = apart <= reach * np.minimum(scale[a], scale[b])
        stands = _stars(n, a[linked], b[linked], similarity[linked])
        scale = np.maximum(scale, scale[stands])
        left = np.flatnonzero(stands == np.arange(n))
        if np.array_equal(left, leaders):
            break
        leaders = left
    return stands


def _reach(distance: NDArray[np.float64], times: NDArray[np.float64]) -> tuple[float, float]:
    """How near two images must be, in units of the scale: any two, and two of one moment."""
    n, k = distance.shape
    half = distance[:, k // 2 - 1]
    growth = distance[half > 0, -1] / half[half > 0]
    farther = float(np.median(growth)) if len(growth) else 1.0
    if farther <= 1:
        return 0.0, 0.0
    inverse_m = np.log(farther) / np.log(k / (k // 2))
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
