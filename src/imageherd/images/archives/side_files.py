"""What lies beside the images of an archive, as WebDataset lays it: labels, captions, facts.

The files of one sample share their path up to the first dot of the name: ``000/17.jpg``,
``000/17.cls`` (a class), ``000/17.txt`` (a text), ``000/17.json`` (named values).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO

import pyarrow as pa

from imageherd.images.archives.members import Contents, Member
from imageherd.images.decode import UnreadableImageError
from imageherd.images.tables.columns import KEY


def told_beside(
    file: BinaryIO, contents: Contents, read: Callable[[BinaryIO, Member], bytes]
) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the key of each image that something lies beside, and what it says.

    A ``.cls`` is the column "cls", a whole number if it is one; a ``.txt`` the column "txt"; of a
    ``.json`` each text, number and truth value of the outermost object is a column. What cannot be
    read says nothing. About 30 µs a file.

    Parameters
    ----------
    file : binary file
        The archive.
    contents : Contents
        What it holds.
    read : callable
        Reads a member, as `read_tar`.
    """
    said: dict[bytes, dict[str, Any]] = {}
    # From front to back, as a disk likes it.
    for key, member in sorted(contents.beside.items(), key=lambda pair: pair[1].offset):
        with suppress(UnreadableImageError, ValueError, RecursionError):
            sample, kind = _sample(key)
            said.setdefault(sample, {}).update(_values(kind, read(file, member).decode()))
    for key in contents.members:
        values = said.get(_sample(key)[0])
        if values:
            yield key, values


def table_of(told: Iterable[tuple[bytes, dict[str, Any]]]) -> pa.Table:
    """Return keys and values as a table: the column `KEY`, and a column for each name, sorted.

    A column of values that are not of one kind is text.
    """
    rows = list(told)
    names = sorted({name for _, values in rows for name in values if name != KEY})
    columns = {name: _column([values.get(name) for _, values in rows]) for name in names}
    return pa.table({KEY: pa.array([key for key, _ in rows], pa.binary()), **columns})


def _sample(key: bytes) -> tuple[bytes, bytes]:
    folder, slash, name = key.rpartition(b"/")
    stem, _, kind = name.partition(b".")
    return folder + slash + stem, kind.lower()


def _values(kind: bytes, text: str) -> dict[str, Any]:
    if kind == b"json":
        found = json.loads(text)
        if not isinstance(found, dict):
            return {}
        return {k: v for k, v in found.items() if isinstance(v, str | int | float)}
    text = text.strip()
    if kind == b"cls":
        return {"cls": int(text) if text.isdecimal() else text}
    return {"txt": text}


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())
