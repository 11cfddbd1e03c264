"""Nearest vectors by cosine: exactly in blocks, or through an index that knows its own recall."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from imageherd.errors import ImageherdError
from imageherd.files import read_json, write_atomically, write_json
from imageherd.progress import progress

Read = Callable[[NDArray[np.int64]], NDArray[Any]]
"""Gives the vectors at some positions: int64 (m,) to (m, d), of any scale."""

DEPTH = 64
TARGET = 0.95
FORMAT = 1
_BLOCK = 1024
_QUERIES = 256
# Held back from training, to measure recall on: vectors the lists were not made from.
_PER_LIST = 40
_ITERATIONS = 10
# 8 bits a number blur the order: this many times the images wanted are compared exactly.
_SPARE = 4
_LAST = 2**31 - 1


@dataclass(frozen=True)
class Index:
    """An inverted file of vectors kept with 8 bits a number, and how many lists to look into.

    Attributes
    ----------
    n, dim : int
        Vectors in it, and numbers each.
    n_probe : int
        Lists looked into; 0 where no number was enough, so that the search is to be exact.
    recall : float
        Share of the exact 64 nearest that it finds, measured on 256 vectors that took no part in
        making the lists.
    ivf : faiss.IndexIVF or None
        The lists; vectors are numbered by position. None where `n_probe` is 0.
    """

    n: int
    dim: int
    n_probe: int
    recall: float
    ivf: Any = field(default=None, compare=False, repr=False)

    def candidates(self, queries: NDArray[np.floating[Any]], n: int) -> NDArray[np.int64]:
        """Return positions among which the `n` nearest of each query (m, d) are: (m, 4 n).

        -1 stands where the lists held no more.
        """
        faiss: Any = import_module("faiss")
        params = faiss.SearchParametersIVF(nprobe=self.n_probe)
        rows = _unit(queries).astype(np.float32)
        found = self.ivf.search(rows, min(_SPARE * n, self.n), params=params)[1]
        # A damaged file may hold any number.
        return np.where(found < self.n, found, -1)


def nearest(
    read: Read, n_vectors: int, queries: NDArray[Any], n: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the `n` vectors most similar to each query by cosine, exactly.

    Similarities are products in float64, rounded to float32; quick ones in float32 only say which
    can be left out. Among equal similarities the lower position comes first. A vector of zeros has
    similarity 0 to everything.

    Parameters
    ----------
    read : callable
        Gives vectors by position.
    n_vectors : int
        How many there are, below 2³¹.
    queries : ndarray of shape (m, d)
        What to look for.
    n : int
        How many; no more than `n_vectors`.

    Returns
    -------
    positions : ndarray of int64, shape (m, n)
        Nearest first.
    similarity : ndarray of float32, shape (m, n)

    Notes
    -----
    One pass: O(n_vectors d m). Memory is a block of 1,024 vectors in float64, not the vectors.
    """
    unit = _unit(queries)
    best, worst = np.empty((len(unit), 0), dtype=np.int64), None
    for start in range(0, n_vectors, _BLOCK):
        at = np.arange(start, min(start + _BLOCK, n_vectors))
        block = read(at)
        if worst is not None:
            close = _close(unit, block, worst)
            at, block = at[close], block[close]
        if len(at):
            best = np.concatenate([best, _keys(unit, block, at)], axis=1)
        if best.shape[1] > n:
            best = np.partition(best, -n, axis=1)[:, -n:]
        if best.shape[1] == n:
            worst = _unpacked(best)[1][:, -1]
    return _unpacked(best)


def among(
    read: Read, positions: NDArray[np.int64], query: NDArray[Any], n: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the `n` of the vectors at `positions` most similar to one query (d,), as `nearest`."""
    at = np.unique(positions[positions >= 0])
    found, similarity = _unpacked(_keys(_unit(query[None]), read(at), at))
    return found[0, :n], similarity[0, :n]


def build_index(read: Read, n_vectors: int, dim: int) -> Index:
    """Make an index that finds at least 95 % of the exact 64 nearest, as measured on the vectors.

    2 √n lists are made by k-means on a sample. The number of lists looked into is doubled until the
    recall on 256 other vectors, less two standard errors, reaches 95 %. If it never does, the
    result says so and holds no lists.

    Parameters
    ----------
    read : callable
        Gives vectors by position.
    n_vectors, dim : int
        How many there are, at least 2, and numbers each.

    Raises
    ------
    ValueError
        If there are fewer than two vectors.

    Notes
    -----
    About 50 n^1.5 d operations on the way, twice 2 √n n d for filling the lists; memory n (d + 8)
    bytes for the index and 640 √n d on the way. faiss (Johnson, Douze and Jégou, 2021).
    """
    import faiss

    if n_vectors < 2:
        raise ValueError(f"n_vectors={n_vectors} must be at least 2.")
    n_lists = max(1, min(round(2 * n_vectors**0.5), n_vectors // 4))
    n_held = min(_QUERIES, n_vectors // 2)
    n_train = min(_PER_LIST * n_lists, n_vectors - n_held)
    drawn = np.random.default_rng(0).choice(n_vectors, n_train + n_held, replace=False)
    train, held = np.sort(drawn[:n_train]), np.sort(drawn[n_train:])
    ivf = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dim),
        dim,
        n_lists,
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
    )
    ivf.cp.niter, ivf.cp.spherical, ivf.cp.min_points_per_centroid = _ITERATIONS, True, 1
    with progress("Building the search index", n_vectors) as advance:
        ivf.train(np.concatenate([block for _, block in _unit_blocks(read, train)]))
        for n, block in _unit_blocks(read, np.arange(n_vectors)):
            ivf.add(block)
            advance(n)
    return _tuned(Index(n_vectors, dim, 0, 0.0, ivf), read, held)


def _tuned(index: Index, read: Read, held: NDArray[np.int64]) -> Index:
    """Return the index with the least number of lists, doubled each time, that is enough."""
    depth = min(DEPTH, index.n - 1)
    queries = read(held)
    truth = nearest(read, index.n, queries, depth + 1)[0]
    n_probe, share = 1, np.zeros(1)
    while n_probe < 2 * index.ivf.nlist:
        tried = Index(index.n, index.dim, min(n_probe, index.ivf.nlist), 0.0, index.ivf)
        found = tried.candidates(queries, depth + 1)
        share = np.array(
            [
                np.isin(exact[exact != own][:depth], some).mean()
                for exact, some, own in zip(truth, found, held, strict=True)
            ]
        )
        if share.mean() - 2 * share.std() / len(share) ** 0.5 >= TARGET:
            return Index(index.n, index.dim, tried.n_probe, float(share.mean()), index.ivf)
        n_probe *= 2
    return Index(index.n, index.dim, 0, float(share.mean()))


def save_index(index: Index, path: Path) -> None:
    """Write the index to ``path`` (faiss's own format) and its facts beside it as JSON, atomically.

    Parameters
    ----------
    index : Index
        As built.
    path : Path
        Ends in ``.faiss``.
    """
    facts: dict[str, Any] = {"format": FORMAT, **_facts(index)}
    if index.ivf is not None:
        write_atomically(path, lambda file: _write(index.ivf, file))
        head = _head(path.stat().st_size, index)
        facts |= {"bytes": path.stat().st_size, "head_sha256": _sha256(path, head)}
    # Last: an index without its facts is not there.
    write_json(path.with_suffix(".json"), facts)


def load_index(path: Path, n: int, dim: int) -> Index:
    """Open an index that `save_index` wrote; its lists stay on disk and are read when probed.

    Its length and all that comes before the vectors are checked, the vectors are not: what the
    index finds is compared anew with the features in any case.

    Raises
    ------
    ImageherdError
        If it is not there, not whole, of another format or of other vectors.
    """
    import faiss

    try:
        facts = read_json(path.with_suffix(".json"))
        index = Index(facts["n"], facts["dim"], facts["n_probe"], facts["recall"])
        if (facts["format"], index.n, index.dim) != (FORMAT, n, dim):
            raise ValueError("it is of another format or of other vectors")
        if not index.n_probe:
            return index
        size = path.stat().st_size
        if size != facts["bytes"] or _sha256(path, _head(size, index)) != facts["head_sha256"]:
            raise ValueError("its bytes have changed")
        # Windows cannot map them: there the index takes memory.
        ivf = faiss.read_index(str(path), faiss.IO_FLAG_MMAP if os.name == "posix" else 0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ImageherdError(f"{path} cannot be used as a search index: {error}.") from error
    return Index(**_facts(index), ivf=ivf)


def _facts(index: Index) -> dict[str, Any]:
    return {"n": index.n, "dim": index.dim, "n_probe": index.n_probe, "recall": index.recall}


def _write(ivf: Any, file: IO[bytes]) -> None:
    faiss: Any = import_module("faiss")
    faiss.write_index(ivf, faiss.PyCallbackIOWriter(file.write))


def _head(size: int, index: Index) -> int:
    """Bytes before the lists' contents, which are a code and a position of 8 bytes a vector."""
    return size - index.n * (index.dim + 8)


def _sha256(path: Path, n_bytes: int) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(max(0, n_bytes))).hexdigest()


def _unit(X: NDArray[Any]) -> NDArray[np.float64]:
    rows = np.array(X, dtype=np.float64)
    # Divided by the largest first: squares then neither overflow nor vanish.
    rows /= _or_one(np.abs(rows).max(axis=1))[:, None]
    rows /= _or_one(np.sqrt(np.einsum("nd,nd->n", rows, rows)))[:, None]
    return rows


def _unit_blocks(
    read: Read, positions: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield how many, and the vectors at these positions of unit length, some at a time."""
    for start in range(0, len(positions), _BLOCK):
        block = _unit(read(positions[start : start + _BLOCK])).astype(np.float32)
        yield len(block), block


def _close(
    unit: NDArray[np.float64], X: NDArray[Any], worst: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Return the rows of X that may be more similar to some query than its worst so far."""
    rows = X.astype(np.float32, copy=False)
    with np.errstate(all="ignore"):
        length = np.sqrt(np.einsum("nd,nd->n", rows, rows))
        rough = rows @ unit.T.astype(np.float32) / length[:, None]
    # Twice what float32 sums of d products of unit vectors can be wrong by.
    margin = np.float32(X.shape[1] * 2.0**-22)
    far = (rough < worst - margin).all(axis=1)
    # Squares of others overflow or vanish.
    return np.flatnonzero(~(far & (length > 1e-12) & (length < 1e12)))


def _or_one(lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(lengths > 0, lengths, 1.0)


def _keys(unit: NDArray[np.float64], X: NDArray[Any], at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one integer for each pair: greater is more similar, then of lower position."""
    similarity = (unit @ _unit(X).T).astype(np.float32)
    # Adding 0 turns -0 into 0. A float's bits, read as an integer, rise with it if it is positive
    # and fall if it is negative; flipping the latter puts all in order.
    bits = (similarity + np.float32(0)).view(np.int32)
    ordered = bits ^ ((bits >> 31) & np.int32(_LAST))
    return (ordered.astype(np.int64) << 32) | (_LAST - at)


def _unpacked(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    keys = -np.sort(-keys, axis=1)
    ordered = (keys >> 32).astype(np.int32)
    similarity = (ordered ^ ((ordered >> 31) & np.int32(_LAST))).view(np.float32)
    return _LAST - (keys & 0xFFFFFFFF), similarity
