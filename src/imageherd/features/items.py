"""The rows of a herd on disk: one row an image, in Parquet parts anyone can open.

A row stands for one content of one item (source, key) and is never reused. A row that has not been
read yet has no content hash and takes whatever content is read first. Only `imageherd.features`
writes here, one part at a time, each atomically.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from imageherd.errors import ImageherdError
from imageherd.features.disk import read_beside_a_writer, remove_temporary_files, writing_to
from imageherd.files import write_atomically

PART_ROWS = 4096

PENDING = "pending"
OK = "ok"
UNREADABLE = "unreadable"
DELETED = "deleted"

ITEMS_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("source", pa.int16()),
        ("key", pa.binary()),
        ("path", pa.string()),
        ("content_hash", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("taken_at", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
    ]
)


class Items:
    """The items of a herd, held in memory and written a part at a time.

    Memory is about 150 bytes a row; opening reads every part once.

    Parameters
    ----------
    folder : Path
        Holds ``part-00000.parquet`` and so on; need not exist yet.
    part_rows : int, default=4096
        Rows a part, the same as the rows of a features shard.

    Raises
    ------
    ImageherdError
        If a part cannot be read, has other columns, or its rows are not those its name says.
    """

    def __init__(self, folder: Path, *, part_rows: int = PART_ROWS) -> None:
        self.folder = Path(folder)
        self.part_rows = part_rows
        self._parts: list[pa.Table] = read_beside_a_writer(self._read)
        self._changes: dict[int, dict[int, dict[str, Any]]] = {}
        self._dirty: set[int] = set()

    def _read(self) -> list[pa.Table]:
        parts: list[pa.Table] = []
        while (path := self._path(len(parts))).exists():
            parts.append(_read_part(path, len(parts) * self.part_rows, self.part_rows))
            if parts[-1].num_rows < self.part_rows:
                break
        if self._path(len(parts)).exists():
            raise ImageherdError(
                f"{self._path(len(parts) - 1)} has fewer than {self.part_rows} rows, yet another "
                "part follows it: the items are damaged. Restore the folder from a copy."
            )
        return parts

    @property
    def n_rows(self) -> int:
        """How many rows there are, those deleted included."""
        if not self._parts:
            return 0
        return (len(self._parts) - 1) * self.part_rows + int(self._parts[-1].num_rows)

    def table(self) -> pa.Table:
        """All rows, in row order, with the columns of `ITEMS_SCHEMA`."""
        for index in list(self._changes):
            self._apply(index)
        return pa.concat_tables([ITEMS_SCHEMA.empty_table(), *self._parts])

    def part(self, index: int) -> list[dict[str, Any]]:
        """Return the rows of part `index` as dictionaries."""
        self._apply(index)
        rows: list[dict[str, Any]] = self._parts[index].to_pylist()
        return rows

    def get(self, row: int) -> dict[str, Any]:
        """Return one row as a dictionary."""
        index, offset = divmod(row, self.part_rows)
        values: dict[str, Any] = self._parts[index].slice(offset, 1).to_pylist()[0]
        return values | self._changes.get(index, {}).get(offset, {})

    def append(self, columns: dict[str, list[Any]]) -> None:
        """Add rows at the end; `row` is numbered here, columns left out are empty."""
        length = len(columns["key"])
        first = self.n_rows
        columns = columns | {"row": list(range(first, first + length))}
        new = pa.table(
            [
                pa.array(columns.get(field.name, [None] * length), type=field.type)
                for field in ITEMS_SCHEMA
            ],
            schema=ITEMS_SCHEMA,
        )
        room = -first % self.part_rows
        if room and length:
            index = len(self._parts) - 1
            self._apply(index)
            self._parts[index] = pa.concat_tables([self._parts[index], new.slice(0, room)])
            self._dirty.add(index)
        for start in range(room, length, self.part_rows):
            self._dirty.add(len(self._parts))
            self._parts.append(new.slice(start, self.part_rows))

    def change(self, row: int, **values: Any) -> None:
        """Set columns of one row; nothing is written before `save`."""
        index, offset = divmod(row, self.part_rows)
        self._changes.setdefault(index, {}).setdefault(offset, {}).update(values)

    def save(self) -> None:
        """Write every part that has changed.

        In ascending order: rows are appended at the end, so a row marked as replaced is on disk no
        later than its replacement, and rows registered before a crash are a prefix of all. What a
        killed run left half written is removed; the herd's lock must be held.

        Raises
        ------
        ImageherdError
            If the disk is full or the folder cannot be written.
        """
        remove_temporary_files(self.folder)
        for index in list(self._changes):
            self._apply(index)
        for index in sorted(self._dirty):
            table = self._parts[index].combine_chunks()
            with writing_to(self.folder):
                write_atomically(self._path(index), partial(_write, table))
            self._dirty.discard(index)

    def _apply(self, index: int) -> None:
        changes = self._changes.pop(index, {})
        if not changes:
            return
        rows = self._parts[index].to_pylist()
        for offset, values in changes.items():
            if any(rows[offset][name] != value for name, value in values.items()):
                rows[offset].update(values)
                self._dirty.add(index)
        if index in self._dirty:
            self._parts[index] = pa.Table.from_pylist(rows, schema=ITEMS_SCHEMA)

    def _path(self, index: int) -> Path:
        return self.folder / f"part-{index:05d}.parquet"


def read_parquet(path: Path) -> pa.Table:
    """Read a whole Parquet file, by this thread alone.

    Raises
    ------
    OSError, pyarrow.ArrowException
        If it is not there, cannot be read or is damaged.
    """
    # Read as bytes: a memory map of a file that is about to be replaced stays open on Windows.
    # Not by pq.read_table: its threads let go of the bytes whenever they get to it, and one that
    # does so while Python is ending aborts the process. Seen in 1 of 25 ends on a busy machine.
    with pq.ParquetFile(pa.BufferReader(path.read_bytes())) as file:
        return file.read(use_threads=False)


def _read_part(path: Path, first_row: int, part_rows: int) -> pa.Table:
    try:
        table = read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise ImageherdError(
            f"{path} cannot be read ({error}). Restore it from a copy; without it the rows of the "
            "herd's features have no names."
        ) from error
    if table.schema.names != ITEMS_SCHEMA.names:
        raise ImageherdError(
            f"{path} has the columns {table.schema.names}, not those this version knows: it was "
            "written by another version of imageherd."
        )
    table = table.cast(ITEMS_SCHEMA)
    rows = table["row"].to_numpy()
    if (
        not 0 < len(rows) <= part_rows
        or rows[0] != first_row
        or rows[-1] != first_row + len(rows) - 1
    ):
        raise ImageherdError(
            f"{path} does not hold the rows from {first_row} on. Restore it from a copy."
        )
    return table


def _write(table: pa.Table, file: IO[bytes]) -> None:
    # Through memory: a full disk is then the file's own OSError, not Arrow's.
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="snappy")
    file.write(buffer.getvalue())
