"""What every backbone offers, and the little they share."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imageherd.backbones.preprocess import Preprocessing
from imageherd.errors import ImageherdError

Outputs = dict[str, NDArray[np.float32]]

# Counts changes to our own decoding and resizing that change pixels: features made before one must
# not mix with features made after it.
PIXELS_VERSION = 1

# Every network runs on batches of one fixed size, so that a row does not depend on its company.
BATCH_SIZE = 32


class Backbone(Protocol):
    """A frozen network that turns preprocessed images into vectors.

    Attributes
    ----------
    name : str
        What the user calls it.
    dim : int
        Length of a feature vector.
    preprocessing : Preprocessing
        Turns a decoded image into one row of a batch.
    batch_size : int
        Rows the network takes at once; fewer are padded, so full batches are the cheapest.
    identity : dict
        All that the features depend on: model, revision, sha256 of the weights, output,
        preprocessing, dtype. Plain JSON values.
    key : str
        A folder name that says the same: slug of the model and 12 hex digits of the identity.
    """

    name: str
    dim: int
    preprocessing: Preprocessing
    batch_size: int
    identity: dict[str, Any]
    key: str

    def embed(self, batch: NDArray[np.float32]) -> Outputs:
        """Turn preprocessed images into vectors.

        Parameters
        ----------
        batch : ndarray of float32, shape (b, 3, size, size)
            Any b. A row's result does not depend on the other rows, and is the same to the byte
            on the same machine.

        Returns
        -------
        dict
            ``"features"`` (b, dim) float32, and ``"logits"`` (b, 1000) float32 where the network
            classifies into the 1,000 ImageNet classes.
        """


def identity_key(identity: Mapping[str, Any]) -> str:
    """Folder name of a feature set: ``<slug of the model>-<12 hex of the identity's sha256>``."""
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    slug = re.sub(r"[^a-z0-9]+", "-", str(identity["model"]).lower()).strip("-")[:40].strip("-")
    return f"{slug or 'model'}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


def files_sha256(paths: Iterable[Path]) -> str:
    """One sha256 for a model's weight files: of the only file, or of the files' own hashes."""
    hashes = []
    for path in paths:
        with path.open("rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def run_padded(
    batch: NDArray[np.float32],
    preprocessing: Preprocessing,
    batch_size: int,
    run: Callable[[NDArray[np.float32]], Outputs],
) -> Outputs:
    """Call `run` on blocks of exactly `batch_size` rows, the last one filled up with zeros.

    Raises
    ------
    ImageherdError
        If the batch has not the shape the preprocessing makes.
    """
    shape = (3, preprocessing.size, preprocessing.size)
    if batch.ndim != 4 or batch.shape[1:] != shape or len(batch) == 0:
        raise ImageherdError(
            f"A batch of shape {batch.shape} was given; the network takes (b, {shape[0]}, "
            f"{shape[1]}, {shape[2]}) with b of 1 or more."
        )
    blocks: list[Outputs] = []
    for start in range(0, len(batch), batch_size):
        rows = np.ascontiguousarray(batch[start : start + batch_size], dtype=np.float32)
        block = rows
        if len(rows) < batch_size:
            block = np.zeros((batch_size, *shape), dtype=np.float32)
            block[: len(rows)] = rows
        blocks.append({name: values[: len(rows)] for name, values in run(block).items()})
    if len(blocks) == 1:
        return blocks[0]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
