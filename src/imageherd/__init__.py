"""imageherd: from a pile of unlabelled images to counted, named, browsable groups."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imageherd.baselines import KMeans
    from imageherd.counting import count_clusters
    from imageherd.ensemble import consensus
    from imageherd.errors import ImageherdError
    from imageherd.heads import load_head
    from imageherd.heads.cpp import CPP
    from imageherd.heads.infonce import InfoNCE
    from imageherd.heads.lsdc import LSDC
    from imageherd.heads.scp import SCP
    from imageherd.heads.temi import TEMI
    from imageherd.heads.tsp import TSP
    from imageherd.heads.turtle import TURTLE
    from imageherd.herd import Herd
    from imageherd.metrics import generalization_score
    from imageherd.neighbors import NeighborGraph, knn_graph
    from imageherd.remote import pull, push

__version__ = "0.1.0"
__all__ = [
    "CPP",
    "LSDC",
    "SCP",
    "TEMI",
    "TSP",
    "TURTLE",
    "Herd",
    "ImageherdError",
    "InfoNCE",
    "KMeans",
    "NeighborGraph",
    "consensus",
    "count_clusters",
    "generalization_score",
    "knn_graph",
    "load_head",
    "pull",
    "push",
]

# Imported on first use: torch and ONNX Runtime take seconds, `import imageherd` should not.
_HOMES = {
    "CPP": "heads.cpp",
    "Herd": "herd",
    "ImageherdError": "errors",
    "InfoNCE": "heads.infonce",
    "KMeans": "baselines",
    "LSDC": "heads.lsdc",
    "NeighborGraph": "neighbors",
    "SCP": "heads.scp",
    "TEMI": "heads.temi",
    "TSP": "heads.tsp",
    "TURTLE": "heads.turtle",
    "consensus": "ensemble",
    "count_clusters": "counting",
    "generalization_score": "metrics",
    "knn_graph": "neighbors",
    "load_head": "heads",
    "pull": "remote",
    "push": "remote",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'imageherd' has no attribute {name!r}")
    return getattr(import_module(f"imageherd.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
