"""About how long embedding will take, measured on a few of the images themselves."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from imageherd.cores import usable_cores
from imageherd.features.computed import Computed
from imageherd.features.items import UNREADABLE, Items
from imageherd.features.known import RowsOfEntries
from imageherd.features.reading import Job, read_image
from imageherd.features.store import MANIFEST, present_mask, read_manifest
from imageherd.images.names import display_path

if TYPE_CHECKING:
    from imageherd.backbones import Backbone
    from imageherd.images.source import Entry, Source

_IMAGES = 8
_SECONDS = 0.6


def estimate(
    items: Items,
    source: Source,
    source_index: int,
    backbone: Backbone | Computed,
    feature_set_folder: Path | str,
    *,
    workers: int | None = None,
) -> float:
    """Return about how many seconds `embed_source` would take now; writes nothing.

    Reads up to 8 images spread over those to do, for 0.6 s at most or one image, and runs the
    model on one full batch, on a second one if the first took less than 0.6 s: under two seconds
    unless a batch alone takes longer than that.

    Parameters
    ----------
    items, source, source_index, backbone, feature_set_folder, workers
        As for `embed_source`.

    Returns
    -------
    float
        Seconds; 0.0 if nothing is left to do, or no model to wait for. Reading and the model
        are added up, as on a CPU they share it; with a GPU the truth is nearer the larger one.
    """
    if isinstance(backbone, Computed):
        return 0.0
    keys = _remaining(items, source, source_index, Path(feature_set_folder))
    if not keys:
        return 0.0
    workers = workers or usable_cores()
    sample = [keys[i] for i in np.unique(np.linspace(0, len(keys) - 1, _IMAGES).astype(int))]
    started = time.perf_counter()
    n_read = 0
    for key in sample:
        read_image(source, Job(-1, key, display_path(key)), backbone, {})
        n_read += 1
        if time.perf_counter() - started > _SECONDS:
            break
    reading = (time.perf_counter() - started) / n_read
    return len(keys) * (reading / workers + _model_seconds(backbone))


def _remaining(items: Items, source: Source, source_index: int, folder: Path) -> list[bytes]:
    table = items.table()
    settled = pc.equal(table["status"], UNREADABLE).to_numpy().copy()
    if (folder / MANIFEST).exists():
        present = present_mask(read_manifest(folder))[: len(settled)]
        settled[: len(present)] |= present
    entries = source.scan()
    rows = RowsOfEntries(table, source_index, entries)
    settled &= rows.live

    def done(at: int, entry: Entry) -> bool:
        return any(
            settled[row] and rows.size[row] == entry.size and rows.mtime_ns[row] == entry.mtime_ns
            for row in rows.of(at)
        )

    return [e.key for at, e in enumerate(entries) if not e.reason and not done(at, e)]


def _model_seconds(backbone: Backbone) -> float:
    """Seconds an image, from full batches: a backbone pads smaller ones, which cost as much."""
    side = backbone.preprocessing.size
    batch = np.zeros((backbone.batch_size, 3, side, side), np.float32)
    seconds = _timed(backbone, batch)
    if seconds < _SECONDS:
        # The first call also pays for warming up.
        seconds = _timed(backbone, batch)
    return seconds / len(batch)


def _timed(backbone: Backbone, batch: np.ndarray) -> float:
    started = time.perf_counter()
    backbone.embed(batch)
    return time.perf_counter() - started
