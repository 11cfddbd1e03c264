"""Search: the images of a herd most like an image, an item of the herd, or a text."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imageherd.backbones import Backbone, load_backbone
from imageherd.clustering import Clustering
from imageherd.derived import Features, feature_keys, feature_set
from imageherd.errors import ImageherdError
from imageherd.features.items import DELETED, OK, UNREADABLE
from imageherd.features.precision import stored_as
from imageherd.features.reading import Job, read_image
from imageherd.features.tfidf import TFIDF, Tfidf
from imageherd.images.folder import FolderSource
from imageherd.images.names import display_path
from imageherd.makers import refuse_images
from imageherd.project import read_project
from imageherd.search_index import DEPTH
from imageherd.search_space import Hits, open_space, own_space

BY = ("features", "head")


def search(
    herd: Path,
    items: pa.Table,
    features: Callable[[str | None], Features],
    clustering: Callable[[str], Clustering],
    *,
    image: str | Path | None = None,
    text: str | None = None,
    item: int | str | None = None,
    by: str = "features",
    n: int = DEPTH,
    name: str = "default",
    device: str = "auto",
) -> Hits:
    """Find the images of a herd most like an image, an item of the herd, or a text.

    Parameters
    ----------
    herd, items, features, clustering
        The herd, its items, and what gives its feature sets and clusterings; `Herd.search` fills
        them in.
    image : str or Path, optional
        An image file, of the herd or not.
    text : str, optional
        What to see in the images. Wants features of a model of images and texts, such as CLIP or
        SigLIP; the feature set in use, or another of the herd's, is taken. In a herd of texts, what
        is to be in them, by tf-idf.
    item : int or str, optional
        A row of the items table, or the path there; that image itself is left out.
    by : {"features", "head"}, default="features"
        By the backbone's features, or by what the head of a clustering makes of them: Z of CPP, the
        logits of SCP, the bottleneck of TEMI, the trunk's output of LSD-C. Its search is of the
        kind of the clusters. Other methods have nothing of the sort.
    n : int, default=64
        How many.
    name : str, default="default"
        The clustering whose head is meant.
    device : str, default="auto"
        Where the backbone and the head run.

    Raises
    ------
    ImageherdError
        If not exactly one of image, text and item is given, or it cannot be searched for.

    Notes
    -----
    Cosine similarity. Up to 200,000 images, for a text, and for more than 64 images: exact, in one
    pass. Over that (and 25.6 million numbers) through lists kept in the herd under ``search/``; see
    `imageherd.search_index.build_index`. The head's vectors are computed once and kept there too.
    In a herd that cannot be written every search is exact.
    """
    if sum(given is not None for given in (image, text, item)) != 1:
        raise ImageherdError("Give one thing to search for: an image, a text or an item.")
    if by not in BY:
        raise ImageherdError(f"by={by!r} is not known; choose {' or '.join(BY)}.")
    if n < 1:
        raise ImageherdError(f"n={n} is too few; give a number of at least 1.")
    if text is not None:
        if by == "head":
            raise ImageherdError("A text is no input for a head; search by features.")
        data = features(key_for_texts(herd))
        # A text lies apart from all images: lists that serve those say nothing of it.
        space = open_space(herd, data, index=False)
        vector = text_vector(text, data, lambda: backbone_of(herd, data, device))
        hits = space.nearest(vector, n)
        # Texts that have none of the words are no answer.
        return hits.above(0) if counts_words(data) else hits
    chosen = clustering(name) if by == "head" else None
    data = features(chosen.config["features"] if chosen else None)
    head = own_space(herd, chosen, device) if chosen else None
    at = position_of(item, data.rows, items) if item is not None else None
    query = None if image is None else _image_vector(Path(image), herd, data, device)
    space = open_space(herd, data, head)
    if query is None:
        query = space.read(np.array([at]))[0]
    elif head:
        query = head.model.transform(query[None])[0]
    return space.nearest(query, n, without=at)


def key_for_texts(herd: Path) -> str:
    """Return the feature set that texts can be compared with: the one in use, or else another.

    Raises
    ------
    ImageherdError
        If there is none.
    """
    project = read_project(herd)
    first = [project["features"]] if project["features"] else []
    for key in [*first, *feature_keys(herd)]:
        if feature_set(herd, key).manifest["identity"]["output"] in ("image_embedding", TFIDF):
            return str(key)
    names = ", ".join(project["backbones"].values()) or "none yet"
    raise ImageherdError(
        f"A text can be compared with features of a CLIP or SigLIP model only, and those of {herd} "
        f"are of {names}. Embed with one first: imageherd embed PHOTOS --herd {herd} --backbone "
        "openai/clip-vit-base-patch32"
    )


def position_of(item: int | str, rows: NDArray[np.int64], items: pa.Table) -> int:
    """Return where an item is in `rows`, by its row or its path.

    Raises
    ------
    ImageherdError
        If there is no such image, or more than one.
    """
    if isinstance(item, str):
        # As shown, or as a shell gives it: bytes that are no text, or a backslash not doubled.
        shown = display_path(os.fsencode(item))
        written = pa.array([item if item.isprintable() else shown, shown])
        known = items.filter(pc.is_in(items["path"], written))
        found = known["row"].filter(pc.equal(known["status"], OK)).to_pylist()
        # The last row of a path is what the file was when it was looked at last.
        found = found or known["row"].to_pylist()[-1:]
        if not found:
            example = items["path"][int(rows[0])].as_py()
            raise ImageherdError(
                f"Nothing in the herd has the path {item!r}; paths are written as in the report "
                f"and in exports, such as {example!r}."
            )
        if len(found) > 1:
            raise ImageherdError(
                f"The path {item!r} is in {len(found)} of the herd's sources; give a row: "
                f"{', '.join(map(str, found))}."
            )
        item = found[0]
    at = int(np.searchsorted(rows, item))
    if at == len(rows) or rows[at] != item:
        raise ImageherdError(_why_not(int(item), rows, items))
    return at


def _why_not(item: int, rows: NDArray[np.int64], items: pa.Table) -> str:
    """Say why a row cannot be searched for."""
    if not 0 <= item < len(items):
        return f"The herd has no row {item}; images with features are in {rows[0]} to {rows[-1]}."
    about = items.slice(item, 1).to_pylist()[0]
    what = f"{about['path']!r} (row {item}) is known to the herd, but"
    if about["status"] == DELETED:
        return f"{what} was gone from its source when it was embedded last."
    if about["status"] == UNREADABLE:
        return f"{what} cannot be read: {about['reason']}."
    return f"{what} has no features of this kind yet; run `imageherd embed`."


def cluster_names(rows: NDArray[np.int64], clustering: Clustering) -> list[str | None]:
    """Return the name of the cluster that each row is in, None for rows it does not have."""
    names = clustering.names()
    at = np.searchsorted(clustering.rows, rows).clip(max=len(clustering.rows) - 1)
    there = clustering.rows[at] == rows
    uids = clustering.uids[at].tolist()
    return [names[uid] if here else None for uid, here in zip(uids, there, strict=True)]


def backbone_of(herd: Path, data: Features, device: str = "auto") -> Backbone:
    """Load the very backbone that the features are of.

    Raises
    ------
    ImageherdError
        If there is none, it cannot be loaded, or it gives other features by now.
    """
    name = read_project(herd)["backbones"][data.key]
    refuse_images(name)
    backbone = stored_as(load_backbone(name, device=device), data.store.dtype)
    if backbone.key != data.key:
        raise ImageherdError(
            f"The features of {herd} are {data.key}, but backbone {name!r} now gives "
            f"{backbone.key}; run `imageherd embed` to embed the images with it."
        )
    return backbone


def _image_vector(image: Path, herd: Path, data: Features, device: str) -> NDArray[np.float32]:
    if not image.is_file():
        raise ImageherdError(f"There is no image file {image}. Check the path.")
    backbone = backbone_of(herd, data, device)
    source = FolderSource(image.absolute().parent, must_exist=False)
    # The very way the herd's images were read: the same picture has the same vector.
    read = read_image(source, Job(0, os.fsencode(image.name), str(image)), backbone, ())
    if read.pixels is None:
        raise ImageherdError(f"{image} cannot be read: {read.reason}.")
    vector: NDArray[np.float32] = backbone.embed(read.pixels[None])["features"][0]
    if not np.isfinite(vector).all():
        raise ImageherdError(f"The features of {image} are not finite numbers.")
    return vector


def text_vector(text: str, data: Features, load: Callable[[], Backbone]) -> NDArray[np.float32]:
    """Turn a text into a vector that can be compared with features: shape (dim,).

    Parameters
    ----------
    text : str
        What to look for.
    data : Features
        Of a model of images and texts, or tf-idf; see `key_for_texts`.
    load : callable
        Gives the backbone that they are of; not called for tf-idf.

    Raises
    ------
    ImageherdError
        If the text is empty, or none of its words is known.
    """
    if not text.strip():
        raise ImageherdError("The text to search for is empty.")
    if counts_words(data):
        words: NDArray[np.float32] = Tfidf.load(data.store.folder).transform([text]).toarray()[0]
        if not words.any():
            raise ImageherdError(f"None of the words of {text!r} is one that the features count.")
        return words
    # Seconds to import, and no use for words that are counted.
    from imageherd.backbones.text import encode_texts

    vector: NDArray[np.float32] = encode_texts(load(), [text])[0]
    return vector


def counts_words(data: Features) -> bool:
    """Whether features are tf-idf of texts."""
    return bool(data.store.manifest["identity"]["output"] == TFIDF)
