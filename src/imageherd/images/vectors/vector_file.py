"""Vectors that someone has computed already: NumPy files and columns of Parquet files, in place."""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imageherd.errors import ImageherdError
from imageherd.images.decode import UnreadableImageError
from imageherd.images.names import display_path
from imageherd.images.source import Entry, Given
from imageherd.images.tables.columns import KEY
from imageherd.images.uris import parts_of, uri_of
from imageherd.images.vectors.reading import (
    as_key,
    is_folder_of_vectors,
    is_table_of_vectors,
    n_dimensions,
    npy_files,
    npy_vectors,
    parquet_vectors,
)

_SCHEME = "vectors"
_KEYS = ("key", "path")
_AT_ONCE = 4096


class VectorFile:
    """The rows of an array of vectors, as a source of items that have no picture.

    A ``.npy`` file with an array (n, d) of float16, float32 or float64; a folder of such files,
    one below the other in the order of their names; or a Parquet file with a column of lists of
    equal length. NumPy files are memory-mapped; a Parquet column is read whole, 4 n d bytes. Files
    with Python objects are refused: reading those can run code.

    Parameters
    ----------
    path : str or Path
        The file or folder.
    column : str, optional
        Which column of a Parquet file; needed only where several hold vectors.
    must_exist : bool, default=True
        False puts the check off until the vectors are asked for.

    Attributes
    ----------
    root : Path
        Its absolute path.
    uri : str
        "vectors:" and the display form of that; "vectors@clip:" where the column was chosen.
    name : str
        The file's name.
    description : str
        What it was taken for.

    Raises
    ------
    ImageherdError
        If it is not there or holds no such vectors.
    """

    def __init__(
        self, path: str | Path, *, column: str | None = None, must_exist: bool = True
    ) -> None:
        self.root = Path(os.path.abspath(path))  # noqa: PTH100
        self.column = column
        self._shown = display_path(os.fsencode(self.root.as_posix()))
        self.uri = uri_of(_SCHEME, self.root, column)
        self.name = self.root.name
        if must_exist:
            self._parts  # noqa: B018 - opens and checks

    @classmethod
    def from_uri(cls, uri: str) -> VectorFile:
        """Return the source with this `uri`, whether or not the file is there now."""
        root, chosen = parts_of(uri)
        return cls(root, column=chosen, must_exist=False)

    @classmethod
    def takes(cls, given: Given) -> bool:
        """Whether a file or folder holds vectors: no images, which have more than two axes."""
        if given.is_folder:
            return is_folder_of_vectors(given.path)
        if given.head.startswith(b"\x93NUMPY"):
            return 0 <= n_dimensions(given.path) <= 2
        return given.head.startswith(b"PAR1") and is_table_of_vectors(given.path)

    @property
    def description(self) -> str:
        """What it was taken for."""
        what = "a column" if self._is_table else "an array"
        return f"{what} of vectors of {self.dim:,} numbers"

    @cached_property
    def _is_table(self) -> bool:
        # As `takes` tells it, so that a Parquet file may be called anything.
        return Given(str(self.root)).head.startswith(b"PAR1")

    def columns(self) -> pa.Table:
        """Return key, and the columns of a Parquet file that hold no lists."""
        keys = pa.array([_key(i) for i in range(len(self))], pa.binary())
        if not self._is_table:
            return pa.table({KEY: keys})
        with pq.ParquetFile(self.root) as file:
            schema = file.schema_arrow
            flat = [field.name for field in schema if not pa.types.is_nested(field.type)]
            told = file.read(columns=flat, use_threads=False)
        return pa.table({KEY: keys, **{name: told[name] for name in flat if name != KEY}})

    @property
    def _files(self) -> list[Path]:
        if not self.root.exists():
            raise ImageherdError(f"There is no file {self._shown}. Check the path.")
        files = npy_files(self.root) if self.root.is_dir() else [self.root]
        if not files:
            raise ImageherdError(f"There is no .npy file in {self._shown}.")
        return files

    @cached_property
    def _parts(self) -> list[NDArray[Any]]:
        files = self._files
        if self._is_table:
            return [parquet_vectors(self.root, self.column)]
        if self.column is not None:
            raise ImageherdError(
                f"A vector column is for Parquet files; {self.root} has no columns."
            )
        parts = [npy_vectors(file) for file in files]
        for file, part in zip(files, parts, strict=True):
            if part.shape[1] != parts[0].shape[1]:
                raise ImageherdError(
                    f"{file} holds vectors of {part.shape[1]} numbers, {files[0]} of "
                    f"{parts[0].shape[1]}: they are not of one kind."
                )
        return parts

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum([0, *(len(part) for part in self._parts)])

    def __len__(self) -> int:
        """Return how many vectors there are."""
        return int(self._starts[-1])

    @property
    def dim(self) -> int:
        """Numbers a vector."""
        return int(self._parts[0].shape[1])

    @cached_property
    def keys(self) -> list[bytes] | None:
        """What a Parquet file calls its rows, in its column key or path; None if it has neither."""
        if not self._is_table:
            return None
        with pq.ParquetFile(self.root) as file:
            named = [name for name in _KEYS if name in file.schema_arrow.names]
            if not named:
                return None
            column = file.read(columns=[named[0]], use_threads=False)[named[0]].combine_chunks()
        if column.null_count:
            raise ImageherdError(f"The column {named[0]} of {self.root} has empty entries.")
        return [as_key(value) for value in column.to_pylist()]

    @cached_property
    def sha256(self) -> str:
        """Hash of all vectors as float32, row after row; reads them all once."""
        digest = hashlib.sha256(f"{len(self)} {self.dim}".encode())
        for start in range(0, len(self), _AT_ONCE):
            stop = min(start + _AT_ONCE, len(self))
            digest.update(np.ascontiguousarray(self.take(np.arange(start, stop))).data)
        return digest.hexdigest()

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors at some positions, float32 of shape (m, d).

        What float32 cannot hold becomes infinite.
        """
        out = np.empty((len(positions), self.dim), np.float32)
        of_part = np.searchsorted(self._starts, positions, side="right") - 1
        with np.errstate(over="ignore"):
            for part in np.unique(of_part):
                mine = of_part == part
                out[mine] = self._parts[part][positions[mine] - self._starts[part]]
        return out

    def scan(self) -> list[Entry]:
        """List the rows; their keys are their positions, from 0, in seven digits or more."""
        size, n = 4 * self.dim, len(self)
        times = np.repeat([file.stat().st_mtime_ns for file in self._files], np.diff(self._starts))
        rows = (Entry(_key(i), size, int(times[i]), position=i) for i in range(n))
        return sorted(rows, key=lambda entry: entry.key)

    def is_there(self) -> bool:
        """Whether the file is where it was."""
        return self.root.exists()

    def path(self, key: bytes) -> None:
        """Return None: a row is in no file of its own."""

    def shown(self, key: bytes) -> str:
        """Return where a row is, for people: "/data/clip.npy[42]"."""
        return f"{self._shown}[{int(key)}]"

    def read(self, key: bytes) -> bytes:
        """Return the bytes of a row as float32.

        Raises
        ------
        UnreadableImageError
            If there is no such row any more.
        """
        try:
            position = int(key)
            if not 0 <= position < len(self):
                raise UnreadableImageError("no such row")
        except ImageherdError as error:
            raise UnreadableImageError("the file with its vector cannot be read") from error
        return self.take(np.array([position])).tobytes()


def _key(position: int) -> bytes:
    return b"%07d" % position
