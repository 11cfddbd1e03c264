"""What the items say of files and of contents, as arrays: millions of rows are no lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imageherd.features.items import DELETED

if TYPE_CHECKING:
    from imageherd.images.source import Entry

_SOME = 65_536


class RowsOfEntries:
    """The rows that each entry of a scan has had so far.

    Parameters
    ----------
    table : pyarrow.Table
        All items.
    source_index : int
        The source that was scanned.
    entries : sequence of Entry
        What the scan found, sorted by key, each once.

    Attributes
    ----------
    size, mtime_ns : ndarray of int64, shape (n_rows,)
        As of the last look at the file.
    live : ndarray of bool, shape (n_rows,)
        Not marked deleted.
    left : ndarray of int64
        Rows of this source whose key no entry has.
    """

    def __init__(self, table: pa.Table, source_index: int, entries: Sequence[Entry]) -> None:
        self.size = table["bytes"].to_numpy()
        self.mtime_ns = table["mtime_ns"].to_numpy()
        self.live = pc.not_equal(table["status"], DELETED).to_numpy()
        ours = table.select(["key", "row"]).filter(pc.equal(table["source"], source_index))
        order = pc.sort_indices(ours, sort_keys=[("key", "ascending"), ("row", "ascending")])
        self._rows = ours["row"].to_numpy()[order.to_numpy()]
        self._first, self._last = np.zeros((2, len(entries)), np.int64)
        keys = (key for part in _parts(ours["key"].combine_chunks(), order) for key in part)
        self.left = self._rows[self._walk(entries, keys)]

    def _walk(self, entries: Sequence[Entry], keys: Iterator[bytes]) -> NDArray[np.bool_]:
        """Go through both, sorted by key, side by side; returns which rows no entry has."""
        gone = np.zeros(len(self._rows), bool)
        at, key = 0, next(keys, None)
        for position, entry in enumerate(entries):
            while key is not None and key < entry.key:
                gone[at] = True
                at, key = at + 1, next(keys, None)
            self._first[position] = at
            while key == entry.key:
                at, key = at + 1, next(keys, None)
            self._last[position] = at
        gone[at:] = True
        return gone

    def of(self, position: int) -> list[int]:
        """Return the rows of the entry at this position of the scan, ascending."""
        rows: list[int] = self._rows[self._first[position] : self._last[position]].tolist()
        return rows


class RowOfContent:
    """The lowest row with each content that has a vector; what is new is added.

    Parameters
    ----------
    hashes : pyarrow.ChunkedArray of string, shape (n_rows,)
        Content hash of each row, null where it is not known.
    present : ndarray of bool, shape (n_rows,) or shorter
        Which rows have a vector.
    """

    def __init__(self, hashes: pa.ChunkedArray, present: np.ndarray) -> None:
        known = hashes.is_valid().to_numpy()[: len(present)] & present
        rows = np.flatnonzero(known)
        self._hashes = hashes.take(pa.array(rows)).combine_chunks()
        # 8 bytes stand for a hash of 64 letters; whether it is that one, its letters say.
        parts = _parts(self._hashes, pa.array(np.arange(len(rows))))
        codes = np.fromiter((hash(text) for part in parts for text in part), np.int64, len(rows))
        self._order = np.argsort(codes, kind="stable")
        self._codes, self._rows = codes[self._order], rows
        self._new: dict[str, int] = {}

    def get(self, content_hash: str) -> int | None:
        """Return the lowest row with this content, None if there is none."""
        code = hash(content_hash)
        at = int(np.searchsorted(self._codes, code))
        while at < len(self._codes) and self._codes[at] == code:
            if self._hashes[self._order[at]].as_py() == content_hash:
                return int(self._rows[self._order[at]])
            at += 1
        return self._new.get(content_hash)

    def setdefault(self, content_hash: str, row: int) -> int:
        """Return the row with this content; if there is none, `row`, which has it from now on."""
        found = self.get(content_hash)
        return self._new.setdefault(content_hash, row) if found is None else found

    def digests(self) -> NDArray[np.bytes_]:
        """Return the digests with a row from the start, 32 bytes each, sorted."""
        parts = _parts(self._hashes, pa.array(np.arange(len(self._hashes))))
        digests = (bytes.fromhex(text) for part in parts for text in part)
        return np.sort(np.fromiter(digests, "S32", len(self._hashes)))

    def __contains__(self, content_hash: object) -> bool:
        return isinstance(content_hash, str) and self.get(content_hash) is not None


def _parts(array: pa.Array, order: pa.Array) -> Iterator[list[Any]]:
    """Yield the values in this order, some at a time: as objects they are large."""
    for start in range(0, len(order), _SOME):
        yield array.take(order.slice(start, _SOME)).to_pylist()
