"""The journal of edits: an SQLite file beside a clustering's versions, to which is only added."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from imageherd.errors import ImageherdError

FILE = "edits.sqlite"
FORMAT = 1
KINDS = ("rename", "move", "outlier", "merge", "split")
"""What a person does; "undo" and "redo" take it back and do it again."""
PLACED = "placed"
"""Says where new images of a cluster that was split belong."""
RESERVED = "reserved"
"""Sets uids aside for a refit, so that no edit takes them meanwhile."""

WAIT = 30.0
"""Seconds that one who writes waits for the others."""

_SCHEMA = (
    """
    CREATE TABLE edits (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        time TEXT NOT NULL,
        author TEXT NOT NULL,
        version TEXT NOT NULL,
        kind TEXT NOT NULL,
        payload TEXT NOT NULL,
        next_uid INTEGER NOT NULL
    )
    """,
    """
    CREATE TRIGGER never_deleted BEFORE DELETE ON edits
    BEGIN SELECT RAISE(ABORT, 'the journal only grows'); END
    """,
    """
    CREATE TRIGGER never_changed BEFORE UPDATE ON edits
    BEGIN SELECT RAISE(ABORT, 'the journal only grows'); END
    """,
    f"PRAGMA user_version = {FORMAT}",
)
_COLUMNS = "seq, id, time, author, version, kind, payload"


@dataclass(frozen=True)
class Edit:
    """One entry of the journal.

    Attributes
    ----------
    seq : int
        Its number: entries are in this order, for all versions together.
    id : str
        Given by whoever made it; the same id is never entered twice.
    time : str
        When, in UTC: ISO 8601 with microseconds.
    author : str
        Who.
    version : str
        The version that it was made on; where that only adds images to another, the other.
    kind : str
        One of `KINDS`, "undo", "redo", `PLACED` or `RESERVED`.
    payload : dict
        What it changes; see `imageherd.edits.replay`.
    """

    seq: int
    id: str
    time: str
    author: str
    version: str
    kind: str
    payload: dict[str, Any] = field(default_factory=dict)


class EditConflictError(ImageherdError):
    """Someone else has edited meanwhile.

    Attributes
    ----------
    since : list of Edit
        What was entered since the entry that was expected to be the last.
    """

    def __init__(self, message: str, since: Sequence[Edit]) -> None:
        super().__init__(message)
        self.since = list(since)


def stacks(entries: Sequence[Edit]) -> tuple[list[Edit], list[Edit]]:
    """Return the edits in effect, in order, and those undone, the one to be redone first last.

    Parameters
    ----------
    entries : sequence of Edit
        All of one version, in order. A new edit ends what could be redone.
    """
    done: list[Edit] = []
    undone: list[Edit] = []
    for entry in entries:
        if entry.kind in KINDS:
            done.append(entry)
            undone.clear()
        elif entry.kind == "undo" and done:
            undone.append(done.pop())
        elif entry.kind == "redo" and undone:
            done.append(undone.pop())
    return done, undone


def in_effect(entries: Sequence[Edit]) -> list[Edit]:
    """Return the edits of one version that count, splits with the images placed in them since."""
    places: dict[int, dict[int, int]] = {}
    for entry in entries:
        if entry.kind == PLACED:
            later = zip(entry.payload["rows"], entry.payload["parts"], strict=True)
            places.setdefault(entry.payload["split"], {}).update(later)
    return [
        replace(edit, payload=edit.payload | {"placed": places[edit.seq]})
        if edit.seq in places
        else edit
        for edit in stacks(entries)[0]
    ]


class Writing:
    """A transaction of the journal: what is added counts once it has ended."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def since(self, seq: int) -> list[Edit]:
        """Return the entries after `seq`."""
        return _read(self._connection, seq)

    def by_id(self, id: str) -> Edit | None:
        """Return the entry with this id, None if there is none."""
        found = self._connection.execute(f"SELECT {_COLUMNS} FROM edits WHERE id = ?", [id])
        return next(map(_edit, found), None)

    def next_uid(self) -> int:
        """Return the least uid that no entry has taken."""
        return _next_uid(self._connection)

    def add(
        self,
        kind: str,
        payload: dict[str, Any],
        *,
        version: str,
        author: str = "",
        id: str | None = None,
        next_uid: int = 0,
    ) -> Edit:
        """Add an entry; `next_uid` is above the uids it takes, 0 if it takes none."""
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        values = (id or str(uuid4()), now, author, version, kind)
        seq = self._connection.execute(
            "INSERT INTO edits (id, time, author, version, kind, payload, next_uid) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            [*values, json.dumps(payload, ensure_ascii=False), next_uid],
        ).lastrowid
        assert seq is not None
        return Edit(seq, *values, payload=payload)


class Journal:
    """The journal of one clustering; any number of processes may use it at once.

    A file is opened for each use and nothing is kept open, so that one journal serves threads, and
    processes forked, alike.

    Parameters
    ----------
    folder : Path
        ``clusterings/<name>`` of the herd; the file is made by the first edit.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def read(self, after: int = 0) -> list[Edit]:
        """Return all entries, in order, or those after number `after`.

        Raises
        ------
        ImageherdError
            If the file is damaged, or of a newer imageherd.
        """
        with self._reading() as connection:
            return [] if connection is None else _read(connection, after)

    def next_uid(self) -> int:
        """Return the least uid that no entry has taken; 0 where there is no journal."""
        with self._reading() as connection:
            return 0 if connection is None else _next_uid(connection)

    def names(self) -> dict[int, str]:
        """Return the names given by the renamings in effect on any version, the last one's."""
        with self._reading() as connection:
            if connection is None:
                return {}
            rest = "CASE WHEN kind = 'rename' THEN payload ELSE '{}' END"
            entries = _read(connection, 0, _COLUMNS.replace("payload", rest))
        versions = dict.fromkeys(e.version for e in entries)
        counting = [e for v in versions for e in stacks([e for e in entries if e.version == v])[0]]
        counting.sort(key=lambda e: e.seq)
        return {e.payload["uid"]: e.payload["name"] for e in counting if e.kind == "rename"}

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """Hold the journal alone, and enter what was added at the end; nothing after an error.

        When it has ended, the entries are on disk: they outlive the process, and the machine's
        power.

        Raises
        ------
        ImageherdError
            If others have held it for 30 seconds, or it cannot be written or read.
        """
        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = not self.path.exists()
            with closing(self._connect(self.path)) as connection:
                _turn_on_wal(connection)
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("BEGIN IMMEDIATE")
                try:
                    self._check_format(connection)
                    if not _has_table(connection):
                        for statement in _SCHEMA:
                            connection.execute(statement)
                    yield Writing(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            if new and os.name == "posix":
                _sync(self.path.parent)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        with self._explained():
            if not self.path.exists():
                yield None
                return
            with ExitStack() as stack:
                connection = stack.enter_context(closing(self._readable(stack)))
                self._check_format(connection)
                yield connection if _has_table(connection) else None

    def _readable(self, stack: ExitStack) -> sqlite3.Connection:
        """Open the file, or a copy: in WAL mode something has to be written beside it to read."""
        if os.access(self.path.parent, os.W_OK):
            with suppress(sqlite3.OperationalError):
                connection = self._connect(self.path, "rw")
                try:
                    connection.execute("SELECT 1 FROM sqlite_master").fetchone()
                    return connection
                except sqlite3.Error:
                    connection.close()
                    raise
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="imageherd-edits-")))
        for path in (self.path, self.path.with_name(f"{FILE}-wal")):
            if path.exists():
                shutil.copyfile(path, folder / path.name)
        return self._connect(folder / FILE)

    def _connect(self, path: Path, mode: str = "rwc") -> sqlite3.Connection:
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=WAIT, isolation_level=None)

    def _check_format(self, connection: sqlite3.Connection) -> None:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found > FORMAT:
            raise ImageherdError(
                f"{self.path} was written by a newer imageherd (format {found}, this one reads up "
                f"to {FORMAT}); update imageherd to read it."
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                why = "others have been writing it for too long; try again"
            else:
                why = f"{error}; are its folder's permissions right, and is there room on the disk?"
            raise ImageherdError(f"The edits in {self.path} cannot be used: {why}") from error
        except sqlite3.DatabaseError as error:
            raise ImageherdError(
                f"The edits in {self.path} cannot be read ({error}); restore the file, or move it "
                "away to have the clustering without them."
            ) from error
        except OSError as error:
            raise ImageherdError(
                f"The edits in {self.path} cannot be used: {error.strerror}."
            ) from error


def _turn_on_wal(connection: sqlite3.Connection) -> None:
    # SQLite does not wait for its turn here, where two make the file at the same time.
    end = time.monotonic() + WAIT
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)


def _has_table(connection: sqlite3.Connection) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'edits'")
    return found.fetchone() is not None


def _read(connection: sqlite3.Connection, after: int, columns: str = _COLUMNS) -> list[Edit]:
    found = connection.execute(f"SELECT {columns} FROM edits WHERE seq > ? ORDER BY seq", [after])
    return [_edit(row) for row in found]


def _edit(row: tuple[Any, ...]) -> Edit:
    seq, id, time, author, version, kind, payload = row
    return Edit(seq, id, time, author, version, kind, json.loads(payload))


def _next_uid(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT max(next_uid) FROM edits").fetchone()[0] or 0)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
