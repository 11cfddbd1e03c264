"""The herd that is served: its items and clusterings in memory, as they are on disk now."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import Depends, HTTPException, Request
from numpy.typing import NDArray

from imageherd.app.saying import Known, sentences
from imageherd.app.view import View
from imageherd.clustering import Clustering
from imageherd.derived import Features, features_of
from imageherd.edits.editing import Edits
from imageherd.edits.journal import FILE as JOURNAL
from imageherd.edits.journal import Edit
from imageherd.features.items import OK, Items
from imageherd.features.store import MANIFEST
from imageherd.files import read_json
from imageherd.herd import Herd
from imageherd.images.source import Source
from imageherd.project import FILE, read_project
from imageherd.sources import noun_of, sources_of

MOST_OPEN = 2
"""Clusterings held in memory, as many as are compared; one of a million images takes 100 MB."""


class _Open:
    """A clustering that is in memory."""

    def __init__(self, edits: Edits) -> None:
        self.edits = edits
        self.lock = threading.RLock()
        self.view: View | None = None
        self.said: tuple[int, dict[int, str]] | None = None


class Facts(NamedTuple):
    """A clustering in brief: `made` is when its version was, in seconds since 1970."""

    state: str
    method: str
    n_clusters: int
    n_images: int
    made: float


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
        self._facts: dict[str, tuple[object, Facts]] = {}
        self._items: tuple[object, pa.Table] | None = None
        self._features: dict[str, tuple[object, Features]] = {}
        self._sources: tuple[object, object, list[Source]] = None, None, []

    # ---- items

    @property
    def items(self) -> pa.Table:
        """The items table as it is on disk now: read again where it has changed."""
        folder = self.herd.path / "items"
        with self._lock:
            # Parts are renamed into place, which the folder's own time tells.
            now = _stamp(folder)
            if self._items is None or self._items[0] != now:
                # In one piece: to take rows out of many, Arrow puts them together every time.
                self._items = now, Items(folder).table().combine_chunks()
                pa.default_memory_pool().release_unused()
            return self._items[1]

    def items_at(self, rows: Sequence[int] | NDArray[np.int64]) -> pa.Table:
        """Return some rows of the items table, in the order asked for."""
        return self.items.take(pa.array(np.asarray(rows, dtype=np.int64)))

    @property
    def sources(self) -> list[Source]:
        """Where the items are, in the order of their indices.

        The same objects until the herd changes: an archive keeps the list of what is in it.
        """
        with self._lock:
            table, about = self.items, _stamp(self.herd.path / FILE)
            if self._sources[0] is not table or self._sources[1] != about:
                self._sources = table, about, sources_of(self.herd.path)
            return self._sources[2]

    def features(self, key: str) -> Features:
        """Return the features of all images that are still there, as they are on disk now.

        Raises
        ------
        ImageherdError
            If the herd has none of this key.
        """
        manifest = self.herd.path / "features" / key / MANIFEST
        with self._lock:
            items = self.items
            now = items, _stamp(manifest) if manifest.exists() else None
            if self._features.get(key, (None, None))[0] != now:
                readable = items["row"].filter(pc.equal(items["status"], OK)).to_numpy()
                self._features = {key: (now, features_of(self.herd.path, key, readable))}
            return self._features[key][1]

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

    def sayings(self, name: str) -> dict[int, str]:
        """Return what each entry of the journal did, by its number, a sentence each."""
        with self._opened(name) as it:
            entries = it.edits.log()
            last = entries[-1].seq if entries else 0
            if it.said is None or it.said[0] != last:
                noun = noun_of(read_project(self.herd.path)["sources"])
                folder = self.herd.path / "clusterings" / name
                it.said = last, sentences(entries, partial(_began_with, folder), noun)
            return it.said[1]

    def facts(self, name: str) -> Facts:
        """Return what the list of clusterings says of one; read again where its files changed."""
        folder = self.herd.path / "clusterings" / name
        files = (folder / file for file in ("current.json", JOURNAL, f"{JOURNAL}-wal"))
        now = tuple(_stamp(file) if file.exists() else None for file in files)
        if name not in self._facts or self._facts[name][0] != now:
            view = self.view(name)
            found = view.clustering
            made = (folder / found.version).stat().st_mtime
            n_clusters = len(view.by_uid)
            about = Facts(view.state, found.config["method"], n_clusters, len(found.rows), made)
            self._facts[name] = now, about
        return self._facts[name][1]

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


def _began_with(folder: Path, version: str) -> Known:
    """Return the names and sizes of a version's clusters; nothing where it is no more."""
    try:
        clusters = read_json(folder / version / "clusters.json")["clusters"]
        return {c["uid"]: (c["name"], c["size"]) for c in clusters}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def opened(request: Request) -> Opened:
    """Return the herd that the application serves."""
    found: Opened = request.app.state.opened
    return found


Here = Annotated[Opened, Depends(opened)]
"""What a route asks for to get the herd."""
