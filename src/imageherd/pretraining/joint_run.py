"""TEMI's joint training on a herd: from a clustering to a network of its own and a new version."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from imageherd.backbones.own import own_folder
from imageherd.clustering import Clustering
from imageherd.device import resolve_device
from imageherd.errors import ImageherdError
from imageherd.features.listing import Listed
from imageherd.fitting import keep
from imageherd.heads.loop import Run
from imageherd.heads.temi import TEMI
from imageherd.herd import Herd
from imageherd.images.source import Entry, Source
from imageherd.pretraining.data import read_pixels
from imageherd.pretraining.joint import EPOCHS, train_jointly
from imageherd.pretraining.places import WORK
from imageherd.pretraining.saving import load_network, save_network
from imageherd.project import locked, read_project
from imageherd.sources import sources_of
from imageherd.versions import versions_of


class HerdImages:
    """The images of some rows of a herd, as a source: the key is the row's number.

    Parameters
    ----------
    items : pyarrow.Table
        Of those rows.
    sources : sequence of Source
        The herd's.
    """

    def __init__(self, items: pa.Table, sources: Sequence[Source]) -> None:
        self._sources = sources
        columns = ("row", "source", "key", "bytes", "mtime_ns")
        self._rows = items.select(columns).to_pylist()
        self._of_key = {b"%d" % row["row"]: row for row in self._rows}

    def scan(self) -> Sequence[Entry]:
        """List the images in the order of their rows."""
        return [Entry(key, row["bytes"], row["mtime_ns"]) for key, row in self._of_key.items()]

    def read(self, key: bytes) -> bytes:
        """Return the file of one image; raises UnreadableImageError."""
        row = self._of_key[key]
        source: Source = self._sources[row["source"]]
        return source.read(row["key"])


def unfreeze(
    herd: Herd,
    clustering: Clustering,
    folder: Path,
    *,
    epochs: int = EPOCHS,
    flip: bool = True,
    random_state: int = 0,
    device: str = "auto",
    workers: int | None = None,
) -> Clustering:
    """Train a TEMI clustering's network and head together, and keep what comes of it.

    The network becomes a backbone in `folder`, all images of the herd are embedded with it, and the
    clustering gets a new version on these features. Killed, the same call goes on where it was.

    Parameters
    ----------
    herd : Herd
        The herd.
    clustering : Clustering
        By TEMI, on features of a network of `imageherd pretrain`.
    folder : Path
        For the network; must not be there yet.
    epochs, flip
        See `train_jointly`.
    random_state : int, default=0
        Seed.
    device, workers
        As in `Herd.embed`.

    Raises
    ------
    ImageherdError
        If it is not TEMI's, the network is none of one's own, an image cannot be read any more, or
        the folder holds something.
    """
    if clustering.config["method"] != "temi":
        raise ImageherdError(
            f"Only TEMI trains network and head together; {clustering.name!r} is by "
            f"{clustering.config['method']}."
        )
    data = herd.features(clustering.config["features"])
    start = startable(herd, data.key, folder)
    head = versions_of(herd.path, clustering.name).head(clustering.version)
    assert isinstance(head, TEMI)
    where = resolve_device(device)
    neighbors = herd.neighbors(data, device=device).ids.astype(np.int64)
    k = min(head.n_neighbors, max(5, len(data.rows) // (3 * head.n_clusters)), neighbors.shape[1])
    network, begun = load_network(start)
    preprocessing = begun["preprocessing"]
    work = folder / WORK
    with locked(work):
        items = herd.items().take(pa.array(data.rows))
        source = HerdImages(items, sources_of(herd.path))
        pixels = read_pixels(source, work, size=preprocessing.size, workers=workers)
        if pixels.unreadable:
            key, reason = pixels.unreadable[0]
            path = items["path"][int(np.searchsorted(data.rows, int(key)))].as_py()
            raise ImageherdError(f"{path} cannot be read any more ({reason}); run embed again.")
        pixels = replace(pixels, mean=preprocessing.mean, std=preprocessing.std)
        settings: dict[str, Any] = {
            "method": "temi-joint",
            **{"epochs": epochs, "flip": flip, "random_state": random_state},
            "start": begun["sha256"],
            "head": _digest(head),
        }
        run = Run(random_state, where, checkpoint=work / "joint.safetensors")
        run.identity = {**settings, "images": pixels.sha256}
        ids = torch.from_numpy(neighbors[:, :k].copy())
        network, head = train_jointly(
            pixels.to(where), network, head, ids, run, epochs=epochs, flip=flip
        )
        facts = {"settings": settings, "n_images": len(pixels), "history": head.history_}
        save_network(folder, network, preprocessing, {"method": "temi-joint", **facts})
    shutil.rmtree(work)
    for known in sources_of(herd.path):
        herd.embed(Listed(known), backbone=str(folder.resolve()), device=device, workers=workers)
    return _kept(herd, clustering, head, settings)


def startable(herd: Herd, key: str, folder: Path) -> Path:
    """Return the folder of the network that gave the features `key`, if all is set to train it.

    Raises
    ------
    ImageherdError
        If the network is none of one's own, or the result's folder holds something.
    """
    backbone = read_project(herd.path)["backbones"].get(key, key)
    start = own_folder(backbone)
    if start is None:
        raise ImageherdError(
            f"{backbone} is no network of yours, so it stays frozen; make one with `imageherd "
            "pretrain`, and embed the images with it."
        )
    if folder.exists() and (not folder.is_dir() or {p.name for p in folder.iterdir()} - {WORK}):
        raise ImageherdError(f"{folder} is there already; name another place for the network.")
    return start


def _digest(head: TEMI) -> str:
    digest = hashlib.sha256()
    for tensor in head.network_.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _kept(herd: Herd, before: Clustering, head: TEMI, settings: dict[str, Any]) -> Clustering:
    data = herd.features()
    graph = herd.neighbors(data)
    config = {
        **{"features": data.key, "keep_duplicates": True, "reject": 0.0},
        **{name: before.config[name] for name in ("method", "params")},
        "joint": settings,
    }
    P = head.predict_proba(data.X)
    copies = np.full(len(data.rows), -1)
    versions = versions_of(herd.path, before.name)
    with locked(herd.path):
        return keep(herd.path, versions, data, head, P, P.argmax(1), config, graph, copies)
