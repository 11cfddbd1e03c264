"""How good the features are by now, told by labels that nothing is trained or chosen by."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from imageherd.columns import Telling
from imageherd.errors import ImageherdError
from imageherd.evaluation import read_labels
from imageherd.images.names import display_path
from imageherd.images.tables.columns import KEY
from imageherd.neighbors import knn_graph
from imageherd.pretraining.data import Pixels, normalize
from imageherd.pretraining.networks import Network

N_NEIGHBORS = 20
TEMPERATURE = 0.07
MOST_IMAGES = 10_000
COLUMN = "column:"
_BATCH = 256


@dataclass(frozen=True, eq=False)
class Probe:
    """The labelled images that the features are judged by.

    Attributes
    ----------
    rows : ndarray of int64, shape (m,)
        Which images, ascending.
    labels : ndarray of int64, shape (m,)
        Their classes.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]


def make_probe(labels: list[str | None], *, seed: int = 0) -> Probe:
    """Take the labelled images, 10,000 of them drawn by `seed` where there are more.

    Parameters
    ----------
    labels : list of str or None, length n
        A label or None for each image.
    seed : int, default=0
        Of the draw.

    Raises
    ------
    ImageherdError
        If fewer than 2 images have a label, or all labels are one.
    """
    rows = np.flatnonzero([label is not None for label in labels])
    if len(rows) > MOST_IMAGES:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_IMAGES, replace=False))
    classes, codes = np.unique([labels[row] for row in rows], return_inverse=True)
    if len(classes) < 2:
        raise ImageherdError(
            f"The labels name {len(classes)} class{'' if len(classes) == 1 else 'es'} on "
            f"{len(rows):,} images; to tell how good the features are takes 2 classes."
        )
    return Probe(rows.astype(np.int64), codes.astype(np.int64))


def knn_accuracy(features: ArrayLike, labels: ArrayLike, k: int = N_NEIGHBORS) -> float:
    """Return the share of images whose nearest others vote for their label.

    The k nearest by cosine, the image itself left out, vote with weight exp(cosine / 0.07), as in
    the DINO paper's k-NN test (Wu et al. 2018); a tie goes to the lower class.

    Parameters
    ----------
    features : array-like of shape (n, d)
        One row an image.
    labels : array-like of int, shape (n,)
        Classes from 0.
    k : int, default=20
        Voters; n − 1 if there are fewer.

    Notes
    -----
    Takes about n² d multiplications.
    """
    classes = np.asarray(labels, np.int64)
    graph = knn_graph(features, min(k, len(classes) - 1))
    votes = np.zeros((len(classes), int(classes.max()) + 1))
    weights = np.exp((graph.similarities.astype(np.float64) - 1) / TEMPERATURE)
    rows = np.repeat(np.arange(len(classes)), graph.k)
    np.add.at(votes, (rows, classes[graph.ids].ravel()), weights.ravel())
    return float((votes.argmax(1) == classes).mean())


def probe_accuracy(network: Network, pixels: Pixels, probe: Probe, device: torch.device) -> float:
    """Return `knn_accuracy` of a network's features of the probe's images, as they are."""
    features = embed_pixels(network, pixels, probe.rows, device)
    return knn_accuracy(features, probe.labels)


def with_settled_norms(
    network: Network, pixels: Pixels, rows: NDArray[np.int64], device: torch.device
) -> Network:
    """Return a copy of a network whose batch norms have seen some images once.

    A network's features before training are to be compared with those after it: without this, its
    batch norms would do nothing yet, and what changes were partly these.

    Parameters
    ----------
    network : Network
        On the device; left as it is.
    pixels, rows, device
        The images, as in `embed_pixels`.
    """
    copied = copy.deepcopy(network).train()
    for module in copied.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
            # The mean over all batches, each with the same weight.
            module.momentum = None
    with torch.no_grad():
        for block in np.array_split(rows, math.ceil(len(rows) / _BATCH)):
            copied.features(normalize(pixels.batch(torch.from_numpy(block), device), pixels))
    return copied


def embed_pixels(
    network: Network, pixels: Pixels, rows: NDArray[np.int64], device: torch.device
) -> NDArray[np.float32]:
    """Return a network's features of some images, without augmentation.

    Parameters
    ----------
    network : Network
        On the device; left in the mode it was in.
    pixels : Pixels
        The images.
    rows : ndarray of int64, shape (m,)
        Which of them.
    device : torch.device
        Where to compute, in float32.

    Returns
    -------
    ndarray of float32, shape (m, dim)
    """
    was_training = network.training
    network.eval()
    blocks: list[Tensor] = []
    with torch.inference_mode():
        for start in range(0, len(rows), _BATCH):
            chosen = torch.from_numpy(rows[start : start + _BATCH])
            images = normalize(pixels.batch(chosen, device), pixels)
            blocks.append(network.features(images).float().cpu())
    network.train(was_training)
    return torch.cat(blocks).numpy()


def labels_of_source(labels: str, source: object, keys: list[bytes]) -> list[str | None]:
    """Find the label of each image of a source.

    Parameters
    ----------
    labels : str
        "folder", a CSV file with the columns path and label (see `read_labels`), or "column:NAME"
        for what the source itself says of its images.
    source : object
        The source.
    keys : list of bytes
        Its images.

    Raises
    ------
    ImageherdError
        If there are no such labels.
    """
    name = labels.removeprefix(COLUMN)
    if name == labels:
        return read_labels(labels, [display_path(key) for key in keys])
    told = source.columns() if isinstance(source, Telling) else None
    there = [c for c in told.column_names if c != KEY] if told is not None else []
    if told is None or name not in there:
        raise ImageherdError(
            f"The images come without a column {name!r}; "
            + (f"they have {', '.join(there)}." if there else "give a CSV file, or folder.")
        )
    known = dict(zip(told[KEY].to_pylist(), told[name].cast(pa.string()).to_pylist(), strict=True))
    return [known.get(key) or None for key in keys]
