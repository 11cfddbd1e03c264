"""What sources say of their images beside the images: labels and further columns, kept in the herd.

One Parquet file a source that has such columns, ``columns/source-00000.parquet``, by key; written
anew whenever the source is embedded. A herd without them is a herd of an older imageherd, or of
sources that say nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imageherd.errors import ImageherdError
from imageherd.features.disk import remove_temporary_files, writing_to
from imageherd.features.items import read_parquet
from imageherd.files import write_atomically
from imageherd.images.tables.columns import KEY, joined

_AT = "__at__"


@runtime_checkable
class Telling(Protocol):
    """A source that says more of its images than what they look like."""

    def columns(self) -> pa.Table:
        """Return the column `KEY`, and beside it what there is to say; a row an image."""
        ...


def keep_columns(herd: Path, index: int, source: object) -> None:
    """Keep what a source says of its images, in place of what it said before.

    Parameters
    ----------
    herd : Path
        The herd; its lock must be held.
    index : int
        The source's number.
    source : object
        The source; one that is not `Telling` says nothing.

    Raises
    ------
    ImageherdError
        If the source cannot be read, or the herd cannot be written.
    """
    told = source.columns() if isinstance(source, Telling) else None
    file = _file(herd, index)
    if told is None or told.column_names == [KEY]:
        file.unlink(missing_ok=True)
        return
    with writing_to(file.parent):
        remove_temporary_files(file.parent)
        write_atomically(file, lambda out: pq.write_table(told, out))


def columns_of(herd: Path, items: pa.Table) -> pa.Table:
    """Return what the sources say of some items.

    Parameters
    ----------
    herd : Path
        The herd.
    items : pyarrow.Table
        Items of it, with the columns source and key.

    Returns
    -------
    pyarrow.Table
        A row an item, in their order; null where its source does not say. Joined from the sources
        as `table_columns.joined` does. No columns if nothing is said of anything.

    Raises
    ------
    ImageherdError
        If a file is damaged.
    """
    sources = items["source"].to_numpy()
    parts = []
    for index in np.unique(sources).tolist():
        at = np.flatnonzero(sources == index)
        keys = items["key"].take(pa.array(at)).combine_chunks()
        parts.append(pa.table({**_said(_file(herd, index), keys), _AT: at}))
    if not parts:
        return pa.table({})
    whole = joined(parts)
    return whole.take(pc.sort_indices(whole[_AT])).drop_columns([_AT])


def labels_in_column(herd: Path, items: pa.Table, name: str) -> list[str | None]:
    """Return a column as labels, one for each item; None where it is empty.

    Raises
    ------
    ImageherdError
        If no source has such a column, or it says nothing of any of these items.
    """
    columns = columns_of(herd, items)
    if name not in columns.column_names:
        there = ", ".join(columns.column_names)
        raise ImageherdError(
            f"What {herd} holds came without a column {name!r}; "
            + (f"there are {there}." if there else "there are no columns at all: give a CSV.")
        )
    labels: list[str | None] = [
        text or None for text in columns[name].cast(pa.string()).to_pylist()
    ]
    if not any(labels):
        raise ImageherdError(f"The column {name!r} of {herd} is empty.")
    return labels


def _file(herd: Path, index: int) -> Path:
    return herd / "columns" / f"source-{index:05d}.parquet"


def _said(file: Path, keys: pa.Array) -> dict[str, pa.ChunkedArray]:
    """Return the columns of a kept file for some keys; null for keys it does not know."""
    try:
        told = read_parquet(file)
    except FileNotFoundError:
        return {}
    except (OSError, pa.ArrowException) as error:
        raise ImageherdError(
            f"{file} cannot be read ({error}). Delete it and run embed again: it is made anew."
        ) from error
    at = pc.index_in(keys, value_set=told[KEY].combine_chunks())
    return {name: told[name].take(at) for name in told.column_names if name != KEY}
