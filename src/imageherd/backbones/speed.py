"""How many images a second a backbone embeds on this machine, measured and remembered."""

from __future__ import annotations

import json
import platform
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from imageherd.backbones import load_backbone
from imageherd.backbones.cache import cache_dir
from imageherd.cores import usable_cores
from imageherd.files import write_json

SECONDS = 3.0


def measure(name: str, *, device: str = "auto") -> float:
    """Embed random pixels with a backbone and remember how fast it went.

    Decoding is not counted. Takes the time to load it, one batch to warm up, then 3 seconds or one
    batch, whichever is longer.

    Parameters
    ----------
    name : str
        See `load_backbone`.
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        Where it runs.

    Returns
    -------
    float
        Images a second.

    Raises
    ------
    ImageherdError
        If the backbone cannot be loaded.
    """
    backbone = load_backbone(name, device=device)
    side = backbone.preprocessing.size
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(backbone.batch_size, 3, side, side)).astype(np.float32)
    backbone.embed(batch)
    started, n_images, seconds = time.perf_counter(), 0, 0.0
    while seconds < SECONDS:
        backbone.embed(batch)
        n_images += len(batch)
        seconds = time.perf_counter() - started
    found = {
        "images_per_second": n_images / seconds,
        "machine": platform.node(),
        "cores": usable_cores(),
        "date": date.today().isoformat(),
    }
    kept = _read()
    kept.setdefault(name, {})[device] = found
    _file().parent.mkdir(parents=True, exist_ok=True)
    write_json(_file(), kept)
    return n_images / seconds


def measured(name: str) -> dict[str, Any] | None:
    """Return the fastest that `measure` saw of a backbone on this machine; None if it never did.

    Its fields: images_per_second, device (as asked for), cores, date.
    """
    here = [
        {"device": device, **found}
        for device, found in _read().get(name, {}).items()
        if found["machine"] == platform.node()
    ]
    best = max(here, key=lambda found: found["images_per_second"], default=None)
    return best and {key: value for key, value in best.items() if key != "machine"}


def _file() -> Path:
    return cache_dir() / "speed.json"


def _read() -> dict[str, dict[str, Any]]:
    """Read what is remembered; a file that is damaged is as good as none."""
    try:
        kept = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}
