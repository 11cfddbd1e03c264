"""Random views of a batch of images, drawn from torch's global generator, by kornia.

Images are float32 (b, 3, s, s) from 0 to 1; kornia is imported on first use.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from torch import Tensor, nn

from imageherd.errors import ImageherdError

GLOBAL_SCALE, LOCAL_SCALE, N_LOCAL = (0.4, 1.0), (0.05, 0.4), 8
# DINO's sides are 224 and 96; its blur has a standard deviation of 0.1 to 2 pixels of 224.
_GLOBAL_SIDE, _LOCAL_SIDE, _BLUR = 224, 96, (0.1, 2.0)
# A narrower kernel leaves a pixel more than 99 % of itself.
_SEEN_BLUR = 0.3
# Side in pixels of the image that the smallest local crop covers.
_LEAST_LOCAL = 8


def kornia_augmentation() -> Any:
    """Return ``kornia.augmentation``.

    Raises
    ------
    ImageherdError
        If kornia is not installed.
    """
    try:
        import kornia.augmentation as augmentation
    except ImportError as error:
        raise ImageherdError('Pretraining needs kornia: pip install "imageherd[train]"') from error
    return augmentation


class MultiCrop(nn.Module):
    """DINO's views of each image: 2 global crops and 8 local ones (Caron et al. 2021).

    A global crop covers 40 to 100 % of the image, a local one 5 to 40 %, at proportions from 3:4 to
    4:3, bicubic. All: mirrored with probability ½; colours jittered with 0.8 (brightness and
    contrast 0.4, saturation 0.2, hue 0.1), grey with 0.2. Blurred with 1 and 0.1 (the global ones)
    and ½ (local); the second global one is solarised with 0.2. In images of less than 36 pixels a
    local crop's least share is larger: 8×8 pixels, at most 40 %, for what is smaller shows nothing
    of the image (ours).

    Parameters
    ----------
    size : int
        Side of the images and of the global crops, in pixels.
    patch : int
        What the local side is a multiple of.
    flip : bool, default=True
        Whether to mirror.
    recolor : bool, default=True
        Whether to jitter colours, make grey and solarise.

    Attributes
    ----------
    local_size : int
        Side of the local crops: 96/224 of `size`, up to the next multiple of `patch`.

    Notes
    -----
    The blur's standard deviation is 0.1 to 2 pixels at 224 and in proportion at other sizes; up to
    33 pixels it would not be seen and is left out.
    """

    def __init__(self, size: int, patch: int, *, flip: bool = True, recolor: bool = True) -> None:
        super().__init__()
        self.local_size = math.ceil(size * _LOCAL_SIDE / _GLOBAL_SIDE / patch) * patch
        make = partial(_views, size=size, flip=flip, recolor=recolor)
        self._first = make(size, GLOBAL_SCALE, blur=1.0)
        self._second = make(size, GLOBAL_SCALE, blur=0.1, solarize=0.2)
        self._local = make(self.local_size, local_scale(size), blur=0.5)

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the 2 global views (b, 3, s, s) and the 8 local ones (b, 3, s', s')."""
        local = self._local(images.repeat(N_LOCAL, 1, 1, 1))
        return [self._first(images), self._second(images)], list(local.chunk(N_LOCAL))


def local_scale(size: int) -> tuple[float, float]:
    """Return the shares that a local crop covers of an image of this side: see `MultiCrop`."""
    low, high = LOCAL_SCALE
    return min(max(low, (_LEAST_LOCAL / size) ** 2), high), high


def _views(
    side: int,
    scale: tuple[float, float],
    *,
    size: int,
    flip: bool,
    recolor: bool,
    blur: float,
    solarize: float = 0.0,
) -> nn.Sequential:
    kornia = kornia_augmentation()
    steps = [
        kornia.RandomResizedCrop(
            (side, side), scale=scale, resample="BICUBIC", cropping_mode="resample"
        ),
        _Clamp(),
        kornia.RandomHorizontalFlip(p=0.5 if flip else 0.0),
    ]
    if recolor:
        steps += [kornia.ColorJitter(0.4, 0.4, 0.2, 0.1, p=0.8), kornia.RandomGrayscale(p=0.2)]
    low, high = (sigma * size / _GLOBAL_SIDE for sigma in _BLUR)
    if high >= _SEEN_BLUR:
        kernel = 2 * math.ceil(3 * high) + 1
        steps.append(kornia.RandomGaussianBlur((kernel, kernel), (low, high), p=blur))
    if recolor and solarize:
        steps.append(kornia.RandomSolarize((0.5, 0.5), 0.0, p=solarize))
    return nn.Sequential(*steps)


class _Clamp(nn.Module):
    """Bicubic interpolation leaves the range that the changes of colour expect."""

    def forward(self, images: Tensor) -> Tensor:
        return images.clamp(0, 1)
