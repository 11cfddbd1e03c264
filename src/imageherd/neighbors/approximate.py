"""Nearest neighbours within lists of similar rows, as many lists as a measured recall takes.

An inverted file turned around: k-means (faiss) puts the rows into lists, and every row is compared
with the rows of the lists nearest to it; but list by list, with all rows at once that look into it,
so that the work is matrix products. Quick products propose, exact ones decide: similarities and the
order among ties are those of the exact graph, and what can be missed is a neighbour in a list that
was not looked into. How many lists that takes follows from the exact neighbours of a sample: the
share of them that each number of lists holds is counted, not guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from imageherd.neighbors.exact import (
    exact_similarities,
    float32_products,
    full_float32,
    nearest,
    pack,
    search,
    unpack,
)
from imageherd.neighbors.graph import NeighborGraph, check_k
from imageherd.neighbors.units import Rows, Source, Unit, as_source, compute_device, unit_rows
from imageherd.progress import progress

TARGET = 0.95
_SAMPLE = 1_000
_PER_LIST = 40
_ITERATIONS = 10
_MOST_LISTS = 256
_BLOCK = 2_048
# Rows searched for together, so that many of them ask for the same list.
_GROUP = 2**17
_SPARE_CANDIDATES = 16
_MOST_PRODUCTS = 2**24


def approximate_knn_graph(
    X: ArrayLike | Rows,
    k: int = 50,
    *,
    recall: float = TARGET,
    n_lists: int | None = None,
    random_state: int = 0,
    device: str = "cpu",
    scratch: str | Path | None = None,
) -> NeighborGraph:
    """Find most of the k nearest neighbours of every row by cosine similarity.

    Similarities are exact, and so is the order among what is found, ties by row number. The
    recall of the result is measured on 1,000 rows, drawn with the seed, against all rows; a found
    row as similar as the exact k-th neighbour counts. As many lists are looked into as it takes for
    the recall that the sample shows, less two standard errors, to reach `recall`; but no more than
    256, so that vectors without any structure end with a lower recall, not after days. Where that
    is more than half of the lists, all rows are compared and the graph is exact.

    With L lists of which p are looked into it takes about ``(p/L) n² d`` multiplications for the
    neighbours, ``2 L n d + 400 L² d`` for the lists and ``1,000 n d`` for the sample. Memory:
    8 n (k + 3) bytes, 160 L d on the way, 0.4 GB for a group of 131,072 rows, and 4 n d for a copy
    of the rows sorted by list, in a temporary file where that is more than 1 GB.

    Parameters
    ----------
    X : array-like or Rows, of shape (n, d)
        Features, of any scale; may be memory-mapped.
    k : int, default=50
        Neighbours a row, below n.
    recall : float, default=0.95
        Share of the exact neighbours to find, above 0, at most 1.
    n_lists : int, optional
        How many lists; √n by default.
    random_state : int, default=0
        Seed of the lists and of the sample.
    device : {"cpu", "cuda", "mps", "auto"}, default="cpu"
        Where to compute; k-means too, if the faiss installed can.
    scratch : str or Path, optional
        Folder of the temporary file; the system's own by default.

    Returns
    -------
    NeighborGraph

    Raises
    ------
    ValueError
        If X is not 2-D, is empty or holds a NaN or an infinity, or a number is out of range.
    ImageherdError
        If this machine lacks the device.

    References
    ----------
    Johnson, Douze and Jégou (2021): Billion-scale similarity search with GPUs; the lists are the
    inverted file there.
    """
    source = as_source(X, "X")
    n = len(source)
    check_k(k, n - 1, f"; X has {n} rows and none is its own neighbour")
    if not 0 < recall <= 1:
        raise ValueError(f"recall={recall} must be above 0 and at most 1.")
    n_lists = round(n**0.5) if n_lists is None else n_lists
    if not 1 <= n_lists <= n:
        raise ValueError(f"n_lists={n_lists} must be at least 1 and at most {n}; X has {n} rows.")
    on, folder = compute_device(device), None if scratch is None else Path(scratch)
    rng = np.random.default_rng(random_state)
    with torch.inference_mode(), full_float32():
        lists = _make_lists(source, n_lists, rng, on, folder)
        drawn = np.sort(rng.choice(n, min(_SAMPLE, n), replace=False))
        truth, exact = _of_sample(lists, drawn, k)
        n_probe = _lists_needed(lists, drawn, truth, recall)
        n_probe = min(n_probe, _MOST_LISTS)
        if n_probe > n_lists / 2:
            return _all_compared(lists, k)
        ids, similarities = _search_lists(lists, n_probe, k)
    found = float((similarities[drawn] >= exact[:, -1:]).mean())
    return NeighborGraph(ids, similarities, recall=found)


def measured_recall(graph: NeighborGraph, bank: Unit, random_state: int = 0) -> float:
    """Return the share of the exact neighbours of 1,000 rows that the graph holds.

    Parameters
    ----------
    graph : NeighborGraph
        Of the rows of `bank`.
    bank : Unit
        All rows.
    random_state : int, default=0
        Seed of the sample.
    """
    n = len(graph.ids)
    rng = np.random.default_rng(random_state)
    drawn = np.sort(rng.choice(n, min(_SAMPLE, n), replace=False))
    at = torch.from_numpy(drawn).to(bank.vectors.device)
    exact = search(bank, bank.at(at).at, len(drawn), graph.k, own=lambda some: at[some])[1]
    return float((graph.similarities[drawn] >= exact[:, -1:]).mean())


@dataclass(frozen=True)
class _Lists:
    """Rows sorted by list: list j holds positions starts[j] to starts[j + 1] of `bank`."""

    centroids: torch.Tensor
    starts: NDArray[np.int64]
    rows: torch.Tensor
    """Which row of X is at each position."""
    bank: Unit

    def of(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lists that hold some positions."""
        return np.searchsorted(self.starts, positions, side="right") - 1


def _make_lists(
    X: Source, n_lists: int, rng: np.random.Generator, device: torch.device, scratch: Path | None
) -> _Lists:
    n, d = X.shape
    train = np.sort(rng.choice(n, min(_PER_LIST * n_lists, n), replace=False))
    faiss: Any = import_module("faiss")
    kmeans = faiss.Kmeans(
        d,
        n_lists,
        niter=_ITERATIONS,
        spherical=True,
        seed=int(rng.integers(2**31)),
        min_points_per_centroid=1,
        gpu=device.type == "cuda" and faiss.get_num_gpus() > 0,
    )
    with progress("Making lists") as advance:
        kmeans.train(unit_rows(X, "X", torch.device("cpu"), order=train).vectors.numpy())
        advance(1)
    centroids = torch.from_numpy(kmeans.centroids).to(device)
    of = np.empty(n, dtype=np.int64)
    with progress("Sorting images into lists", n) as advance:
        for start in range(0, n, _BLOCK):
            block = unit_rows(X[start : start + _BLOCK], "X", device, first=start).vectors
            of[start : start + _BLOCK] = float32_products(block, centroids).argmax(1).cpu().numpy()
            advance(len(block))
    order = np.argsort(of, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(of, minlength=n_lists))])
    bank = unit_rows(X, "X", device, order=order, scratch=scratch)
    return _Lists(centroids, starts, torch.from_numpy(order).to(device), bank)


def _of_sample(
    lists: _Lists, drawn: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Positions and similarities of the exact neighbours of some rows."""
    at = torch.argsort(lists.rows)[torch.from_numpy(drawn).to(lists.rows.device)]
    rows = lists.bank.at(at)
    ids, similarities = search(lists.bank, rows.at, len(at), k, own=lambda some: at[some])
    return ids.astype(np.int64), similarities


def _lists_needed(
    lists: _Lists, drawn: NDArray[np.int64], truth: NDArray[np.int64], recall: float
) -> int:
    """Return how many lists reach `recall` on the sample, less two standard errors."""
    n_lists = len(lists.centroids)
    at = torch.argsort(lists.rows)[torch.from_numpy(drawn).to(lists.rows.device)]
    order = float32_products(lists.bank.vectors[at], lists.centroids).argsort(1, descending=True)
    rank = np.argsort(order.cpu().numpy(), axis=1)
    total, squares = np.zeros(n_lists), np.zeros(n_lists)
    for own, holding in zip(rank, lists.of(truth), strict=True):
        share = np.cumsum(np.bincount(own[holding], minlength=n_lists)) / len(holding)
        total, squares = total + share, squares + share**2
    mean = total / len(drawn)
    error = np.sqrt(np.maximum(squares / len(drawn) - mean**2, 0) / len(drawn))
    enough = np.flatnonzero(mean - 2 * error >= recall)
    return int(enough[0]) + 1 if len(enough) else n_lists


def _search_lists(
    lists: _Lists, n_probe: int, k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    n = len(lists.rows)
    ids = np.empty((n, k), dtype=np.int32)
    similarities = np.empty((n, k), dtype=np.float32)
    with progress("Finding neighbours", n) as advance:
        for start in range(0, n, _GROUP):
            proposed = _propose(lists, start, n_probe, k)
            for first in range(0, len(proposed), _BLOCK):
                some = proposed[first : first + _BLOCK]
                at = torch.arange(start + first, start + first + len(some), device=some.device)
                found, similar = unpack(_ranked(lists, at, some, k))
                rows = lists.rows[at].cpu().numpy()
                ids[rows], similarities[rows] = found.cpu().numpy(), similar.cpu().numpy()
                advance(len(some))
    return ids, similarities


def _propose(lists: _Lists, start: int, n_probe: int, k: int) -> torch.Tensor:
    """Positions that float32 products say are nearest to each of a group of rows; -1 for none."""
    vectors = lists.bank.vectors
    group = vectors[start : start + _GROUP]
    n_candidates = min(k + _SPARE_CANDIDATES, len(vectors) - 1)
    best = torch.full((len(group), n_candidates), -torch.inf, device=group.device)
    ids = torch.full(best.shape, -1, dtype=torch.int32, device=group.device)
    probes = _probes(lists, group, n_probe)
    # The nearest first: of the others then fewer rows hold anything better.
    for j, asking in (
        pair for part in (probes[:, :1], probes[:, 1:]) for pair in _by_list(part, lists)
    ):
        first, last = int(lists.starts[j]), int(lists.starts[j + 1])
        products = float32_products(group[asking], vectors[first:last])
        own = asking + start
        here = ((own >= first) & (own < last)).nonzero()[:, 0]
        products[here, own[here] - first] = -torch.inf
        better = (products.amax(1) > best[asking].amin(1)).nonzero()[:, 0]
        asking = asking[better]
        every = torch.cat([best[asking], products[better]], dim=1)
        best[asking], kept = every.topk(n_candidates, sorted=False)
        here = torch.arange(first, last, dtype=torch.int32, device=group.device)
        numbers = torch.cat([ids[asking], here.expand(len(asking), -1)], dim=1)
        ids[asking] = numbers.gather(1, kept)
    return torch.where(best > -torch.inf, ids, -1).long()


def _probes(lists: _Lists, group: torch.Tensor, n_probe: int) -> torch.Tensor:
    """Return the lists nearest to each row: int64 (m, n_probe)."""
    return torch.cat(
        [
            float32_products(block, lists.centroids).topk(n_probe).indices
            for block in torch.split(group, _BLOCK)
        ]
    )


def _by_list(probes: torch.Tensor, lists: _Lists) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield the lists that are asked for and not empty, and by whom, in parts that memory holds."""
    asked = probes.flatten()
    order = asked.argsort(stable=True)
    counts = asked.bincount(minlength=len(lists.centroids)).tolist()
    for j, some in enumerate(torch.split(order, counts)):
        size = int(lists.starts[j + 1] - lists.starts[j])
        if len(some) and size:
            for part in torch.split(some, max(1, _MOST_PRODUCTS // size)):
                yield j, part // probes.shape[1]


def _ranked(lists: _Lists, at: torch.Tensor, proposed: torch.Tensor, k: int) -> torch.Tensor:
    """Keys of the k most similar of those proposed, exactly."""
    bank, rows = lists.bank, lists.bank.at(at)
    similar = exact_similarities(bank, rows, proposed.clamp(min=0))
    keys = pack(similar, lists.rows[proposed.clamp(min=0)])
    keys.masked_fill_(proposed < 0, torch.iinfo(torch.int64).min)
    keys = keys.topk(k).values
    short = ((proposed >= 0).sum(1) < k).nonzero()[:, 0]
    if len(short):
        # The lists looked into held fewer than k rows: then all are compared.
        found, similar = unpack(nearest(bank, rows.at(short), at[short], k))
        keys[short] = pack(similar, lists.rows[found.long()]).sort(descending=True).values
    return keys


def _all_compared(lists: _Lists, k: int) -> NeighborGraph:
    """Return the exact graph, the rows put back into their order."""
    order = torch.argsort(lists.rows)
    bank = Unit(lists.bank.vectors[order], lists.bank.squares[order])
    return NeighborGraph(*search(bank, bank.at, len(order), k, own=lambda at: at))
