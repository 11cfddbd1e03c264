"""The files tables come in: Parquet, Arrow, CSV. Few columns whole, single cells at random."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq

from imageherd.errors import ImageherdError
from imageherd.images.tables.image_column import is_text

PARQUET = (".parquet", ".pq")
ARROW = (".arrow", ".feather")
TEXT = (".csv", ".tsv")

_BLOCK_BYTES = 8 << 20
_KEPT_BYTES = 64 << 20
_BUFFER_BYTES = 1 << 20
_SEPARATORS = (",", ";", "\t")


class Rows(Protocol):
    """One file of a table.

    Attributes
    ----------
    schema : pyarrow.Schema
        Names and types of its columns.
    n_rows : int
        How many rows it has.
    largest_group : int
        Bytes, not compressed, of the most rows that one cell may cost reading; 0 if a cell costs
        no more than itself.
    """

    schema: pa.Schema
    n_rows: int
    largest_group: int

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return these columns, whole."""
        ...

    def texts(self, column: str) -> list[str | None]:
        """Return a column of text; a dotted name is a field of a struct."""
        ...

    def cell(self, column: str, row: int) -> Any:
        """Return one cell as a Python object. Many threads call it."""
        ...


def open_rows(path: Path) -> Rows:
    """Open one file of a table, by its name's ending or what it begins with.

    Raises
    ------
    ImageherdError
        If it cannot be read or is damaged.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
        if head.startswith(b"PAR1") or path.suffix.lower() in PARQUET:
            return ParquetRows(path)
        if head.startswith(b"ARROW1") or path.suffix.lower() in ARROW:
            return ArrowRows(path, is_stream=not head.startswith(b"ARROW1"))
        return CsvRows(path)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        what = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ImageherdError(f"The table {path} cannot be read: {what}.") from error


class ParquetRows:
    """A Parquet file; a row group is decoded in blocks of about 8 MiB, as far as asked for.

    Reading row after row decodes everything once. Memory is 64 MiB of blocks and one page of each
    column read. A row before those kept costs decoding its row group from its first row: seconds
    if the group holds gigabytes, milliseconds if it holds a hundred images.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._state = path, _state(path)
        with pq.ParquetFile(path) as file:
            self.schema: pa.Schema = file.schema_arrow
            # Kept, as that of ten thousand row groups takes longer to read than a row group.
            self._about: pq.FileMetaData = file.metadata
        self.n_rows: int = self._about.num_rows
        groups = [self._about.row_group(i) for i in range(self._about.num_row_groups)]
        self.largest_group = max((group.total_byte_size for group in groups), default=0)
        self._starts = [0]
        self._block_rows = []
        for group in groups:
            self._starts.append(self._starts[-1] + group.num_rows)
            row_bytes = group.total_byte_size // max(1, group.num_rows)
            self._block_rows.append(max(1, _BLOCK_BYTES // max(1, row_bytes)))
        self._lock = threading.Lock()
        self._blocks: deque[tuple[int, pa.RecordBatch]] = deque()
        self._stream: tuple[str, int, Iterator[tuple[int, pa.RecordBatch]]] | None = None
        self._next = 0

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return these columns, whole."""
        with self._open() as file:
            return file.read(columns=list(columns), use_threads=False)

    def texts(self, column: str) -> list[str | None]:
        """Return a column of text; of a struct, only the field asked for is read."""
        return _texts(self.read([column]), column)

    def cell(self, column: str, row: int) -> Any:
        """Return one cell."""
        with self._lock:
            start, block = self._block(column, row)
        return block.column(column)[row - start].as_py()

    def _block(self, column: str, row: int) -> tuple[int, pa.RecordBatch]:
        group = bisect_right(self._starts, row) - 1
        if self._stream is None or self._stream[0] != column:
            self._blocks.clear()
            self._stream = None
        for start, block in self._blocks:
            if start <= row < start + len(block):
                return start, block
        if self._stream is None or self._stream[1] != group or row < self._next:
            self._stream = column, group, self._decoded(column, group)
        for start, block in self._stream[2]:
            self._next = start + len(block)
            # Those passed too: threads that read ahead ask a little out of order.
            self._keep(start, block)
            if row < self._next:
                return start, block
        raise pa.ArrowInvalid(f"row group {group} ends before its row {row}")

    def _keep(self, start: int, block: pa.RecordBatch) -> None:
        self._blocks.appendleft((start, block))
        while len(self._blocks) > 1 and sum(b.nbytes for _, b in self._blocks) > _KEPT_BYTES:
            self._blocks.pop()

    def _decoded(self, column: str, group: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        start = self._starts[group]
        with self._open() as file:
            for block in file.iter_batches(
                self._block_rows[group], row_groups=[group], columns=[column], use_threads=False
            ):
                yield start, block
                start += len(block)

    def _open(self) -> pq.ParquetFile:
        if _state(self._path) != self._state:
            raise OSError("it was changed while it was being read")
        # With a buffer, a column of a row group comes page by page instead of whole.
        return pq.ParquetFile(
            self._path, metadata=self._about, buffer_size=_BUFFER_BYTES, pre_buffer=False
        )


class ArrowRows:
    """An Arrow file as Hugging Face `datasets` saves it, or Feather: mapped, never read whole.

    Parameters
    ----------
    path : Path
        The file.
    is_stream : bool
        Whether it is in the stream format.
    """

    largest_group = 0

    def __init__(self, path: Path, *, is_stream: bool) -> None:
        source = pa.memory_map(str(path))
        reader = pa.ipc.open_stream(source) if is_stream else pa.ipc.open_file(source)
        self._table: pa.Table = reader.read_all()
        self.schema: pa.Schema = self._table.schema
        self.n_rows: int = self._table.num_rows

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return these columns; they stay on disk until they are looked at."""
        return self._table.select(list(columns))

    def texts(self, column: str) -> list[str | None]:
        """Return a column of text, or a field of a struct."""
        return _texts(self._table, column)

    def cell(self, column: str, row: int) -> Any:
        """Return one cell."""
        return self._table[column][row].as_py()


class CsvRows:
    """A CSV file in UTF-8, its first line the columns' names, every value the text it is.

    Commas, semicolons or tabs, whichever the first line has most of; a byte order mark and line
    ends of any system; an empty value is null. Held in memory.

    Parameters
    ----------
    path : Path
        The file.
    """

    largest_group = 0

    def __init__(self, path: Path) -> None:
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline()
        separator = max(_SEPARATORS, key=first.count)
        parse = pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True)
        with pyarrow.csv.open_csv(path, parse_options=parse) as reader:
            names = reader.schema.names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ImageherdError(f"{path} has several columns {twice[0]!r}; rename all but one.")
        convert = pyarrow.csv.ConvertOptions(
            column_types={name: pa.string() for name in names},
            null_values=[""],
            strings_can_be_null=True,
        )
        read = pyarrow.csv.ReadOptions(use_threads=False)
        self._table: pa.Table = pyarrow.csv.read_csv(
            path, read_options=read, parse_options=parse, convert_options=convert
        )
        self.schema: pa.Schema = self._table.schema
        self.n_rows: int = self._table.num_rows

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Return these columns."""
        return self._table.select(list(columns))

    def texts(self, column: str) -> list[str | None]:
        """Return a column."""
        return _texts(self._table, column)

    def cell(self, column: str, row: int) -> Any:
        """Return one cell."""
        return self._table[column][row].as_py()


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _texts(table: pa.Table, column: str) -> list[str | None]:
    if column in table.column_names:
        found = table[column]
    else:
        whole, _, inner = column.rpartition(".")
        found = pc.struct_field(table[whole], inner)
    # A column without a single value may have the type null.
    values: list[str | None] = found.to_pylist() if is_text(found.type) else [None] * len(found)
    return values
