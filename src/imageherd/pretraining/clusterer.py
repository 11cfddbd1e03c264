"""A network and the classifier on its features, trained together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from imageherd.errors import ImageherdError
from imageherd.heads.trained import classifier_of
from imageherd.heads.trunk import linear_layers
from imageherd.pretraining.networks import Network, network_from_settings, network_settings

LAST_BLOCK = "block4"


class Clusterer(nn.Module):
    """A network and the classifier on its features: images to features and logits."""

    network: Network

    def __init__(self, network: Network, classifier: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.classifier = classifier

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (b, d) and logits (b, K) of normalised images (b, 3, s, s)."""
        f = self.network(images)
        return f, self.classifier(f)


def freeze_first_blocks(network: Network) -> None:
    """Freeze all of a network but its last block; batch norms go on following the batch.

    Raises
    ------
    ImageherdError
        If it has no four blocks.
    """
    parts = dict(network.named_children())
    if LAST_BLOCK not in parts:
        raise ImageherdError(
            f"LSD-C trains the last of four blocks, which a {type(network).__name__} has not; "
            "start from a resnet18 or vgg4."
        )
    for name, part in parts.items():
        part.requires_grad_(name == LAST_BLOCK)


def restart_last_block(network: Network, seed: int) -> None:
    """Give a network's last block the weights that a new network of `seed` begins with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = network_from_settings(network_settings(network))
    last = network.get_submodule(LAST_BLOCK)
    last.load_state_dict(new.get_submodule(LAST_BLOCK).state_dict())


def make_classifier(
    dim: int, n_clusters: int, n_layers: int, draws: torch.Generator
) -> nn.Sequential:
    """Make a linear classifier, or one of two layers, that depends on `draws` alone.

    Parameters
    ----------
    dim : int
        Of the features.
    n_clusters : int
        K.
    n_layers : {1, 2}
        With 2, a layer as wide as the features, and ReLU, come before the linear one.
    draws : torch.Generator
        On the CPU.
    """
    classifier = classifier_of((dim,) * n_layers + (n_clusters,))
    for layer in linear_layers(classifier):
        bound = layer.in_features**-0.5
        nn.init.uniform_(layer.weight, -bound, bound, generator=draws)
        nn.init.zeros_(layer.bias)
    return classifier
