"""VGG-4: the small network that LSD-C takes for MNIST, after IIC (Ji et al. 2019)."""

from __future__ import annotations

from torch import Tensor, nn


class VGG4(nn.Module):
    """Four blocks: a 5×5 convolution, batch normalisation and ReLU; 2×2 max-pooling between them.

    IIC's classifier sees every place of the last maps, 4,608 numbers for an image of 24 pixels.
    Here, as in ResNet-18, features are their mean over places; LSD-C says only that its network is
    inspired by IIC's.

    Attributes
    ----------
    block1, block2, block3, block4, pooling : Module
        The parts in order, with 64, 128, 256 and 512 channels.
    dim : int
        Length of a feature vector, 512.
    patch : int
        What an image's side should be a multiple of: 4.

    Notes
    -----
    4.3 million weights. A 28-pixel image costs 0.11 · 10⁹ multiplications, three times that to
    train on.
    """

    dim = 512
    patch = 4

    def __init__(self) -> None:
        super().__init__()
        self.block1 = _block(3, 64)
        self.block2 = nn.Sequential(nn.MaxPool2d(2), *_block(64, 128))
        self.block3 = nn.Sequential(nn.MaxPool2d(2), *_block(128, 256))
        self.block4 = nn.Sequential(nn.MaxPool2d(2), *_block(256, 512))
        self.pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def features(self, x: Tensor) -> Tensor:
        """Turn normalised images (b, 3, s, s) of 8 pixels or more into features (b, dim)."""
        for part in (self.block1, self.block2, self.block3, self.block4, self.pooling):
            x = part(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Return `features`."""
        return self.features(x)


def _block(n_in: int, n_out: int) -> nn.Sequential:
    convolution = nn.Conv2d(n_in, n_out, 5, padding=2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(n_out), nn.ReLU(inplace=True))
