"""Augmented views of images, and their features: shards of their own beside the plain ones.

As SCP (Li et al. 2025) makes them: a random crop and a Gaussian blur, each with probability
one half and independently of the other. The paper names neither's range; ours are those of a weak
augmentation, see `Augmentation`. Which view a number stands for depends on it and on the image's
content alone, so neither files' names and order nor batches, threads or kills change a view, and
more of them can be made later.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from imageherd.cores import usable_cores
from imageherd.features.batching import Batch
from imageherd.features.items import OK, Items
from imageherd.features.prefetch import map_ahead
from imageherd.features.store import (
    MANIFEST,
    SHARD_ROWS,
    FeatureSet,
    present_mask,
    read_manifest,
)
from imageherd.features.writer import Writer
from imageherd.images.decode import UnreadableImageError, decode
from imageherd.memory import empty_array
from imageherd.progress import progress

if TYPE_CHECKING:
    from imageherd.backbones import Backbone
    from imageherd.backbones.preprocess import Preprocessing
    from imageherd.images.source import Source

PROBABILITY = 0.5
CROP = (0.6, 1.0)
"""Least and greatest part of the image's area that a crop keeps."""
BLUR = (0.1, 2.0)
"""Least and greatest σ of the blur, in pixels of an input of 224 pixels a side."""
MOST_ASPECT = 4 / 3
"""A crop is at most so many times as wide as high, or as high as wide."""

_INPUT = 224
_AHEAD_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Augmentation:
    """What is done to an image for one of its views; drawn by `augmentation`.

    Attributes
    ----------
    crop : tuple of 4 floats, or None
        Part of the area kept, width to height, and where the crop lies in what is left and right
        of it and above and below, from 0 to below 1; None for the whole image.
    sigma : float or None
        Of the blur, in pixels of an input of 224 pixels a side; None for no blur.
    """

    crop: tuple[float, float, float, float] | None
    sigma: float | None


class ViewOf:
    """What stands for a backbone in the manifest of its features of one view.

    Parameters
    ----------
    backbone : Backbone
        What turns pixels into features.
    number : int
        Which view, from 0.
    """

    def __init__(self, backbone: Backbone, number: int) -> None:
        ranges = {"probability": PROBABILITY, "crop": CROP, "blur": BLUR, "aspect": MOST_ASPECT}
        self.key, self.dim = backbone.key, backbone.dim
        self.identity: dict[str, Any] = backbone.identity | {"view": number, "views": ranges}


def augmentation(content_hash: str, number: int) -> Augmentation:
    """Return what view `number` of the image with this content does to it.

    Parameters
    ----------
    content_hash : str
        SHA-256 of the image's file, as hex.
    number : int
        Which view, from 0.

    Notes
    -----
    The random numbers are the digits of a BLAKE2b hash of the two: no generator's next version
    draws others.
    """
    digest = hashlib.blake2b(f"{content_hash} {number}".encode(), digest_size=56).digest()
    # 53 bits each, what a float holds.
    u = (np.frombuffer(digest, "<u8") >> np.uint64(11)).astype(np.float64) / 2**53
    area = CROP[0] + (CROP[1] - CROP[0]) * u[2]
    aspect = MOST_ASPECT ** (2 * u[3] - 1)
    crop = (float(area), float(aspect), float(u[4]), float(u[5]))
    sigma = float(BLUR[0] + (BLUR[1] - BLUR[0]) * u[6])
    return Augmentation(crop if u[0] < PROBABILITY else None, sigma if u[1] < PROBABILITY else None)


def view_pixels(
    image: Image.Image, preprocessing: Preprocessing, how: Augmentation
) -> NDArray[np.float32]:
    """Turn an image into the network's input as one of its views.

    Parameters
    ----------
    image : PIL.Image.Image
        Mode RGB, as decoded for the plain features.
    preprocessing : Preprocessing
        The backbone's. A crop is resized to the input's size, both sides.
    how : Augmentation
        What to do; with neither crop nor blur the input is that of the plain image.

    Returns
    -------
    ndarray of float32, shape (3, size, size)
    """
    if how.crop is None:
        pixels = preprocessing.apply(image)
    else:
        pixels = preprocessing.with_mode("squash").apply(image.crop(_box(image.size, how.crop)))
    if how.sigma is not None:
        sigma = how.sigma * preprocessing.size / _INPUT
        # Mirrored at the edge, which else would darken.
        pixels = gaussian_filter(pixels, (0, sigma, sigma), mode="mirror")
    return pixels


def _box(
    size: tuple[int, int], crop: tuple[float, float, float, float]
) -> tuple[int, int, int, int]:
    area, aspect, across, down = crop
    pixels = area * size[0] * size[1]
    width, height = (
        min(size[0], math.sqrt(pixels * aspect)),
        min(size[1], math.sqrt(pixels / aspect)),
    )
    # An image much longer than wide gives a piece of it, not the whole squeezed.
    width, height = min(width, MOST_ASPECT * height), min(height, MOST_ASPECT * width)
    w, h = max(1, round(width)), max(1, round(height))
    left, top = int(across * (size[0] - w + 1)), int(down * (size[1] - h + 1))
    return left, top, left + w, top + h


def embed_views(
    items: Items,
    source: Source,
    source_index: int,
    backbone: Backbone,
    feature_set_folder: Path,
    n_views: int,
    *,
    workers: int | None = None,
) -> int:
    """Compute the views that the images of a source lack; returns how many it computed.

    Killed at any moment and run again, it redoes at most the shard in hand. The herd's lock must be
    held. An image whose file has changed or cannot be read now gets none.

    Parameters
    ----------
    items : Items
        The herd's items, up to date.
    source : Source
        Where the images are.
    source_index : int
        Its number in the herd.
    backbone : Backbone
        What turns pixels into features.
    feature_set_folder : Path
        Where the plain features are; view v goes to ``view-00v`` in it.
    n_views : int
        How many views an image is to have.
    workers : int, optional
        Threads that read; by default one for each core.

    Raises
    ------
    ImageherdError
        As `imageherd.features.pipeline.embed_source`.

    Notes
    -----
    Each image is read once for all the views it lacks, which each cost a pass through the network.
    Memory: the views of one shard, ``n_views`` × 4,096 × d numbers.
    """
    if not n_views:
        return 0
    run = _Run(items, source, source_index, backbone, feature_set_folder, n_views)
    workers = workers or usable_cores()
    image_bytes = 3 * 4 * backbone.preprocessing.size**2 * n_views
    ahead = max(workers + 1, min(2 * backbone.batch_size, _AHEAD_BYTES // image_bytes))
    with (
        progress("Views", int(run.lacking.sum()), "views") as advance,
        closing(map_ahead(run.read, run.jobs(), workers=workers, ahead=ahead)) as results,
    ):
        return sum(run.embed_shard(index, results, advance) for index in run.shards())


class _Run:
    """One run over one source: what is shared from shard to shard."""

    def __init__(
        self,
        items: Items,
        source: Source,
        source_index: int,
        backbone: Backbone,
        folder: Path,
        n_views: int,
    ) -> None:
        self.items, self.source, self.backbone = items, source, backbone
        self.writers = [
            Writer(folder / view_name(v), ViewOf(backbone, v), items.part_rows)
            for v in range(n_views)
        ]
        table = items.table()
        plain = present_mask(read_manifest(folder))
        wanted = pc.equal(table["status"], OK).to_numpy() & (
            table["source"].to_numpy() == source_index
        )
        # An image without features, of which a shard may have been lost, is for the next run.
        wanted[len(plain) :] = False
        wanted[: len(plain)] &= plain
        self.lacking = np.repeat(wanted[:, None], n_views, axis=1)
        for v, writer in enumerate(self.writers):
            self.lacking[: len(writer.present), v] &= ~writer.present

    def shards(self) -> Iterator[int]:
        size = self.items.part_rows
        for index in range(-(-self.items.n_rows // size)):
            rows = self._rows(index)
            short = any(writer.rows_of(index) != rows for writer in self.writers)
            if short or self.lacking[index * size : (index + 1) * size].any():
                yield index

    def jobs(self) -> Iterator[tuple[dict[str, Any], NDArray[np.int64]]]:
        """Yield the items to read, in row order, and the views that each lacks."""
        for index in self.shards():
            part = self.items.part(index)
            for item in part:
                views = np.flatnonzero(self.lacking[item["row"]])
                if len(views):
                    yield item, views

    def read(
        self, job: tuple[dict[str, Any], NDArray[np.int64]]
    ) -> list[NDArray[np.float32]] | None:
        """Make the views of an image; None if its file is not what it was."""
        item, views = job
        try:
            data = self.source.read(item["key"])
            if hashlib.sha256(data).hexdigest() != item["content_hash"]:
                return None
            how = self.backbone.preprocessing
            image = decode(data, min_side=how.resize).image
        except UnreadableImageError:
            return None
        made = [augmentation(item["content_hash"], v) for v in views.tolist()]
        return [view_pixels(image, how, view) for view in made]

    def embed_shard(self, index: int, results: Iterator[Any], advance: Any) -> int:
        blocks = [writer.open_block(index, self._rows(index)) for writer in self.writers]
        batches = [Batch(self.backbone, block, classes=False) for block in blocks]
        first = index * self.items.part_rows
        for row in first + np.flatnonzero(self.lacking[first : first + self._rows(index)].any(1)):
            views, made = np.flatnonzero(self.lacking[row]), next(results)
            for v, pixels in zip(views, made or [], strict=made is not None):
                advance(batches[v].add(int(row), pixels))
            if made is None:
                advance(len(views))
        for writer, block, batch in zip(self.writers, blocks, batches, strict=True):
            advance(batch.flush())
            if block.changed:
                writer.commit(block, lambda: None)
        return sum(batch.n_embedded for batch in batches)

    def _rows(self, index: int) -> int:
        size = self.items.part_rows
        return min(size, self.items.n_rows - index * size)


def view_name(number: int) -> str:
    """Return the name of the folder of a view."""
    return f"view-{number:03d}"


def view_sets(feature_set_folder: Path) -> list[FeatureSet]:
    """Open the views kept beside a feature set, in the order of their numbers."""
    found: list[FeatureSet] = []
    while (feature_set_folder / view_name(len(found)) / MANIFEST).exists():
        found.append(FeatureSet(feature_set_folder / view_name(len(found))))
    return found


def read_views(sets: list[FeatureSet], rows: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Return the views of some rows, the first V that all of them have: (n, V, d); None if V is 0.

    Takes 4 n V d bytes; of memory up to 1 GB, above it of a temporary file.
    """
    lacking = (v for v, one in enumerate(sets) if not np.isin(rows, one.rows_present()).all())
    sets = sets[: next(lacking, len(sets))]
    if not sets:
        return None
    found = empty_array((len(rows), len(sets), sets[0].dim), sets[0].folder)
    for v, one in enumerate(sets):
        for start in range(0, len(rows), SHARD_ROWS):
            some = slice(start, start + SHARD_ROWS)
            found[some, v] = one.read(rows[some])
    return found
