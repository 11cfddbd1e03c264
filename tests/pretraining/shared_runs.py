"""RotNet and DINO on a few images, by as many processes as are asked for.

``python shared_runs.py DEVICES FILE`` starts the others, as Fabric does, by the same command; the
first writes what was learned.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from imageherd.fabric import make_fabric
from imageherd.pretraining import dino, rotnet
from imageherd.pretraining.augment import N_LOCAL
from imageherd.pretraining.data import pixels_of_array
from imageherd.pretraining.loop import Run, share_norms
from imageherd.pretraining.networks import make_network


def fixed_crops(size, patch, **how):
    """Views that depend on the image alone: each process draws its own for its images."""

    def crops(images):
        corners = [(i % 3, i // 3) for i in range(N_LOCAL)]
        return [images, images.flip(3)], [images[:, :, y : y + 8, x : x + 8] for x, y in corners]

    return crops


def learned(devices):
    """Return each method's weights and history."""
    torch.set_num_threads(1)
    fabric = make_fabric("cpu", devices=devices)
    images = np.random.default_rng(0).integers(0, 256, (36, 12, 12, 3)).astype(np.uint8)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rotnet, "weak_views", lambda images, draws, flip: images)
        patch.setattr(dino, "MultiCrop", fixed_crops)
        # Where a gradient nearly vanishes, AdamW makes a whole step of its rounding.
        patch.setattr(torch.optim, "AdamW", partial(torch.optim.SGD, momentum=0.9))
        for train, rate in ((rotnet.train_rotnet, 0.01), (dino.train_dino, 0.2)):
            network = make_network("resnet18-narrow", 12, seed=0)
            share_norms(network, fabric)
            run = Run(pixels_of_array(images), 2, 12, 0, fabric, rate)
            network, history = train(network, run)
            found[train.__name__] = (network.state_dict(), history)
    return found, fabric.is_global_zero


if __name__ == "__main__":
    what, first = learned(int(sys.argv[1]))
    if first:
        torch.save(what, Path(sys.argv[2]))
