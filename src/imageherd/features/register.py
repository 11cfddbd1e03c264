"""Which row each image of a source belongs to: new, kept, touched, changed, moved away, come back.

The rule behind every case: a row stands for one content of one item. A file with the size and time
of its row has the row's content; one that differs is hashed. Content that the item has had before
gets the row it had; new content gets a new row; a row never read takes what is read first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from imageherd.features.items import DELETED, OK, PENDING, UNREADABLE, Items
from imageherd.features.known import RowsOfEntries
from imageherd.features.prefetch import map_ahead
from imageherd.images.decode import UnreadableImageError
from imageherd.images.names import display_path
from imageherd.progress import progress

if TYPE_CHECKING:
    from imageherd.images.source import Entry, Source

GONE = "no longer in the source"
# New rows turned into a table at the same time: their lists of objects are short-lived.
AT_ONCE = 65_536


@dataclass
class Registration:
    """What a scan of a source came to."""

    n_images: int = 0
    n_deleted: int = 0
    retry: list[int] = field(default_factory=list)


def register(items: Items, source: Source, source_index: int, *, workers: int) -> Registration:
    """Scan a source and bring the rows of its images up to date, in memory and on disk.

    New images are appended as pending rows, by their position in the source, then by key. Files
    whose size or time differs from their row's are read once to see whether their content differs
    too. Cost: one look at each entry of the scan; memory is what the scan takes and about 100 bytes
    an image.

    Parameters
    ----------
    items : Items
        Changed and saved.
    source : Source
        The source.
    source_index : int
        The source's number within the herd.
    workers : int
        Threads that read the files in doubt.

    Returns
    -------
    Registration
        `n_images` in the source now; `n_deleted` rows whose file was found gone by this scan;
        `retry`: unreadable rows whose file could not even be opened last time, to be tried again.
    """
    entries = source.scan()
    rows = _Rows(items.table(), source_index, entries)
    doubtful = [entry for at, entry in enumerate(entries) if rows.in_doubt(at, entry)]
    doubtful.sort(key=_position)
    digests = dict(_hashes(source, doubtful, workers))
    result = Registration(n_images=len(entries))
    new: list[Entry] = []
    replaced: dict[bytes, list[int]] = {}
    for at, entry in enumerate(entries):
        row = rows.choose(at, entry, digests.get(entry.key))
        others = [other for other in rows.of(at) if other != row and rows.live[other]]
        if row is None:
            new.append(entry)
            if others:
                replaced[entry.key] = others
            continue
        if _keep(items, rows, row, entry):
            result.retry.append(row)
        _replace(items, others, row)
    new.sort(key=_position)
    for row, entry in enumerate(new, start=items.n_rows):
        _replace(items, replaced.get(entry.key, []), row)
    for gone in rows.left[rows.live[rows.left]].tolist():
        items.change(gone, status=DELETED, reason=GONE)
        result.n_deleted += 1
    for start in range(0, len(new), AT_ONCE):
        items.append(_new_rows(new[start : start + AT_ONCE], source_index))
    items.save()
    return result


class _Rows(RowsOfEntries):
    """The rows of each entry, and what decides which of them is its own."""

    def __init__(self, table: pa.Table, source_index: int, entries: Sequence[Entry]) -> None:
        super().__init__(table, source_index, entries)
        self.content_hash = table["content_hash"]
        self.hashed = self.content_hash.is_valid().to_numpy()
        self.unreadable = pc.equal(table["status"], UNREADABLE).to_numpy()
        self.decoded = table["width"].is_valid().to_numpy()

    def in_doubt(self, at: int, entry: Entry) -> bool:
        """Whether only the content can say which row it is."""
        return (
            not entry.reason
            and self._unchanged(at, entry) is None
            and any(self.hashed[row] for row in self.of(at))
        )

    def choose(self, at: int, entry: Entry, digest: str | None) -> int | None:
        """Return the row of an entry, None for a new one."""
        if (row := self._unchanged(at, entry)) is not None:
            return row
        rows = self._preferred(at)
        if digest is not None:
            for row in rows:
                if self.content_hash[row].as_py() == digest:
                    return row
        return next((row for row in rows if not self.hashed[row]), None)

    def _unchanged(self, at: int, entry: Entry) -> int | None:
        rows = self._preferred(at)
        # Size and time are trusted for what is there now; what was replaced needs the content.
        for row in [row for row in rows if self.live[row]] or rows:
            if self.size[row] == entry.size and self.mtime_ns[row] == entry.mtime_ns:
                return row
        return None

    def _preferred(self, at: int) -> list[int]:
        # The live row first, then the latest. A crash while saving can leave two live rows; the
        # one that run chose has the file's size and time.
        rows = self.of(at)
        if len(rows) > 1:
            rows.sort(key=lambda row: (self.live[row], row), reverse=True)
        return rows


def _keep(items: Items, rows: _Rows, row: int, entry: Entry) -> bool:
    """Bring a known row up to date; True if it is unreadable and worth another try."""
    values: dict[str, Any] = {}
    if rows.size[row] != entry.size or rows.mtime_ns[row] != entry.mtime_ns:
        values = {"bytes": entry.size, "mtime_ns": entry.mtime_ns}
    retry = False
    if not rows.hashed[row] and entry.reason:
        values |= {"status": UNREADABLE, "reason": entry.reason}
    elif not rows.live[row]:
        values |= {"status": OK if rows.decoded[row] else PENDING, "reason": ""}
    elif not rows.hashed[row]:
        retry = bool(rows.unreadable[row])
    if values:
        items.change(row, **values)
    return retry


def _replace(items: Items, rows: list[int], by: int) -> None:
    for row in rows:
        items.change(row, status=DELETED, reason=f"replaced by row {by}")


def _position(entry: Entry) -> int:
    return entry.position


def _hashes(
    source: Source, entries: Sequence[Entry], workers: int
) -> Iterable[tuple[bytes, str | None]]:
    if not entries:
        return

    def digest(entry: Entry) -> tuple[bytes, str | None]:
        try:
            return entry.key, hashlib.sha256(source.read(entry.key)).hexdigest()
        except UnreadableImageError:
            return entry.key, None

    with (
        progress("Checking changed files", len(entries), "images") as advance,
        closing(map_ahead(digest, entries, workers=workers, ahead=4 * workers)) as digests,
    ):
        for pair in digests:
            advance(1)
            yield pair


def _new_rows(entries: Sequence[Entry], source_index: int) -> dict[str, list[Any]]:
    return {
        "source": [source_index] * len(entries),
        "key": [entry.key for entry in entries],
        "path": [display_path(entry.key) for entry in entries],
        "bytes": [entry.size for entry in entries],
        "mtime_ns": [entry.mtime_ns for entry in entries],
        "status": [UNREADABLE if entry.reason else PENDING for entry in entries],
        "reason": [entry.reason for entry in entries],
    }
