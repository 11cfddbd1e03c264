"""Small herds of vectors in four clusters, to edit."""

import numpy as np

from imageherd.herd import Herd

CENTERS = np.eye(4, 8) * 10


def blobs(n: int, seed: int = 0) -> np.ndarray:
    """Vectors in four blobs that take turns: shape (n, 8)."""
    noise = np.random.default_rng(seed).normal(size=(n, 8))
    return (CENTERS[np.arange(n) % 4] + noise).astype(np.float32)


def made(folder, n: int = 48) -> Herd:
    """A herd with a clustering, its vectors beside it in ``x.npy``."""
    np.save(folder / "x.npy", blobs(n))
    herd = Herd(folder / "small.herd")
    herd.embed(folder / "x.npy")
    herd.cluster("kmeans", 4)
    return herd


def rows_in(clustering, uid: int) -> list[int]:
    """Rows of a cluster."""
    return clustering.rows[clustering.uids == uid].tolist()
