"""The vectors of a herd that are searched, and what is computed for that once and kept."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imageherd.clustering import Clustering
from imageherd.derived import Features, rows_digest
from imageherd.errors import ImageherdError
from imageherd.features.disk import remove_temporary_files
from imageherd.files import write_atomically
from imageherd.heads.base import Head
from imageherd.progress import progress
from imageherd.project import keep
from imageherd.search_index import (
    DEPTH,
    Index,
    Read,
    among,
    build_index,
    load_index,
    nearest,
    save_index,
)
from imageherd.versions import versions_of

# Methods whose `transform` is a space of its own, not the features again or distances to centres.
OWN_SPACE = ("cpp", "lsdc", "scp", "temi")
LARGE = 200_000
# With few numbers a vector, one pass over all is quicker than lists.
_LARGE_NUMBERS = LARGE * 128
_BLOCK = 8192
_OURS = re.compile(r"(?:features|head-[0-9a-f]{12})-([0-9a-f]{12})\.(?:faiss|json|npy)")


@dataclass(frozen=True, eq=False)
class Hits:
    """What a search found.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Rows of the items table, nearest first; of equal ones the lower row first.
    similarity : ndarray of float32, shape (n,)
        Their cosine similarity, exact.
    key : str
        The feature set that was searched.
    recall : float or None
        Share of the exact 64 nearest that such a search finds, measured on 256 images of the
        herd; None where all images were compared.
    item : int or None
        Row of the item that was searched for, and left out.
    """

    rows: NDArray[np.int64]
    similarity: NDArray[np.float32]
    key: str
    recall: float | None = None
    item: int | None = None

    def above(self, similarity: float) -> Hits:
        """Return those that are more similar than that."""
        n = int((self.similarity > similarity).sum())
        return replace(self, rows=self.rows[:n], similarity=self.similarity[:n])


@dataclass(frozen=True, eq=False)
class Space:
    """Vectors of a herd's images, opened for any number of queries; made by `open_space`.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Rows of the items table, ascending.
    dim : int
        Numbers a vector.
    read : callable
        Gives vectors by position in `rows`.
    key : str
        The feature set they are, or come from.
    index : Index or None
        What finds candidates; None where every vector is compared.
    """

    rows: NDArray[np.int64]
    dim: int
    read: Read
    key: str
    index: Index | None = None

    def nearest(
        self,
        query: NDArray[np.float32],
        n: int = DEPTH,
        *,
        without: int | None = None,
        exact: bool = False,
    ) -> Hits:
        """Return the images nearest to a vector, by cosine similarity.

        Parameters
        ----------
        query : ndarray of shape (dim,)
            What to look for; a feature vector, or one of the head's.
        n : int, default=64
            How many; all there are if fewer.
        without : int, optional
            A position to leave out.
        exact : bool, default=False
            Compare every vector, whatever there is.

        Raises
        ------
        ValueError
            If the query has another shape or is not finite.

        Notes
        -----
        Exact, in one pass over the vectors on disk, a block of 1,024 in memory. With an index and
        `n` up to 64, the lists it chose are looked into, and what they give is compared exactly.
        """
        if query.shape != (self.dim,) or not np.isfinite(query).all():
            raise ValueError(f"query must be a vector of {self.dim} finite numbers.")
        wanted = min(n + (without is not None), len(self.rows))
        at, recall = np.empty(0, dtype=np.int64), None
        if self.index and self.index.n_probe and n <= DEPTH and not exact:
            some = self.index.candidates(query[None], wanted)[0]
            at, similarity = among(self.read, some, query, wanted)
            recall = self.index.recall
        # An image far from all others may meet lists that hold too few.
        if len(at) < wanted:
            every = nearest(self.read, len(self.rows), query[None], wanted)
            at, similarity, recall = every[0][0], every[1][0], None
        if without is None:
            return Hits(self.rows[at], similarity, self.key, recall)
        others = np.flatnonzero(at != without)[:n]
        item = int(self.rows[without])
        return Hits(self.rows[at[others]], similarity[others], self.key, recall, item)


@dataclass(frozen=True)
class HeadSpace:
    """A head whose vectors are searched, and 12 hex digits that stand for it in a file name."""

    model: Head
    digest: str


def own_space(herd: Path, clustering: Clustering, device: str = "auto") -> HeadSpace:
    """Load the head of a clustering, if it has features of its own.

    Raises
    ------
    ImageherdError
        If its method has none.
    """
    method = clustering.config["method"]
    if method not in OWN_SPACE:
        raise ImageherdError(
            f"Clustering {clustering.name!r} was made by {method}, which has no features of its "
            f"own to search by; search by features, or cluster with {', '.join(OWN_SPACE)}."
        )
    versions = versions_of(herd, clustering.name)
    file = versions.folder / clustering.version / "head.safetensors"
    model = versions.head(clustering.version, device=device)
    return HeadSpace(model, hashlib.sha256(file.read_bytes()).hexdigest()[:12])


def open_space(
    herd: Path, data: Features, head: HeadSpace | None = None, *, index: bool = True
) -> Space:
    """Open features, or what a head makes of them, for searching; what is made for it is kept.

    Parameters
    ----------
    herd : Path
        The herd.
    data : Features
        As `Herd.features` gives them; not read into memory.
    head : HeadSpace, optional
        Search by its vectors: n × dim float32, computed once.
    index : bool, default=True
        Whether to open, or build, an index where there are many vectors.
    """
    digest = rows_digest(data.rows)
    stem = f"features-{digest}" if head is None else f"head-{head.digest}-{digest}"
    path = herd / "search" / data.key / f"{stem}.faiss"

    n, dim = len(data.rows), data.store.dim

    def features(at: NDArray[np.int64]) -> NDArray[np.float32]:
        return data.store.read(data.rows[at])

    read: Read = features
    if head is not None:
        Z = _kept_vectors(herd, head.model, features, n, path.with_suffix(".npy"))
        read, dim = lambda at: Z[at], Z.shape[1]
    large = n > LARGE and n * dim > _LARGE_NUMBERS
    kept = _kept_index(herd, read, n, dim, path) if index and large else None
    return Space(data.rows, dim, read, data.key, kept)


def _kept_vectors(herd: Path, head: Head, read: Read, n: int, path: Path) -> NDArray[np.float32]:
    """Return what the head makes of n vectors, from `path` if it is there."""
    with suppress(OSError, ValueError):
        kept: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        if kept.ndim == 2 and len(kept) == n and kept.dtype == np.float32:
            return kept.view(np.ndarray)
    Z: NDArray[np.float32] | None = None
    with progress("Computing the head's features", n) as advance:
        for start in range(0, n, _BLOCK):
            at = np.arange(start, min(start + _BLOCK, n))
            block = head.transform(read(at))
            Z = np.empty((n, block.shape[1]), dtype=np.float32) if Z is None else Z
            Z[at] = block
            advance(len(at))
    assert Z is not None
    _keep(herd, path, lambda: write_atomically(path, partial(np.save, arr=Z, allow_pickle=False)))
    return Z


def _kept_index(herd: Path, read: Read, n: int, dim: int, path: Path) -> Index | None:
    """Return the index of n vectors, from `path` if it is there; None where it cannot be kept."""
    with suppress(ImageherdError):
        return load_index(path, n, dim)
    # Building it takes many times one exact search: worth it only if it is there the next time.
    if not os.access(herd, os.W_OK):
        return None
    built = build_index(read, n, dim)
    _keep(herd, path, lambda: save_index(built, path))
    with suppress(ImageherdError):
        return load_index(path, n, dim)
    return built


def _keep(herd: Path, path: Path, write: Callable[[], object]) -> None:
    """Write what can be made again, and remove what was made of other rows of this feature set."""
    digest = path.stem.rpartition("-")[2]

    def tidy_and_write() -> None:
        remove_temporary_files(path.parent)
        for old in path.parent.glob("*"):
            ours = _OURS.fullmatch(old.name)
            if ours and ours[1] != digest:
                old.unlink(missing_ok=True)
        write()

    keep(herd, tidy_and_write)
