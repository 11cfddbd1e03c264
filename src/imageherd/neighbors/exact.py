"""Exact nearest neighbours.

Fast products, in bfloat16 (see `imageherd.neighbors.halves`) or float32, only propose candidates.
Their similarities are then computed exactly (see `imageherd.neighbors.units`), and a row whose
candidates might have missed one, by the products' error bound, is compared again with all rows: by
float32 after bfloat16, exactly after float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from imageherd.memory import MOST_IN_MEMORY
from imageherd.neighbors import halves
from imageherd.neighbors.graph import NeighborGraph, check_k
from imageherd.neighbors.units import (
    Rows,
    Unit,
    as_source,
    compute_device,
    unit_rows,
)
from imageherd.progress import progress

_FLOAT32_UNIT = 2.0**-24
_SPARE_CANDIDATES = 16
_ROWS = {"cpu": 2048, "cuda": 8192}
_COLUMNS = {"cpu": 16384, "cuda": 65536}
_BATCH_ELEMENTS = 2**27
_COLUMNS_EXACT = 4096
_ROWS_WORTH_PROGRESS = 10_000
_LAST_ID = 2**31 - 1


def knn_graph(
    X: ArrayLike | Rows,
    k: int = 50,
    *,
    device: str = "cpu",
    block_size: int | None = None,
    scratch: str | Path | None = None,
) -> NeighborGraph:
    """Find the k nearest neighbours of every row by cosine similarity, exactly.

    A row is not its own neighbour. Among equal similarities (as float32) the lower row number comes
    first, so the result depends neither on `block_size` nor on `device`; another order of the rows
    gives the same graph renumbered, up to the order among equals. A row of zeros has similarity 0
    to every row.

    Takes about n² d multiplications; memory for one float32 copy of X, 8 n (k + 1) bytes, and a few
    blocks of 2,048 × 16,384 similarities (128 MB each) on a CPU, of 8,192 × 65,536 (2 GB) on a GPU.
    On a CPU the copy goes to a temporary file where it takes more than 1 GB. On one that multiplies
    bfloat16, from 10,000 rows on, it takes half the time and half a copy more.

    Parameters
    ----------
    X : array-like or Rows, of shape (n, d)
        Features, of any scale; may be memory-mapped.
    k : int, default=50
        Neighbours a row, below n.
    device : {"cpu", "cuda", "mps", "auto"}, default="cpu"
        Where to compute; "mps" has no float64, so the CPU takes its place.
    block_size : int, optional
        Rows of a block.
    scratch : str or Path, optional
        Folder of the temporary file; the system's own by default.

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
    source = as_source(X, "X")
    n = len(source)
    check_k(k, n - 1, f"; X has {n} rows and none is its own neighbour")
    folder = None if scratch is None else Path(scratch)
    bank = unit_rows(source, "X", compute_device(device), scratch=folder)
    keys = search(bank, bank.at, n, k, block_size, own=lambda at: at)
    return NeighborGraph(*keys)


def knn_query(
    X: ArrayLike | Rows,
    queries: ArrayLike | Rows,
    k: int,
    *,
    device: str = "cpu",
    block_size: int | None = None,
    scratch: str | Path | None = None,
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
    source, asked = as_source(X, "X"), as_source(queries, "queries")
    if source.shape[1] != asked.shape[1]:
        raise ValueError(f"queries has {asked.shape[1]} features, X has {source.shape[1]}.")
    check_k(k, len(source), f"; X has {len(source)} rows")
    on = compute_device(device)
    bank = unit_rows(source, "X", on, scratch=None if scratch is None else Path(scratch))

    def rows(at: slice) -> Unit:
        return unit_rows(asked[at], "queries", on, first=at.start)

    return search(bank, rows, len(asked), k, block_size)


def search(
    bank: Unit,
    rows: Callable[[slice], Unit],
    n_rows: int,
    k: int,
    block_size: int | None = None,
    own: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find the k nearest in `bank` of each of `n_rows` rows: ids and similarities, nearest first.

    Parameters
    ----------
    bank : Unit
        What to search.
    rows : callable
        Gives a block of what to look for.
    own : callable, optional
        Gives the numbers in `bank` of rows at some positions (int64), which are left out.
    """
    if block_size is None:
        block_size = _ROWS[bank.vectors.device.type]
    elif block_size < 1:
        raise ValueError(f"block_size={block_size} must be at least 1.")
    ids = np.empty((n_rows, k), dtype=np.int32)
    similarities = np.empty((n_rows, k), dtype=np.float32)
    large = n_rows >= _ROWS_WORTH_PROGRESS
    reported = progress("Finding neighbours", n_rows) if large else nullcontext(lambda _: None)
    with torch.inference_mode(), full_float32(), reported as advance:
        halved = halves.halves(bank) if large and _worth_halving(bank) else None
        for start in range(0, n_rows, block_size):
            stop = min(start + block_size, n_rows)
            at = slice(start, stop)
            left_out = own and own(torch.arange(start, stop, device=bank.vectors.device))
            found, similar = unpack(nearest(bank, rows(at), left_out, k, halved))
            ids[at], similarities[at] = found.cpu().numpy(), similar.cpu().numpy()
            advance(stop - start)
    return ids, similarities


def nearest(
    bank: Unit, rows: Unit, own: torch.Tensor | None, k: int, halved: halves.Halves | None = None
) -> torch.Tensor:
    """Return keys of the k nearest of each row, best first.

    Parameters
    ----------
    bank, rows : Unit
        What to search, and what to look for.
    own : Tensor of int64, optional
        Numbers in `bank` of the rows, to be left out.
    k : int
        How many.
    halved : Halves, optional
        The bank's, to propose by.
    """
    available = len(bank.vectors) - (own is not None)
    if halved is None or available < 4 * k:
        n_candidates = min(k + _SPARE_CANDIDATES, available)
        proposed, ids = _propose(bank, rows, own, n_candidates)
        keys = pack(exact_similarities(bank, rows, ids), ids).topk(k).values
        if n_candidates == available:
            return keys
        # What was not proposed is at most this similar; γ_d bounds a float32 sum in any order,
        # √d and the constant the lengths' distance from 1 and the rounding to float32.
        d = bank.vectors.shape[1]
        missed = proposed[:, -1].double() + _FLOAT32_UNIT * (1.01 * d + d**0.5 + 8)
        again = _nearest_exactly
    else:
        ids, counts, missed = halves.candidates(
            halved, halves.halves(rows), own, k, 2 * k + 2 * _SPARE_CANDIDATES
        )
        keys = pack(exact_similarities(bank, rows, ids, counts), ids).topk(k).values
        again = nearest
    doubtful = (unpack(keys)[1][:, -1].double() <= missed).nonzero()[:, 0]
    if len(doubtful):
        keys[doubtful] = again(bank, rows.at(doubtful), None if own is None else own[doubtful], k)
    return keys


def _worth_halving(bank: Unit) -> bool:
    on_cpu = bank.vectors.device.type == "cpu"
    return on_cpu and bank.vectors.nbytes <= 2 * MOST_IN_MEMORY and halves.are_quick()


def _propose(
    bank: Unit, rows: Unit, own: torch.Tensor | None, n_candidates: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Similarities by float32 products, best first, and ids of the most similar of each row."""
    n, m, device = len(bank.vectors), len(rows.vectors), bank.vectors.device
    best, ids = torch.empty(m, 0, device=device), torch.empty(m, 0, dtype=torch.long, device=device)
    step = _COLUMNS[device.type]
    for start in range(0, n, step):
        products = float32_products(rows.vectors, bank.vectors[start : start + step])
        if own is not None:
            here = ((own >= start) & (own < start + step)).nonzero()[:, 0]
            products[here, own[here] - start] = -torch.inf
        some = products.topk(min(n_candidates, products.shape[1]))
        best = torch.cat([best, some.values], dim=1)
        ids = torch.cat([ids, some.indices + start], dim=1)
        best, kept = best.topk(min(n_candidates, best.shape[1]))
        ids = ids.gather(1, kept)
    return best, ids


def float32_products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the products of all rows of a with all rows of b, quickly."""
    if a.device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        # A tensor in oneDNN's layout sends the product there; MKL takes twice as long on AMD.
        return torch.nn.functional.linear(a.to_mkldnn(), b).to_dense()
    return a @ b.T


def exact_similarities(
    bank: Unit, rows: Unit, candidates: torch.Tensor, counts: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the cosine, in float64, of every row with each of its candidates in `bank`.

    Where `counts` says how many of a row's candidates are wanted, -inf stands for the others.
    """
    if candidates.device.type != "cpu":
        products = _products_by_batch(bank, rows, candidates)
    else:
        products = _products_by_row(bank, rows, candidates, counts)
    cosines = products / (rows.squares[:, None] * bank.squares[candidates]).sqrt()
    if counts is not None:
        wanted = torch.arange(candidates.shape[1], device=candidates.device) < counts[:, None]
        cosines.masked_fill_(~wanted, -torch.inf)
    return cosines


def _products_by_row(
    bank: Unit, rows: Unit, candidates: torch.Tensor, counts: torch.Tensor | None
) -> torch.Tensor:
    # One thread a part, its rows in the core's own cache: threads that share a batch wait for each
    # other a thousand times, on a busy machine for long.
    vectors, ids = bank.vectors.numpy(), candidates.numpy()
    products = np.zeros(ids.shape)
    wanted = np.full(len(ids), ids.shape[1]) if counts is None else counts.numpy()
    queries = rows.vectors.numpy().astype(np.float64)

    def fill(part: NDArray[np.int64]) -> None:
        others = np.empty((ids.shape[1], vectors.shape[1]))
        for row in part:
            count = wanted[row]
            others[:count] = vectors[ids[row, :count]]
            np.matmul(others[:count], queries[row], out=products[row, :count])

    parts = np.array_split(np.arange(len(ids)), torch.get_num_threads())
    with ThreadPoolExecutor(len(parts)) as threads:
        list(threads.map(fill, parts))
    return torch.from_numpy(products)


def _products_by_batch(bank: Unit, rows: Unit, candidates: torch.Tensor) -> torch.Tensor:
    (n, c), d = candidates.shape, bank.vectors.shape[1]
    products = torch.empty(n, c, dtype=torch.float64, device=candidates.device)
    step = max(1, _BATCH_ELEMENTS // (c * d))
    for start in range(0, n, step):
        part = candidates[start : start + step]
        others = bank.vectors[part].double()
        own = rows.vectors[start : start + step, :, None].double()
        products[start : start + step] = torch.bmm(others, own)[:, :, 0]
    return products


def _nearest_exactly(bank: Unit, rows: Unit, own: torch.Tensor | None, k: int) -> torch.Tensor:
    n, device = len(bank.vectors), bank.vectors.device
    vectors = rows.vectors.double()
    best = torch.empty(len(vectors), 0, dtype=torch.int64, device=device)
    for start in range(0, n, _COLUMNS_EXACT):
        columns = torch.arange(start, min(start + _COLUMNS_EXACT, n), device=device)
        products = vectors @ bank.vectors[columns].double().T
        squares = rows.squares[:, None] * bank.squares[columns]
        keys = pack(products / squares.sqrt(), columns.expand(len(vectors), -1))
        if own is not None:
            keys.masked_fill_(columns == own[:, None], torch.iinfo(torch.int64).min)
        best = torch.cat([best, keys], dim=1)
        best = best.topk(min(k, best.shape[1])).values
    return best


def pack(similarities: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Put similarity and id into one integer: greater is more similar, then lower id."""
    # Adding 0 turns -0 into 0. A float's bits, read as an integer, rise with it if it is positive
    # and fall if it is negative; flipping the latter puts all in order.
    bits = (similarities.float() + 0.0).view(torch.int32)
    ordered = bits ^ ((bits >> 31) & _LAST_ID)
    return (ordered.long() << 32) | (_LAST_ID - ids)


def unpack(keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ids and the similarities that `pack` put together."""
    ids = _LAST_ID - (keys & 0xFFFFFFFF)
    ordered = (keys >> 32).int()
    return ids.int(), (ordered ^ ((ordered >> 31) & _LAST_ID)).view(torch.float32)


@contextmanager
def full_float32() -> Iterator[None]:
    """Keep products from being taken in TF32 or bfloat16, which the error bound does not cover."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
