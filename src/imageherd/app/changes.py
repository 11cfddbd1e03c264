"""Which images changed groups between two clusterings of one herd."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from imageherd.app.contingency import (
    adjusted_mutual_information,
    adjusted_rand,
    contingency,
    match,
)
from imageherd.clustering import NOWHERE, Clustering


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two clusterings on the images that both have; made by `compare`.

    Attributes
    ----------
    at : ndarray of int64, shape (n,)
        Where each of these images is in the first clustering.
    row, column : ndarray of int32, shape (n,)
        Its cluster in either, as a place in `uids_a` and in `uids_b`.
    sure : ndarray of float32, shape (n,)
        The first clustering's probability for its cluster.
    counts : ndarray of int64, shape (n_a, n_b)
        Images in each pair of clusters.
    uids_a, uids_b : ndarray of int64, shapes (n_a,) and (n_b,)
        The clusters of its rows and of its columns, ascending.
    partner : ndarray of int64, shape (n_a,)
        The column that each row is matched to, -1 for none; "fits nowhere" is so in both.
    """

    at: NDArray[np.int64]
    row: NDArray[np.int32]
    column: NDArray[np.int32]
    sure: NDArray[np.float32]
    counts: NDArray[np.int64]
    uids_a: NDArray[np.int64]
    uids_b: NDArray[np.int64]
    partner: NDArray[np.int64]

    @cached_property
    def n_changed(self) -> int:
        """How many images are not in the counterpart of their cluster."""
        return int(self._changed[self.row, self.column].sum())

    @cached_property
    def _changed(self) -> NDArray[np.bool_]:
        """Whether each pair of clusters is not matched: shape (n_a, n_b)."""
        return np.not_equal.outer(self.partner, np.arange(len(self.uids_b)))

    @cached_property
    def _order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All images, pair of clusters by pair, the surest first; and where each pair begins."""
        pair = self.row.astype(np.int64) * len(self.uids_b) + self.column
        order = np.lexsort((-self.sure, pair))
        return order, np.concatenate([[0], np.cumsum(self.counts.ravel())])

    @cached_property
    def agreement(self) -> tuple[float, float] | None:
        """Rand index and mutual information adjusted for chance; None if they share no image."""
        if not len(self.at):
            return None
        return adjusted_rand(self.counts), adjusted_mutual_information(self.counts)

    def pairs(self, *, matched: bool) -> tuple[list[int], ...]:
        """Return uids a, uids b and the number of images, of pairs that share some, largest first.

        Those that are matched, or those that are not: the flows between groups.
        """
        i, j = np.nonzero(self.counts)
        wanted = (self.partner[i] == j) == matched
        i, j = i[wanted], j[wanted]
        order = np.argsort(-self.counts[i, j], kind="stable")
        i, j = i[order], j[order]
        columns = self.uids_a[i], self.uids_b[j], self.counts[i, j]
        return tuple(column.tolist() for column in columns)

    def shared(self, a: int, b: int) -> NDArray[np.int64]:
        """Return which images are in cluster `a` here and in `b` there, the surest first."""
        i, j = (np.flatnonzero(uids == uid) for uids, uid in ((self.uids_a, a), (self.uids_b, b)))
        if not len(i) or not len(j):
            return np.empty(0, dtype=np.int64)
        order, edges = self._order
        pair = int(i[0]) * len(self.uids_b) + int(j[0])
        return order[edges[pair] : edges[pair + 1]]

    def changed(self, a: int | None = None, b: int | None = None) -> NDArray[np.int64]:
        """Return which images the counterpart of their cluster does not have, the surest first.

        Those of cluster `a` here, or of `b` there, or all.
        """
        wanted = self._changed[self.row, self.column]
        if a is not None:
            wanted &= self.uids_a[self.row] == a
        if b is not None:
            wanted &= self.uids_b[self.column] == b
        found = np.flatnonzero(wanted)
        return found[np.argsort(-self.sure[found], kind="stable")]


def compare(a: Clustering, b: Clustering) -> Comparison:
    """Compare two clusterings on the images that both have.

    Clusters are matched one to one, by the Hungarian method, so that as few images as can be
    change groups. O(n log n + n_a n_b min(n_a, n_b)) time; 30 bytes an image are kept.
    """
    if np.array_equal(a.rows, b.rows):
        in_a = in_b = np.arange(len(a.rows))
    else:
        _, in_a, in_b = np.intersect1d(a.rows, b.rows, assume_unique=True, return_indices=True)
    of_a, of_b = a.uids[in_a], b.uids[in_b]
    counts, uids_a, uids_b = contingency(of_a, of_b)
    row, column = (
        np.searchsorted(uids, of).astype(np.int32) for uids, of in ((uids_a, of_a), (uids_b, of_b))
    )
    partner = np.full(len(uids_a), -1, dtype=np.int64)
    # "Fits nowhere" is no cluster: it comes first on either side, and is what it is.
    skip_a, skip_b = int(NOWHERE in uids_a), int(NOWHERE in uids_b)
    for i, j in match(counts[skip_a:, skip_b:]):
        partner[i + skip_a] = j + skip_b
    if skip_a and skip_b:
        partner[0] = 0
    sure = a.probability[in_a]
    return Comparison(in_a, row, column, sure, counts, uids_a, uids_b, partner)
