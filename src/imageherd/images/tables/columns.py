"""What a table says of its images: the columns beside them that are worth keeping."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from imageherd.images.tables.files import Rows
from imageherd.images.tables.image_column import features_of, is_text

KEY = "__key__"
"""Name of the column of keys in a table of carried columns."""


def carried_columns(files: Sequence[Rows], keys: pa.Array, used: Collection[str]) -> pa.Table:
    """Return the columns of a table that say something of its images.

    Text, numbers, truth values, dates and times. Dictionaries become what they stand for, and class
    labels, as Hugging Face's metadata has them, their names. Lists, structs and bytes are left out.

    Parameters
    ----------
    files : sequence of Rows
        The table's files.
    keys : pyarrow.Array of binary, shape (n_rows,)
        The key of each row; null for one that is left out.
    used : collection of str
        Columns that are not wanted.

    Returns
    -------
    pyarrow.Table
        `KEY`, then the columns, as `joined` of all files; held in memory.
    """
    parts, first = [], 0
    for rows in files:
        said = features_of(rows.schema)
        names = [
            field.name
            for field in rows.schema
            if field.name not in (*used, KEY)
            and rows.schema.names.count(field.name) == 1
            and _kind(field.type) is not None
        ]
        table = rows.read(names)
        columns = {KEY: keys.slice(first, rows.n_rows)}
        for name in names:
            columns[name] = _plain(table[name], said.get(name, {}).get("names"))
        parts.append(pa.table(columns))
        first += rows.n_rows
    whole = joined(parts)
    return whole.filter(whole[KEY].is_valid())


def joined(parts: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of all parts, one below the other; null where a part lacks a column.

    Numbers of different types become the wider one; columns that otherwise differ, text.
    """
    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowException:
        types: dict[str, set[pa.DataType]] = {}
        for part in parts:
            for field in part.schema:
                types.setdefault(field.name, set()).add(field.type)
        mixed = {name for name, kinds in types.items() if len(kinds) > 1}
        as_text = [
            part.cast(
                pa.schema([(f.name, "string" if f.name in mixed else f.type) for f in part.schema])
            )
            for part in parts
        ]
        return pa.concat_tables(as_text, promote_options="default")


def _kind(kind: pa.DataType) -> pa.DataType | None:
    """Return the type that a column is kept as, None if it is left out."""
    types = pa.types
    if types.is_dictionary(kind):
        return _kind(kind.value_type)
    if is_text(kind):
        return pa.string()
    plain = (
        *(types.is_integer, types.is_floating, types.is_boolean),
        *(types.is_temporal, types.is_decimal),
    )
    return kind if any(is_one(kind) for is_one in plain) else None


def _plain(column: pa.ChunkedArray, names: list[str] | None) -> pa.ChunkedArray:
    if names and pa.types.is_integer(column.type):
        return _named(column, pa.array([str(name) for name in names], pa.string()))
    return column.cast(_kind(column.type))


def _named(column: pa.ChunkedArray, names: pa.Array) -> pa.ChunkedArray:
    # Hugging Face writes -1 where there is no label.
    known = pc.and_(pc.greater_equal(column, 0), pc.less(column, len(names)))
    return names.take(pc.if_else(known, column, None))
