"""Pictures for a small herd, and the token that its API wants."""

from pathlib import Path

import numpy as np
from PIL import Image

TOKEN = "a-token-for-tests"
COLOURS = ((220, 30, 30), (30, 200, 40), (40, 60, 220), (230, 210, 40))


def draw_pictures(folder: Path, n: int = 24) -> None:
    """JPEGs of 64 x 48 pixels in four colours that take turns, in two folders."""
    random = np.random.default_rng(0)
    for i in range(n):
        pixels = np.array(COLOURS[i % 4]) + random.normal(0, 12, (48, 64, 3))
        path = folder / ("left" if i % 2 else "right") / f"{i:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
