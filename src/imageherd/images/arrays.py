"""Images in NumPy arrays: ``.npy``, and ``.npz`` with labels beside them."""

from __future__ import annotations

import os
import struct
import threading
import zipfile
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imageherd.errors import ImageherdError
from imageherd.images.decode import UnreadableImageError, to_8_bits
from imageherd.images.names import display_path
from imageherd.images.source import Entry, Given
from imageherd.images.tables.columns import KEY
from imageherd.images.uris import parts_of, uri_of

_SCHEME = "array"
_MAGIC = b"\x93NUMPY"
_SLACK = 1e-3
_MASKS = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)

Header = tuple[tuple[int, ...], np.dtype[Any]]


class ArraySource:
    """The images of an array (n, height, width), (n, height, width, 1), ... 3 or ... 4.

    A ``.npy`` file is mapped, never read whole; an array in an ``.npz`` file is held in memory from
    the first image read. Values of 8 bits are taken as they are, truth values as black and white;
    deeper integers as in a grey image file, see `imageherd.images.decode.to_8_bits`; floats from 0
    to 1, others are refused. What `read` gives are BMP files. The key of an image is its number, in
    eight digits.

    Parameters
    ----------
    given : str or Path
        The file.
    image_column : str, optional
        Which array of an ``.npz`` file; the only one that fits by default.
    must_exist : bool, default=True
        False puts all checks off until `scan`.

    Raises
    ------
    ImageherdError
        If it is not there, cannot be read, or holds no such array or several.
    """

    def __init__(
        self, given: str | Path, *, image_column: str | None = None, must_exist: bool = True
    ) -> None:
        self.root = Path(os.path.abspath(given))  # noqa: PTH100
        self.image_column = image_column
        self.uri = uri_of(_SCHEME, self.root, image_column)
        self.name = self.root.name
        self._shown = display_path(os.fsencode(self.root.as_posix()))
        self._lock = threading.Lock()
        if must_exist:
            self._check()

    @staticmethod
    def takes(given: Given) -> bool:
        """Whether it is a file of NumPy arrays, by its contents."""
        return given.head.startswith(_MAGIC) or _is_npz(given.path, given.head)

    @classmethod
    def from_uri(cls, uri: str) -> ArraySource:
        """Return the source with this `uri`, whether or not the file is there now."""
        root, chosen = parts_of(uri)
        return cls(root, image_column=chosen, must_exist=False)

    @property
    def description(self) -> str:
        """Which array it is, and the size of its images."""
        try:
            shape, _ = self._arrays[self._chosen]
        except ImageherdError:
            return "an array"
        which = f"the array {self._chosen}" if self._chosen else "an array"
        return f"{which} of images of {shape[2]} x {shape[1]} pixels"

    def scan(self) -> list[Entry]:
        """List the images; costs nothing but the list.

        Raises
        ------
        ImageherdError
            If the file is gone, cannot be read, holds no images, or the first is of floats that do
            not lie between 0 and 1.
        """
        for known in ("_arrays", "_opened"):
            vars(self).pop(known, None)
        self._check()
        shape, dtype = self._arrays[self._chosen]
        size = int(np.prod(shape[1:])) * dtype.itemsize
        mtime_ns = self.root.stat().st_mtime_ns
        return [Entry(b"%08d" % i, size, mtime_ns, position=i) for i in range(shape[0])]

    def read(self, key: bytes) -> bytes:
        """Return one image as the bytes of a BMP file.

        Raises
        ------
        UnreadableImageError
            If there is no such image any more, or its floats do not lie between 0 and 1.
        """
        try:
            number, array = int(key), self._array
        except ImageherdError as error:
            raise UnreadableImageError("the array cannot be read") from error
        if number >= len(array):
            raise UnreadableImageError("no longer in the array")
        return bmp_bytes(_eight_bits(np.asarray(array[number])))

    def columns(self) -> pa.Table:
        """Return the arrays beside the images with one number or text for each, under their names.

        Raises
        ------
        ImageherdError
            If the file is gone or cannot be read.
        """
        n = self._arrays[self._chosen][0][0]
        told: dict[str, Any] = {KEY: pa.array([b"%08d" % i for i in range(n)], pa.binary())}
        beside = [
            name
            for name, (shape, dtype) in self._arrays.items()
            if name not in (self._chosen, KEY) and shape in ((n,), (n, 1)) and dtype.kind in "biufU"
        ]
        if beside:
            with np.load(self.root, allow_pickle=False) as file:
                told |= {name: file[name].reshape(n) for name in beside}
        return pa.table(told)

    def path(self, key: bytes) -> None:
        """Return None: an image is in no file of its own."""

    def shown(self, key: bytes) -> str:
        """Return where an image is, for people: "/data/digits.npy/00000042"."""
        return f"{self._shown}/{display_path(key)}"

    def is_there(self) -> bool:
        """Whether the file is there."""
        return self.root.is_file()

    def _check(self) -> None:
        shape, dtype = self._arrays[self._chosen]
        if shape[0] and dtype.kind == "f":
            try:
                _eight_bits(np.asarray(self._array[0]))
            except UnreadableImageError as error:
                raise ImageherdError(
                    f"The first image of {self._shown} has {error.reason}. Scale the array, or "
                    "save it as uint8."
                ) from error
        if not shape[0]:
            raise ImageherdError(f"{self._shown} holds no image: its array has the shape {shape}.")

    @cached_property
    def _arrays(self) -> dict[str, Header]:
        """Shape and type of each array, by name; that of a ``.npy`` file is called ""."""
        try:
            with self.root.open("rb") as file:
                if file.read(len(_MAGIC)) == _MAGIC:
                    file.seek(0)
                    return {"": header(file)}
            found = {}
            with zipfile.ZipFile(self.root) as archive:
                for name in archive.namelist():
                    with archive.open(name) as member:
                        found[name.removesuffix(".npy")] = header(member)
            return found
        except FileNotFoundError as error:
            raise ImageherdError(f"There is no file {self._shown}. Check the path.") from error
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ImageherdError(
                f"{self._shown} cannot be read as NumPy arrays ({error})."
            ) from error

    @property
    def _chosen(self) -> str:
        """The name of the array of images."""
        wanted = self.image_column
        if wanted is not None and wanted not in self._arrays:
            names = ", ".join(filter(None, self._arrays)) or "none that has a name"
            raise ImageherdError(f"{self._shown} has no array {wanted}; it has {names}.")
        asked = self._arrays if wanted is None else {wanted: self._arrays[wanted]}
        fitting = [name for name, (shape, dtype) in asked.items() if not _misfit(shape, dtype)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise ImageherdError(
                f"Several arrays of {self._shown} may be the images: {', '.join(fitting)}. Say "
                f"which: --image-column {fitting[0]}"
            )
        if len(asked) == 1:
            misfit = _misfit(*next(iter(asked.values())))
            raise ImageherdError(f"{self._shown} holds {misfit}.")
        shapes = ", ".join(f"{name} {shape}" for name, (shape, _) in asked.items())
        raise ImageherdError(
            f"No array of {self._shown} holds images, (n, height, width) or (n, height, width, 3): "
            f"{shapes or 'it is empty'}."
        )

    @property
    def _array(self) -> NDArray[Any]:
        with self._lock:
            return self._opened

    @cached_property
    def _opened(self) -> NDArray[Any]:
        chosen = self._chosen
        try:
            if not chosen:
                return np.asarray(np.load(self.root, mmap_mode="r", allow_pickle=False))
            with np.load(self.root, allow_pickle=False) as file:
                return np.asarray(file[chosen])
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ImageherdError(f"{self._shown} cannot be read ({error}).") from error


def bmp_bytes(picture: NDArray[np.uint8]) -> bytes:
    """Return a picture as a BMP file, the same bytes on every machine and with every library.

    Parameters
    ----------
    picture : ndarray of uint8, shape (height, width) or (height, width, 3 or 4)
        Grey, RGB, or RGB with opacity.
    """
    height, width = picture.shape[:2]
    depth = 1 if picture.ndim == 2 else picture.shape[2]
    rows = picture.reshape(height, width, depth)[::-1]
    if depth > 1:
        rows = rows[..., [2, 1, 0, 3][:depth]]
    flat = rows.reshape(height, width * depth)
    body = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 4))).tobytes()
    palette = b"".join(bytes((grey, grey, grey, 0)) for grey in range(256)) if depth == 1 else b""
    # Opacity needs the fourth version of the header, which says where it is.
    masks = struct.pack("<4I4s48x", *_MASKS, b"BGRs") if depth == 4 else b""
    start = 14 + 40 + len(masks) + len(palette)
    method = 3 if depth == 4 else 0
    head = struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start)
    about = (40 + len(masks), width, height, 1, 8 * depth, method, len(body), 2835, 2835, 0, 0)
    return head + struct.pack("<IiiHHIIiiII", *about) + masks + palette + body


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind == "f":
        low, high = float(np.nanmin(values, initial=0)), float(np.nanmax(values, initial=0))
        if low < -_SLACK or high > 1 + _SLACK:
            raise UnreadableImageError(
                f"values from {low:g} to {high:g}; as floats they have to lie between 0 and 1"
            )
        values = np.clip(values, 0, 1)
    return to_8_bits(values)


def header(file: IO[bytes]) -> Header:
    """Return shape and type of the array in a ``.npy`` file; raises ValueError if it is none."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    return shape, dtype


def _misfit(shape: tuple[int, ...], dtype: np.dtype[Any]) -> str:
    """Say why an array does not hold images; empty if it does."""
    if dtype.kind not in "buif":
        return f"{dtype} values; images are numbers, such as uint8"
    if len(shape) == 3 and (shape[2] > 4 or shape[0] == 0):
        return ""
    if len(shape) == 4 and shape[3] in (1, 3, 4):
        return ""
    text = (
        f"an array of shape {shape}; images have the shape (n, height, width) or (n, height, "
        "width, 3)"
    )
    if len(shape) == 4 and shape[1] in (1, 3, 4):
        return f"{text}: put the channels last with X.transpose(0, 2, 3, 1)"
    if len(shape) == 3:
        return f"{text}: a single image is X[None]"
    return text


def _is_npz(path: Path, head: bytes) -> bool:
    return path.suffix.lower() == ".npz" and head.startswith(b"PK")
