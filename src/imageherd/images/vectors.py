"""Vectors that someone has computed already: NumPy files and columns of Parquet files, in place."""

from __future__ import annotations

import hashlib
import os
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imageherd.errors import ImageherdError
from imageherd.images.decode import UnreadableImageError
from imageherd.images.names import display_path, key_from_display
from imageherd.images.source import Entry, Given, Source, shown_uri

SCHEME = "vectors:"
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
        "vectors:" and the display form of that.
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
        self.uri = SCHEME + self._shown
        self.name = self.root.name
        if must_exist:
            self._parts  # noqa: B018 - opens and checks

    @classmethod
    def from_uri(cls, uri: str) -> VectorFile:
        """Return the source with this `uri`, whether or not the file is there now."""
        path = key_from_display(uri.removeprefix(SCHEME))
        return cls(os.fsdecode(path), must_exist=False)

    @classmethod
    def takes(cls, given: Given) -> bool:
        """Whether a file or folder holds vectors: 2-D, and in a table no images beside them."""
        if given.is_folder:
            return _is_folder_of_vectors(given.path)
        if given.head.startswith(b"\x93NUMPY"):
            return _n_dimensions(given.path) == 2
        return given.head.startswith(b"PAR1") and _is_table_of_vectors(given.path)

    @property
    def description(self) -> str:
        """What it was taken for."""
        return f"{len(self):,} vectors of {self.dim:,} numbers"

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
        if self.root.suffix.lower() == ".parquet":
            return [_parquet_vectors(self.root, self.column)]
        if self.column is not None:
            raise ImageherdError(
                f"A vector column is for Parquet files; {self.root} has no columns."
            )
        parts = [_npy_vectors(file) for file in files]
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
        if self.root.suffix.lower() != ".parquet":
            return None
        with pq.ParquetFile(self.root) as file:
            named = [name for name in _KEYS if name in file.schema_arrow.names]
            if not named:
                return None
            column = file.read(columns=[named[0]], use_threads=False)[named[0]].combine_chunks()
        if column.null_count:
            raise ImageherdError(f"The column {named[0]} of {self.root} has empty entries.")
        return [_as_key(value) for value in column.to_pylist()]

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
        rows = (Entry(b"%07d" % i, size, int(times[i]), position=i) for i in range(n))
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


class WithVectors:
    """A source of images whose vectors are in a file beside it.

    Which vector belongs to which image is said by a name for each vector, in a file of keys or in
    the Parquet file's column key or path: the image's path below the source's root, as reports and
    exports show it. Never by position alone: one image more or less, or another order, would give
    every image another one's vector, and nothing would show it.

    Parameters
    ----------
    pictures : Source
        The images.
    file : VectorFile
        Their vectors.
    keys : str or Path, optional
        A text file with the path of each vector's image, one a line, in the vectors' order; by
        default what the Parquet file says.

    Raises
    ------
    ImageherdError
        If nothing says which vector belongs to which image, or it says so for another number of
        vectors or twice for one image.
    """

    def __init__(self, pictures: Source, file: VectorFile, keys: str | Path | None = None) -> None:
        self.pictures, self.file = pictures, file
        self.uri, self.name = pictures.uri, pictures.name
        self.description = f"{pictures.description} with {file.description}"
        self.scan, self.read, self.path = pictures.scan, pictures.read, pictures.path
        self.shown, self.is_there = pictures.shown, pictures.is_there
        self._names = self._named(keys)

    def _named(self, keys: str | Path | None) -> dict[bytes, int]:
        where = f"{self.file.root}" if keys is None else f"{keys}"
        names = self.file.keys if keys is None else _lines(Path(keys))
        if names is None:
            raise ImageherdError(
                f"{where} does not say which vector belongs to which image, and their order alone "
                "is no safe sign. Give --keys with a text file: the path of each vector's image "
                f"in {self.name}, one a line, in the vectors' order."
            )
        if len(names) != len(self.file):
            raise ImageherdError(
                f"{where} has {len(names):,} paths for the {len(self.file):,} vectors of "
                f"{self.file.root}; give one for each."
            )
        root = os.fsencode(shown_uri(self.uri)) + b"/"
        found: dict[bytes, int] = {}
        for position, name in enumerate(names):
            key = name.removeprefix(root).removeprefix(b"./")
            if found.setdefault(key, position) != position:
                raise ImageherdError(
                    f"{where} names {display_path(key)} twice, for the vectors {found[key]} and "
                    f"{position}; an image has one vector."
                )
        return found

    @cached_property
    def position(self) -> dict[bytes, int]:
        """Which vector each image has, by the image's key; says so if some have none.

        Raises
        ------
        ImageherdError
            If no image has one.
        """
        keys = [entry.key for entry in self.scan()]
        found = {}
        for key in keys:
            at = self._names.get(key, self._names.get(display_path(key).encode()))
            if at is not None:
                found[key] = at
        if not found:
            example = display_path(next(iter(self._names)))
            raise ImageherdError(
                f"None of the images in {self.name} has a vector in {self.file.root}: the images' "
                f"paths are such as {display_path(keys[0])!r}, the vectors' such as {example!r}."
            )
        lacking = [key for key in keys if key not in found]
        if lacking:
            few = ", ".join(map(display_path, lacking[:3])) + (", ..." if len(lacking) > 3 else "")
            warnings.warn(
                f"{len(lacking):,} of the {len(keys):,} images have no vector in {self.file.root} "
                f"({few}); they take no part.",
                stacklevel=1,
            )
        if len(found) < len(self._names):
            warnings.warn(
                f"{len(self._names) - len(found):,} of the {len(self._names):,} vectors of "
                f"{self.file.root} are of no image in {self.name}; they are left out.",
                stacklevel=1,
            )
        return found


def _lines(path: Path) -> list[bytes]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageherdError(
            f"The keys {path} cannot be read: {error.strerror}. Give a text file with the path of "
            "each vector's image, one a line."
        ) from error
    return [line.rstrip(b"\r") for line in content.removesuffix(b"\n").split(b"\n")]


def npy_files(folder: Path) -> list[Path]:
    """Return the NumPy files of a folder, in the order of their names."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == ".npy" and not path.name.startswith(".")
    )


def _is_folder_of_vectors(folder: Path) -> bool:
    """Whether all that lies in a folder, hidden names aside, is NumPy files of vectors."""
    try:
        with os.scandir(folder) as listing:
            names = (entry.name for entry in listing if not entry.name.startswith("."))
            # Ends at the first other name: a folder may hold millions.
            if not all(name.lower().endswith(".npy") for name in names):
                return False
        arrays = npy_files(folder)
    except OSError:
        return False
    return bool(arrays) and _n_dimensions(arrays[0]) == 2


def _n_dimensions(path: Path) -> int:
    """Return the number of dimensions that a NumPy file's header says, 0 if it cannot be read."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                version, np.lib.format.read_array_header_2_0
            )
            return len(read(file)[0])
    except (OSError, ValueError):
        return 0


def _is_table_of_vectors(path: Path) -> bool:
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return False
    pictures = any(
        pa.types.is_binary(field.type)
        or pa.types.is_large_binary(field.type)
        or pa.types.is_struct(field.type)
        for field in schema
    )
    return bool(vector_columns(schema)) and not pictures


def _npy_vectors(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "object" in str(error).lower():
            raise ImageherdError(
                f"{path} holds Python objects, which can run code when they are read. Save the "
                "vectors as one array: np.save(path, np.stack(vectors).astype(np.float32))."
            ) from error
        raise ImageherdError(f"{path} is not a NumPy file, or is damaged ({error}).") from error
    except (OSError, EOFError) as error:
        raise ImageherdError(f"{path} cannot be read ({error}).") from error
    if array.ndim != 2 or 0 in array.shape:
        raise ImageherdError(
            f"{path} holds an array of shape {array.shape}; vectors have the shape (n, d), a row "
            "for each."
        )
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise ImageherdError(
            f"{path} holds {array.dtype} numbers; vectors are float16, float32 or float64."
        )
    return array.view(np.ndarray)


def vector_columns(schema: pa.Schema) -> list[str]:
    """Return the columns of a Parquet file that hold lists of floating-point numbers."""
    return [
        field.name
        for field in schema
        if (
            pa.types.is_list(field.type)
            or pa.types.is_large_list(field.type)
            or pa.types.is_fixed_size_list(field.type)
        )
        and pa.types.is_floating(field.type.value_type)
    ]


def _parquet_vectors(path: Path, column: str | None) -> NDArray[np.float32]:
    try:
        with pq.ParquetFile(path) as file:
            fit = vector_columns(file.schema_arrow)
            chosen = _chosen(path, fit, column)
            values = file.read(columns=[chosen], use_threads=False)[chosen].combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise ImageherdError(f"{path} is not a Parquet file, or is damaged ({error}).") from error
    if len(values) == 0:
        raise ImageherdError(f"{path} has no rows.")
    lengths = np.unique(values.value_lengths().drop_null().to_numpy(zero_copy_only=False))
    if len(lengths) != 1 or lengths[0] == 0:
        raise ImageherdError(
            f"The vectors in column {chosen} of {path} have different lengths, or none: "
            f"{', '.join(map(str, lengths[:5])) or 'all are empty entries'}."
        )
    dim = int(lengths[0])
    with np.errstate(over="ignore"):
        flat = values.drop_null().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    found = np.full((len(values), dim), np.nan, np.float32)
    found[values.is_valid().to_numpy(zero_copy_only=False)] = flat.reshape(-1, dim)
    return found


def _chosen(path: Path, fit: list[str], column: str | None) -> str:
    if column is None and len(fit) == 1:
        return fit[0]
    listed = ", ".join(fit) or "none"
    if column is None:
        raise ImageherdError(
            f"{path} has {len(fit)} columns of vectors ({listed}); say which with --vector-column."
            if fit
            else f"{path} has no column of vectors: lists of floating-point numbers."
        )
    if column not in fit:
        raise ImageherdError(
            f"{path} has no column of vectors called {column!r}; it has these: {listed}."
        )
    return column


def _as_key(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
