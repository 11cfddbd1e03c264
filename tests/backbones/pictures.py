"""Pictures to prepare."""

import numpy as np
from PIL import Image


def picture(width, height, seed=0):
    """Smooth with some noise, so that a shift by a pixel or a wrong filter shows."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / (5 + c)) * np.cos(y / (9 - c)) for c in range(3)], axis=-1)
    pixels = 127 + 80 * waves + rng.normal(0, 15, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
