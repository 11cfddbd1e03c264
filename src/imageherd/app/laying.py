"""Maps as they are sent: computed once in the background, scaled, in a random order."""

from __future__ import annotations

import hashlib
import logging
import math
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imageherd.app.labelling import Labels
from imageherd.app.opened import Opened
from imageherd.app.view import View
from imageherd.derived import features_of, kept_map
from imageherd.errors import ImageherdError
from imageherd.features.items import OK

_log = logging.getLogger(__name__)

SEED = 0
MOST_KEPT = 4
PATIENCE = 1.5
"""Seconds that a request waits for a map: one that is kept on disk is there by then."""


@dataclass(frozen=True)
class Laid:
    """A map, its points in a random order: any first part of them is a fair sample.

    Attributes
    ----------
    points : ndarray of float32, shape (n, 2)
        Places; the longer side of all goes from -1 to 1.
    rows : ndarray of int64, shape (n,)
        Rows of the items table.
    at : ndarray of int64, shape (n,)
        Where they are in the clustering's arrays.
    bounds : tuple of float
        Least x, least y, greatest x, greatest y.
    tag : str
        Stands for the points and rows.
    labels : Labels
        What a person said of them.
    """

    points: NDArray[np.float32]
    rows: NDArray[np.int64]
    at: NDArray[np.int64]
    bounds: tuple[float, float, float, float]
    tag: str
    labels: Labels


@dataclass(frozen=True)
class Underway:
    """A map that is being computed: of `n` images, for `seconds`, of `expected` in all, roughly."""

    n: int
    seconds: float
    expected: float


class Maps:
    """The maps of an application, each computed once, in a thread of its own.

    Each takes 32 bytes an image; the four used last are held.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._work: OrderedDict[tuple[str, str], _Work] = OrderedDict()

    def get(self, here: Opened, view: View) -> Laid | Underway:
        """Return the map of a clustering; the computation starts when it is first asked for.

        What is kept in the herd is used: see `imageherd.derived.kept_map`, which lays out 10,000
        images by t-SNE in about 40 s of one core and places all others beside them.

        Raises
        ------
        ImageherdError
            If it cannot be computed, as when the features are gone; the next call tries again.
        """
        key = (view.clustering.name, view.clustering.version)
        with self._lock:
            if key not in self._work:
                self._work[key] = _Work(here, view)
            self._work.move_to_end(key)
            while len(self._work) > MOST_KEPT:
                self._work.popitem(last=False)
            work = self._work[key]
        found = work.result()
        if isinstance(found, ImageherdError):
            with self._lock:
                self._work.pop(key, None)
            raise found
        return found


class _Work:
    def __init__(self, here: Opened, view: View) -> None:
        self._began, self._n = time.monotonic(), len(view.clustering.rows)
        self._found: Laid | ImageherdError | None = None
        # As a daemon: whoever stops the server must not wait for the map.
        self._thread = threading.Thread(target=self._run, args=(here, view), daemon=True)
        self._thread.start()

    def result(self) -> Laid | Underway | ImageherdError:
        if self._found is None:
            self._thread.join(PATIENCE)
        seconds = time.monotonic() - self._began
        return self._found or Underway(self._n, round(seconds, 1), expected_seconds(self._n))

    def _run(self, here: Opened, view: View) -> None:
        try:
            items = here.items
            readable = np.asarray(items["row"].filter(pc.equal(items["status"], OK)).to_numpy())
            data = features_of(here.herd.path, view.clustering.config["features"], readable)
            xy = kept_map(here.herd.path, data)
            self._found = lay(here.herd.path, items, data.rows, xy, view.clustering.rows)
        except ImageherdError as error:
            self._found = error
        except Exception as error:
            _log.exception("the map could not be computed")
            self._found = ImageherdError(f"The map could not be computed: {error}.")


def expected_seconds(n: int) -> float:
    """Return about how long the map of `n` images takes to compute on one core."""
    return 1 + round(40 * math.pow(min(n, 10_000) / 10_000, 1.4) + 1e-4 * max(n - 10_000, 0))


def lay(
    herd: Path,
    items: pa.Table,
    on_map: NDArray[np.int64],
    xy: NDArray[np.float32],
    clustered: NDArray[np.int64],
) -> Laid:
    """Put the points of a map into a random order and scale them.

    Parameters
    ----------
    herd, items
        The herd and its items.
    on_map : ndarray of int64, shape (n,), ascending
        Of which rows the map is.
    xy : ndarray of float32, shape (n, 2)
        Their places.
    clustered : ndarray of int64, shape (m,), ascending
        Rows of the clustering; others are left out.
    """
    at = np.searchsorted(clustered, on_map).clip(max=len(clustered) - 1)
    places = np.flatnonzero(clustered[at] == on_map) if len(clustered) else at[:0]
    places = np.random.default_rng(SEED).permutation(places)
    points, bounds = _scaled(xy[places])
    rows = on_map[places]
    told = hashlib.sha256(points.data)
    told.update(rows.data)
    tag = told.hexdigest()[:12]
    return Laid(points, rows, at[places], bounds, tag, Labels(herd, items, rows))


def _scaled(
    xy: NDArray[np.float32],
) -> tuple[NDArray[np.float32], tuple[float, float, float, float]]:
    if not len(xy):
        return np.zeros((0, 2), np.float32), (-1, -1, 1, 1)
    low, high = xy.min(axis=0), xy.max(axis=0)
    half = float((high - low).max()) / 2 or 1.0
    points = ((xy - (low + high) / 2) / half).astype("<f4")
    return points, (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())
