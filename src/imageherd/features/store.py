"""A feature set on disk: ``.npy`` shards of fixed rows and a manifest that says what they hold.

The manifest is the truth: a shard counts once the manifest lists it with its hash. A shard that
is rewritten waits under a name ending in ``.next`` until the manifest lists it, so that a crash
leaves the old one or the new one, and `shard_path` finds whichever it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from imageherd.errors import ImageherdError
from imageherd.features.disk import read_beside_a_writer
from imageherd.features.precision import DTYPES
from imageherd.files import read_json
from imageherd.memory import empty_array

FORMAT_VERSION = 2
SHARD_ROWS = 4096
MANIFEST = "manifest.json"
TOP5_DTYPE = np.dtype([("classes", "<i2", (5,)), ("probabilities", "<f4", (5,))])


class FeatureSet:
    """The features of one backbone over the rows of a herd, read from disk without copies.

    Opening looks at the header and size of every shard, not at the numbers; `verify` reads all.

    Parameters
    ----------
    folder : Path
        Holds ``manifest.json`` and the shards.

    Attributes
    ----------
    manifest : dict
        As written: key, identity, dim, dtype, shape, shard_rows and the shards.
    key : str
        The backbone's key.
    dim : int
        Numbers a row.
    dtype : str
        What they are on disk: "float32" or "float16". All that is read is float32.
    n_rows : int
        Rows covered, those without a vector included.
    has_top5 : bool
        Whether the backbone is a classifier whose five best classes are kept.

    Raises
    ------
    ImageherdError
        If there is no manifest, a newer version wrote it, or a shard is missing or truncated.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        read_beside_a_writer(self._open)

    def _open(self) -> None:
        self.manifest = read_manifest(self.folder)
        self.key: str = self.manifest["key"]
        self.dim: int = self.manifest["dim"]
        self.dtype: str = self.manifest["dtype"]
        self.n_rows: int = self.manifest["shape"][0]
        self.has_top5 = any("top5" in shard for shard in self.manifest["shards"])
        self._shard_rows: int = self.manifest["shard_rows"]
        self._features: dict[int, np.ndarray] = {}
        self._top5: dict[int, np.ndarray] = {}
        for index, shard in enumerate(self.manifest["shards"]):
            self._features[index] = open_shard(
                self.folder, shard, (shard["rows"], self.dim), DTYPES[self.dtype]
            )
            if "top5" in shard:
                self._top5[index] = open_shard(
                    self.folder, shard["top5"], (shard["rows"],), TOP5_DTYPE
                )

    def rows_present(self) -> np.ndarray:
        """Return the rows that have a vector, ascending, int64 of shape (n,)."""
        return np.flatnonzero(present_mask(self.manifest))

    def read(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the features of some rows.

        A contiguous range inside one shard of float32 is a view of the file; anything else is
        copied, into a temporary file where it takes more than 1 GB
        (`imageherd.memory.empty_array`). Float16 becomes float32, which changes no number.

        Parameters
        ----------
        rows : ndarray of int, shape (n,), optional
            Rows in any order; all by default.

        Returns
        -------
        ndarray of float32, shape (n, dim)
            NaN for rows without a vector.

        Raises
        ------
        IndexError
            If a row is not covered.
        """
        rows = self._checked(rows)
        contiguous = len(rows) > 0 and bool((np.diff(rows) == 1).all())
        if contiguous and rows[0] // self._shard_rows == rows[-1] // self._shard_rows:
            index, start = divmod(int(rows[0]), self._shard_rows)
            return self._features[index][start : start + len(rows)].astype(np.float32, copy=False)
        out = empty_array((len(rows), self.dim), self.folder)
        self._gather(self._features, rows, out)
        return out

    def blocks(
        self, rows: np.ndarray | None = None, *, size: int = SHARD_ROWS
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield ``(rows, features)`` for `size` rows at a time; memory is one block."""
        rows = self._checked(rows)
        for start in range(0, len(rows), size):
            yield rows[start : start + size], self.read(rows[start : start + size])

    def top5(self, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the five best classes of some rows and their softmax probabilities.

        Parameters
        ----------
        rows : ndarray of int, shape (n,), optional
            Rows in any order; all by default.

        Returns
        -------
        classes : ndarray of int16, shape (n, 5)
            Best first; -1 for rows without a vector.
        probabilities : ndarray of float32, shape (n, 5)
            NaN for rows without a vector.
        """
        rows = self._checked(rows)
        out = empty_top5(len(rows))
        self._gather(self._top5, rows, out)
        return out["classes"], out["probabilities"]

    def verify(self) -> None:
        """Read every shard and compare its hash with the manifest's.

        Raises
        ------
        ImageherdError
            For the first shard whose bytes have changed since it was written.
        """
        for shard in self.manifest["shards"]:
            check_hash(self.folder, shard)
            if "top5" in shard:
                check_hash(self.folder, shard["top5"])

    def _checked(self, rows: np.ndarray | None) -> np.ndarray:
        if rows is None:
            return np.arange(self.n_rows)
        rows = np.asarray(rows)
        if rows.size and (rows.min() < 0 or rows.max() >= self.n_rows):
            wrong = rows[(rows < 0) | (rows >= self.n_rows)][0]
            raise IndexError(f"row {wrong} is not in {self.folder}, which has {self.n_rows} rows")
        return rows.astype(np.int64)

    def _gather(self, shards: dict[int, np.ndarray], rows: np.ndarray, out: np.ndarray) -> None:
        of_row = rows // self._shard_rows
        order = np.argsort(of_row, kind="stable")
        indices, starts = np.unique(of_row[order], return_index=True)
        for index, here in zip(indices.tolist(), np.split(order, starts[1:]), strict=False):
            if index in shards:
                out[here] = shards[index][rows[here] - index * self._shard_rows]


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a feature set's manifest.

    Raises
    ------
    ImageherdError
        If it is not there, is not a manifest, or a newer version of imageherd wrote it.
    """
    path = folder / MANIFEST
    try:
        manifest = read_json(path)
        version = manifest["format_version"]
    except FileNotFoundError:
        raise ImageherdError(f"{folder} holds no features yet: run embed first.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ImageherdError(
            f"{path} is not a manifest of features ({error}). Delete it and run embed again."
        ) from error
    if version > FORMAT_VERSION:
        raise ImageherdError(
            f"{path} is of format version {version}; this imageherd reads up to {FORMAT_VERSION}. "
            "Install a newer imageherd."
        )
    return dict(manifest)


def present_mask(manifest: dict[str, Any]) -> np.ndarray:
    """Return which rows have a vector: bool of shape (n_rows,)."""
    mask = np.ones(manifest["shape"][0], dtype=bool)
    for shard in manifest["shards"]:
        for start, stop in shard["missing"]:
            mask[start:stop] = False
    return mask


def empty_top5(n: int) -> np.ndarray:
    """Return `n` entries of five classes for rows without a vector: -1 and NaN."""
    empty = np.empty(n, TOP5_DTYPE)
    empty["classes"], empty["probabilities"] = -1, np.nan
    return empty


def next_path(path: Path) -> Path:
    """Where a new version of a shard waits for the manifest."""
    return path.with_name(path.name + ".next")


def shard_path(folder: Path, entry: dict[str, Any]) -> Path:
    """Return the file that holds what the manifest's entry says, as of the last commit."""
    path: Path = folder / entry["file"]
    waiting = next_path(path)
    if waiting.exists() and file_sha256(waiting) == entry["sha256"]:
        return waiting
    return path


def open_shard(
    folder: Path, entry: dict[str, Any], shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    """Memory-map a shard, read-only, after checking its header and size.

    Raises
    ------
    ImageherdError
        If it is missing or is not what the manifest says.
    """
    path = shard_path(folder, entry)
    try:
        shard: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ImageherdError(f"{path} is missing. Run embed again to make it anew.") from None
    except (ValueError, EOFError, OSError) as error:
        raise damaged(path, str(error)) from error
    if shard.shape != shape or shard.dtype != dtype or not shard.flags.c_contiguous:
        raise damaged(path, f"holds {shard.dtype} {shard.shape} in place of {dtype} {shape}")
    return shard.view(np.ndarray)


def check_hash(folder: Path, entry: dict[str, Any]) -> None:
    """Raise ImageherdError if a shard's bytes are not those the manifest lists."""
    path = shard_path(folder, entry)
    if not path.exists():
        raise ImageherdError(f"{path} is missing. Run embed again to make it anew.")
    if file_sha256(path) != entry["sha256"]:
        raise damaged(path, "its bytes have changed since it was written")


def damaged(path: Path, why: str) -> ImageherdError:
    """Return the error for a shard that cannot be trusted."""
    return ImageherdError(
        f"{path} is damaged: {why}. Delete this file and run embed again: it makes the file anew."
    )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
