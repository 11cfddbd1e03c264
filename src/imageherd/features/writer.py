"""Writing a feature set: a shard, then the items, then the manifest, each whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from imageherd.errors import ImageherdError
from imageherd.features.disk import remove_temporary_files, writing_to
from imageherd.features.precision import DTYPES, FLOAT32, rounded, stored_dtype
from imageherd.features.store import (
    MANIFEST,
    TOP5_DTYPE,
    check_hash,
    empty_top5,
    next_path,
    open_shard,
    present_mask,
    read_manifest,
    shard_path,
)
from imageherd.files import write_atomically, write_json

if TYPE_CHECKING:
    from imageherd.backbones import Backbone
    from imageherd.features.computed import Computed
    from imageherd.features.views import ViewOf

Vector = tuple[np.ndarray, np.ndarray | None]


@dataclass
class Block:
    """One shard in hand: what it held, and what is being added.

    Attributes
    ----------
    index : int
        The shard's number.
    first : int
        Its first row.
    features : ndarray of float32 or float16, shape (rows, dim)
        NaN where missing.
    top5 : ndarray of TOP5_DTYPE, shape (rows,), or None
        None while no logits were seen.
    missing : ndarray of bool, shape (rows,)
        Rows without a vector.
    changed : bool
        Whether it differs from what is on disk.
    """

    index: int
    first: int
    features: np.ndarray
    top5: np.ndarray | None
    missing: np.ndarray
    changed: bool

    def put(self, row: int, features: np.ndarray, top5: np.ndarray | None) -> None:
        """Set one row's vector and, for a classifier, its top-5 entry.

        Raises
        ------
        ImageherdError
            If the features are kept in float16, which holds no such numbers.
        """
        offset = row - self.first
        self.features[offset] = rounded(features, self.features.dtype, row)
        if top5 is not None:
            if self.top5 is None:
                self.top5 = empty_top5(len(self.features))
            self.top5[offset] = top5
        self.missing[offset] = False
        self.changed = True

    def get(self, row: int) -> Vector | None:
        """Return a row's vector and top-5 entry; None if it has none or is not in this block."""
        offset = row - self.first
        if not 0 <= offset < len(self.missing) or self.missing[offset]:
            return None
        return self.features[offset], None if self.top5 is None else self.top5[offset]


class Writer:
    """The shards of one feature set, opened for adding to; one writer at a time.

    Parameters
    ----------
    folder : Path
        The feature set's folder; made if need be.
    backbone : Backbone, Computed or ViewOf
        Whose features these are.
    shard_rows : int
        Rows a shard.

    Raises
    ------
    ImageherdError
        If the folder holds another backbone's features or a shard is truncated.
    """

    def __init__(
        self, folder: Path, backbone: Backbone | Computed | ViewOf, shard_rows: int
    ) -> None:
        self.folder = Path(folder)
        expected = _new_manifest(backbone, shard_rows)
        if (self.folder / MANIFEST).exists():
            self.manifest = read_manifest(self.folder)
            _check_same(self.manifest, expected, self.folder)
        else:
            self.manifest = expected
            with writing_to(self.folder):
                write_json(self.folder / MANIFEST, expected)
        with writing_to(self.folder):
            self._settle()
        self.present = present_mask(self.manifest)
        self._mapped: dict[int, tuple[np.ndarray, np.ndarray | None]] = {}
        for index, entry in enumerate(self.manifest["shards"]):
            if self._lost(entry):
                start = index * shard_rows
                self.present[start : start + entry["rows"]] = False
            else:
                self._map(index)

    def rows_of(self, index: int) -> int:
        """Return how many rows of shard `index` are on disk and in order; 0 if it is lost."""
        shards = self.manifest["shards"]
        if index >= len(shards) or self._lost(shards[index]):
            return 0
        return int(shards[index]["rows"])

    def open_block(self, index: int, rows: int) -> Block:
        """Take shard `index` in hand, `rows` rows long, with the vectors it holds already.

        Raises
        ------
        ImageherdError
            If the shard on disk has changed since it was written: it would be made to look sound.
        """
        dim, first = self.manifest["dim"], index * self.manifest["shard_rows"]
        features = np.full((rows, dim), np.nan, DTYPES[self.manifest["dtype"]])
        missing = np.ones(rows, bool)
        top5 = None
        kept = self.rows_of(index)
        if kept:
            entry = self.manifest["shards"][index]
            for file in _files(entry):
                check_hash(self.folder, file)
            old_features, old_top5 = self._mapped[index]
            features[:kept] = old_features
            missing[:kept] = ~self.present[first : first + kept]
            if old_top5 is not None:
                top5 = empty_top5(rows)
                top5[:kept] = old_top5
        return Block(index, first, features, top5, missing, changed=kept != rows)

    def get(self, row: int) -> Vector | None:
        """Return the vector and top-5 entry of a row in a shard on disk; None if it has none."""
        if row >= len(self.present) or not self.present[row]:
            return None
        index, offset = divmod(row, self.manifest["shard_rows"])
        features, top5 = self._mapped[index]
        return features[offset], None if top5 is None else top5[offset]

    def commit(self, block: Block, save_items: Callable[[], None]) -> None:
        """Write a block: the shard, then the items, then the manifest, which makes it count.

        Parameters
        ----------
        block : Block
            The shard in hand.
        save_items : callable
            Writes the outcomes of the block's rows.

        Raises
        ------
        ImageherdError
            If the disk is full or the folder cannot be written.
        """
        with writing_to(self.folder):
            entry = {
                **self._write(f"shard-{block.index:05d}.npy", block.features, block.index),
                "rows": len(block.features),
                "missing": _ranges(block.missing, block.first),
            }
            if block.top5 is not None:
                entry["top5"] = self._write(f"top5-{block.index:05d}.npy", block.top5, block.index)
            save_items()
            self.manifest["shards"][block.index : block.index + 1] = [entry]
            rows = sum(shard["rows"] for shard in self.manifest["shards"])
            self.manifest["shape"] = [rows, self.manifest["dim"]]
            write_json(self.folder / MANIFEST, self.manifest)
            # Windows cannot replace a file that is mapped.
            self._mapped.pop(block.index, None)
            for file in _files(entry):
                _finish(self.folder, file)
        self._map(block.index)
        stop = block.first + len(block.missing)
        grown = np.zeros(max(stop, len(self.present)), bool)
        grown[: len(self.present)] = self.present
        grown[block.first : stop] = ~block.missing
        self.present = grown

    def _write(self, name: str, array: np.ndarray, index: int) -> dict[str, Any]:
        path = self.folder / name
        if index < len(self.manifest["shards"]):
            path = next_path(path)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, np.lib.format.header_data_from_array_1_0(array)
        )
        parts = (header.getvalue(), array.view(np.uint8).data)
        digest = hashlib.sha256()

        # Not np.save: on a full disk it raises an OSError that does not say so.
        def write(file: IO[bytes]) -> None:
            for part in parts:
                digest.update(part)
                file.write(part)

        write_atomically(path, write)
        return {"file": name, "sha256": digest.hexdigest()}

    def _map(self, index: int) -> None:
        entry, dim = self.manifest["shards"][index], self.manifest["dim"]
        dtype = DTYPES[self.manifest["dtype"]]
        features = open_shard(self.folder, entry, (entry["rows"], dim), dtype)
        top5 = None
        if "top5" in entry:
            top5 = open_shard(self.folder, entry["top5"], (entry["rows"],), TOP5_DTYPE)
        self._mapped[index] = (features, top5)

    def _lost(self, entry: dict[str, Any]) -> bool:
        return not all((self.folder / file["file"]).exists() for file in _files(entry))

    def _settle(self) -> None:
        """Finish what a killed run had committed, drop what it had not."""
        remove_temporary_files(self.folder)
        for entry in self.manifest["shards"]:
            for file in _files(entry):
                _finish(self.folder, file)
        for waiting in self.folder.glob("*.npy.next"):
            waiting.unlink()


def _finish(folder: Path, file: dict[str, Any]) -> None:
    path = folder / file["file"]
    if shard_path(folder, file) != path:
        next_path(path).replace(path)


def _files(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield entry
    if "top5" in entry:
        yield entry["top5"]


def _new_manifest(backbone: Backbone | Computed | ViewOf, shard_rows: int) -> dict[str, Any]:
    dtype = stored_dtype(backbone.identity)
    return {
        # What knew nothing of float16 would take such shards for damaged ones.
        "format_version": 1 if dtype == FLOAT32 else 2,
        "key": backbone.key,
        # Through JSON, so that it compares equal with one read back.
        "identity": json.loads(json.dumps(backbone.identity)),
        "dim": backbone.dim,
        "dtype": dtype,
        "shape": [0, backbone.dim],
        "shard_rows": shard_rows,
        "shards": [],
    }


def _check_same(manifest: dict[str, Any], expected: dict[str, Any], folder: Path) -> None:
    for name in ("key", "identity", "dim", "dtype", "shard_rows"):
        if manifest[name] != expected[name]:
            raise ImageherdError(
                f"{folder} holds features of another kind: {name} is {manifest[name]!r} there and "
                f"{expected[name]!r} now. Features of two kinds are never mixed: embed into "
                "another folder, or delete this one."
            )


def _ranges(mask: np.ndarray, first: int) -> list[list[int]]:
    """Return the half-open ranges of rows where `mask` is true, rows counted from `first`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    return [[first + int(a), first + int(b)] for a, b in edges.reshape(-1, 2)]
