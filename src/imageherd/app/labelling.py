"""Labels that a person brought, to colour the map with: columns of the sources, and folders."""

from __future__ import annotations

import threading
from collections.abc import Iterator
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
MOST_LOOKED_AT = 20 * MOST
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

    def kinds(self) -> list[str]:
        """Return what there is: "folder", where images lie in several, and names of columns.

        A column counts that has 2 to 1,000 different values. Read once: 1 s for a million images.
        """
        return list(self._all())

    def codes(self, of: str) -> Coded:
        """Return the labels of a kind, the most frequent first, and which of them each point has.

        Parameters
        ----------
        of : str
            One of `kinds`.

        Returns
        -------
        names : list of str
            The labels.
        codes : ndarray of int32, shape (n,)
            Places in `names`; -1 where a point has none.

        Raises
        ------
        ImageherdError
            If there is no such kind.
        """
        known = self._all()
        if of not in known:
            there = ", ".join(known) or "none at all"
            raise ImageherdError(f"There are no labels {of!r} to colour the map with, but {there}.")
        return known[of]

    def _all(self) -> dict[str, Coded]:
        with self._lock:
            if self._coded is None:
                self._coded = self._read()
            return self._coded

    def _read(self) -> dict[str, Coded]:
        # Part by part: all folders at once would be as large as all paths.
        columns = {FOLDER: map(folders, self._items["path"].chunks)}
        told = columns_of(self._herd, self._items.select(["source", "key"]))
        for name in told.column_names:
            columns[name] = iter(told[name].cast(pa.string()).chunks)
        found = {name: _coded(parts, self._rows) for name, parts in columns.items()}
        return {name: coded for name, coded in found.items() if coded and len(coded[0]) > 1}


def folders(paths: pa.Array) -> pa.Array:
    """Return the name of the folder that each path lies in, null where it lies in none."""
    inside = pc.match_substring(paths, "/")
    names = pc.replace_substring_regex(paths, _LAST_FOLDER, r"\1")
    return pc.if_else(inside, names, pa.scalar(None, pa.string()))


def _coded(parts: Iterator[pa.Array], rows: NDArray[np.int64]) -> Coded | None:
    """Return the values of a column that some rows have, and which each has; None if too many."""
    known: dict[str, int] = {}
    codes = []
    for part in parts:
        encoded = part.fill_null("").dictionary_encode()
        values = [known.setdefault(value, len(known)) for value in encoded.dictionary.to_pylist()]
        if len(known) > MOST_LOOKED_AT:
            return None
        codes.append(np.array(values, np.int32)[encoded.indices.to_numpy()])
    code = np.concatenate([np.zeros(0, np.int32), *codes])[rows]
    sizes = np.bincount(code, minlength=len(known)).tolist()
    there = [(-sizes[i], value, i) for value, i in known.items() if value and sizes[i]]
    if len(there) > MOST:
        return None
    there.sort()
    place = np.full(len(known), NONE, np.int32)
    place[[i for _, _, i in there]] = np.arange(len(there))
    return [value for _, value, _ in there], place[code]
