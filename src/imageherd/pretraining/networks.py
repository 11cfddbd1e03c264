"""The networks trained here: ResNet-18 and small vision transformers, from pixels to one vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from imageherd.errors import ImageherdError
from imageherd.pretraining.vgg import VGG4

# Above this side the first layers shrink the image, as they do on ImageNet.
LARGEST_SMALL = 64

_VITS = {
    "vit-small": {"dim": 384, "depth": 12, "n_heads": 6},
    "vit-tiny": {"dim": 192, "depth": 12, "n_heads": 3},
    "vit-mini": {"dim": 128, "depth": 6, "n_heads": 4},
}
_RESNETS = {"resnet18": 64, "resnet18-narrow": 16}
CONVOLUTIONAL = (*_RESNETS, "vgg4")
"""Names of the networks that are no transformers."""

NETWORKS = (*CONVOLUTIONAL, *_VITS)
"""Names of all networks; the narrow ResNet (16 channels for 64), VGG-4 on digits and the mini ViT
suit a CPU."""


class ResNet18(nn.Module):
    """ResNet-18 without its classifier (He et al. 2016).

    Parameters
    ----------
    small : bool, default=False
        The 32-pixel variant: a 3×3 first convolution of stride 1 and no max-pooling, so that the
        last maps are an eighth of the image's side. False: 7×7 of stride 2 and max-pooling, a
        thirty-second.
    width : int, default=64
        Channels of the first stage; the four have 1, 2, 4 and 8 times as many.

    Attributes
    ----------
    stem, block1, block2, block3, block4, pooling : Module
        The parts in order; a block is a stage of two residual blocks.
    dim : int
        Length of a feature vector, 8 · width: 512.

    Notes
    -----
    11.2 million weights. A 32-pixel image costs 0.56 · 10⁹ multiplications with ``small``, and
    three times that to train on. Cost and weights grow with width².
    """

    def __init__(self, *, small: bool = False, width: int = 64) -> None:
        super().__init__()
        self.small, self.width, self.dim = small, width, 8 * width
        kernel, stride = (3, 1) if small else (7, 2)
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        if not small:
            layers.append(nn.MaxPool2d(3, 2, 1))
        self.stem = nn.Sequential(*layers)
        self.block1 = _stage(width, width, 1)
        self.block2 = _stage(width, 2 * width, 2)
        self.block3 = _stage(2 * width, 4 * width, 2)
        self.block4 = _stage(4 * width, 8 * width, 2)
        self.pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        # Faster, on a CPU too; what comes in may lie in memory as it likes.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def patch(self) -> int:
        """What an image's side should be a multiple of: 4."""
        return 4

    def features(self, x: Tensor) -> Tensor:
        """Turn normalised images (b, 3, s, s) of any side into features (b, dim)."""
        for part in (self.stem, self.block1, self.block2, self.block3, self.block4, self.pooling):
            x = part(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Return `features`."""
        return self.features(x)


class _Residual(nn.Module):
    """Two 3×3 convolutions and the way around them."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(n_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(inner)) + self.shortcut(x), inplace=True)


def _stage(n_in: int, n_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(_Residual(n_in, n_out, stride), _Residual(n_out, n_out, 1))


class VisionTransformer(nn.Module):
    """A vision transformer with a class token (Dosovitskiy et al. 2021), as small as wanted.

    Layer norm comes before attention and before the MLP of 4 · dim, GELU; the class token after
    the last norm is the feature. Weights start truncated-normal with std 0.02, biases at 0.

    Parameters
    ----------
    size : int
        Side of the images in pixels, a multiple of `patch`.
    patch : int
        Side of the square that becomes a token.
    dim, depth, n_heads : int
        Length of a token, number of layers, attention heads of each.

    Attributes
    ----------
    dim : int
        Length of a feature vector.
    drop_path : float
        Stochastic depth: the share of images that skip a layer in training, rising linearly from 0
        at the first layer to this at the last. 0 unless a method sets it.

    Notes
    -----
    Images of another side are taken too (DINO's local crops): positions are interpolated
    bicubically. With t tokens an image costs about depth · (12 · dim² · t + 2 · dim · t²)
    multiplications.
    """

    def __init__(self, *, size: int, patch: int, dim: int, depth: int, n_heads: int) -> None:
        super().__init__()
        self.size, self.patch, self.dim = size, patch, dim
        self.depth, self.n_heads = depth, n_heads
        self.drop_path = 0.0
        self.grid = size // patch
        self.embedding = nn.Conv2d(3, dim, patch, patch)
        self.class_token = nn.Parameter(torch.empty(1, 1, dim))
        self.positions = nn.Parameter(torch.empty(1, 1 + self.grid**2, dim))
        self.layers = nn.ModuleList(_Layer(dim, n_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def features(self, x: Tensor) -> Tensor:
        """Turn normalised images (b, 3, s, s), s a multiple of the patch, into (b, dim)."""
        tokens = self.embedding(x)
        positions = self._positions(tokens.shape[-1])
        tokens = tokens.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), tokens], 1) + positions
        for i, layer in enumerate(self.layers):
            tokens = layer(tokens, self.drop_path * i / max(1, self.depth - 1))
        features: Tensor = self.norm(tokens[:, 0])
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Return `features`."""
        return self.features(x)

    def _positions(self, grid: int) -> Tensor:
        if grid == self.grid:
            return self.positions
        # As a matrix product: the gradient of a GPU's own interpolation has no fixed order of sums.
        weights = _interpolation(self.grid, grid).to(self.positions)
        moved = weights @ self.positions[:, 1:]
        return torch.cat([self.positions[:, :1], moved], 1)


def _interpolation(before: int, after: int) -> Tensor:
    """Return the matrix (after², before²) that interpolates a grid of positions bicubically."""
    basis = torch.eye(before**2).reshape(before**2, 1, before, before)
    moved = F.interpolate(basis, size=(after, after), mode="bicubic", align_corners=False)
    return moved.reshape(before**2, after**2).T


class _Layer(nn.Module):
    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.projection = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, tokens: Tensor, drop: float) -> Tensor:
        tokens = tokens + self._kept(self._attention(self.norm1(tokens)), drop)
        return tokens + self._kept(self.mlp(self.norm2(tokens)), drop)

    def _attention(self, tokens: Tensor) -> Tensor:
        b, t, dim = tokens.shape
        q, k, v = self.qkv(tokens).reshape(b, t, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        projected: Tensor = self.projection(mixed.transpose(1, 2).reshape(b, t, dim))
        return projected

    def _kept(self, branch: Tensor, drop: float) -> Tensor:
        if not self.training or drop == 0:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= drop
        return branch * kept.to(branch.dtype) / (1 - drop)


Network = ResNet18 | VGG4 | VisionTransformer


def make_network(name: str, size: int, *, seed: int = 0) -> Network:
    """Build a network with fresh weights that depend on `seed` alone.

    Parameters
    ----------
    name : str
        One of `NETWORKS`. "resnet18-narrow" has 16 channels where "resnet18" has 64;
        "vgg4" is LSD-C's for digits; "vit-mini" has 6 layers of 128, "vit-tiny" 12 of 192,
        "vit-small" 12 of 384.
    size : int
        Side of the images in pixels. Up to 64, a ResNet is the small variant (3×3 stem, no
        max-pooling). A ViT's patch is 4 up to 48 pixels, 8 up to 96, else 16.
    seed : int, default=0
        Seed of the weights; torch's global state is left as it was.

    Raises
    ------
    ImageherdError
        If there is no such network, or the size is no multiple of the ViT's patch, or below 8.
    """
    if name not in NETWORKS:
        raise ImageherdError(f"network={name!r} is not known; choose one of {', '.join(NETWORKS)}.")
    if size < 8:
        raise ImageherdError(f"size={size} is too small for a network; give 8 pixels or more.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name in _RESNETS:
            return ResNet18(small=size <= LARGEST_SMALL, width=_RESNETS[name])
        if name == "vgg4":
            return VGG4()
        patch = 4 if size <= 48 else 8 if size <= 96 else 16
        if size % patch:
            near = max(patch, round(size / patch) * patch)
            raise ImageherdError(
                f"{name} cuts an image into squares of {patch} pixels, so size={size} cannot be "
                f"done; {near} can."
            )
        return VisionTransformer(size=size, patch=patch, **_VITS[name])


def network_settings(network: Network) -> dict[str, Any]:
    """Return what `network_from_settings` needs to build the same network: plain JSON values."""
    if isinstance(network, ResNet18):
        return {"family": "resnet18", "small": network.small, "width": network.width}
    if isinstance(network, VGG4):
        return {"family": "vgg4"}
    names = ("size", "patch", "dim", "depth", "n_heads")
    return {"family": "vit", **{name: getattr(network, name) for name in names}}


def network_from_settings(settings: Mapping[str, Any]) -> Network:
    """Build the network that `network_settings` described; its weights are still to be loaded.

    Raises
    ------
    ValueError
        If the family is not known.
    """
    families: dict[str, type[Network]] = {
        "resnet18": ResNet18,
        "vgg4": VGG4,
        "vit": VisionTransformer,
    }
    arguments = dict(settings)
    family = arguments.pop("family", None)
    if family not in families:
        raise ValueError(f"family={family!r} is not one of {', '.join(families)}")
    with torch.random.fork_rng(devices=[]):
        return families[family](**arguments)
