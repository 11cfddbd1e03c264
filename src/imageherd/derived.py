"""What is computed from a herd's features once and kept: the k-NN graph and the 2-D map."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imageherd.files import write_atomically
from imageherd.neighbors import NeighborGraph, knn_graph
from imageherd.project import locked


def rows_digest(rows: NDArray[np.int64]) -> str:
    """Return 12 hex digits that stand for these rows in a file name."""
    return hashlib.sha256(np.asarray(rows, dtype="<i8").tobytes()).hexdigest()[:12]


def kept_graph(
    herd: Path, key: str, rows: NDArray[np.int64], X: NDArray[np.float32], k: int, device: str
) -> NeighborGraph:
    """Return the k-NN graph of these rows, from ``neighbors/`` if it is there."""
    path = herd / "neighbors" / key / f"k{k}-{rows_digest(rows)}.safetensors"
    if path.exists():
        return NeighborGraph.load(path)
    with locked(herd):
        graph = knn_graph(X, k, device=device)
        graph.save(path)
    return graph


def kept_map(
    herd: Path, key: str, rows: NDArray[np.int64], X: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the 2-D map of these rows, shape (n, 2), from ``report/`` if it is there."""
    path = herd / "report" / f"map-{key}-{rows_digest(rows)}.npy"
    if path.exists():
        try:
            found: NDArray[np.float32] = np.load(path, allow_pickle=False)
            if found.shape == (len(rows), 2):
                return found
        except (OSError, ValueError):
            # A damaged map costs seconds to make again.
            pass
    from imageherd.report.map import layout

    xy: NDArray[np.float32] = layout(X)
    buffer = io.BytesIO()
    np.save(buffer, xy, allow_pickle=False)
    with locked(herd):
        write_atomically(path, lambda file: file.write(buffer.getvalue()))
    return xy
