"""What every method is measured against: known algorithms over known libraries, as heads."""

from imageherd.baselines.kmeans import KMeans

__all__ = ["KMeans"]
