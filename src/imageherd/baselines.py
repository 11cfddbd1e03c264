"""What every method is measured against: k-means, on the same features with the same scaling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar
from torch import Tensor, nn

from imageherd.heads.base import Head
from imageherd.heads.loop import Run, generator
from imageherd.heads.scaling import BLOCK_ROWS, padded_block

# Starts are compared on at most this many rows; the best one is then refined on all.
START_ROWS = 20_000
TOLERANCE = 1e-4


class Centers(nn.Module):
    """Equal spherical Gaussians: logits -‖z - c‖² / (2 variance)."""

    centers: Tensor
    variance: Tensor

    def __init__(self, n_clusters: int, d: int) -> None:
        super().__init__()
        self.register_buffer("centers", torch.zeros(n_clusters, d))
        self.register_buffer("variance", torch.ones(()))

    def forward(self, Z: Tensor) -> Tensor:
        """Return logits (b, n_clusters)."""
        return -self.distances(Z).square() / (2 * self.variance)

    def distances(self, Z: Tensor) -> Tensor:
        """Return Euclidean distances to the centres, (b, n_clusters)."""
        return torch.cdist(Z, self.centers, compute_mode="donot_use_mm_for_euclid_dist")


class KMeans(Head):
    """k-means on scaled features, as a head.

    `transform` returns the distances to the centres, (n, n_clusters), in the scaled space, as
    scikit-learn's does. `predict_proba` is the posterior of equally likely spherical Gaussians
    around the centres whose one variance per dimension is the mean squared distance of the fitted
    rows to their centre, divided by d: with hundreds of dimensions it is close to 0 or 1.

    Parameters
    ----------
    n_clusters : int, default=10
        K.
    scaling : {"none", "l2", "standard", "pca"}, default="l2"
        See `imageherd.heads.scaling.Scaler`.
    pca_variance : float, default=0.8
        Share of the variance that scaling="pca" keeps.
    n_init : int, default=10
        Starts (k-means++); the one with the smallest inertia is kept.
    max_iter : int, default=100
        Rounds at most.
    random_state : int, RandomState or None, default=None
        Seed.
    device : str, default="auto"
        See `imageherd.device.resolve_device`.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, d')
        In the scaled space.
    inertia_ : float
        Sum of the squared distances to the nearest centre.

    Notes
    -----
    A round costs O(n K d) for every start, on at most 20,000 rows; then O(n K d) on all rows.
    Memory: one block of rows beside the scaled features.
    """

    _saved: ClassVar[tuple[str, ...]] = ("n_iter_", "history_", "inertia_")

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        scaling: str = "l2",
        pca_variance: float = 0.8,
        n_init: int = 10,
        max_iter: int = 100,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.scaling = scaling
        self.pca_variance = pca_variance
        self.n_init = n_init
        self.max_iter = max_iter
        self.random_state = random_state
        self.device = device

    @property
    def cluster_centers_(self) -> NDArray[np.float32]:
        """Centres (n_clusters, d') in the scaled space."""
        network: Centers = self.network_
        return np.asarray(network.centers)

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the distances of each row of X (n, d) to the centres, (n, n_clusters)."""
        X, _ = self._ready(X)
        network: Centers = self.network_
        out = np.empty((len(X), self.n_clusters), dtype=np.float32)
        for start in range(0, len(X), BLOCK_ROWS):
            rows = slice(start, min(start + BLOCK_ROWS, len(X)))
            found = network.distances(self.scaler_(padded_block(X, start)))
            out[rows] = found[: rows.stop - start].numpy()
        return out

    def _check_params(self) -> None:
        super()._check_params()
        check_scalar(self.n_init, "n_init", Integral, min_val=1)
        check_scalar(self.max_iter, "max_iter", Integral, min_val=1)

    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        centers, inertia, rounds = kmeans(
            Z, self.n_clusters, seed=run.seed, n_init=self.n_init, max_iter=self.max_iter
        )
        network = self._network(Z.shape[1], {})
        network.centers.copy_(centers)
        network.variance.fill_(max(inertia / Z.numel(), torch.finfo(Z.dtype).tiny))
        self.inertia_, self.n_iter_ = inertia, rounds
        self.history_: list[dict[str, Any]] = [{"epoch": rounds, "loss": inertia}]
        return network

    def _network(self, d: int, facts: dict[str, Any]) -> Centers:
        return Centers(self.n_clusters, d)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags


def kmeans(
    Z: Tensor, n_clusters: int, *, seed: int, n_init: int = 10, max_iter: int = 100
) -> tuple[Tensor, float, int]:
    """Lloyd's k-means from the best of several k-means++ starts.

    Parameters
    ----------
    Z : Tensor of shape (n, d)
        Float32, on any device; read only.
    n_clusters : int
        K, at most n.
    seed : int
        Of the subsample and the starts.
    n_init : int, default=10
        Starts, all run at once on a sample of at most 20,000 rows.
    max_iter : int, default=100
        Rounds at most, for the starts and again for the best one on all rows.

    Returns
    -------
    centers : Tensor of shape (K, d)
    inertia : float
        Sum of squared distances to the nearest centre.
    rounds : int
        Rounds on all rows.
    """
    centers = kmeans_starts(Z, n_clusters, seed=seed, n_init=n_init, max_iter=max_iter)
    found, rounds = _lloyd(Z, centers[:1], max_iter)
    return found[0], float(_inertias(Z, found)[0]), rounds


def kmeans_starts(
    Z: Tensor, n_clusters: int, *, seed: int, n_init: int, max_iter: int = 100
) -> Tensor:
    """Run k-means from `n_init` k-means++ starts on a sample of at most 20,000 rows.

    Returns
    -------
    Tensor of shape (n_init, K, d)
        Centres, the runs in order of their inertia, the smallest first.
    """
    sample = _sample(Z, seed)
    centers = _plus_plus(sample, n_clusters, n_init, generator(seed, stream=101))
    centers, _ = _lloyd(sample, centers, max_iter)
    return centers[_inertias(sample, centers).argsort(stable=True)]


def _sample(Z: Tensor, seed: int) -> Tensor:
    if len(Z) <= START_ROWS:
        return Z
    rows = torch.randperm(len(Z), generator=generator(seed, stream=100))[:START_ROWS]
    return Z[rows.sort().values.to(Z.device)]


def _plus_plus(Z: Tensor, K: int, R: int, numbers: torch.Generator) -> Tensor:
    """k-means++ (Arthur and Vassilvitskii 2007), greedy: each centre the best of a few draws."""
    n, d = Z.shape
    tries = 2 + int(math.log(K))
    first = torch.randint(n, (R,), generator=numbers).to(Z.device)
    centers = torch.empty((R, K, d), device=Z.device)
    centers[:, 0] = Z[first]
    nearest = _squared(Z, centers[:, 0])
    each = torch.arange(R, device=Z.device)
    for k in range(1, K):
        sums = nearest.double().cumsum(1)
        points = torch.rand((R, tries), generator=numbers, dtype=torch.float64).to(Z.device)
        drawn = torch.searchsorted(sums, points * sums[:, -1:]).clamp_max(n - 1)
        reach = _squared(Z, Z[drawn.flatten()]).view(R, tries, n)
        reach = torch.minimum(reach, nearest[:, None])
        best = reach.sum(2, dtype=torch.float64).argmin(1)
        centers[:, k] = Z[drawn[each, best]]
        nearest = reach[each, best]
    return centers


def _squared(Z: Tensor, points: Tensor) -> Tensor:
    """Squared distances (m, n) of points (m, d) to the rows of Z."""
    shift = points.mean(0)
    points = points - shift
    out = torch.empty((len(points), len(Z)), device=Z.device)
    for i in range(0, len(Z), 4096):
        block = Z[i : i + 4096] - shift
        out[:, i : i + 4096] = (
            points.square().sum(1)[:, None] - 2 * points @ block.T + block.square().sum(1)
        )
    return out.clamp_min_(0)


def _blocks(Z: Tensor, centers: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Nearest centre (R, b), squared distance to it (R, b), rows less the centres' mean (b, d)."""
    R, K, d = centers.shape
    shift = centers.mean((0, 1))
    flat = (centers - shift).view(R * K, d)
    size = max(256, 2**24 // (R * K + d))
    for i in range(0, len(Z), size):
        block = Z[i : i + size] - shift
        distances = (flat.square().sum(1) - 2 * block @ flat.T).view(-1, R, K)
        nearest, labels = distances.min(2)
        nearest = (nearest + block.square().sum(1)[:, None]).clamp_min_(0)
        yield labels.T, nearest.T, block


def _inertias(Z: Tensor, centers: Tensor) -> Tensor:
    """Return the sums of squared distances (R,), float64, to the nearest of centres (R, K, d)."""
    return torch.stack(
        [near.sum(1, dtype=torch.float64) for _, near, _ in _blocks(Z, centers)]
    ).sum(0)


def _lloyd(Z: Tensor, centers: Tensor, max_iter: int) -> tuple[Tensor, int]:
    """Run Lloyd's rounds from centres (R, K, d), together, each start until it has settled.

    Settled, as in scikit-learn: the centres' squared moves add up to at most 1e-4 of the mean
    variance of a column.
    """
    settled = TOLERANCE * _variance(Z)
    centers = centers.clone()
    active = torch.arange(len(centers), device=Z.device)
    rounds = 0
    while rounds < max_iter and len(active):
        rounds += 1
        moved = _round(Z, centers[active])
        moves = (moved - centers[active]).square().sum((1, 2))
        centers[active] = moved
        active = active[moves > settled]
    return centers, rounds


def _round(Z: Tensor, centers: Tensor) -> Tensor:
    R, K, _ = centers.shape
    sums = torch.zeros_like(centers)
    counts = torch.zeros((R, K), device=Z.device)
    distances = []
    for found, nearest, block in _blocks(Z, centers):
        one_hot = nn.functional.one_hot(found, K).to(Z.dtype)
        sums += (one_hot.transpose(1, 2).reshape(R * K, -1) @ block).view_as(sums)
        counts += one_hot.sum(1)
        distances.append(nearest)
    moved = sums / counts.clamp_min(1)[..., None] + centers.mean((0, 1))
    # An empty cluster takes the row that is farthest from its centre.
    for r in (counts == 0).any(1).nonzero().flatten().tolist():
        empty = (counts[r] == 0).nonzero().flatten()
        farthest = torch.cat(distances, 1)[r].topk(len(empty)).indices
        moved[r, empty] = Z[farthest]
    return moved


def _variance(Z: Tensor) -> float:
    """Mean variance of a column, in blocks."""
    mean = Z.mean(0)
    total = 0.0
    for start in range(0, len(Z), BLOCK_ROWS):
        total += float((Z[start : start + BLOCK_ROWS] - mean).square().sum())
    return total / Z.numel()
