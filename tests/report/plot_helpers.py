"""What the tests of figures share."""

import io

import matplotlib
import numpy as np
from PIL import Image


def rendered(figure, dpi=60):
    """Pixels of the figure; fails if nothing is drawn on it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    pixels = np.asarray(Image.open(buffer).convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    return pixels


def blobs(n, n_clusters, d=12, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_clusters, n)
    labels[:n_clusters] = np.arange(n_clusters)[:n]
    centres = rng.normal(size=(n_clusters, d))
    return (centres[labels] + 0.3 * rng.normal(size=(n, d))).astype(np.float32), labels


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]
