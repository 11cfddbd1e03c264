"""Cuts of graphs: spectral clustering of two affinities, and agglomerative clustering."""

from __future__ import annotations

import math
import warnings
from numbers import Integral, Real
from typing import ClassVar, cast

import numpy as np
import torch
from scipy.sparse import csr_array
from sklearn.cluster import AgglomerativeClustering
from sklearn.utils import check_scalar
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from imageherd.baselines.vote import Voting
from imageherd.heads.base import check_choice
from imageherd.heads.loop import Run, generator
from imageherd.heads.sinkhorn import column_potentials, whole_membership
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


class SpectralPi(Voting):
    """Normalised cut of Π of the features themselves, CPP's table 2: "spectral clustering".

    Π is Sinkhorn's doubly stochastic form of the cosines (`imageherd.heads.sinkhorn`): CPP without
    anything learned. Of several feature spaces the mean of the cosines counts.

    Parameters
    ----------
    n_clusters : int, default=10
        K.
    scaling : {"none", "l2", "standard", "pca"}, default="l2"
        See `imageherd.heads.scaling.Scaler`. Rows are brought to unit length after it: "none" and
        "l2" are the paper's, "standard" and "pca" give cosines seen from the mean of all rows.
    pca_variance : float, default=0.8
        Share of the variance that scaling="pca" keeps.
    blocks : tuple of int, optional
        Columns of each feature space where X holds several side by side; each is scaled on its own.
    gamma : float, default=0.1
        Temperature γ of Π, in units of a cosine. CPP's table 9 picks among 0.06 to 0.2 by
        accuracy, that is by labels; ours is near the middle.
    n_landmarks : int, default=10_000
        Of more rows than that, so many drawn at random are clustered, and the vote of the nearest
        places the others.
    random_state : int, RandomState or None, default=None
        Seed of the landmarks, the eigenvectors' start and k-means.
    device : str, default="auto"
        See `imageherd.device.resolve_device`.

    Notes
    -----
    With m = min(n, n_landmarks): O(m² d) for Π, O(m² K) a round of the eigensolver, a few tens of
    rounds; m² float32 numbers of memory (400 MB for 10,000) and what `NeighborVote` keeps of m
    rows.
    """

    against_collapse: ClassVar[str] = "lower gamma or n_clusters"

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        scaling: str = "l2",
        pca_variance: float = 0.8,
        blocks: tuple[int, ...] | None = None,
        gamma: float = 0.1,
        n_landmarks: int = 10_000,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.scaling = scaling
        self.pca_variance = pca_variance
        self.blocks = blocks
        self.gamma = gamma
        self.n_landmarks = n_landmarks
        self.random_state = random_state
        self.device = device

    def _check_params(self) -> None:
        super()._check_params()
        check_scalar(self.gamma, "gamma", Real, min_val=0, include_boundaries="neither")
        check_scalar(self.n_landmarks, "n_landmarks", Integral, min_val=self.n_clusters)

    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        drawn = torch.randperm(len(Z), generator=generator(run.seed, stream=200))
        landmarks = Z[drawn[: self.n_landmarks].sort().values.to(Z.device)]
        spaces = [nn.functional.normalize(space) for space in self.scaler_.split(landmarks)]
        # Π is of |cosines|, for codes. One more column makes each (1 + cos)/2, which is never
        # negative: at half the temperature that is Π of the cosines, opposites kept apart.
        spaces.append(torch.full((len(landmarks), 1), math.sqrt(len(spaces)), device=Z.device))
        C = nn.functional.normalize(torch.cat(spaces, 1))
        gamma = self.gamma / 2
        affinity = whole_membership(C, column_potentials(C, gamma), gamma)
        labels = spectral_labels(affinity, self.n_clusters, run.seed)
        del affinity
        return self._vote(landmarks, labels)


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
