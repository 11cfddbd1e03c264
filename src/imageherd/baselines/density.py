"""Clusters as dense regions, counted by the method itself: HDBSCAN."""

from __future__ import annotations

import math
import warnings
from numbers import Integral
from typing import ClassVar

import numpy as np
import sklearn.cluster
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar
from torch import Tensor, nn

from imageherd.baselines.vote import Voting
from imageherd.heads.base import CollapseWarning
from imageherd.heads.loop import Run


class HDBSCAN(Voting):
    """scikit-learn's `HDBSCAN`: it finds how many clusters there are and leaves rows out.

    (Campello, Moulavi and Sander 2013.) There is no `n_clusters`: `n_clusters_` is what was found.
    Rows in no dense region are -1 in `labels_`; `predict` and `predict_proba` put every row, these
    too, where its nearest clustered neighbours are.

    Parameters
    ----------
    scaling : {"none", "l2", "standard", "pca"}, default="pca"
        See `imageherd.heads.scaling.Scaler`. Densities in fewer dimensions are found quicker and
        differ more.
    pca_variance : float, default=0.8
        Share of the variance that scaling="pca" keeps.
    blocks : tuple of int, optional
        Columns of each feature space where X holds several side by side; each is scaled on its own.
    min_cluster_size : int, optional
        Fewest rows that make a cluster; √n / 2 by default, but at least 5. (scikit-learn: 5, which
        splits three Gaussians of 400 rows into 24 clusters.)
    min_samples : int, optional
        Rows within the radius that counts as a row's density; `min_cluster_size` by default, as in
        the library. Far fewer find chance crowds inside a group: one Gaussian of 3,000 rows falls
        into dozens of clusters with 5.
    random_state : int, RandomState or None, default=None
        Not used: nothing is drawn.
    device : str, default="auto"
        Not used: runs on the CPU.

    Notes
    -----
    O(n² d') time, on one core, with d' the columns after scaling (trees that find neighbours
    faster help below some 20 columns only). Memory: a float64 copy of the scaled features, and
    what `NeighborVote` keeps of the rows that are in a cluster.

    Where no region is dense, all `labels_` are -1, `n_clusters_` is 0, `predict` gives -1, and a
    CollapseWarning says so.
    """

    counts_itself: ClassVar[bool] = True
    against_collapse: ClassVar[str] = "lower min_cluster_size or min_samples"

    def __init__(
        self,
        *,
        scaling: str = "pca",
        pca_variance: float = 0.8,
        blocks: tuple[int, ...] | None = None,
        min_cluster_size: int | None = None,
        min_samples: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
    ) -> None:
        self.scaling = scaling
        self.pca_variance = pca_variance
        self.blocks = blocks
        self.min_cluster_size = min_cluster_size
        self.min_samples = min_samples
        self.random_state = random_state
        self.device = device

    def predict(self, X: ArrayLike) -> NDArray[np.int32]:
        """Return the nearest cluster of each row of X (n, d), or -1 where there is no cluster."""
        if getattr(self, "n_clusters_", None) == 0:
            return np.full(len(self._ready(X)[0]), -1, dtype=np.int32)
        return super().predict(X)

    def _check_params(self) -> None:
        super()._check_params()
        if self.min_cluster_size is not None:
            check_scalar(self.min_cluster_size, "min_cluster_size", Integral, min_val=2)
        if self.min_samples is not None:
            check_scalar(self.min_samples, "min_samples", Integral, min_val=1)

    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        size = self.min_cluster_size or max(5, math.isqrt(len(Z)) // 2)
        dense = sklearn.cluster.HDBSCAN(
            min_cluster_size=size, min_samples=min(self.min_samples or size, len(Z)), copy=True
        )
        labels = dense.fit_predict(Z.cpu().numpy()).astype(np.int32)
        self.n_clusters_ = int(labels.max()) + 1
        if self.n_clusters_ == 0:
            warnings.warn(
                f"HDBSCAN found no cluster; to find some, {self.against_collapse}.",
                CollapseWarning,
                stacklevel=3,
            )
        return self._vote(Z, labels)
