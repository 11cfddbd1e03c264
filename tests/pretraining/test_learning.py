"""RotNet and DINO learn on some 2,000 small images, in half a minute of one core each."""

import colorsys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from imageherd.pretraining.data import pixels_of_array
from imageherd.pretraining.dino import train_dino
from imageherd.pretraining.loop import Run, make_fabric
from imageherd.pretraining.networks import ResNet18, make_network
from imageherd.pretraining.probe import Probe, probe_accuracy
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


def tinted_noise(n=2000, size=16):
    """Noise of any brightness with a tint, one of five, that every crop of it shares."""
    rng = np.random.default_rng(0)
    tints = rng.integers(0, 5, n)
    images = np.empty((n, size, size, 3), np.uint8)
    for image, tint in zip(images, tints, strict=True):
        color = np.array(colorsys.hsv_to_rgb(tint / 5, 0.5, rng.uniform(60, 200)))
        image[:] = np.clip(color * rng.normal(1, 0.5, (size, size, 1)), 0, 255)
    return images, tints


def trained(method, network, images, classes, **settings):
    """Return the accuracy before training, and the history with that after each epoch."""
    pixels, cpu = pixels_of_array(images), torch.device("cpu")
    probe = Probe(np.arange(len(pixels)), classes.astype(np.int64))

    def accuracy(network):
        return {"knn_accuracy": probe_accuracy(network, pixels, probe, cpu)}

    before = accuracy(network)["knn_accuracy"]
    run = Run(pixels, seed=0, fabric=make_fabric("cpu"), report=accuracy, **settings)
    return before, method(network, run)[1]


@pytest.mark.slow
def test_rotnet_learns():
    network = make_network("resnet18-narrow", 20)
    settings = {"epochs": 5, "batch_size": 64, "rate": 0.1}
    before, history = trained(train_rotnet, network, *coloured_digits(), **settings)
    # Chance: log 4, and 10 %.
    assert history[-1]["loss"] < 0.6 * np.log(4)
    assert history[-1]["knn_accuracy"] > before + 0.1


@pytest.mark.slow
def test_dino_learns():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ResNet18(small=True, width=8)
    settings = {"epochs": 5, "batch_size": 32, "rate": 8e-3}
    before, history = trained(train_dino, network, *tinted_noise(), **settings)
    # Chance: log 1,024, and 20 %.
    assert history[-1]["loss"] < np.log(1024) - 0.05
    assert history[-1]["knn_accuracy"] > before + 0.05
