"""A journal as text, for where an SQLite file cannot be kept: its bytes change, its entries not."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from imageherd.edits.journal import FILE, Journal
from imageherd.errors import ImageherdError

_COLUMNS = ("seq", "id", "time", "author", "version", "kind", "payload", "next_uid")


def dump(journal: Journal) -> bytes:
    """Return all entries of a journal, each a JSON object on a line of its own."""
    with journal._reading() as connection:
        entries = [] if connection is None else _all(connection)
    return b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in entries)


def load(journal: Journal, data: bytes) -> None:
    """Enter what `dump` gave in a journal that it goes on from.

    Raises
    ------
    ImageherdError
        If the journal has entries that the other does not begin with; it stays what it is.
    """
    entries = [json.loads(line) for line in data.splitlines()]
    places = ", ".join("?" * len(_COLUMNS))
    with journal.writing() as writing:
        known = _all(writing._connection)
        if known != entries[: len(known)]:
            raise ImageherdError(
                f"{journal.path.parent} was edited here, and elsewhere otherwise; edits of two "
                "kinds are never mixed. Keep this herd, and pull the other into another folder."
            )
        writing._connection.executemany(
            f"INSERT INTO edits ({', '.join(_COLUMNS)}) VALUES ({places})",
            [
                list((one | {"payload": json.dumps(one["payload"], ensure_ascii=False)}).values())
                for one in entries[len(known) :]
            ],
        )


def files_of(folder: Path) -> list[Path]:
    """Return the files that the journal of a clustering may consist of."""
    return [folder / f"{FILE}{ending}" for ending in ("", "-wal", "-shm")]


def _all(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    rows = connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM edits ORDER BY seq")
    entries = (dict(zip(_COLUMNS, row, strict=True)) for row in rows)
    return [one | {"payload": json.loads(one["payload"])} for one in entries]
