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
    a, b : ndarray of int32, shape (n,)
        The cluster of each in either.
    counts : ndarray of int64, shape (n_a, n_b)
        Images in each pair of clusters.
    uids_a, uids_b : ndarray of int64, shapes (n_a,) and (n_b,)
        The clusters of its rows and of its columns, ascending.
    partner : ndarray of int64, shape (n_a,)
        The column that each row is matched to, -1 for none; "fits nowhere" is so in both.
    """

    at: NDArray[np.int64]
    a: NDArray[np.int32]
    b: NDArray[np.int32]
    counts: NDArray[np.int64]
    uids_a: NDArray[np.int64]
    uids_b: NDArray[np.int64]
    partner: NDArray[np.int64]

    @cached_property
    def changed(self) -> NDArray[np.bool_]:
        """Which images are not in the counterpart of their cluster: shape (n,)."""
        row, column = np.searchsorted(self.uids_a, self.a), np.searchsorted(self.uids_b, self.b)
        return np.asarray(self.partner[row] != column)

    @cached_property
    def agreement(self) -> tuple[float, float] | None:
        """Rand index and mutual information adjusted for chance; None if they share no image."""
        if not len(self.at):
            return None
        return adjusted_rand(self.counts), adjusted_mutual_information(self.counts)

    def pairs(self, *, matched: bool) -> tuple[NDArray[np.int64], ...]:
        """Return uids a, uids b and the number of images, of pairs that share some, largest first.

        Those that are matched, or those that are not: the flows between groups.
        """
        i, j = np.nonzero(self.counts)
        wanted = (self.partner[i] == j) == matched
        i, j = i[wanted], j[wanted]
        order = np.argsort(-self.counts[i, j], kind="stable")
        i, j = i[order], j[order]
        return self.uids_a[i], self.uids_b[j], self.counts[i, j]

    def chosen(self, a: int | None, b: int | None) -> NDArray[np.int64]:
        """Return the positions, among the common images, of those in cluster `a` and in `b`.

        Where only one is given: of its images, those that the counterpart does not have; where
        none is: of all that changed groups.
        """
        if a is not None and b is not None:
            return np.flatnonzero((self.a == a) & (self.b == b))
        wanted = self.changed
        if a is not None:
            wanted = wanted & (self.a == a)
        if b is not None:
            wanted = wanted & (self.b == b)
        return np.flatnonzero(wanted)


def compare(a: Clustering, b: Clustering) -> Comparison:
    """Compare two clusterings on the images that both have.

    Clusters are matched one to one, by the Hungarian method, so that as few images as can be
    change groups. O(n log n + n_a n_b min(n_a, n_b)) time: for a million images in 1,000 clusters
    about a second, and 40 MB.
    """
    if np.array_equal(a.rows, b.rows):
        in_a = in_b = np.arange(len(a.rows))
    else:
        _, in_a, in_b = np.intersect1d(a.rows, b.rows, assume_unique=True, return_indices=True)
    of_a, of_b = a.uids[in_a], b.uids[in_b]
    counts, uids_a, uids_b = contingency(of_a, of_b)
    partner = np.full(len(uids_a), -1, dtype=np.int64)
    # "Fits nowhere" is no cluster: it comes first on either side, and is what it is.
    skip_a, skip_b = int(NOWHERE in uids_a), int(NOWHERE in uids_b)
    for row, column in match(counts[skip_a:, skip_b:]):
        partner[row + skip_a] = column + skip_b
    if skip_a and skip_b:
        partner[0] = 0
    return Comparison(in_a, of_a, of_b, counts, uids_a, uids_b, partner)
