"""A graph of nearest neighbours brought up to date when rows come and go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from imageherd.neighbors.approximate import measured_recall
from imageherd.neighbors.exact import pack, search, unpack
from imageherd.neighbors.graph import NeighborGraph, check_k
from imageherd.neighbors.units import Rows, Unit, as_source, compute_device, unit_rows

_BLOCK = 2**16


def update_graph(
    graph: NeighborGraph,
    place: NDArray[np.int64],
    X: ArrayLike | Rows,
    *,
    random_state: int = 0,
    device: str = "cpu",
    scratch: str | Path | None = None,
) -> NeighborGraph:
    """Return the graph of X from that of rows of which some have gone, and to which others came.

    From an exact graph it is, to the byte, what `knn_graph` makes of X. To an approximate one only
    exact neighbours are added, and its recall is measured anew on 1,000 rows.

    Rows that are new or have lost a neighbour are compared with all, the others with the new ones:
    about ``(new + touched) n d + n new d`` multiplications; memory as `knn_graph`.

    Parameters
    ----------
    graph : NeighborGraph
        Of the m rows there were.
    place : ndarray of int64, shape (m,)
        Where each of them is in X, ascending; -1 for those that have gone.
    X : array-like or Rows, of shape (n, d)
        Features, with more than `graph.k` rows. Those of rows that stay must not have changed.
    random_state : int, default=0
        Seed of the sample.
    device, scratch
        As in `knn_graph`.

    Raises
    ------
    ValueError
        If `place` does not suit the graph and X, or X has too few rows.
    ImageherdError
        If this machine lacks the device.
    """
    source = as_source(X, "X")
    n, k = len(source), graph.k
    check_k(k, n - 1, f"; X has {n} rows and none is its own neighbour")
    _check_place(graph, place, n)
    asked, new = searched_anew(graph, place, n)
    device_, folder = compute_device(device), None if scratch is None else Path(scratch)
    bank = unit_rows(source, "X", device_, scratch=folder)
    ids = np.empty((n, k), dtype=np.int32)
    similarities = np.empty((n, k), dtype=np.float32)
    stays = place >= 0
    ids[place[stays]] = place[graph.ids[stays]]
    similarities[place[stays]] = graph.similarities[stays]
    if len(new):
        _merge(bank, new, np.setdiff1d(np.arange(n), asked), ids, similarities)
    if len(asked):
        at = torch.from_numpy(asked).to(device_)
        found = search(bank, lambda s: bank.at(at[s]), len(asked), k, own=lambda s: at[s])
        ids[asked], similarities[asked] = found
    updated = NeighborGraph(ids, similarities)
    if graph.recall is None:
        return updated
    recall = measured_recall(updated, bank, random_state)
    return NeighborGraph(ids, similarities, recall=recall)


def searched_anew(
    graph: NeighborGraph, place: NDArray[np.int64], n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which of n rows are compared with all in an update, and which of these are new.

    Parameters as in `update_graph`.
    """
    stays = place >= 0
    lost = stays & (place[graph.ids] < 0).any(axis=1)
    new = np.setdiff1d(np.arange(n), place[stays])
    return np.sort(np.concatenate([place[lost], new])), new


def _merge(
    bank: Unit,
    new: NDArray[np.int64],
    rows: NDArray[np.int64],
    ids: NDArray[np.int32],
    similarities: NDArray[np.float32],
) -> None:
    """Let the new rows in among the neighbours of `rows`, in place."""
    k = ids.shape[1]
    some = bank.at(torch.from_numpy(new).to(bank.vectors.device))
    for start in range(0, len(rows), _BLOCK):
        own = rows[start : start + _BLOCK]
        at = torch.from_numpy(own).to(bank.vectors.device)
        found, similar = search(some, bank.at(at).at, len(own), min(k, len(new)))
        before = pack(torch.from_numpy(similarities[own]), torch.from_numpy(ids[own]).long())
        more = pack(torch.from_numpy(similar), torch.from_numpy(new[found]))
        best, nearest = unpack(torch.cat([before, more], dim=1).topk(k).values)
        ids[own], similarities[own] = best.numpy(), nearest.numpy()


def _check_place(graph: NeighborGraph, place: NDArray[np.int64], n: int) -> None:
    there = place[place >= 0]
    if place.shape != (len(graph.ids),):
        raise ValueError(f"place has shape {place.shape}; the graph has {len(graph.ids)} rows.")
    if (np.diff(there) <= 0).any() or (len(there) and there[-1] >= n):
        raise ValueError(f"place must ascend, apart from -1, and stay below the {n} rows of X.")
