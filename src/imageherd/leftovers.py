"""What nothing in a herd refers to any more: graphs, maps and checkpoints of the rows of once.

Only files of the names that this package gives are ever removed, and only under the herd's lock.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imageherd.derived import feature_keys, rows_digest
from imageherd.errors import ImageherdError
from imageherd.features.store import present_mask, read_manifest

_DIGEST = "[0-9a-f]{12}"
_GRAPH = re.compile(rf"k\d+-({_DIGEST})\.safetensors")
_MAP = re.compile(rf"map-(.+)-({_DIGEST})\.npy")
_CHECKPOINT = re.compile(rf"[a-z-]+-({_DIGEST})-{_DIGEST}.*")
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")
# The report is written without the lock, by one who is long done after a day.
_DAY = 86_400


def remove_leftovers(herd: Path, rows: NDArray[np.int64]) -> None:
    """Remove what was computed from other rows than the herd has now, and half-written files.

    The herd's lock must be held.

    Parameters
    ----------
    herd : Path
        The herd.
    rows : ndarray of int64, shape (n,)
        Rows of all images that are there and can be read.
    """
    digests = {}
    for key in feature_keys(herd):
        # What was computed from a damaged set can be computed again, once that is put right.
        with suppress(ImageherdError):
            present = np.flatnonzero(present_mask(read_manifest(herd / "features" / key)))
            digests[key] = rows_digest(rows[np.isin(rows, present)])
    for path in [*_stale(herd, digests), *_half_written(herd)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _stale(herd: Path, digests: dict[str, str]) -> Iterator[Path]:
    for path in herd.glob("neighbors/*/*"):
        found = _GRAPH.fullmatch(path.name)
        if found and digests.get(path.parent.name) != found[1]:
            yield path
    for path in herd.glob("report/*"):
        found = _MAP.fullmatch(path.name)
        if found and digests.get(found[1]) != found[2]:
            yield path
    for path in herd.glob("checkpoints/*"):
        found = _CHECKPOINT.fullmatch(path.name)
        if found and found[1] not in digests.values():
            yield path


def _half_written(herd: Path) -> Iterator[Path]:
    folders = (
        "",
        "neighbors/*/",
        "checkpoints/",
        "clusterings/*/",
        "report/",
        "search/*/",
        "texts/",
    )
    for path in (path for folder in folders for path in herd.glob(f"{folder}.*.tmp")):
        if not _TEMPORARY.fullmatch(path.name):
            continue
        if path.parent.name != "report" or time.time() - path.stat().st_mtime > _DAY:
            yield path
