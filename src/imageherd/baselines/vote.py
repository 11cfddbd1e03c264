"""Clusters found for given rows only, carried to any row by a vote of the nearest of them."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from imageherd.heads.base import Head
from imageherd.heads.scaling import Features

N_VOTERS = 10
# Voters looked at together: bounds the memory of one block's distances.
VOTER_BLOCK = 16_384
# Squared distances below this share of the voters' mean square count as one and the same point:
# float32 copies of one row lie closer, and no vote hangs on rounding.
SAME_POINT = 1e-8


class NeighborVote(nn.Module):
    """The 10 nearest of the stored rows vote for their cluster, each by 1 / squared distance.

    (Shepard 1968.) A stored row is at distance 0 from itself and outvotes all but its exact copies.

    Parameters
    ----------
    n_voters : int
        Rows stored.
    n_clusters : int
        K.
    d : int
        Columns of the rows.

    Notes
    -----
    Memory: n_voters · d float32 numbers, kept in the saved head too, and twice that again while
    the CPU predicts in float64. Time: O(n_voters · d) a row.
    """

    center: Tensor
    rows: Tensor
    labels: Tensor
    same: Tensor

    def __init__(self, n_voters: int, n_clusters: int, d: int) -> None:
        super().__init__()
        self.n_clusters = n_clusters
        self.register_buffer("center", torch.zeros(d))
        self.register_buffer("rows", torch.zeros(n_voters, d))
        self.register_buffer("labels", torch.zeros(n_voters, dtype=torch.int64))
        self.register_buffer("same", torch.ones(()))

    def learn(self, Z: Tensor, labels: Tensor) -> None:
        """Store rows Z (n_voters, d) and the cluster of each, (n_voters,) of int64."""
        if len(Z):
            # Far from the origin, differences of squares would lose the distances.
            self.center.copy_(Z.mean(0))
        torch.sub(Z, self.center, out=self.rows)
        self.labels.copy_(labels)
        size = float(self.rows.square().sum(1).mean()) if len(Z) else 0.0
        self.same.fill_(max(SAME_POINT * size, torch.finfo(Z.dtype).tiny))

    def forward(self, Z: Tensor) -> Tensor:
        """Return the log of each cluster's share of the votes, (b, d) to (b, K)."""
        distances, nearest = self._nearest(Z - self.center)
        shares = (-distances.maximum(self.same).log()).softmax(1)
        labels = self.labels[nearest]
        votes = Z.new_zeros((len(Z), self.n_clusters))
        # One voter at a time adds up in one order, on a GPU too.
        for share, label in zip(shares.T, labels.T, strict=True):
            votes.scatter_add_(1, label[:, None], share[:, None])
        return votes.clamp_min(torch.finfo(votes.dtype).tiny).log()

    def _nearest(self, Z: Tensor) -> tuple[Tensor, Tensor]:
        """Return squared distances to the nearest stored rows and which they are, (b, 10) each."""
        squares = Z.square().sum(1, keepdim=True)
        best = Z.new_empty((len(Z), 0))
        ids = self.labels.new_empty((len(Z), 0))
        for start in range(0, len(self.rows), VOTER_BLOCK):
            rows = self.rows[start : start + VOTER_BLOCK]
            distances = torch.addmm(rows.square().sum(1), Z, rows.T, alpha=-2).add_(squares)
            near, where = distances.topk(min(N_VOTERS, len(rows)), dim=1, largest=False)
            best, ids = torch.cat([best, near], 1), torch.cat([ids, where + start], 1)
            best, order = best.topk(min(N_VOTERS, best.shape[1]), dim=1, largest=False)
            ids = ids.gather(1, order)
        return best, ids


def agreed(Z: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give exact copies of a row the label that most of them have, the smaller of equals."""
    seen: dict[bytes, int] = {}
    # + 0 makes -0 and 0 the same bytes.
    digests = (hashlib.sha256((row + 0).tobytes()).digest() for row in Z)
    points = np.array([seen.setdefault(digest, len(seen)) for digest in digests])
    if len(seen) == len(Z):
        return labels
    pairs, counts = np.unique(np.stack([points, labels]), axis=1, return_counts=True)
    # Of several entries for one point the last stays: by number, then the smaller label.
    order = np.lexsort((-pairs[1], counts))
    chosen = np.empty(len(seen), dtype=np.int32)
    chosen[pairs[0, order]] = pairs[1, order]
    found: NDArray[np.int32] = chosen[points]
    return found


def inertia(Z: Tensor, labels: Tensor, n_clusters: int) -> float:
    """Return the sum of the squared distances of rows (n, d) to the mean of their cluster."""
    Z, labels = Z.cpu(), labels.cpu()
    sums = torch.zeros((n_clusters, Z.shape[1]), dtype=torch.float64)
    squares = 0.0
    for start in range(0, len(Z), VOTER_BLOCK):
        rows = Z[start : start + VOTER_BLOCK].double()
        sums.index_add_(0, labels[start : start + VOTER_BLOCK], rows)
        squares += float(rows.square().sum())
    counts = torch.bincount(labels, minlength=n_clusters).clamp_min(1)
    return squares - float((sums.square().sum(1) / counts).sum())


class Voting(Head):
    """Base of the methods that say where the fitted rows belong, and no more.

    `labels_` are what the method found, copies of one row in one cluster. `predict` is a vote of
    the nearest of the fitted rows, and gives these their own cluster. `transform` returns X itself.
    The one entry of `history_` has as its loss the inertia of the clusters in the scaled space: no
    method here minimises it, but it compares with k-means's.
    """

    history_: list[dict[str, Any]]

    _saved: ClassVar[tuple[str, ...]] = ("n_iter_", "history_", "n_voters_")

    def transform(self, X: ArrayLike) -> Features:
        """Return X (n, d) itself, checked: there is no other space a new row could be put in."""
        return self._ready(X)[0]

    def _vote(self, Z: Tensor, labels: NDArray[np.int32]) -> NeighborVote:
        """Keep labels (m,) of rows Z (m, d') as `labels_`; return the vote of the placed ones.

        Negative labels are left out of the vote; the others are below `n_clusters_`. If these are
        not all rows, the vote gives `labels_` of all.
        """
        self.labels_ = labels = agreed(Z.cpu().numpy(), labels)
        placed = torch.from_numpy(np.flatnonzero(labels >= 0)).to(Z.device)
        self.n_voters_ = len(placed)
        network = self._network(Z.shape[1], {"n_voters_": len(placed)}).to(Z.device)
        groups = torch.from_numpy(labels).to(Z.device, torch.int64)[placed]
        network.learn(Z[placed], groups)
        self.n_iter_ = 1
        self.history_ = [{"epoch": 1, "loss": inertia(network.rows, groups, self.n_clusters_)}]
        return network

    def _training_labels(self, X: Features, device: torch.device) -> NDArray[np.int32]:
        if len(self.labels_) == len(X):
            return self.labels_
        return self._labels(X, device)

    def _network(self, d: int, facts: dict[str, Any]) -> NeighborVote:
        return NeighborVote(facts["n_voters_"], self.n_clusters_, d)
