"""k-means on the same features with the same scaling as every other method."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar
from torch import Tensor, nn

from imageherd.heads.base import Head
from imageherd.heads.kmeans import kmeans
from imageherd.heads.loop import Run
from imageherd.heads.scaling import BLOCK_ROWS, padded_block


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
