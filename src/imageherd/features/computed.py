"""A feature set without a network: vectors that are there already, or made from texts by counting.

As in `imageherd.features.pipeline` rows go shard by shard in row order, a shard is written whole,
and a killed run redoes at most the shard in hand.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imageherd.backbones.base import identity_key
from imageherd.cores import usable_cores
from imageherd.features.items import DELETED, OK, PENDING, UNREADABLE, Items
from imageherd.features.pipeline import CHANGED, EmbedSummary
from imageherd.features.prefetch import map_ahead
from imageherd.features.reading import Read
from imageherd.features.register import register
from imageherd.features.tfidf import Tfidf
from imageherd.features.writer import Writer
from imageherd.images.decode import UnreadableImageError, decode
from imageherd.images.source import Source
from imageherd.images.texts import TextFile
from imageherd.images.vectors.vector_file import VectorFile
from imageherd.progress import progress

NOT_GIVEN = "no vector was given for it"
NOT_FINITE = "its vector has numbers that are NaN, infinite or too large for float32"
NO_WORD = "none of its words is one of those counted"

# Decoded only to see that it is a picture, and its size: a JPEG at an eighth.
_LOOK_AT = 32
_FACTS = ("width", "height", "taken_at")


class GivenVectors:
    """The vectors of a file: of its own rows, or of images.

    Parameters
    ----------
    file : VectorFile
        The vectors.
    position : dict of bytes to int, optional
        Which vector belongs to the item with this key; by default the key is the position.
    identity : dict, optional
        Of the feature set they become part of; by default one of their own: the file's name and
        a hash of its contents.
    """

    def __init__(
        self,
        file: VectorFile,
        position: dict[bytes, int] | None = None,
        identity: dict[str, Any] | None = None,
    ) -> None:
        self.file, self._position, self.dim = file, position, file.dim
        self.pictures = position is not None
        own = {"model": file.root.stem, "output": "vectors", "dim": file.dim}
        self.identity = identity or {**own, "sha256": file.sha256}
        self.key = identity_key(self.identity)

    def of(self, keys: Sequence[bytes]) -> tuple[NDArray[np.float32], list[str]]:
        """Return the vectors of some items (m, d), and why one has none, "" where it has."""
        at = np.array([self._at(key) for key in keys], dtype=np.int64)
        X = self.file.take(np.maximum(at, 0))
        why = np.where(np.isfinite(X).all(axis=1), "", NOT_FINITE)
        return X, np.where(at < 0, NOT_GIVEN, why).tolist()

    def _at(self, key: bytes) -> int:
        return int(key) if self._position is None else self._position.get(key, -1)


class TextVectors:
    """The tf-idf vectors of the lines of a text file.

    Parameters
    ----------
    file : TextFile
        The texts.
    tfidf : Tfidf
        What counts them.
    """

    pictures = False

    def __init__(self, file: TextFile, tfidf: Tfidf) -> None:
        self.file, self.tfidf = file, tfidf
        self.dim, self.identity, self.key = tfidf.dim, tfidf.identity, tfidf.key

    def of(self, keys: Sequence[bytes]) -> tuple[NDArray[np.float32], list[str]]:
        """Return the vectors of some items (m, d), and why one has none, "" where it has."""
        X = self.tfidf.transform([self.file.text(key) for key in keys]).toarray()
        return X, np.where(X.any(axis=1), "", NO_WORD).tolist()


Computed = GivenVectors | TextVectors
"""What stands for a backbone: dim, identity, key, and `of`, which gives the vectors.

`pictures` says whether the items are images, which are looked at once to know their size and
contents, and stay what they are without a vector; rows and lines are nothing without.
"""


def embed_computed(
    items: Items,
    source: Source,
    source_index: int,
    vectors: Computed,
    feature_set_folder: Path,
    *,
    workers: int | None = None,
) -> EmbedSummary:
    """Bring the items of a source up to date and store the vectors of those that have none yet.

    Killed and run again it goes on where it stopped. The herd's lock must be held.

    Parameters
    ----------
    items : Items
        The herd's items; changed and saved.
    source : Source
        Where the items are.
    source_index : int
        The source's number within the herd.
    vectors : Computed
        Gives the vectors by key.
    feature_set_folder : Path
        Where their shards go.
    workers : int, optional
        Threads that read; by default one for each core.

    Returns
    -------
    EmbedSummary
        `n_embedded` counts the vectors stored now.

    Raises
    ------
    ImageherdError
        As `imageherd.features.pipeline.embed_source`.
    """
    started = time.perf_counter()
    workers = workers or usable_cores()
    registration = register(items, source, source_index, workers=workers)
    if isinstance(vectors, TextVectors):
        vectors.tfidf.save(feature_set_folder)
    writer = Writer(feature_set_folder, vectors, items.part_rows)
    summary = EmbedSummary(n_images=registration.n_images, n_deleted=registration.n_deleted)
    todo = _todo(items, source_index, writer.present, registration.retry)
    size = items.part_rows
    failed: dict[int, str] = {}
    shards = range(-(-items.n_rows // size))
    look = _look_at_picture if vectors.pictures else _look
    with progress("Taking in vectors", len(todo), "vectors") as advance:
        for index in shards:
            rows = todo[(todo >= index * size) & (todo < (index + 1) * size)]
            n_rows = min(size, items.n_rows - index * size)
            if not len(rows) and writer.rows_of(index) == n_rows:
                continue
            block = writer.open_block(index, n_rows)
            part = items.part(index) if len(rows) else []
            mine = [part[row - block.first] for row in rows.tolist()]
            why = dict(_read(items, source, mine, look, workers))
            failed |= why
            mine = [item for item in mine if item["row"] not in why]
            X, reasons = vectors.of([item["key"] for item in mine])
            for item, vector, reason in zip(mine, X, reasons, strict=True):
                if not reason:
                    block.put(item["row"], vector, None)
                    summary.n_embedded += 1
                else:
                    failed[item["row"]] = reason
                    if not vectors.pictures and item["status"] != OK:
                        lost = {"status": UNREADABLE, "reason": reason, "content_hash": None}
                        items.change(item["row"], **lost)
            advance(len(rows))
            if block.changed:
                writer.commit(block, items.save)
            else:
                items.save()
    if vectors.pictures and (n := list(failed.values()).count(NOT_FINITE)):
        warnings.warn(
            f"{n:,} of the vectors have numbers that are NaN, infinite or too large for float32; "
            "their images take no part.",
            stacklevel=1,
        )
    summary.reasons = _reasons(items, source_index, failed)
    summary.n_unreadable = len(summary.reasons)
    summary.seconds = time.perf_counter() - started
    return summary


def _todo(
    items: Items, source_index: int, present: NDArray[np.bool_], retry: list[int]
) -> NDArray[np.int64]:
    """Return the rows of the source that lack a vector they could have."""
    table = items.table()
    wanted = pc.is_in(table["status"], value_set=pa.array([OK, PENDING])).to_numpy().copy()
    wanted[: len(present)] &= ~present
    wanted &= table["source"].to_numpy() == source_index
    wanted[retry] = True
    return np.flatnonzero(wanted)


def _read(
    items: Items, source: Source, mine: list[dict[str, Any]], look: Any, workers: int
) -> list[tuple[int, str]]:
    """Look at the items never read before; returns the rows that cannot be, and why."""
    new = [item for item in mine if item["status"] != OK]
    failed = []
    with closing(
        map_ahead(lambda item: look(source, item["key"]), new, workers=workers, ahead=4 * workers)
    ) as results:
        for item, found in zip(new, results, strict=True):
            row, known = item["row"], item["content_hash"]
            if known is not None and found.content_hash not in (known, None):
                items.change(row, mtime_ns=-1)
                failed.append((row, CHANGED))
                continue
            hashed = {"content_hash": found.content_hash, "reason": found.reason}
            if found.reason:
                items.change(row, status=UNREADABLE, **hashed)
                failed.append((row, found.reason))
            else:
                facts = {name: getattr(found, name) for name in _FACTS}
                items.change(row, status=OK, **hashed, **facts)
    return failed


def _look(source: Source, key: bytes) -> Read:
    try:
        return Read(hashlib.sha256(source.read(key)).hexdigest())
    except UnreadableImageError as error:
        return Read(None, reason=error.reason)


def _look_at_picture(source: Source, key: bytes) -> Read:
    digest = None
    try:
        data = source.read(key)
        digest = hashlib.sha256(data).hexdigest()
        found = decode(data, min_side=_LOOK_AT)
    except UnreadableImageError as error:
        return Read(digest, reason=error.reason)
    return Read(digest, "", None, found.width, found.height, found.taken_at)


def _reasons(items: Items, source_index: int, failed: dict[int, str]) -> list[tuple[str, str]]:
    """Return path and reason of every live row of the source without a vector."""
    table = items.table()
    concerned = pc.equal(table["status"], UNREADABLE)
    if failed:
        rows = pa.array(list(failed), pa.int64())
        concerned = pc.or_(concerned, pc.is_in(table["row"], value_set=rows))
    concerned = pc.and_(concerned, pc.not_equal(table["status"], DELETED))
    concerned = pc.and_(concerned, pc.equal(table["source"], source_index))
    return [
        (item["path"], failed.get(item["row"]) or item["reason"])
        for item in table.select(["row", "path", "reason"]).filter(concerned).to_pylist()
    ]
