"""k-means, spherical k-means and mini-batch k-means: no more than a centre for each cluster."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import sklearn.cluster
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from imageherd.heads.base import Head
from imageherd.heads.kmeans import kmeans
from imageherd.heads.loop import Run
from imageherd.heads.scaling import BLOCK_ROWS, padded_block
from imageherd.memory import empty_array


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


class Directions(nn.Module):
    """Equal von Mises-Fisher distributions: logits κ cos(z, c), for centres c of length 1."""

    centers: Tensor
    concentration: Tensor

    def __init__(self, n_clusters: int, d: int) -> None:
        super().__init__()
        self.register_buffer("centers", torch.zeros(n_clusters, d))
        self.register_buffer("concentration", torch.ones(()))

    def forward(self, Z: Tensor) -> Tensor:
        """Return logits (b, n_clusters)."""
        return self.concentration * (nn.functional.normalize(Z) @ self.centers.T)

    def distances(self, Z: Tensor) -> Tensor:
        """Return 1 - cos(z, c), (b, n_clusters)."""
        return 1 - nn.functional.normalize(Z) @ self.centers.T


def centers_of(run: Run) -> Tensor | None:
    """Return the centres (K, d) that a run starts with; None where it finds its own."""
    return None if run.start is None else run.start.get_buffer("centers")


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
    blocks : tuple of int, optional
        Columns of each feature space where X holds several side by side; each is scaled on its own.
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
    keeps_dtypes: ClassVar[tuple[str, ...]] = ()
    starts_warm: ClassVar[bool] = True
    history_: list[dict[str, Any]]

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        scaling: str = "l2",
        pca_variance: float = 0.8,
        blocks: tuple[int, ...] | None = None,
        n_init: int = 10,
        max_iter: int = 100,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.scaling = scaling
        self.pca_variance = pca_variance
        self.blocks = blocks
        self.n_init = n_init
        self.max_iter = max_iter
        self.random_state = random_state
        self.device = device

    @property
    def cluster_centers_(self) -> NDArray[np.float32]:
        """Centres (n_clusters, d') in the scaled space."""
        return np.asarray(self.network_.centers)

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the distances of each row of X (n, d) to the centres, (n, n_clusters)."""
        X, _ = self._ready(X)
        out = np.empty((len(X), self.n_clusters), dtype=np.float32)
        for start in range(0, len(X), BLOCK_ROWS):
            rows = slice(start, min(start + BLOCK_ROWS, len(X)))
            found = self.network_.distances(self.scaler_(padded_block(X, start)))
            out[rows] = found[: rows.stop - start].numpy()
        return out

    def _check_params(self) -> None:
        super()._check_params()
        check_scalar(self.n_init, "n_init", Integral, min_val=1)
        check_scalar(self.max_iter, "max_iter", Integral, min_val=1)

    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        centers, inertia, rounds = kmeans(
            Z,
            self.n_clusters,
            seed=run.seed,
            n_init=self.n_init,
            max_iter=self.max_iter,
            start=centers_of(run),
        )
        return self._gaussians(Z, centers, inertia, rounds)

    def _gaussians(self, Z: Tensor, centers: Tensor, inertia: float, rounds: int) -> nn.Module:
        network = Centers(self.n_clusters, Z.shape[1])
        network.centers.copy_(centers)
        network.variance.fill_(max(inertia / Z.numel(), torch.finfo(Z.dtype).tiny))
        self._learned(inertia, rounds)
        return network

    def _learned(self, inertia: float, rounds: int) -> None:
        self.inertia_, self.n_iter_ = inertia, rounds
        self.history_ = [{"epoch": rounds, "loss": inertia}]

    def _network(self, d: int, facts: dict[str, Any]) -> nn.Module:
        return Centers(self.n_clusters, d)


class SphericalKMeans(KMeans):
    """k-means by cosine: rows and centres have length 1 (Dhillon and Modha 2001).

    `transform` returns 1 - cosine to the centres, (n, n_clusters). `predict_proba` is the
    posterior of equally likely von Mises-Fisher distributions around the centres, of one
    concentration: Banerjee et al. 2005, at the mean cosine of the fitted rows to their
    centre.

    Parameters
    ----------
    n_clusters : int, default=10
        K.
    scaling : {"none", "l2", "standard", "pca"}, default="l2"
        See `imageherd.heads.scaling.Scaler`. Rows are brought to unit length after it: "standard"
        and "pca" give cosines seen from the mean of all rows, "none" and "l2" from the origin.
    pca_variance : float, default=0.8
        Share of the variance that scaling="pca" keeps.
    blocks : tuple of int, optional
        Columns of each feature space where X holds several side by side; each is scaled on its own.
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
        Unit rows in the scaled space.
    inertia_ : float
        Sum over rows of 2 (1 - cosine to the nearest centre).

    Notes
    -----
    Costs what `KMeans` costs, and one more copy of the scaled features.
    """

    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        U = torch.from_numpy(empty_array(tuple(Z.shape))).to(Z.device)
        for start in range(0, len(Z), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            U[rows] = nn.functional.normalize(Z[rows])
        centers, inertia, rounds = kmeans(
            U,
            self.n_clusters,
            seed=run.seed,
            n_init=self.n_init,
            max_iter=self.max_iter,
            spherical=True,
            start=centers_of(run),
        )
        d = Z.shape[1]
        network = Directions(self.n_clusters, d)
        network.centers.copy_(centers)
        # The bounds keep copies of one row, and rows of zeros, from infinity and nothing.
        cosine = min(max(1 - inertia / (2 * len(Z)), 1e-3), 1 - 1e-6)
        network.concentration.fill_(cosine * (d - cosine**2) / (1 - cosine**2))
        self._learned(inertia, rounds)
        return network

    def _network(self, d: int, facts: dict[str, Any]) -> nn.Module:
        return Directions(self.n_clusters, d)


class MiniBatchKMeans(KMeans):
    """scikit-learn's `MiniBatchKMeans`: for millions of rows.

    `transform` and `predict_proba` as in `KMeans`.

    Parameters
    ----------
    n_clusters : int, default=10
        K.
    scaling : {"none", "l2", "standard", "pca"}, default="l2"
        See `imageherd.heads.scaling.Scaler`.
    pca_variance : float, default=0.8
        Share of the variance that scaling="pca" keeps.
    blocks : tuple of int, optional
        Columns of each feature space where X holds several side by side; each is scaled on its own.
    n_init : int, default=3
        Starts (k-means++) on three batches of rows; the best is kept.
    max_iter : int, default=100
        Passes over the data at most; it stops when the centres settle.
    batch_size : int, default=1024
        Rows a step.
    random_state : int, RandomState or None, default=None
        Seed.
    device : str, default="auto"
        Not used: runs on the CPU.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, d')
        In the scaled space.
    inertia_ : float
        Sum of the squared distances to the nearest centre.

    Notes
    -----
    A step costs O(batch_size K d), a last pass O(n K d). Memory: little beside the scaled
    features.
    """

    starts_warm: ClassVar[bool] = False

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        scaling: str = "l2",
        pca_variance: float = 0.8,
        blocks: tuple[int, ...] | None = None,
        n_init: int = 3,
        max_iter: int = 100,
        batch_size: int = 1024,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.scaling = scaling
        self.pca_variance = pca_variance
        self.blocks = blocks
        self.n_init = n_init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device

    def _check_params(self) -> None:
        super()._check_params()
        check_scalar(self.batch_size, "batch_size", Integral, min_val=1)

    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        rows = Z.cpu().numpy()
        batches = sklearn.cluster.MiniBatchKMeans(
            self.n_clusters,
            n_init=self.n_init,
            max_iter=self.max_iter,
            batch_size=self.batch_size,
            random_state=run.seed,
        )
        # One thread adds up in one order.
        with threadpool_limits(1, user_api="openmp"):
            batches.fit(rows)
        centers = torch.from_numpy(batches.cluster_centers_).to(Z.device)
        return self._gaussians(Z, centers, float(batches.inertia_), int(batches.n_iter_))
