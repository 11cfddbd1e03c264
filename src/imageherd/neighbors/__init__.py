"""Nearest neighbours by cosine similarity: exact, approximate with a known recall, kept up to date.

Vectors may lie in memory, in a mapped file or wherever a function reads them from (`Rows`).
"""

from imageherd.neighbors.approximate import approximate_knn_graph
from imageherd.neighbors.exact import knn_graph, knn_query
from imageherd.neighbors.graph import NeighborGraph
from imageherd.neighbors.units import Rows
from imageherd.neighbors.update import update_graph

__all__ = [
    "NeighborGraph",
    "Rows",
    "approximate_knn_graph",
    "knn_graph",
    "knn_query",
    "update_graph",
]
