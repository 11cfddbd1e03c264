"""What every method is measured against: known algorithms over known libraries, as heads."""

from imageherd.baselines.density import HDBSCAN
from imageherd.baselines.graph import Agglomerative, Spectral, SpectralPi
from imageherd.baselines.kmeans import KMeans, MiniBatchKMeans, SphericalKMeans
from imageherd.baselines.subspace import SSCOMP, EnSC

__all__ = [
    "HDBSCAN",
    "SSCOMP",
    "Agglomerative",
    "EnSC",
    "KMeans",
    "MiniBatchKMeans",
    "Spectral",
    "SpectralPi",
    "SphericalKMeans",
]
