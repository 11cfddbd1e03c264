"""Heads: what turns features into groups. Nothing heavy is imported until a head is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imageherd.heads.base import Head

_WHERE = {
    "tsp": ("imageherd.heads.tsp", "TSP"),
    "temi": ("imageherd.heads.temi", "TEMI"),
    "cpp": ("imageherd.heads.cpp", "CPP"),
    "scp": ("imageherd.heads.scp", "SCP"),
    "infonce": ("imageherd.heads.infonce", "InfoNCE"),
    "lsdc": ("imageherd.heads.lsdc", "LSDC"),
    "turtle": ("imageherd.heads.turtle", "TURTLE"),
    "kmeans": ("imageherd.baselines", "KMeans"),
    "spherical-kmeans": ("imageherd.baselines", "SphericalKMeans"),
    "minibatch-kmeans": ("imageherd.baselines", "MiniBatchKMeans"),
    "spectral": ("imageherd.baselines", "Spectral"),
    "spectral-pi": ("imageherd.baselines", "SpectralPi"),
    "agglomerative": ("imageherd.baselines", "Agglomerative"),
    "hdbscan": ("imageherd.baselines", "HDBSCAN"),
    "ensc": ("imageherd.baselines", "EnSC"),
    "ssc-omp": ("imageherd.baselines", "SSCOMP"),
}
# Found by its name, but not among the methods: it takes what was trained with a network.
_UNLISTED = {"trained": ("imageherd.heads.trained", "TrainedClassifier")}


class _Heads(Mapping[str, "type[Head]"]):
    """Method name to class, imported when looked up."""

    def __getitem__(self, name: str) -> type[Head]:
        module, attribute = (_WHERE | _UNLISTED)[name]
        head: type[Head] = getattr(import_module(module), attribute)
        return head

    def __iter__(self) -> Iterator[str]:
        return iter(_WHERE)

    def __len__(self) -> int:
        return len(_WHERE)

    def __contains__(self, name: object) -> bool:
        return name in _WHERE or name in _UNLISTED


HEADS: Mapping[str, type[Head]] = _Heads()
"""The methods by name, "tsp" and so on."""


def load_head(folder: str | Path, *, device: str = "auto") -> Head:
    """Read a saved head of whatever method.

    Raises
    ------
    ImageherdError
        If the folder holds no head this version can read.
    """
    from imageherd.errors import ImageherdError
    from imageherd.heads.saving import read_config

    name = read_config(Path(folder))["class"]
    for method, (_, class_name) in (_WHERE | _UNLISTED).items():
        if class_name == name:
            return HEADS[method].load(folder, device=device)
    raise ImageherdError(f"{folder} holds a {name} head, which this imageherd does not know.")
