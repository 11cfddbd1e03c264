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
from typing import TYPE_CHECKING, Any, Protocol

from imageherd.features.items import DELETED, OK, PENDING, UNREADABLE, Items
from imageherd.features.prefetch import map_ahead
from imageherd.images.decode import UnreadableImageError
from imageherd.images.folder import display_path
from imageherd.progress import progress

if TYPE_CHECKING:
    from imageherd.images.folder import Entry

GONE = "no longer in the source"


class Source(Protocol):
    """Where images come from: what the pipeline asks of a folder or an archive."""

    def scan(self) -> Sequence[Entry]:
        """List what is there, sorted by key."""
        ...

    def read(self, key: bytes) -> bytes:
        """Return the bytes of one image; raises UnreadableImageError."""
        ...


@dataclass
class Registration:
    """What a scan of a source came to."""

    n_images: int = 0
    n_deleted: int = 0
    retry: list[int] = field(default_factory=list)


def register(items: Items, source: Source, source_index: int, *, workers: int) -> Registration:
    """Scan a source and bring the rows of its images up to date, in memory and on disk.

    New images are appended as pending rows in key order. Files whose size or time differs from
    their row's are read once to see whether their content differs too. Cost: one look at each
    entry of the scan; memory is about 300 bytes an image.

    Parameters
    ----------
    items : Items
        Changed and saved.
    source : Source
        The source, such as a `FolderSource`.
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
    rows = _Rows(items, source_index)
    doubtful = [entry for entry in entries if rows.in_doubt(entry)]
    digests = dict(_hashes(source, doubtful, workers))
    result = Registration(n_images=len(entries))
    new: list[Entry] = []
    for entry in entries:
        row = rows.choose(entry, digests.get(entry.key))
        if row is None:
            row = items.n_rows + len(new)
            new.append(entry)
        elif _keep(items, rows, row, entry):
            result.retry.append(row)
        for other in rows.of.pop(entry.key, ()):
            if other != row and rows.live(other):
                items.change(other, status=DELETED, reason=f"replaced by row {row}")
    for gone in (row for left in rows.of.values() for row in left if rows.live(row)):
        items.change(gone, status=DELETED, reason=GONE)
        result.n_deleted += 1
    items.append(_new_rows(new, source_index))
    items.save()
    return result


class _Rows:
    """The columns that decide, as arrays, and the rows of each key of one source."""

    def __init__(self, items: Items, source_index: int) -> None:
        table = items.table()
        self.size = table["bytes"].to_numpy()
        self.mtime_ns = table["mtime_ns"].to_numpy()
        self.content_hash: list[str | None] = table["content_hash"].to_pylist()
        self.status: list[str] = table["status"].to_pylist()
        self.decoded = table["width"].is_valid().to_numpy()
        self.of: dict[bytes, list[int]] = {}
        sources, keys = table["source"].to_numpy(), table["key"]
        for row, key in enumerate(keys.to_pylist()):
            if sources[row] == source_index:
                self.of.setdefault(key, []).append(row)

    def live(self, row: int) -> bool:
        return self.status[row] != DELETED

    def in_doubt(self, entry: Entry) -> bool:
        """Whether only the content can say which row it is."""
        rows = self.of.get(entry.key, ())
        return (
            not entry.reason
            and self._unchanged(entry) is None
            and any(self.content_hash[row] is not None for row in rows)
        )

    def choose(self, entry: Entry, digest: str | None) -> int | None:
        """Return the row of an entry, None for a new one."""
        if (row := self._unchanged(entry)) is not None:
            return row
        rows = self._preferred(entry)
        if digest is not None:
            for row in rows:
                if self.content_hash[row] == digest:
                    return row
        return next((row for row in rows if self.content_hash[row] is None), None)

    def _unchanged(self, entry: Entry) -> int | None:
        rows = self._preferred(entry)
        # Size and time are trusted for what is there now; what was replaced needs the content.
        for row in [row for row in rows if self.live(row)] or rows:
            if self.size[row] == entry.size and self.mtime_ns[row] == entry.mtime_ns:
                return row
        return None

    def _preferred(self, entry: Entry) -> list[int]:
        # The live row first, then the latest. A crash while saving can leave two live rows; the
        # one that run chose has the file's size and time.
        rows = self.of.get(entry.key, ())
        return sorted(rows, key=lambda row: (self.live(row), row), reverse=True)


def _keep(items: Items, rows: _Rows, row: int, entry: Entry) -> bool:
    """Bring a known row up to date; True if it is unreadable and worth another try."""
    values: dict[str, Any] = {}
    if rows.size[row] != entry.size or rows.mtime_ns[row] != entry.mtime_ns:
        values = {"bytes": entry.size, "mtime_ns": entry.mtime_ns}
    retry = False
    if rows.content_hash[row] is None and entry.reason:
        values |= {"status": UNREADABLE, "reason": entry.reason}
    elif not rows.live(row):
        values |= {"status": OK if rows.decoded[row] else PENDING, "reason": ""}
    elif rows.content_hash[row] is None:
        retry = rows.status[row] == UNREADABLE
    if values:
        items.change(row, **values)
    return retry


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
