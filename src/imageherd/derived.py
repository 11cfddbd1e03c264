"""A herd's features, and what is computed from them once and kept: k-NN graph and 2-D map."""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imageherd import memory
from imageherd.backbones import imagenet_class_names
from imageherd.errors import ImageherdError
from imageherd.features.store import FeatureSet
from imageherd.features.tfidf import TFIDF, Tfidf
from imageherd.features.views import read_views, view_sets
from imageherd.files import write_atomically
from imageherd.naming import ClusterName, vote_names
from imageherd.neighbors import (
    NeighborGraph,
    Rows,
    approximate_knn_graph,
    knn_graph,
    update_graph,
)
from imageherd.neighbors.graph import load_rows
from imageherd.neighbors.units import compute_device
from imageherd.neighbors.update import searched_anew
from imageherd.project import keep
from imageherd.text_naming import NAMING, text_names

N_NEIGHBORS = 50
"""Neighbors an image in the graph that is kept, unless more are asked for."""
NEIGHBORS = ("auto", "exact", "approx")
MOST_EXACT = {"cpu": 50_000, "cuda": 2_000_000}
"""Images up to which all are compared with all, unless told otherwise."""


@dataclass(frozen=True)
class Features:
    """Features of a herd's readable images.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Rows of the items table, ascending.
    key : str
        Key of the feature set.
    store : FeatureSet
        Where the vectors are.
    """

    rows: NDArray[np.int64]
    key: str
    store: FeatureSet

    @cached_property
    def X(self) -> NDArray[np.float32]:  # noqa: N802
        """The vectors, shape (n, d): read when first asked for.

        4 n d bytes; of memory up to 1 GB, above it of a temporary file beside the shards.
        """
        return self.store.read(self.rows)

    @property
    def vectors(self) -> NDArray[np.float32] | Rows:
        """The same for who goes through them once: `X` up to 1 GB, above it read when needed."""
        rows, shape = self.rows, (len(self.rows), self.store.dim)
        if "X" in vars(self) or 4 * shape[0] * shape[1] <= memory.MOST_IN_MEMORY:
            return self.X
        return Rows(lambda at: self.store.read(rows[at]), shape)

    @cached_property
    def views(self) -> NDArray[np.float32] | None:
        """The features of augmented views, shape (n, V, d): 4 n V d bytes of memory.

        As many as every one of these images has; None where some have none.
        `imageherd.features.views` makes them.
        """
        return read_views(view_sets(self.store.folder), self.rows)


def feature_keys(herd: Path) -> list[str]:
    """Return the keys of the herd's feature sets."""
    return sorted(p.parent.name for p in herd.glob("features/*/manifest.json"))


def feature_set(herd: Path, key: str) -> FeatureSet:
    """Open a feature set of the herd."""
    folder = herd / "features" / key
    if not (folder / "manifest.json").is_file():
        known = ", ".join(feature_keys(herd)) or "none"
        raise ImageherdError(f"{herd} has no features {key!r}; it has {known}.")
    return FeatureSet(folder)


def features_of(herd: Path, key: str | None, rows: NDArray[np.int64]) -> Features:
    """Return the features `key` of those of the rows that have some.

    Raises
    ------
    ImageherdError
        If the herd has no features, none of this key, or none of these rows.
    """
    if key is None:
        raise ImageherdError(f"{herd} has no features yet; run `imageherd embed` first.")
    store = feature_set(herd, key)
    rows = np.intersect1d(rows, store.rows_present(), assume_unique=True)
    if len(rows) == 0:
        raise ImageherdError(
            f"{herd} holds no readable image with features {key}; run `imageherd embed`."
        )
    return Features(rows, key, store)


def naming_of(data: Features) -> dict[str, Any]:
    """Return what a clustering's settings say of its names, where no classifier votes on them."""
    return {"naming": NAMING} if data.store.manifest["identity"].get("output") == TFIDF else {}


def voted_names(herd: Path, data: Features, uids: NDArray[np.int32]) -> dict[int, ClusterName]:
    """Name the clusters: by the classifier's votes, or by the words of texts; else no names."""
    if naming_of(data):
        words = Tfidf.load(herd / "features" / data.key).terms
        return text_names(data.store, data.rows, uids, words)
    for key in [data.key, *feature_keys(herd)]:
        store = feature_set(herd, key)
        if store.has_top5 and np.isin(data.rows, store.rows_present()).all():
            classes, scores = store.top5(data.rows)
            names = imagenet_class_names()
            return vote_names(classes, scores, uids, names, rows=data.rows)
    return {}


def rows_digest(rows: NDArray[np.int64]) -> str:
    """Return 12 hex digits that stand for these rows in a file name."""
    return hashlib.sha256(np.asarray(rows, dtype="<i8").tobytes()).hexdigest()[:12]


def kept_graph(
    herd: Path, features: Features, k: int, device: str = "auto", how: str = "auto"
) -> NeighborGraph:
    """Return the k-NN graph of these features, from ``neighbors/`` if it is there.

    A graph of other rows of the herd that is kept there is brought up to date, where that takes
    less than making one.

    Parameters
    ----------
    herd : Path
        The herd.
    features : Features
        Of which images; read in blocks.
    k : int
        Neighbours an image, fewer than there are images.
    device : str, default="auto"
        Where to compute.
    how : {"auto", "exact", "approx"}, default="auto"
        "auto" compares all with all up to 50,000 images, on a GPU up to 2 million. An exact graph
        that is kept serves for "approx", and either for "auto".

    Raises
    ------
    ImageherdError
        If `how` is none of these.
    """
    if how not in NEIGHBORS:
        raise ImageherdError(f"neighbors={how!r} is not known; choose {', '.join(NEIGHBORS)}.")
    rows, n = features.rows, len(features.rows)
    folder = herd / "neighbors" / features.key
    path = folder / f"k{k}-{rows_digest(rows)}.safetensors"
    kept = _kept(path, how)
    if kept is not None:
        return kept
    exact = how == "exact" or (how == "auto" and n <= MOST_EXACT[compute_device(device).type])
    X = Rows(lambda at: features.store.read(rows[at]), (n, features.store.dim))
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    where: dict[str, Any] = {"device": device, "scratch": folder}
    before = _graph_before(folder, rows, k, exact)
    if before is not None:
        graph = update_graph(*before, X, **where)
    else:
        graph = (knn_graph if exact else approximate_knn_graph)(X, k, **where)
    keep(herd, lambda: graph.save(path, rows))
    return graph


def _kept(path: Path, how: str) -> NeighborGraph | None:
    """Return the graph in a file if there is one and it is good enough."""
    if not path.exists():
        return None
    # A damaged graph is made again, as the map is: the features say all of it.
    with suppress(ImageherdError):
        graph = NeighborGraph.load(path)
        if graph.recall is None or how != "exact":
            return graph
    return None


def _graph_before(
    folder: Path, rows: NDArray[np.int64], k: int, exact: bool
) -> tuple[NeighborGraph, NDArray[np.int64]] | None:
    """Return a kept graph that is quicker to update than to make anew, and its rows' places."""
    n, least, best = len(rows), len(rows) / 2 if exact else 10 * len(rows) ** 0.5, None
    for path in sorted(folder.glob(f"k{k}-*.safetensors")):
        old = load_rows(path)
        graph = _kept(path, "exact" if exact else "approx")
        if old is None or graph is None or len(old) != len(graph.ids):
            continue
        at = np.minimum(np.searchsorted(rows, old), n - 1)
        place = np.where(rows[at] == old, at, -1)
        asked, new = searched_anew(graph, place, n)
        if len(asked) + len(new) < least:
            least, best = len(asked) + len(new), (graph, place)
    return best


def kept_map(herd: Path, features: Features) -> NDArray[np.float32]:
    """Return the 2-D map of these features, shape (n, 2), from ``report/`` if it is there."""
    path = herd / "report" / f"map-{features.key}-{rows_digest(features.rows)}.npy"
    if path.exists():
        try:
            found: NDArray[np.float32] = np.load(path, allow_pickle=False)
            if found.shape == (len(features.rows), 2):
                return found
        except (OSError, ValueError):
            # A damaged map costs seconds to make again.
            pass
    from imageherd.report.map import layout

    xy: NDArray[np.float32] = layout(features.X)
    buffer = io.BytesIO()
    np.save(buffer, xy, allow_pickle=False)
    keep(herd, lambda: write_atomically(path, lambda file: file.write(buffer.getvalue())))
    return xy
