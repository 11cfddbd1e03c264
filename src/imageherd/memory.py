"""Arrays that may be larger than memory: above a gigabyte they lie in a temporary file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imageherd.errors import ImageherdError

MOST_IN_MEMORY = 2**30
"""Bytes of an array above which it goes to a file."""


def empty_array(shape: tuple[int, ...], folder: Path | None = None) -> NDArray[np.float32]:
    """Return a float32 array to be filled, for whoever would not notice where it lies.

    Above 1 GB it is the memory map of a file without a name, which is gone with the array: the
    system takes its pages back when it needs the memory.

    Parameters
    ----------
    shape : tuple of int
        Of the array.
    folder : Path, optional
        Where the file goes if we may write there; by default, and if not, the system's folder of
        temporary files.

    Raises
    ------
    ImageherdError
        If there is no room for the file.
    """
    size = 4 * int(np.prod(shape, dtype=np.int64))
    if size <= MOST_IN_MEMORY or size == 0:
        return np.empty(shape, dtype=np.float32)
    where = folder if folder is not None and os.access(folder, os.W_OK) else tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(dir=where) as file:
            # A full disk is told now: a mapped page that finds no room ends the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            mapped: np.memmap[Any, np.dtype[np.float32]]
            mapped = np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
    except OSError as error:
        raise ImageherdError(
            f"There is no room in {where} for a temporary file of {size / 1e9:.1f} GB ({error}); "
            "free some, or fit a sample: --train-on."
        ) from error
    return mapped.view(np.ndarray)
