"""RotNet: a network that tells by how much an image was turned has to see what is in it.

Source: Gidaris, Singh and Komodakis 2018, "Unsupervised representation learning by predicting image
rotations"; the schedule of LSD-C, section "Self-supervised pretraining".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from imageherd.pretraining.composition import weak_views
from imageherd.pretraining.data import normalize
from imageherd.pretraining.loop import Run, train
from imageherd.pretraining.networks import Network

EPOCHS, BATCH_SIZE = 200, 128
RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 5e-4
# Shares of the run after which the rate is divided by 5: epochs 60, 120 and 160 of 200.
DROPS, DIVISOR = (0.3, 0.6, 0.8), 5
N_ROTATIONS = 4


def rotations(images: Tensor) -> Tensor:
    """Turn images by 0, 90, 180 and 270° counter-clockwise.

    Parameters
    ----------
    images : Tensor of shape (b, 3, s, s)
        Square.

    Returns
    -------
    Tensor of shape (4 b, 3, s, s)
        All images unturned, then all turned by 90°, and so on.
    """
    return torch.cat([torch.rot90(images, k, (2, 3)) for k in range(N_ROTATIONS)])


def rotnet_loss(logits: Tensor) -> Tensor:
    """Return the mean cross entropy of the rotations (Gidaris et al. 2018, eqs. 2 and 3).

    Parameters
    ----------
    logits : Tensor of shape (4 b, 4)
        Of images in the order of `rotations`.
    """
    b = len(logits) // N_ROTATIONS
    turned = torch.arange(N_ROTATIONS, device=logits.device).repeat_interleave(b)
    return F.cross_entropy(logits.float(), turned)


def learning_rate(share: float, first: float = RATE) -> float:
    """Return the rate: `first`, divided by 5 after 30, 60 and 80 % of the run.

    Parameters
    ----------
    share : float
        How much of the run is over, from 0 to 1.
    first : float, default=0.1
        The rate it starts with.
    """
    return first / float(DIVISOR ** sum(share >= drop for drop in DROPS))


class _Classifier(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.head = nn.Linear(network.dim, N_ROTATIONS)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.network.features(images))
        return logits


def train_rotnet(network: Network, run: Run) -> tuple[Network, list[dict[str, Any]]]:
    """Pretrain a network by predicting rotations.

    Each image of a batch is moved by up to 4 pixels and, unless the run forbids it, mirrored or
    not, then turned all four ways: a step sees 4 · `batch_size` images. SGD with momentum 0.9 and
    weight decay 5e-4.

    Parameters
    ----------
    network : Network
        At its start; trained in place.
    run : Run
        The run.

    Returns
    -------
    network : Network
        The same network, trained.
    history : list of dict
        See `train`.

    Notes
    -----
    An image costs 4 forward and backward passes.
    """
    fabric = run.fabric
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        model = _Classifier(network)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=run.rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    wrapped, fabric_optimizer = fabric.setup(model, optimizer)

    def step(images: Tensor, index: int) -> Tensor:
        optimizer.param_groups[0]["lr"] = learning_rate(index / run.total, run.rate)
        seen = weak_views(images, torch.default_generator, flip=run.flip)
        loss = rotnet_loss(wrapped(rotations(normalize(seen, run.pixels))))
        fabric_optimizer.zero_grad()
        fabric.backward(loss)
        fabric_optimizer.step()
        return loss.detach()

    state = {"model": model, "optimizer": optimizer}
    history = train(
        step, run, state, network=network, description="RotNet", advice="try --precision 32"
    )
    return network, history
