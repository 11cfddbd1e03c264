"""Labels that a person brought, to colour the map with: columns of the sources, and folders."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imageherd.columns import columns_of
from imageherd.errors import ImageherdError

FOLDER = "folder"
MOST = 1000
"""Different labels there may be: with more of them they tell images apart, not kinds of images."""
NONE = -1
_LAST_FOLDER = r"^(?:.*/)?([^/]+)/[^/]*$"

Coded = tuple[list[str], NDArray[np.int32]]


class Labels:
    """The labels of the points of a map.

    Parameters
    ----------
    herd : Path
        The herd.
    items : pyarrow.Table
        Its items.
    rows : ndarray of int64, shape (n,)
        The points' rows.
    """

    def __init__(self, herd: Path, items: pa.Table, rows: NDArray[np.int64]) -> None:
        self._herd, self._items, self._rows = herd, items, rows
        self._lock = threading.Lock()
        self._coded: dict[str, Coded] | None = None

    def names(self) -> list[str]:
        """Return what there is: "folder", where images lie in several, and names of columns.

        A column counts that has 2 to 1,000 different values. Read once: 1 s for a million images.
        """
        return list(self._all())

    def codes(self, of: str) -> Coded:
        """Return the labels, the most frequent first, and the place of each point's among them.

        Parameters
        ----------
        of : str
            One of `names`.

        Returns
        -------
        names : list of str
            The labels.
        codes : ndarray of int32, shape (n,)
            -1 where a point has none.

        Raises
        ------
        ImageherdError
            If there is no such column.
        """
        known = self._all()
        if of not in known:
            there = ", ".join(known) or "none"
            raise ImageherdError(
                f"There are no labels {of!r} to colour the map with; it has {there}."
            )
        return known[of]

    def _all(self) -> dict[str, Coded]:
        with self._lock:
            if self._coded is None:
                self._coded = self._read()
            return self._coded

    def _read(self) -> dict[str, Coded]:
        items = self._items.select(["source", "key", "path"]).take(pa.array(self._rows))
        columns = {FOLDER: folders(items["path"])}
        told = columns_of(self._herd, items)
        columns |= {name: told[name].cast(pa.string()) for name in told.column_names}
        coded = {name: _coded(column) for name, column in columns.items()}
        return {name: found for name, found in coded.items() if 2 <= len(found[0]) <= MOST}


def folders(paths: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the name of the folder that each path lies in, null where it lies in none."""
    inside = pc.match_substring(paths, "/")
    names = pc.replace_substring_regex(paths, _LAST_FOLDER, r"\1")
    return pc.if_else(inside, names, pa.scalar(None, pa.string()))


def _coded(column: pa.ChunkedArray) -> Coded:
    column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    encoded = column.combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist() if len(encoded.dictionary) <= MOST else []
    if not values:
        return [], np.zeros(0, np.int32)
    codes = encoded.indices.fill_null(NONE).to_numpy().astype(np.int32)
    sizes = np.bincount(codes[codes >= 0], minlength=len(values))
    order = sorted(range(len(values)), key=lambda i: (-sizes[i], values[i]))
    place = np.empty(len(values) + 1, np.int32)
    place[order], place[NONE] = np.arange(len(values)), NONE
    return [values[i] for i in order], place[codes]
