"""Exact nearest neighbours by cosine similarity.

Every row is scaled to unit length and its components rounded to multiples of 2⁻²⁶. Products of two
such components are multiples of 2⁻⁵², and no partial sum of them reaches 2 (Cauchy-Schwarz), so a
float64 holds every one of them exactly: a similarity has one value, in whatever order, block or
device it is summed. The rounding moves a cosine by about 1e-8.

The fast float32 product only proposes candidates. Their similarities are then computed exactly,
and a row whose candidates might have missed one, by the error bound of the float32 product, is
compared exactly with all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from imageherd.device import resolve_device
from imageherd.errors import ImageherdError
from imageherd.files import write_atomically
from imageherd.progress import progress

_GRID = 2.0**26
_FLOAT32_UNIT = 2.0**-24
_SPARE_CANDIDATES = 16
_ROWS = {"cpu": 2048, "cuda": 8192}
_COLUMNS = {"cpu": 16384, "cuda": 65536}
_BATCH_ELEMENTS = 2**27
_COLUMNS_EXACT = 4096
_ROWS_WORTH_PROGRESS = 10_000
_LAST_ID = 2**31 - 1


@dataclass(frozen=True, eq=False)
class NeighborGraph:
    """The k nearest neighbours of every row, nearest first.

    Attributes
    ----------
    ids : ndarray of int32, shape (n, k)
        Row numbers of the neighbours; a row is never its own neighbour.
    similarities : ndarray of float32, shape (n, k)
        Their similarities, descending.
    metric : str
        "cosine".
    """

    ids: NDArray[np.int32]
    similarities: NDArray[np.float32]
    metric: str = "cosine"

    @property
    def k(self) -> int:
        """Neighbours a row."""
        return int(self.ids.shape[1])

    def slice(self, k: int) -> NeighborGraph:
        """Return the graph of the `k` nearest of these neighbours.

        Raises
        ------
        ValueError
            If `k` is below 1 or the graph holds fewer.
        """
        _check_k(k, self.k)
        return NeighborGraph(self.ids[:, :k], self.similarities[:, :k], self.metric)

    def save(self, path: str | Path) -> None:
        """Write the graph to a safetensors file, atomically."""
        tensors = {
            "ids": np.ascontiguousarray(self.ids, dtype=np.int32),
            "similarities": np.ascontiguousarray(self.similarities, dtype=np.float32),
        }
        data = save(tensors, metadata={"metric": self.metric, "k": str(self.k)})
        write_atomically(Path(path), lambda file: file.write(data))

    @classmethod
    def load(cls, path: str | Path) -> NeighborGraph:
        """Read a graph that `save` wrote.

        Raises
        ------
        ImageherdError
            If the file is not a whole, sound neighbour graph.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                tensors = file.get_tensor("ids"), file.get_tensor("similarities")
                graph = cls(*tensors, metadata.get("metric", ""))
        except (OSError, SafetensorError) as error:
            raise ImageherdError(f"{path} cannot be read as a neighbour graph: {error}.") from error
        fault = _fault(graph, metadata.get("k", ""))
        if fault:
            raise ImageherdError(
                f"{path} is not a sound neighbour graph: {fault}. Delete it; it will be made again."
            )
        return graph


def knn_graph(
    X: ArrayLike, k: int = 50, *, device: str = "cpu", block_size: int | None = None
) -> NeighborGraph:
    """Find the k nearest neighbours of every row by cosine similarity, exactly.

    A row is not its own neighbour. Among equal similarities (as float32) the lower row number comes
    first, so the result depends neither on `block_size` nor on `device`; another order of the rows
    gives the same graph renumbered, up to the order among equals. A row of zeros has similarity 0
    to every row.

    Takes about n² d multiplications; memory for one float32 copy of X and a few blocks of
    2,048 × 16,384 similarities (128 MB each) on a CPU, of 8,192 × 65,536 (2 GB) on a GPU.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Features, of any scale; may be memory-mapped.
    k : int, default=50
        Neighbours a row, below n.
    device : {"cpu", "cuda", "mps", "auto"}, default="cpu"
        Where to compute; "mps" has no float64, so the CPU takes its place.
    block_size : int, optional
        Rows of a block.

    Returns
    -------
    NeighborGraph

    Raises
    ------
    ValueError
        If X is not 2-D, is empty or holds a NaN or an infinity, or k or block_size is out of range.
    ImageherdError
        If this machine lacks the device.
    """
    X = _as_features(X, "X")
    n = len(X)
    _check_k(k, n - 1, f"; X has {n} rows and none is its own neighbour")
    bank = _unit_rows(X, "X", _device(device))

    def rows(start: int, stop: int) -> _Unit:
        return _Unit(bank.vectors[start:stop], bank.squares[start:stop])

    return NeighborGraph(*_search(bank, rows, n, k, block_size, exclude_self=True))


def knn_query(
    X: ArrayLike, queries: ArrayLike, k: int, *, device: str = "cpu", block_size: int | None = None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the k rows of X most similar to each query by cosine similarity, exactly.

    As `knn_graph`, with the same parameters and errors, but a query equal to a row finds that row.

    Parameters
    ----------
    X, queries : array-like of shape (n, d) and (m, d)
        Features to search, and what to look for.
    k : int
        Neighbours a query, at most n.

    Returns
    -------
    ids : ndarray of int32, shape (m, k)
        Row numbers in X, nearest first.
    similarities : ndarray of float32, shape (m, k)
    """
    X, queries = _as_features(X, "X"), _as_features(queries, "queries")
    if X.shape[1] != queries.shape[1]:
        raise ValueError(f"queries has {queries.shape[1]} features, X has {X.shape[1]}.")
    _check_k(k, len(X), f"; X has {len(X)} rows")
    on = _device(device)
    bank = _unit_rows(X, "X", on)

    def rows(start: int, stop: int) -> _Unit:
        return _unit_rows(queries[start:stop], "queries", on, first=start)

    return _search(bank, rows, len(queries), k, block_size, exclude_self=False)


class _Unit(NamedTuple):
    """Rows of unit length on the grid of 2⁻²⁶, and their exact squared lengths."""

    vectors: torch.Tensor
    squares: torch.Tensor


def _unit_rows(X: NDArray[Any], name: str, device: torch.device, first: int = 0) -> _Unit:
    n, d = X.shape
    vectors = torch.empty(n, d, dtype=torch.float32, device=device)
    squares = torch.empty(n, dtype=torch.float64, device=device)
    step = max(1, 2**21 // d)
    for start in range(0, n, step):
        block = np.array(X[start : start + step], dtype=np.float64, order="C")
        largest = np.abs(block).max(axis=1, keepdims=True)
        unsound = ~np.isfinite(largest[:, 0])
        if unsound.any():
            row = first + start + int(np.flatnonzero(unsound)[0])
            raise ValueError(f"{name} holds a NaN or an infinity in row {row}.")
        # Scaled by the largest component first: squares then neither overflow nor vanish.
        block /= np.where(largest > 0, largest, 1.0)
        length = np.sqrt((block * block).sum(axis=1, keepdims=True))
        block /= np.where(length > 0, length, 1.0)
        unit = (np.rint(block * _GRID) / _GRID).astype(np.float32)
        square = np.square(unit.astype(np.float64)).sum(axis=1)
        vectors[start : start + step] = torch.from_numpy(unit)
        squares[start : start + step] = torch.from_numpy(np.where(square > 0, square, 1.0))
    return _Unit(vectors, squares)


def _search(
    bank: _Unit,
    rows: Callable[[int, int], _Unit],
    n_rows: int,
    k: int,
    block_size: int | None,
    *,
    exclude_self: bool,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    if block_size is None:
        block_size = _ROWS[bank.vectors.device.type]
    elif block_size < 1:
        raise ValueError(f"block_size={block_size} must be at least 1.")
    ids = np.empty((n_rows, k), dtype=np.int32)
    similarities = np.empty((n_rows, k), dtype=np.float32)
    large = n_rows >= _ROWS_WORTH_PROGRESS
    reported = progress("Finding neighbours", n_rows) if large else nullcontext(lambda _: None)
    with torch.inference_mode(), _full_float32(), reported as advance:
        for start in range(0, n_rows, block_size):
            stop = min(start + block_size, n_rows)
            own = torch.arange(start, stop, device=bank.vectors.device) if exclude_self else None
            keys = _nearest(bank, rows(start, stop), own, k)
            found, similar = _unpack(keys)
            ids[start:stop] = found.cpu().numpy()
            similarities[start:stop] = similar.cpu().numpy()
            advance(stop - start)
    return ids, similarities


def _nearest(bank: _Unit, rows: _Unit, own: torch.Tensor | None, k: int) -> torch.Tensor:
    """Keys of the k nearest of each row, best first; `own` are the rows' numbers to leave out."""
    n, d = bank.vectors.shape
    available = n if own is None else n - 1
    n_candidates = min(k + _SPARE_CANDIDATES, available)
    proposed, candidates = _propose(bank, rows, own, n_candidates)
    keys = _candidate_keys(bank, rows, candidates).topk(k).values
    if n_candidates < available:
        # What was not proposed is at most this similar; γ_d bounds a float32 sum in any order,
        # √d and the constant the lengths' distance from 1 and the rounding to float32.
        missed = proposed[:, -1].double() + _FLOAT32_UNIT * (1.01 * d + d**0.5 + 8)
        doubtful = (_unpack(keys)[1][:, -1].double() <= missed).nonzero()[:, 0]
        if len(doubtful):
            some = _Unit(rows.vectors[doubtful], rows.squares[doubtful])
            keys[doubtful] = _nearest_exactly(bank, some, None if own is None else own[doubtful], k)
    return keys


def _propose(
    bank: _Unit, rows: _Unit, own: torch.Tensor | None, n_candidates: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Similarities by float32 products, best first, and ids of the most similar of each row."""
    n, m, device = len(bank.vectors), len(rows.vectors), bank.vectors.device
    best, ids = torch.empty(m, 0, device=device), torch.empty(m, 0, dtype=torch.long, device=device)
    step = _COLUMNS[device.type]
    for start in range(0, n, step):
        products = _float32_products(rows.vectors, bank.vectors[start : start + step])
        if own is not None:
            here = ((own >= start) & (own < start + step)).nonzero()[:, 0]
            products[here, own[here] - start] = -torch.inf
        some = products.topk(min(n_candidates, products.shape[1]))
        best = torch.cat([best, some.values], dim=1)
        ids = torch.cat([ids, some.indices + start], dim=1)
        best, kept = best.topk(min(n_candidates, best.shape[1]))
        ids = ids.gather(1, kept)
    return best, ids


def _float32_products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    if a.device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        # A tensor in oneDNN's layout sends the product there; MKL takes twice as long on AMD.
        return torch.nn.functional.linear(a.to_mkldnn(), b).to_dense()
    return a @ b.T


def _candidate_keys(bank: _Unit, rows: _Unit, candidates: torch.Tensor) -> torch.Tensor:
    on_cpu = candidates.device.type == "cpu"
    products = (_products_by_row if on_cpu else _products_by_batch)(bank, rows, candidates)
    squares = rows.squares[:, None] * bank.squares[candidates]
    return _pack(products / squares.sqrt(), candidates)


def _products_by_row(bank: _Unit, rows: _Unit, candidates: torch.Tensor) -> torch.Tensor:
    # One thread, its rows in the core's own cache: no slower than batches by several threads, which
    # wait for each other a thousand times, on a busy machine for long.
    vectors, ids = bank.vectors.numpy(), candidates.numpy()
    products = np.empty(ids.shape)
    others = np.empty((ids.shape[1], vectors.shape[1]))
    for row, own in enumerate(rows.vectors.numpy().astype(np.float64)):
        others[...] = vectors[ids[row]]
        np.matmul(others, own, out=products[row])
    return torch.from_numpy(products)


def _products_by_batch(bank: _Unit, rows: _Unit, candidates: torch.Tensor) -> torch.Tensor:
    (n, c), d = candidates.shape, bank.vectors.shape[1]
    products = torch.empty(n, c, dtype=torch.float64, device=candidates.device)
    step = max(1, _BATCH_ELEMENTS // (c * d))
    for start in range(0, n, step):
        part = candidates[start : start + step]
        others = bank.vectors[part].double()
        own = rows.vectors[start : start + step, :, None].double()
        products[start : start + step] = torch.bmm(others, own)[:, :, 0]
    return products


def _nearest_exactly(bank: _Unit, rows: _Unit, own: torch.Tensor | None, k: int) -> torch.Tensor:
    n, device = len(bank.vectors), bank.vectors.device
    vectors = rows.vectors.double()
    best = torch.empty(len(vectors), 0, dtype=torch.int64, device=device)
    for start in range(0, n, _COLUMNS_EXACT):
        columns = torch.arange(start, min(start + _COLUMNS_EXACT, n), device=device)
        products = vectors @ bank.vectors[columns].double().T
        squares = rows.squares[:, None] * bank.squares[columns]
        keys = _pack(products / squares.sqrt(), columns.expand(len(vectors), -1))
        if own is not None:
            keys.masked_fill_(columns == own[:, None], torch.iinfo(torch.int64).min)
        best = torch.cat([best, keys], dim=1)
        best = best.topk(min(k, best.shape[1])).values
    return best


def _pack(similarities: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Put similarity and id into one integer: greater is more similar, then lower id."""
    # Adding 0 turns -0 into 0. A float's bits, read as an integer, rise with it if it is positive
    # and fall if it is negative; flipping the latter puts all in order.
    bits = (similarities.float() + 0.0).view(torch.int32)
    ordered = bits ^ ((bits >> 31) & _LAST_ID)
    return (ordered.long() << 32) | (_LAST_ID - ids)


def _unpack(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    ids = _LAST_ID - (keys & 0xFFFFFFFF)
    ordered = (keys >> 32).int()
    return ids.int(), (ordered ^ ((ordered >> 31) & _LAST_ID)).view(torch.float32)


@contextmanager
def _full_float32() -> Iterator[None]:
    """Keep products from being taken in TF32 or bfloat16, which the error bound does not cover."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _device(name: str) -> torch.device:
    device = resolve_device(name)
    return torch.device("cpu") if device.type == "mps" else device


def _as_features(X: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(X)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must be 2-D and not empty; its shape is {array.shape}.")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold real numbers; its dtype is {array.dtype}.")
    return array


def _check_k(k: int, most: int, why: str = "") -> None:
    if not 1 <= k <= most:
        raise ValueError(f"k={k} must be at least 1 and at most {most}{why}.")


def _fault(graph: NeighborGraph, k: str) -> str:
    """Say what is wrong with a graph read from a file; empty if nothing is."""
    ids, similarities = graph.ids, graph.similarities
    if ids.dtype != np.int32 or similarities.dtype != np.float32:
        return f"ids are {ids.dtype} and similarities {similarities.dtype}"
    if ids.ndim != 2 or ids.shape != similarities.shape or k != str(ids.shape[1]):
        return f"ids are {ids.shape}, similarities {similarities.shape} and k is {k!r}"
    if graph.metric != "cosine":
        return f"its metric is {graph.metric!r}"
    if ids.size and (ids.min() < 0 or ids.max() >= len(ids)):
        return "an id points to no row"
    if (ids == np.arange(len(ids))[:, None]).any():
        return "a row is its own neighbour"
    if not np.isfinite(similarities).all() or (np.diff(similarities, axis=1) > 0).any():
        return "its similarities are not finite or do not descend"
    return ""
