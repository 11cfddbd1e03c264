"""RotNet and DINO learn on 1,797 small images, in about a minute of one core."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from imageherd.fabric import make_fabric
from imageherd.pretraining.data import pixels_of_array
from imageherd.pretraining.dino import train_dino
from imageherd.pretraining.loop import Run
from imageherd.pretraining.networks import VisionTransformer, make_network
from imageherd.pretraining.probe import Probe, probe_accuracy, with_settled_norms
from imageherd.pretraining.rotnet import train_rotnet


def coloured_digits(size=20):
    """Handwritten digits in any place, in any light ink on any dark ground."""
    rng = np.random.default_rng(0)
    digits = load_digits()
    images = np.empty((len(digits.images), size, size, 3), np.uint8)
    for image, digit in zip(images, digits.images, strict=True):
        y, x = rng.integers(0, size - 15, 2)
        ink = np.zeros((size, size, 1))
        ink[y : y + 16, x : x + 16, 0] = np.kron(digit / 16, np.ones((2, 2)))
        front, back = rng.uniform(128, 255, 3), rng.uniform(0, 128, 3)
        image[:] = ink * front + (1 - ink) * back
    return images, digits.target


def trained(method, network, images, classes, **settings):
    """Return the accuracy before training, batch norms settled, and the history with it."""
    pixels, cpu = pixels_of_array(images), torch.device("cpu")
    probe = Probe(np.arange(len(pixels)), classes.astype(np.int64))

    def accuracy(network):
        return {"knn_accuracy": probe_accuracy(network, pixels, probe, cpu)}

    before = accuracy(with_settled_norms(network, pixels, probe.rows, cpu))["knn_accuracy"]
    run = Run(pixels, seed=0, fabric=make_fabric("cpu"), report=accuracy, **settings)
    return before, method(network, run)[1]


@pytest.mark.slow
def test_rotnet_learns():
    network = make_network("resnet18-narrow", 20)
    settings = {"epochs": 3, "batch_size": 64, "rate": 0.1}
    before, history = trained(train_rotnet, network, *coloured_digits(), **settings)
    # Chance: log 4, and 10 %.
    assert history[-1]["loss"] < 0.6 * np.log(4)
    assert history[-1]["knn_accuracy"] > before + 0.3


@pytest.mark.slow
def test_dino_learns():
    digits = load_digits()
    images = np.kron((digits.images * 15.9).astype(np.uint8), np.ones((1, 2, 2), np.uint8))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = VisionTransformer(size=16, patch=4, dim=64, depth=2, n_heads=2)
    settings = {"epochs": 20, "batch_size": 64, "rate": 4e-3, "flip": False, "recolor": False}
    before, history = trained(train_dino, network, images, digits.target, **settings)
    first, last = history[0], history[-1]
    assert last["loss"] < first["loss"] - 0.1
    assert last["entropy"] < max(epoch["entropy"] for epoch in history) - 0.1
    # What the student knows of an image's answer from another view of it; 0 if all have one.
    told = [epoch["mean_entropy"] - epoch["loss"] for epoch in history]
    assert told[0] < 0.02
    assert told[-1] > 0.1
    assert last["knn_accuracy"] > before + 0.12
