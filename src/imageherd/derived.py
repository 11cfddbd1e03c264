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

from imageherd.backbones import imagenet_class_names
from imageherd.errors import ImageherdError
from imageherd.features.store import FeatureSet
from imageherd.features.tfidf import TFIDF, Tfidf
from imageherd.files import write_atomically
from imageherd.naming import ClusterName, vote_names
from imageherd.neighbors import NeighborGraph, knn_graph
from imageherd.project import keep
from imageherd.text_naming import NAMING, text_names

N_NEIGHBORS = 50
"""Neighbors an image in the graph that is kept, unless more are asked for."""


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
        """The vectors, shape (n, d): read when first asked for, 4 n d bytes of memory."""
        return self.store.read(self.rows)


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


def kept_graph(herd: Path, features: Features, k: int, device: str) -> NeighborGraph:
    """Return the k-NN graph of these features, from ``neighbors/`` if it is there."""
    name = f"k{k}-{rows_digest(features.rows)}.safetensors"
    path = herd / "neighbors" / features.key / name
    if path.exists():
        # A damaged graph is made again, as the map is: the features say all of it.
        with suppress(ImageherdError):
            return NeighborGraph.load(path)
    graph = knn_graph(features.X, k, device=device)
    keep(herd, lambda: graph.save(path))
    return graph


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
