"""Cuts of the k-NN graph: spectral clustering and agglomerative clustering."""

from __future__ import annotations

import warnings
from typing import ClassVar, cast

import numpy as np
from scipy.sparse import csr_array
from sklearn.cluster import AgglomerativeClustering
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from imageherd.baselines.vote import Voting
from imageherd.heads.base import check_choice
from imageherd.heads.loop import Run
from imageherd.heads.spectral import spectral_labels

LINKAGES = ("ward", "average", "complete", "single")


def knn_links(neighbors: Tensor) -> csr_array:
    """Return the graph as a sparse (n, n) array: 1 from every row to each of its neighbours."""
    n, k = neighbors.shape
    starts = np.arange(0, n * k + 1, k)
    columns = neighbors.cpu().numpy().ravel()
    return csr_array((np.ones(n * k), columns, starts), shape=(n, n))


class Spectral(Voting):
    """Normalised cut of the k-NN graph: `imageherd.heads.spectral.spectral_labels`.

    Every row is linked to its nearest neighbours by cosine, all links weigh 1, and the graph is
    made symmetric by the mean with its transpose, as scikit-learn's
    ``SpectralClustering(affinity="nearest_neighbors")`` does.

    Parameters
    ----------
    n_clusters : int, default=10
        K.
    scaling : {"none", "l2", "standard", "pca"}, default="l2"
        Space in which new rows look for the nearest fitted ones; see
        `imageherd.heads.scaling.Scaler`. The graph is on X as it is.
    pca_variance : float, default=0.8
        Share of the variance that scaling="pca" keeps.
    blocks : tuple of int, optional
        Columns of each feature space where X holds several side by side; each is scaled on its own.
    n_neighbors : int, default=20
        Links a row; at most max(5, n / (3 K)).
    random_state : int, RandomState or None, default=None
        Seed of the eigenvectors' start and of k-means.
    device : str, default="auto"
        Where neighbours are looked for; the cut is computed on the CPU.

    Notes
    -----
    O(n² d) for the graph, O(n k K) a round of the eigensolver, a few tens of rounds. Memory beside
    the features: n · max(4 K, 200) float64 numbers, and what `NeighborVote` keeps. A graph that
    falls into more pieces than K leaves it to chance which of them are kept together: raise
    `n_neighbors`.
    """

    against_collapse: ClassVar[str] = "raise n_neighbors or lower n_clusters"

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        scaling: str = "l2",
        pca_variance: float = 0.8,
        blocks: tuple[int, ...] | None = None,
        n_neighbors: int = 20,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.scaling = scaling
        self.pca_variance = pca_variance
        self.blocks = blocks
        self.n_neighbors = n_neighbors
        self.random_state = random_state
        self.device = device

    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        links = knn_links(cast(Tensor, neighbors))
        return self._vote(Z, spectral_labels(links, self.n_clusters, run.seed))


class Agglomerative(Voting):
    """Bottom-up merging along the k-NN graph: scikit-learn's `AgglomerativeClustering`.

    Only clusters with a link between them are merged. Where the graph is in pieces, scikit-learn
    joins the pieces by their nearest rows first.

    Parameters
    ----------
    n_clusters : int, default=10
        K.
    scaling : {"none", "l2", "standard", "pca"}, default="l2"
        Space in which distances are taken; see `imageherd.heads.scaling.Scaler`. The graph is on X
        as it is.
    pca_variance : float, default=0.8
        Share of the variance that scaling="pca" keeps.
    blocks : tuple of int, optional
        Columns of each feature space where X holds several side by side; each is scaled on its own.
    linkage : {"ward", "average", "complete", "single"}, default="ward"
        Which two linked clusters are the nearest. Of these "ward" alone does not grow one cluster
        that swallows the rest.
    n_neighbors : int, default=20
        Links a row; at most max(5, n / (3 K)).
    random_state : int, RandomState or None, default=None
        Not used: nothing is drawn.
    device : str, default="auto"
        Where neighbours are looked for; merging runs on the CPU.

    Notes
    -----
    O(n² d) for the graph, then n merges, each O(k d) and more as clusters gain links. Memory
    beside the features: 2 n d float64 numbers for "ward", and what `NeighborVote` keeps.
    """

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        scaling: str = "l2",
        pca_variance: float = 0.8,
        blocks: tuple[int, ...] | None = None,
        linkage: str = "ward",
        n_neighbors: int = 20,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.scaling = scaling
        self.pca_variance = pca_variance
        self.blocks = blocks
        self.linkage = linkage
        self.n_neighbors = n_neighbors
        self.random_state = random_state
        self.device = device

    def _check_params(self) -> None:
        super()._check_params()
        check_choice(self.linkage, "linkage", LINKAGES)

    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        merging = AgglomerativeClustering(
            self.n_clusters,
            linkage=self.linkage,
            connectivity=knn_links(cast(Tensor, neighbors)),
        )
        with threadpool_limits(1, user_api="openmp"), warnings.catch_warnings():
            # Said in the docstring: pieces are joined.
            warnings.filterwarnings("ignore", message="the number of connected components")
            labels = merging.fit_predict(Z.cpu().numpy())
        return self._vote(Z, labels.astype(np.int32))
