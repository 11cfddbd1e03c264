"""The herd that is served: its items and clusterings in memory, as they are on disk now."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
from fastapi import Depends, HTTPException, Request
from numpy.typing import NDArray

from imageherd.app.view import View
from imageherd.clustering import Clustering
from imageherd.edits.editing import Edits
from imageherd.edits.journal import Edit
from imageherd.features.items import Items
from imageherd.herd import Herd
from imageherd.images.source import Source
from imageherd.sources import sources_of

MOST_OPEN = 4
"""Clusterings held in memory; one of a million images takes about 150 MB."""


class _Open:
    """A clustering that is in memory."""

    def __init__(self, edits: Edits) -> None:
        self.edits = edits
        self.lock = threading.RLock()
        self.view: View | None = None


class Opened:
    """A herd, opened once and asked by many threads.

    Parameters
    ----------
    path : Path
        The herd.
    author : str, default=""
        Whose edits are made here, for the log.

    Attributes
    ----------
    herd : Herd
        The herd.
    author : str
        As given.
    """

    def __init__(self, path: Path, author: str = "") -> None:
        self.herd, self.author = Herd(path), author
        self._lock = threading.RLock()
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._items: tuple[object, pa.Table] | None = None

    # ---- items

    @property
    def items(self) -> pa.Table:
        """The items table as it is on disk now: read again where it has changed."""
        folder = self.herd.path / "items"
        with self._lock:
            now = tuple((p.name, *_stamp(p)) for p in sorted(folder.glob("part-*.parquet")))
            if self._items is None or self._items[0] != now:
                self._items = now, Items(folder).table()
            return self._items[1]

    def items_at(self, rows: Sequence[int] | NDArray[np.int64]) -> pa.Table:
        """Return some rows of the items table, in the order asked for."""
        return self.items.take(pa.array(np.asarray(rows, dtype=np.int64)))

    @property
    def sources(self) -> list[Source]:
        """Where the items are, in the order of their indices."""
        return sources_of(self.herd.path)

    # ---- clusterings

    def names(self) -> list[str]:
        """Return the names of the clusterings, "default" first."""
        found = (p.parent.name for p in self.herd.path.glob("clusterings/*/current.json"))
        return sorted(found, key=lambda name: (name != "default", name))

    def view(self, name: str) -> View:
        """Return a clustering as edited by all up to now, with its state.

        Where nothing has changed since it was asked for last, that takes a millisecond.

        Raises
        ------
        HTTPException
            404, if the herd has none of this name.
        """
        with self._opened(name) as it:
            # Another process may edit while the clustering is put together: then once more.
            while it.view is None or it.view.state != _state_of(it.edits):
                done, undone = it.edits.undoable()
                state, clustering = it.edits.state, it.edits.clustering()
                if state == it.edits.state:
                    it.view = View(state, clustering, done, undone, before=it.view)
            return it.view

    def clustering(self, name: str) -> Clustering:
        """Return a clustering as edited by all up to now."""
        return self.view(name).clustering

    def state(self, name: str) -> str:
        """Return the state that a clustering is in now, such as "v0002.17"."""
        with self._opened(name) as it:
            return _state_of(it.edits)

    def edits(self, name: str) -> Edits:
        """Return what changes a clustering; it may be used by several threads."""
        with self._opened(name) as it:
            return it.edits

    def change(self, name: str, how: Callable[[Edits], Edit]) -> tuple[Edit, View, View]:
        """Change a clustering; returns the entry made, and the views before and after.

        Parameters
        ----------
        name : str
            Which clustering.
        how : callable
            Gets what `edits` returns and makes one change with it.
        """
        with self._opened(name):
            before = self.view(name)
            entry = how(self.edits(name))
            return entry, before, self.view(name)

    @contextmanager
    def _opened(self, name: str) -> Iterator[_Open]:
        with self._lock:
            if name not in self.names():
                raise HTTPException(404, f"There is no clustering {name!r} in this herd.")
            if name not in self._open:
                self._open[name] = _Open(Edits(self.herd.path, name, self.author))
            self._open.move_to_end(name)
            while len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
            it = self._open[name]
        with it.lock:
            yield it


def _state_of(edits: Edits) -> str:
    edits.undoable()
    return edits.state


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def opened(request: Request) -> Opened:
    """Return the herd that the application serves."""
    found: Opened = request.app.state.opened
    return found


Here = Annotated[Opened, Depends(opened)]
"""What a route asks for to get the herd."""
