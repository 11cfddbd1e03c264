"""Small feature sets, and jobs done in this process instead of one of their own."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imageherd.bench import run as run_module


def save_blobs(
    folder: Path, *, n: int = 90, d: int = 6, k: int = 3, seed: int = 0, apart: float = 8.0
) -> tuple[Path, Path]:
    """Write X.npy and y.npy of k well separated clusters; returns their paths."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    X = rng.normal(size=(n, d)) + apart * np.eye(k, d)[y]
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "X.npy", X.astype(np.float32))
    np.save(folder / "y.npy", np.array(["a", "b", "c", "d", "e"])[y])
    return folder / "X.npy", folder / "y.npy"


def do_here(job: dict) -> dict:
    """Do a job as the process would, through JSON on stdin and the file it writes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO(json.dumps(job)))
        run_module.main()
    return json.loads(Path(job["output"]).read_text(encoding="utf-8"))


def picture(color: int, i: int) -> Image.Image:
    """Noise in one of three colours."""
    pixels = np.random.default_rng([color, i]).integers(0, 90, (24, 24, 3), dtype=np.uint8)
    pixels[..., color] += 160
    return Image.fromarray(pixels)


def fill(folder: Path, classes: list[str], *, n: int = 4) -> None:
    """Write n pictures of each class, each class a colour, into a folder a class."""
    for color, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            picture(color, i).save(folder / name / f"{i}.png")
