"""What the still figures of a clustering are drawn from, each thing read when first asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from imageherd.clustering import Clustering
from imageherd.derived import Features
from imageherd.errors import ImageherdError
from imageherd.evaluation import read_labels
from imageherd.heads.base import Head
from imageherd.images.decode import UnreadableImageError, decode
from imageherd.images.source import Source
from imageherd.neighbors import knn_graph
from imageherd.report.plots import Picture
from imageherd.report.plots_style import sample
from imageherd.search_space import OWN_SPACE
from imageherd.versions import versions_of

MAX_ROWS = 10_000
N_NEIGHBORS = 50
N_QUERIES = 6
PICTURE_SIDE = 160


class LeftOutError(Exception):
    """A figure that this clustering does not allow; says why."""


@dataclass
class Material:
    """What the figures of one clustering are drawn from, read when first asked for.

    Attributes
    ----------
    herd : Path
        The herd.
    clustering : Clustering
        Whose figures.
    data : Features
        The features it was made on.
    items : pyarrow.Table
        The herd's items.
    sources : list of Source
        Where the images are.
    labels : str, Path or None
        Labels that a person has, as `imageherd.evaluation.read_labels` takes them.
    random_state : int
        Seed of all samples.
    rows : ndarray of int64, shape (m,)
        Rows of the images looked at: of those clustered and still there, at most 10,000.
    codes : ndarray of int64, shape (m,)
        Cluster of each: its place in ``clustering.clusters``, -1 where it fits nowhere.
    """

    herd: Path
    clustering: Clustering
    data: Features
    items: pa.Table
    sources: list[Source]
    labels: str | Path | None
    random_state: int
    rows: NDArray[np.int64] = field(init=False)
    codes: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        rows, _, here = np.intersect1d(
            self.data.rows, self.clustering.rows, return_indices=True, assume_unique=True
        )
        if len(rows) == 0:
            raise ImageherdError(
                f"None of the images of clustering {self.clustering.name!r} is there any more; run "
                "`imageherd cluster`."
            )
        self._n_all = len(rows)
        chosen = sample(len(rows), MAX_ROWS, self.random_state)
        self.rows, self._here = rows[chosen], here[chosen]
        place = {c.uid: i for i, c in enumerate(self.clustering.clusters)}
        uids = self.clustering.uids[self._here]
        self.codes = np.array([place.get(uid, -1) for uid in uids.tolist()], dtype=np.int64)

    @cached_property
    def names(self) -> list[str]:
        """Names of the clusters, by code."""
        return [c.name for c in self.clustering.clusters]

    @cached_property
    def X(self) -> NDArray[np.float32]:  # noqa: N802
        """Features of the rows, shape (m, d)."""
        return self.data.store.read(self.rows)

    @cached_property
    def head(self) -> Head:
        """The head that gave the clustering."""
        return versions_of(self.herd, self.clustering.name).head(self.clustering.version)

    @property
    def method(self) -> str:
        """What the clustering was made by."""
        return str(self.clustering.config["method"])

    @cached_property
    def after(self) -> NDArray[np.float32]:
        """What the head makes of X: its own space, or else what it says of each image.

        Without a space of its own: square roots of the probabilities, whose cosine is the
        Bhattacharyya coefficient of two images' distributions.
        """
        if self.method in OWN_SPACE:
            return np.asarray(self.head.transform(self.X), dtype=np.float32)
        return np.sqrt(self.head.predict_proba(self.X))

    @property
    def titles(self) -> tuple[str, str]:
        """What X and `after` are called."""
        if self.method in OWN_SPACE:
            return "Features", "Head's features"
        return "Features", "Head's probabilities"

    @cached_property
    def nearest(self) -> NDArray[np.int32]:
        """Positions of the nearest of each row by features, shape (m, k)."""
        return self._nearest(self.X)

    @cached_property
    def nearest_after(self) -> NDArray[np.int32]:
        """Positions of the nearest of each row by `after`, shape (m, k)."""
        return self._nearest(self.after)

    def _nearest(self, X: NDArray[np.float32]) -> NDArray[np.int32]:
        if len(X) < 2:
            raise LeftOutError("there is only one image")
        return knn_graph(X, min(N_NEIGHBORS, len(X) - 1), device="auto").ids

    @cached_property
    def all_labels(self) -> list[str | None]:
        """The person's label of each image of the clustering."""
        if self.labels is None:
            raise LeftOutError("it needs labels; give --labels CSV, or folder")
        paths = self.items["path"].take(pa.array(self.clustering.rows)).to_pylist()
        return read_labels(self.labels, paths)

    @cached_property
    def label_codes(self) -> NDArray[np.int64]:
        """The person's label of each row as a number from 0, -1 where there is none."""
        mine = [self.all_labels[i] for i in self._here]
        known = {label: c for c, label in enumerate(sorted({x for x in mine if x is not None}))}
        return np.array([known.get(x, -1) if x else -1 for x in mine], dtype=np.int64)

    @cached_property
    def queries(self) -> NDArray[np.int64]:
        """Positions of an image each of up to six clusters, from the largest to the smallest."""
        codes = np.unique(self.codes[self.codes >= 0])
        some = codes[np.linspace(0, len(codes) - 1, min(N_QUERIES, len(codes))).astype(int)]
        rng = np.random.default_rng(self.random_state)
        return np.array([rng.choice(np.flatnonzero(self.codes == c)) for c in some], dtype=np.int64)

    def pictures(self, positions: NDArray[Any]) -> list[Picture]:
        """Read the photographs at `positions`, longer side about 160 pixels."""
        shown = self.items.take(pa.array(self.rows[positions]))
        keys, sources = shown["key"].to_pylist(), shown["source"].to_pylist()
        return [_picture(self.sources[i], key) for i, key in zip(sources, keys, strict=True)]

    def caption(self, *remarks: str, n: int | None = None) -> str:
        """Say what a figure shows: which clustering, how many images, and `remarks`."""
        n = len(self.rows) if n is None else n
        config = self.clustering.config
        images = f"{n:,} images"
        if n < self._n_all:
            images = f"{n:,} of {self._n_all:,} images, drawn at random (seed {self.random_state})"
        made = f"Clustering {self.clustering.name} {self.clustering.version} by {config['method']}"
        return " ".join([f"{made}; {images}.", *(r for r in remarks if r)])


def _picture(source: Source, key: bytes) -> Picture:
    try:
        image = decode(source.read(key), min_side=PICTURE_SIDE).image
    except UnreadableImageError:
        return None
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)
