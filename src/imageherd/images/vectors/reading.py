"""Reading arrays of vectors, and telling files that hold some: NumPy's and Parquet's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imageherd.errors import ImageherdError
from imageherd.images.arrays import header


def npy_files(folder: Path) -> list[Path]:
    """Return the NumPy files of a folder, in the order of their names."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() == ".npy" and not path.name.startswith(".")
    )


def is_folder_of_vectors(folder: Path) -> bool:
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
    return bool(arrays) and n_dimensions(arrays[0]) == 2


def n_dimensions(path: Path) -> int:
    """Return the number of dimensions that a NumPy file's header says, -1 if it says none."""
    try:
        with path.open("rb") as file:
            return len(header(file)[0])
    except (OSError, ValueError):
        return -1


def is_table_of_vectors(path: Path) -> bool:
    """Whether a Parquet file has a column of vectors and none that could hold pictures."""
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


def npy_vectors(path: Path) -> NDArray[Any]:
    """Memory-map the vectors of a NumPy file, shape (n, d).

    Raises
    ------
    ImageherdError
        If it holds something else, or Python objects.
    """
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


def parquet_vectors(path: Path, column: str | None) -> NDArray[np.float32]:
    """Read a column of vectors whole: float32 of shape (n, d), NaN where an entry is empty.

    Raises
    ------
    ImageherdError
        If there is no such column, or the vectors have different lengths.
    """
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


def as_key(value: Any) -> bytes:
    """Return what a table calls a row as bytes."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
