"""A trunk of a few layers with a classifier on top, for methods that reshape the features."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class Classified(nn.Module):
    """A trunk of Linear and ReLU layers, and a linear or two-layer classifier on its output.

    Parameters
    ----------
    widths : sequence of int
        Of the rows coming in, and of every layer of the trunk.
    n_clusters : int
        K.
    classifier_layers : int
        1, or 2: then a layer as wide as the trunk's last, and ReLU, come before the linear one.
    """

    def __init__(self, widths: Sequence[int], n_clusters: int, classifier_layers: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for n_inputs, n_outputs in pairwise(widths):
            parts += [linear(n_inputs, n_outputs), nn.ReLU()]
        self.trunk = nn.Sequential(*parts)
        top = widths[-1]
        parts = [linear(top, n_clusters)]
        if classifier_layers == 2:
            parts = [linear(top, top), nn.ReLU(), *parts]
        self.classifier = nn.Sequential(*parts)

    def start(self, init: str, draws: torch.Generator) -> None:
        """Draw the weights from `draws`, the trunk's as `init` says; biases start at 0.

        "random" is He et al. (2015). "mirrored" makes the trunk begin as little more than a
        rotation: its units come in pairs ±q (Balduzzi et al. 2017, "looks linear"), q rows of a
        random orthogonal matrix, so that what is close in X is close in the trunk's output, as it
        is in the pretrained network that the paper starts from.
        """
        first, last = self.trunk[0], self.classifier[-1]
        for layer in linear_layers(self):
            nn.init.zeros_(layer.bias)
            if layer is last:
                bound = layer.in_features**-0.5
                nn.init.uniform_(layer.weight, -bound, bound, generator=draws)
            elif init == "mirrored":
                start_mirrored(layer.weight, layer is not first, draws)
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=draws)

    def forward(self, Z: Tensor) -> Tensor:
        """Return logits (b, K) of rows (b, d)."""
        logits: Tensor = self.classifier(self.trunk(Z))
        return logits


@torch.no_grad()
def start_mirrored(weight: Tensor, inner: bool, draws: torch.Generator) -> None:
    """Fill a layer's weight (out, in) with units in pairs ±q, q rows of a random orthogonal matrix.

    An inner layer takes what comes in for such pairs, relu(a) and relu(-a), and their difference
    for the a that they hold. An odd unit out is without its pair.
    """
    n_outputs, n_inputs = weight.shape
    half, incoming = -(-n_outputs // 2), -(-n_inputs // 2) if inner else n_inputs
    Q = nn.init.orthogonal_(torch.empty(half, incoming), generator=draws)
    # Where the layer is narrower than what comes in, lengths shrink: make up for it.
    Q *= max(1.0, incoming / half) ** 0.5
    rows = torch.cat([Q, -Q], dim=1) if inner else Q
    weight.copy_(torch.cat([rows, -rows])[:n_outputs, :n_inputs])


def linear(n_inputs: int, n_outputs: int) -> nn.Linear:
    """Make a layer whose weights are still to be drawn: PyTorch's global seed is not touched."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_inputs, n_outputs)  # type: ignore[no-untyped-call]
    return layer


def linear_layers(network: nn.Module) -> list[nn.Linear]:
    """Return the Linear layers of a network, in order."""
    return [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
