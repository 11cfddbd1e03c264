"""How well each image sits in its place: what its neighbours say, and how far out it lies."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from imageherd.neighbors import NeighborGraph

N_NEIGHBORS = 10
BLOCK = 65536


@dataclass(frozen=True, eq=False)
class Quality:
    """What is known of each image's place beside its probability, one entry a clustered image.

    Attributes
    ----------
    duplicate_of : ndarray of int64, shape (n,)
        Row of the image that was fitted for it, as its copy or near-copy; -1 if it was itself.
    agreement : ndarray of float32, shape (n,)
        Share of its 10 nearest images that are in the same cluster.
    around : ndarray of int32, shape (n,)
        The cluster that most of its 10 nearest are in; -1 if they fit nowhere.
    outlier : ndarray of float32, shape (n,)
        Share of the images that lie less far out: 0 for the one most similar to its 10 nearest,
        1 for the one least similar to them.
    """

    duplicate_of: NDArray[np.int64]
    agreement: NDArray[np.float32]
    around: NDArray[np.int32]
    outlier: NDArray[np.float32]


def judge(
    uids: NDArray[np.int32], graph: NeighborGraph | None, duplicate_of: NDArray[np.int64]
) -> Quality:
    """Say of each image what its nearest tell of its place.

    Takes O(n k) and, at a time, the neighbours of 65,536 images.

    Parameters
    ----------
    uids : ndarray of int32, shape (n,)
        Cluster of each image, -1 for none.
    graph : NeighborGraph or None
        k-NN graph of the same images; its 10 nearest count, or all if they are fewer. Without it
        agreement and outlier are NaN, and each image is among its own.
    duplicate_of : ndarray of int64, shape (n,)
        To keep beside it.
    """
    if graph is None:
        unknown = np.full(len(uids), np.nan, dtype=np.float32)
        return Quality(duplicate_of, unknown, uids, unknown)
    ids = graph.ids[:, :N_NEIGHBORS]
    agreement = np.empty(len(uids), dtype=np.float32)
    around = np.empty(len(uids), dtype=np.int32)
    for start in range(0, len(uids), BLOCK):
        rows = slice(start, start + BLOCK)
        agreement[rows], around[rows] = votes(uids[ids[rows]], uids[rows])
    return Quality(duplicate_of, agreement, around, farther_out(similarity_to_nearest(graph)))


def votes(
    near: NDArray[np.int32], own: NDArray[np.int32]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the share of each image's neighbours in its own cluster, and the most frequent one.

    Parameters
    ----------
    near : ndarray of int32, shape (n, k)
        Clusters of the neighbours, nearest first.
    own : ndarray of int32, shape (n,)
        Cluster of the image; of several that are as frequent it comes first, then the nearest's.
    """
    same = near == own[:, None]
    counts = (near[:, :, None] == near[:, None, :]).sum(2)
    most = near[np.arange(len(near)), (2 * counts + same).argmax(1)]
    return same.mean(1, dtype=np.float32), most


def similarity_to_nearest(graph: NeighborGraph) -> NDArray[np.float32]:
    """Return each image's mean similarity to its 10 nearest, or all if they are fewer."""
    nearest = graph.similarities[:, :N_NEIGHBORS]
    return np.asarray(nearest.mean(1, dtype=np.float64), dtype=np.float32)


def farther_out(
    similarity: NDArray[np.float32], among: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return the share of the others that are more similar to their nearest: 0 to 1.

    Parameters
    ----------
    similarity : ndarray of float32, shape (n,)
        Mean similarity to the nearest.
    among : ndarray of float32, shape (m,), optional
        The same of the images to compare with; by default the other n - 1.
    """
    others = similarity if among is None else among
    more = len(others) - np.searchsorted(np.sort(others), similarity, side="right")
    n_others = len(others) - (among is None)
    return (more / max(n_others, 1)).astype(np.float32)


def set_aside(graph: NeighborGraph, reject: float) -> NDArray[np.bool_]:
    """Tell which images fit nowhere: as `imageherd.assignment.place` does with new ones.

    Those whose mean similarity to their 10 nearest is below the `reject` quantile of all.
    """
    similarity = similarity_to_nearest(graph)
    return np.asarray(similarity < np.quantile(similarity, reject))


def joined(first: Quality, second: Quality, order: NDArray[np.int64]) -> Quality:
    """Return the two one after the other, in the given order."""
    return Quality(
        *(
            np.concatenate([getattr(first, name), getattr(second, name)])[order]
            for name in (field.name for field in fields(Quality))
        )
    )
