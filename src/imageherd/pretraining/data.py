"""The images to train on: decoded and resized once, 3 bytes a pixel, held where they are used."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from imageherd.backbones.preprocess import Preprocessing
from imageherd.cores import usable_cores
from imageherd.errors import ImageherdError
from imageherd.features.prefetch import map_ahead
from imageherd.files import read_json, write_json
from imageherd.images.decode import UnreadableImageError, decode
from imageherd.images.source import Entry
from imageherd.progress import progress

LARGEST_NATIVE = 96
"""Sides up to this are trained on as they are when no size is asked for; larger become this."""

# Entries between two records of how far the decoding has come: what a kill costs at most.
_RECORD = 4096
_BLOCK = 1024
_FREE_SHARE = 0.5

ReadImage = tuple[NDArray[np.uint8] | None, str]


class Readable(Protocol):
    """What is asked of a source of images."""

    def scan(self) -> Sequence[Entry]:
        """List what is there, sorted by key."""
        ...

    def read(self, key: bytes) -> bytes:
        """Return the bytes of one image; raises UnreadableImageError."""
        ...


@dataclass(frozen=True, eq=False)
class Pixels:
    """n images of one size.

    Attributes
    ----------
    values : Tensor of uint8, shape (n, 3, s, s)
        In memory, mapped from a file, or on a GPU.
    keys : list of bytes
        Where each came from: its key in the source; for an array its position.
    mean, std : tuple of 3 floats
        Over all pixels of all images, per channel, on the scale 0 to 255.
    sha256 : str
        Of all pixels in order: which images these are.
    unreadable : list of (bytes, str)
        Key and reason of each image of the source that is left out.
    """

    values: Tensor
    keys: list[bytes]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    sha256: str
    unreadable: list[tuple[bytes, str]]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return int(self.values.shape[-1])

    @property
    def preprocessing(self) -> Preprocessing:
        """What turns any picture into the input of a network trained on these."""
        return _resizing(self.size, self.mean, self.std)

    def to(self, device: torch.device) -> Pixels:
        """Return the same on a GPU if they take no more than half of its free memory.

        Else, and for any other device, the images stay where they are, and each batch is moved.
        """
        if device.type != "cuda":
            return self
        free, _ = torch.cuda.mem_get_info(device)
        if self.values.nbytes > _FREE_SHARE * free:
            return self
        return replace(self, values=self.values.to(device))

    def batch(self, rows: Tensor, device: torch.device) -> Tensor:
        """Return the images of `rows`, int64 on the CPU, as uint8 (b, 3, s, s) on the device."""
        chosen = self.values[rows.to(self.values.device)]
        return chosen.to(device, non_blocking=True)


def normalize(images: Tensor, pixels: Pixels | Preprocessing) -> Tensor:
    """Return ``(images - mean) / std`` in float32, channel by channel.

    Parameters
    ----------
    images : Tensor of shape (b, 3, s, s)
        Values from 0 to 255, of any type.
    pixels : Pixels or Preprocessing
        Whose mean and std.
    """
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=images.device)[:, None, None]
        for values in (pixels.mean, pixels.std)
    )
    return (images.float() - mean) / std


def pixels_of_array(array: NDArray[np.uint8], size: int | None = None) -> Pixels:
    """Take images from an array.

    Parameters
    ----------
    array : ndarray of uint8, shape (n, h, w), (n, h, w, 3) or (n, 3, h, w)
        Grey or RGB; copied into memory.
    size : int, optional
        Side in pixels they are resized to (short side, then centre crop); by default as
        `native_size` says.

    Raises
    ------
    ValueError
        If type or shape are others, or there is no image.
    """
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or not array.size:
        raise ValueError(
            f"array of {array.dtype}, shape {array.shape}: give uint8 (n, h, w), (n, h, w, 3) or "
            "(n, 3, h, w) with n of 1 or more"
        )
    if array.ndim == 3:
        array = np.repeat(array[..., None], 3, 3)
    elif array.shape[3] != 3 and array.shape[1] == 3:
        array = array.transpose(0, 2, 3, 1)
    if array.shape[3] != 3:
        raise ValueError(f"array has shape {array.shape}: images are grey or have 3 channels")
    size = size or native_size(*array.shape[1:3])
    if array.shape[1:3] == (size, size):
        values = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    else:
        values = np.stack([_resized(Image.fromarray(image), size) for image in array])
    keys = [str(i).encode() for i in range(len(values))]
    return _described(torch.from_numpy(values), keys, [])


def read_pixels(
    source: Readable, folder: Path, *, size: int | None = None, workers: int | None = None
) -> Pixels:
    """Decode all images of a source into one file and map it into memory.

    They lie in the order in which the source is best read (`Entry.position`), by key among equals.
    Killed and run again, it goes on where it was, within 4,096 images, if the source's list of
    images has not changed; complete already, it decodes nothing. What cannot be read is left out.

    Parameters
    ----------
    source : Readable
        Scanned several times; see `imageherd.features.listing.Listed`.
    folder : Path
        Where ``pixels.u8`` is kept, n · 3 · size² bytes, and ``pixels.json``, what is in it.
    size : int, optional
        Side in pixels the images are resized to (short side, bicubic, then centre crop); by default
        `native_size` of the first image that can be read.
    workers : int, optional
        Threads that decode; by default one a core.

    Raises
    ------
    ImageherdError
        If there is no image, or none can be read.
    """
    entries = _ordered(source)
    size = size or first_size(source)
    path, record = folder / "pixels.u8", folder / "pixels.json"
    of = digest_of(source, size)
    done, bad = _progress_of(record, path, of, size)
    _decode_on(source, entries, size, path, record, of, (done, bad), workers or usable_cores())
    n = len(entries) - len(bad)
    if n == 0:
        reasons = sorted({reason for _, reason in bad})
        raise ImageherdError(
            f"None of the {len(entries):,} images can be read: {', '.join(reasons[:3])}."
        )
    # Copy on write: torch takes no memory that it must not write to, and nothing is written.
    values = np.memmap(path, np.uint8, "c", shape=(n, 3, size, size))
    missing = {index for index, _ in bad}
    keys = [entry.key for i, entry in enumerate(entries) if i not in missing]
    unreadable = [(entries[index].key, reason) for index, reason in bad]
    return _described(torch.from_numpy(values), keys, unreadable)


def native_size(width: int, height: int) -> int:
    """Return the side to train on when none is asked for.

    The short side, at most 96, down to a multiple of 4 (which every network here takes); at
    least 8.
    """
    return max(8, min(width, height, LARGEST_NATIVE) // 4 * 4)


def first_size(source: Readable) -> int:
    """Return `native_size` of the first image of a source that can be read, 96 if none can."""
    for entry in _ordered(source):
        try:
            if not entry.reason:
                found = decode(source.read(entry.key), min_side=LARGEST_NATIVE)
                return native_size(found.width, found.height)
        except UnreadableImageError:
            continue
    return LARGEST_NATIVE


def digest_of(source: Readable, size: int) -> str:
    """Return a hash of what a scan says of the images, and of the size they are wanted in."""
    facts = hashlib.sha256(str(size).encode())
    for entry in _ordered(source):
        facts.update(repr((entry.key, entry.size, entry.mtime_ns)).encode())
    return facts.hexdigest()


def _ordered(source: Readable) -> list[Entry]:
    """List the images as their source is best read, by key among equals."""
    return sorted(source.scan(), key=lambda entry: entry.position)


def _decode_on(
    source: Readable,
    entries: Sequence[Entry],
    size: int,
    path: Path,
    record: Path,
    of: str,
    so_far: tuple[int, list[tuple[int, str]]],
    workers: int,
) -> None:
    """Append the images from entry `so_far[0]` on, recording now and then how far it came."""
    done, bad = so_far
    if done == len(entries):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    read = _reader(source, size)
    with (
        path.open("ab") as file,
        progress("Decoding", len(entries) - done, "images") as advance,
        closing(map_ahead(read, entries[done:], workers=workers, ahead=8 * workers)) as results,
    ):
        file.truncate((done - len(bad)) * 3 * size**2)
        for index, (image, reason) in enumerate(results, start=done):
            if image is None:
                bad.append((index, reason))
            else:
                file.write(image.tobytes())
            if (index + 1) % _RECORD == 0 or index + 1 == len(entries):
                file.flush()
                os.fsync(file.fileno())
                write_json(record, {"of": of, "done": index + 1, "unreadable": bad})
            advance(1)


def _reader(source: Readable, size: int) -> Callable[[Entry], ReadImage]:
    def read(entry: Entry) -> ReadImage:
        if entry.reason:
            return None, entry.reason
        try:
            return _resized(decode(source.read(entry.key), min_side=size).image, size), ""
        except UnreadableImageError as error:
            return None, error.reason

    return read


def _resized(image: Image.Image, size: int) -> NDArray[np.uint8]:
    return _resizing(size, (0.0,) * 3, (1.0,) * 3).apply(image).astype(np.uint8)


def _resizing(
    size: int, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Preprocessing:
    return Preprocessing(size, size, "crop", "bicubic", mean, std)


def _progress_of(record: Path, path: Path, of: str, size: int) -> tuple[int, list[tuple[int, str]]]:
    """Return how many entries are done, and which of them are unreadable; (0, []) if none are."""
    try:
        known: dict[str, Any] = read_json(record)
        bad = [(int(index), str(reason)) for index, reason in known["unreadable"]]
        whole = path.stat().st_size >= (known["done"] - len(bad)) * 3 * size**2
        return (known["done"], bad) if known["of"] == of and whole else (0, [])
    except (OSError, ValueError, KeyError, TypeError):
        return 0, []


def _described(values: Tensor, keys: list[bytes], unreadable: list[tuple[bytes, str]]) -> Pixels:
    """Take mean, std and hash in one pass; whole numbers, so that no order of summing matters."""
    digest = hashlib.sha256()
    totals, squares = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for start in range(0, len(values), _BLOCK):
        block = values[start : start + _BLOCK].numpy()
        digest.update(block.tobytes())
        by_channel = block.transpose(1, 0, 2, 3).reshape(3, -1).astype(np.int64)
        totals += by_channel.sum(1)
        squares += np.square(by_channel).sum(1)
    count = values[:, 0].numel()
    mean = totals / count
    # An image of one colour has no spread; dividing by it would leave nothing finite.
    std = np.sqrt(np.maximum(squares / count - mean**2, 1.0))
    three = [(float(v[0]), float(v[1]), float(v[2])) for v in (mean, std)]
    return Pixels(values, keys, three[0], three[1], digest.hexdigest(), unreadable)
