"""Images in tables: Parquet, Hugging Face `datasets` on disk, and lists of paths or URLs."""

from __future__ import annotations

import os
import posixpath
import threading
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imageherd.errors import ImageherdError
from imageherd.images.decode import UnreadableImageError
from imageherd.images.folder import entry_of
from imageherd.images.locations import NO_PATH, check_schemes, fetch, scheme_of
from imageherd.images.names import display_path
from imageherd.images.source import MAX_FILE_BYTES, Entry, Given
from imageherd.images.tables.columns import carried_columns
from imageherd.images.tables.files import ARROW, PARQUET, TEXT, Rows, open_rows
from imageherd.images.tables.folders import is_folder_of_tables, is_saved_dataset, table_files
from imageherd.images.tables.image_column import ImageColumn, image_column
from imageherd.images.uris import parts_of, uri_of

_SCHEME = "table"
_LARGE_GROUP = 1 << 30


@dataclass(frozen=True)
class _Listing:
    """What the table held when it was last looked through.

    Attributes
    ----------
    files : list of Rows
        Its files.
    starts : list of int
        The number of the first row of each, counted over all, and the number of rows.
    mtimes : list of int
        When each was last changed, in nanoseconds.
    key_column : str or None
        The column that the keys are from; None if they are the rows' numbers.
    keys : list of bytes or None
        For each row; None for one that is left out.
    """

    files: list[Rows]
    starts: list[int]
    mtimes: list[int]
    key_column: str | None
    keys: list[bytes | None]

    @cached_property
    def by_key(self) -> tuple[list[bytes], NDArray[np.int64]]:
        """The keys, sorted, and the row of each."""
        pairs = sorted((key, row) for row, key in enumerate(self.keys) if key is not None)
        return [key for key, _ in pairs], np.array([row for _, row in pairs], np.int64)

    def file_of(self, row: int) -> int:
        """Return the number of the file that has this row."""
        return bisect_right(self.starts, row, hi=len(self.files)) - 1


class TableSource:
    """The images of a table: one file, or a folder of them.

    Parquet, Arrow as `datasets` saves it (``save_to_disk``), Feather, and CSV in UTF-8 with a first
    line that names its columns. The images are files in a column of bytes, structs of ``bytes`` and
    ``path`` as `datasets` writes them, or paths and URLs; see
    `imageherd.images.tables.image_column`. Paths begin at the table's folder.

    The key of an image is its path; where the table has none for every image, or one twice, the
    number of its row, below the name of its file if there are several files. The columns beside
    the images are handed on: see `columns`.

    Parameters
    ----------
    given : str or Path
        The file, or the folder.
    image_column : str, optional
        The column of the images; found by default.
    must_exist : bool, default=True
        False puts all checks off until `scan`.

    Raises
    ------
    ImageherdError
        If it is not there, cannot be read, or which column holds the images is not clear.
    """

    def __init__(
        self, given: str | Path, *, image_column: str | None = None, must_exist: bool = True
    ) -> None:
        self.root = Path(os.path.abspath(given))  # noqa: PTH100
        self.image_column = image_column
        self._shown = display_path(os.fsencode(self.root.as_posix()))
        self.uri = uri_of(_SCHEME, self.root, image_column)
        self.name = self.root.name
        self._lock = threading.Lock()
        self._listing: _Listing | None = None
        if must_exist:
            _ = self._column

    @staticmethod
    def takes(given: Given) -> bool:
        """Whether it is a table's file, or a folder with tables and no images of its own."""
        if given.is_folder:
            return is_folder_of_tables(given.path)
        endings = (*PARQUET, *ARROW, *TEXT)
        begins = (b"PAR1", b"ARROW1")
        return given.is_file and (
            given.head.startswith(begins) or given.path.suffix.lower() in endings
        )

    @classmethod
    def from_uri(cls, uri: str) -> TableSource:
        """Return the source with this `uri`, whether or not the table is there now."""
        root, chosen = parts_of(uri)
        return cls(root, image_column=chosen, must_exist=False)

    @property
    def description(self) -> str:
        """What it is, and which column holds the images."""
        try:
            column = self._column
        except ImageherdError:
            return "a table"
        if self.root.suffix.lower() in TEXT:
            kind = "a list"
        elif is_saved_dataset(self.root):
            kind = "a Hugging Face dataset"
        else:
            kind = "a table"
        what = "paths of the images" if column.kind == "path" else "images"
        return f"{kind} with the {what} in column {column.name}"

    def scan(self) -> list[Entry]:
        """List the images, sorted by key.

        Of images in the table nothing is read but the column of their paths; their time is that of
        the file they are in, their size is not known. Of files that a list names the size and time
        are looked up; what is at a URL is taken to stay what it is. A list that names a file twice
        has it once; a line without a path is passed over.

        Raises
        ------
        ImageherdError
            If the table is gone, cannot be read or holds no image, or a package is missing for a
            kind of URL.

        Warns
        -----
        UserWarning
            If lines are passed over, or single images of a Parquet file will be slow to read.
        """
        listing = self._list()
        keys, rows = listing.by_key
        if not keys:
            raise ImageherdError(f"{self._shown} holds no image: {self._emptiness(listing)}.")
        if self._column.kind == "path":
            check_schemes({scheme_of(key.decode()) for key in keys}, self._shown)
            if len(keys) < len(listing.keys):
                self._warn_of_left_out(listing)
            return [self._entry(key, row) for key, row in zip(keys, rows.tolist(), strict=True)]
        self._warn_of_large_groups(listing)
        return [
            Entry(key, 0, listing.mtimes[listing.file_of(row)], position=row)
            for key, row in zip(keys, rows.tolist(), strict=True)
        ]

    def read(self, key: bytes) -> bytes:
        """Return the file of one image.

        Raises
        ------
        UnreadableImageError
            If it is not in the table any more, its cell is empty, it is larger than
            `MAX_FILE_BYTES`, the table is damaged there, or what its path names cannot be read.
        """
        try:
            if self._column.kind == "path":
                return fetch(key.decode(), self._folder)
            data, path = self._cell(key)
        except (ImageherdError, OSError, pa.ArrowException) as error:
            raise UnreadableImageError(f"the table cannot be read ({_short(error)})") from error
        if data is None and path:
            return fetch(path, self._folder)
        if not data:
            raise UnreadableImageError("no image in its row" if data is None else "empty file")
        if len(data) > MAX_FILE_BYTES:
            raise UnreadableImageError(f"larger than {MAX_FILE_BYTES >> 20:,} MiB")
        return data

    def columns(self) -> pa.Table:
        """Return what the table says of each image; see `table_columns.carried_columns`.

        The images themselves are left out, and so are the paths that became keys.

        Raises
        ------
        ImageherdError
            If the table is gone or cannot be read.
        """
        listing = self._listing or self._list()
        keys = pa.array(listing.keys, pa.binary())
        used = {self._column.name, listing.key_column or ""}
        return carried_columns(listing.files, keys, used)

    def path(self, key: bytes) -> Path | None:
        """Return the path of the file that a list names; None for an image inside the table."""
        try:
            is_path = self._column.kind == "path" and not scheme_of(key.decode())
        except ImageherdError:
            return None
        return self._folder / os.fsdecode(key) if is_path else None

    def shown(self, key: bytes) -> str:
        """Return the path or URL of a listed file, or the table's path and the key."""
        if scheme_of(key.decode("utf-8", "replace")):
            return display_path(key)
        path = self.path(key)
        if path is not None:
            return display_path(os.fsencode(path.as_posix()))
        return f"{self._shown}/{display_path(key)}"

    def is_there(self) -> bool:
        """Whether the file or folder is there."""
        return self.root.exists()

    @property
    def _folder(self) -> Path:
        return self.root if self.root.is_dir() else self.root.parent

    @cached_property
    def _column(self) -> ImageColumn:
        rows = open_rows(self._paths()[0])
        return image_column(rows.schema, self._shown, self.image_column)

    def _paths(self) -> list[Path]:
        if not self.root.exists():
            raise ImageherdError(f"There is no table {self._shown}. Check the path.")
        if not self.root.is_dir():
            return [self.root]
        found = table_files(self.root)
        if not found:
            raise ImageherdError(f"There is no table in {self._shown}.")
        return found

    def _list(self) -> _Listing:
        paths = self._paths()
        mtimes = [path.stat().st_mtime_ns for path in paths]
        files = [open_rows(path) for path in paths]
        for path, rows in zip(paths, files, strict=True):
            if image_column(rows.schema, str(path), self._column.name) != self._column:
                raise ImageherdError(
                    f"{path} has other columns than {paths[0]}; tables in one folder have to be "
                    "alike. Give them one by one."
                )
        starts = np.cumsum([0, *(rows.n_rows for rows in files)]).tolist()
        key_column, keys = self._keys(paths, files)
        self._listing = _Listing(files, starts, mtimes, key_column, keys)
        return self._listing

    def _keys(self, paths: list[Path], files: list[Rows]) -> tuple[str | None, list[bytes | None]]:
        """Return the keys, and the column they are from; None for the rows' numbers."""
        column = self._column
        if column.kind == "path":
            return column.name, _each_once(t for rows in files for t in rows.texts(column.name))
        for name in column.paths:
            texts = [text for rows in files for text in rows.texts(name)]
            if texts and all(texts) and len(set(texts)) == len(texts):
                return name, [text.encode() for text in texts if text]
        numbers: list[bytes | None] = []
        for path, rows in zip(paths, files, strict=True):
            below = b"" if path == self.root else os.fsencode(path.relative_to(self.root)) + b"/"
            numbers += [below + b"%08d" % row for row in range(rows.n_rows)]
        return None, numbers

    def _cell(self, key: bytes) -> tuple[bytes | None, str | None]:
        """Return the file in a key's row, and its path."""
        with self._lock:
            listing = self._listing or self._list()
            keys, rows = listing.by_key
        at = bisect_left(keys, key)
        if at == len(keys) or keys[at] != key:
            raise UnreadableImageError("no longer in the table")
        row = int(rows[at])
        file = listing.file_of(row)
        value = listing.files[file].cell(self._column.name, row - listing.starts[file])
        if isinstance(value, dict):
            return value["bytes"], value.get("path")
        return value, None

    def _entry(self, key: bytes, row: int) -> Entry:
        text = key.decode()
        if scheme_of(text):
            return Entry(key, 0, 0, position=row)
        if "\0" in text:
            return Entry(key, 0, 0, NO_PATH, position=row)
        return replace(entry_of(key, self._folder / text), position=row)

    def _emptiness(self, listing: _Listing) -> str:
        if listing.keys:
            return f"its column {self._column.name} is empty"
        return "it has no rows"

    def _warn_of_large_groups(self, listing: _Listing) -> None:
        largest = max(rows.largest_group for rows in listing.files)
        if largest > _LARGE_GROUP:
            warnings.warn(
                f"{self._shown} has row groups of up to {largest / (1 << 30):.1f} GiB: to embed it "
                "that does no harm, but single images of it, as for reports, are slow to read. "
                "Written with row_group_size=1000 they are not.",
                stacklevel=1,
            )

    def _warn_of_left_out(self, listing: _Listing) -> None:
        texts = [t for rows in listing.files for t in rows.texts(self._column.name)]
        empty = sum(not text for text in texts)
        repeated = listing.keys.count(None) - empty
        if repeated:
            warnings.warn(
                f"{self._shown} names images more than once; passed over: {repeated:,}. The first "
                "row that names an image counts.",
                stacklevel=1,
            )
        if empty:
            warnings.warn(
                f"{self._shown} has nothing in column {self._column.name} in some rows; passed "
                f"over: {empty:,}.",
                stacklevel=1,
            )


def _each_once(texts: Iterable[str | None]) -> list[bytes | None]:
    """Return the keys of paths and URLs; None for what is empty or was there before."""
    seen: set[str] = set()
    keys: list[bytes | None] = []
    for text in texts:
        path = text and (text if scheme_of(text) else posixpath.normpath(text))
        if not path or path in seen:
            keys.append(None)
            continue
        seen.add(path)
        keys.append(path.encode())
    return keys


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:80]
