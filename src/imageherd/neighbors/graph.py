"""A graph of nearest neighbours, and its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from imageherd.errors import ImageherdError
from imageherd.files import write_atomically


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
    recall : float or None
        Share of the exact neighbours that are among these, as measured on a sample of the rows;
        None where all rows were compared: the graph is exact.
    """

    ids: NDArray[np.int32]
    similarities: NDArray[np.float32]
    metric: str = "cosine"
    recall: float | None = None

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
        check_k(k, self.k)
        return NeighborGraph(self.ids[:, :k], self.similarities[:, :k], self.metric, self.recall)

    def save(self, path: str | Path, rows: NDArray[np.int64] | None = None) -> None:
        """Write the graph to a safetensors file, atomically.

        Parameters
        ----------
        path : str or Path
            The file.
        rows : ndarray of int64, shape (n,), optional
            What the rows of the graph are elsewhere, ascending; `load_rows` reads it.
        """
        tensors = {
            "ids": np.ascontiguousarray(self.ids, dtype=np.int32),
            "similarities": np.ascontiguousarray(self.similarities, dtype=np.float32),
        }
        if rows is not None:
            tensors["rows"] = np.ascontiguousarray(rows, dtype=np.int64)
        about = {"metric": self.metric, "k": str(self.k)}
        if self.recall is not None:
            about["recall"] = repr(self.recall)
        data = save(tensors, metadata=about)
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
                about = file.metadata() or {}
                tensors = file.get_tensor("ids"), file.get_tensor("similarities")
                recall = float(about["recall"]) if "recall" in about else None
                graph = cls(*tensors, about.get("metric", ""), recall)
        except (OSError, ValueError, SafetensorError) as error:
            raise ImageherdError(f"{path} cannot be read as a neighbour graph: {error}.") from error
        fault = _fault(graph, about.get("k", ""))
        if fault:
            raise ImageherdError(
                f"{path} is not a sound neighbour graph: {fault}. Delete it; it will be made again."
            )
        return graph


def load_rows(path: str | Path) -> NDArray[np.int64] | None:
    """Return what `NeighborGraph.save` was given as `rows`; None where nothing, or no such file."""
    try:
        with safe_open(path, framework="numpy") as file:
            rows: NDArray[np.int64] = file.get_tensor("rows")
    except (OSError, SafetensorError):
        return None
    return rows


def check_k(k: int, most: int, why: str = "") -> None:
    """Refuse a number of neighbours below 1 or above `most`."""
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
    if graph.recall is not None and not 0 <= graph.recall <= 1:
        return f"its recall is {graph.recall}"
    if ids.size and (ids.min() < 0 or ids.max() >= len(ids)):
        return "an id points to no row"
    if (ids == np.arange(len(ids))[:, None]).any():
        return "a row is its own neighbour"
    if not np.isfinite(similarities).all() or (np.diff(similarities, axis=1) > 0).any():
        return "its similarities are not finite or do not descend"
    return ""
