"""What searching a served herd keeps between requests: features, vectors' lists, the backbone."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imageherd.app.opened import Opened
from imageherd.app.view import View
from imageherd.backbones import Backbone
from imageherd.derived import Features, feature_keys, features_of, rows_digest
from imageherd.errors import ImageherdError
from imageherd.features.items import OK
from imageherd.images.decode import decode
from imageherd.makers import refuse_images
from imageherd.project import read_project
from imageherd.search import backbone_of, counts_words, key_for_texts, position_of, text_vector
from imageherd.search_space import Hits, Space, open_space

MOST_OPEN = 2
"""Feature sets and backbones held ready: one for images, one for texts."""


class Finder:
    """Searches a herd for many threads, the images of one clustering at a time.

    Only images of the clustering are found, so that whatever is found can be moved. Up to 200,000
    images all are compared; more, too, as long as no index has been made: making one takes longer
    than anybody waits, and is left to the command line's search.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._computing = threading.Lock()
        self._spaces: OrderedDict[str, tuple[pa.Table, Features, Space]] = OrderedDict()
        self._backbones: OrderedDict[str, Backbone] = OrderedDict()

    def like_rows(self, here: Opened, view: View, rows: Sequence[int], n: int) -> Hits:
        """Find what is most like some images, those left out: like their mean direction.

        Raises
        ------
        ImageherdError
            If one of them has no features.
        """
        data, space = self._open(here, view.clustering.config["features"])
        at = [position_of(row, data.rows, here.items) for row in rows]
        vectors = space.read(np.array(at, dtype=np.int64)).astype(np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        query = (vectors / np.where(lengths > 0, lengths, 1)).mean(axis=0)
        return _nearest(view, space, query.astype(np.float32), n, rows)

    def like_image(self, here: Opened, view: View, content: bytes, n: int) -> Hits:
        """Find what is most like an image, given as the contents of its file.

        Raises
        ------
        UnreadableImageError
            If it is no image, damaged, or too large to decode safely.
        ImageherdError
            If the herd has no features that a backbone makes of images, or it cannot be loaded.
        """
        data, space = self._open(here, key_for_images(here, view))
        with self._computing:
            backbone = self._backbone(here, data)
            look = backbone.preprocessing
            # As the herd's images were read: the same picture has the same vector.
            pixels = look.apply(decode(content, min_side=look.resize).image)
            query = backbone.embed(pixels[None])["features"][0]
        if not np.isfinite(query).all():
            raise ImageherdError("The features of this image are not finite numbers.")
        return _nearest(view, space, query, n)

    def like_text(self, here: Opened, view: View, text: str, n: int) -> Hits:
        """Find what is most like a text; see `imageherd.search.search`.

        Raises
        ------
        ImageherdError
            If the herd has no features that texts can be compared with, or the text is empty.
        """
        data, space = self._open(here, key_for_texts(here.herd.path), index=False)
        with self._computing:
            query = text_vector(text, data, lambda: self._backbone(here, data))
        hits = _nearest(view, space, query, n)
        return hits.above(0) if counts_words(data) else hits

    def _open(self, here: Opened, key: str, *, index: bool = True) -> tuple[Features, Space]:
        """Return features and what searches them, opened before if the herd has not changed."""
        items, name = here.items, f"{key} {index}"
        with self._lock:
            if name not in self._spaces or self._spaces[name][0] is not items:
                rows = np.asarray(items["row"].filter(pc.equal(items["status"], OK)).to_numpy())
                data = features_of(here.herd.path, key, rows)
                made = f"search/{key}/features-{rows_digest(data.rows)}.json"
                index = index and (here.herd.path / made).is_file()
                self._spaces[name] = items, data, open_space(here.herd.path, data, index=index)
            _keep_last(self._spaces, name)
            return self._spaces[name][1:]

    def _backbone(self, here: Opened, data: Features) -> Backbone:
        if data.key not in self._backbones:
            self._backbones[data.key] = backbone_of(here.herd.path, data)
        _keep_last(self._backbones, data.key)
        return self._backbones[data.key]


def key_for_images(here: Opened, view: View) -> str:
    """Return a feature set that an image can be compared with: the clustering's, or another.

    Raises
    ------
    ImageherdError
        If no backbone has made any of them.
    """
    first = str(view.clustering.config["features"])
    names = read_project(here.herd.path)["backbones"]
    for key in [first, *feature_keys(here.herd.path)]:
        try:
            refuse_images(names.get(key, "vectors:"))
        except ImageherdError:
            continue
        return key
    refuse_images(names[first])
    return first


def _nearest(
    view: View, space: Space, query: NDArray[np.float32], n: int, without: Sequence[int] = ()
) -> Hits:
    """Return the n nearest among the images of a clustering."""
    wanted = n + len(without)
    while True:
        hits = space.nearest(query, wanted)
        ours = np.isin(hits.rows, view.clustering.rows) & ~np.isin(hits.rows, without)
        if ours.sum() >= n or wanted >= len(space.rows):
            break
        wanted *= 4
    at = np.flatnonzero(ours)[:n]
    return Hits(hits.rows[at], hits.similarity[at], hits.key, hits.recall)


def _keep_last(kept: OrderedDict[str, Any], name: str) -> None:
    kept.move_to_end(name)
    while len(kept) > MOST_OPEN:
        kept.popitem(last=False)
