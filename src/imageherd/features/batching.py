"""Batches of a fixed size through the model, and the five best classes of its logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imageherd.features.store import TOP5_DTYPE
from imageherd.features.writer import Block

if TYPE_CHECKING:
    from imageherd.backbones import Backbone


class Batch:
    """The model's next batch, always of the same size, and where its vectors go.

    Parameters
    ----------
    backbone : Backbone
        The model and its batch size.
    block : Block
        Gets the vectors.
    classes : bool, default=True
        Whether it gets a classifier's five best classes, too.

    Attributes
    ----------
    n_embedded : int
        Images put through the model so far.
    not_finite : list of int
        Rows whose features were not finite numbers; the block does not get those.
    """

    def __init__(self, backbone: Backbone, block: Block, *, classes: bool = True) -> None:
        side = backbone.preprocessing.size
        self.classes = classes
        self.backbone, self.block = backbone, block
        self.pixels = np.zeros((backbone.batch_size, 3, side, side), np.float32)
        self.rows: list[int] = []
        self.not_finite: list[int] = []
        self.n_embedded = 0

    def add(self, row: int, pixels: np.ndarray) -> int:
        """Add an image; returns how many a full batch has just put through the model."""
        self.pixels[len(self.rows)] = pixels
        self.rows.append(row)
        return self.flush() if len(self.rows) == len(self.pixels) else 0

    def flush(self) -> int:
        """Put what is there through the model, padded with zeros; returns how many images."""
        n = len(self.rows)
        if not n:
            return 0
        self.pixels[n:] = 0
        outputs = self.backbone.embed(self.pixels)
        features = outputs["features"]
        if features.shape != (len(self.pixels), self.backbone.dim):
            raise ValueError(
                f"{self.backbone.name} gave features of shape {features.shape}, not "
                f"{(len(self.pixels), self.backbone.dim)}"
            )
        known = self.classes and "logits" in outputs
        top5 = top5_of(outputs["logits"][:n]) if known else None
        finite = np.asarray(np.isfinite(features[:n]).all(axis=1))
        for position, row in enumerate(self.rows):
            if finite[position]:
                self.block.put(row, features[position], None if top5 is None else top5[position])
            else:
                self.not_finite.append(row)
        self.rows = []
        self.n_embedded += n
        return n


def top5_of(logits: np.ndarray) -> np.ndarray:
    """Return the five best classes and their softmax probabilities.

    Parameters
    ----------
    logits : ndarray of float32, shape (n, n_classes)
        As the classifier gives them.

    Returns
    -------
    ndarray of TOP5_DTYPE, shape (n,)
        Best first, ties to the lower class; with fewer than five classes the rest is -1 and 0.
    """
    logits = np.asarray(logits, np.float32)
    top5 = np.zeros(len(logits), TOP5_DTYPE)
    top5["classes"] = -1
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    best = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    top5["classes"][:, : best.shape[1]] = best
    top5["probabilities"][:, : best.shape[1]] = np.take_along_axis(probabilities, best, axis=1)
    return top5
