"""Weak views of images, and composites of several: RICAP and MixUp, with the pairs' targets.

LSD-C (Rebuffi et al. 2020) compares the images of a batch with composites of the same images; the
label of a pair is a mix of the labels of the composite's parts. Where the paper is silent, the
authors' program ("released") is followed. All is drawn from generators on the CPU, so that a seed
gives the same images on every device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from imageherd.heads.lsdc_losses import beta

PAD = 4
"""Pixels that a weak view may be shifted by, as the authors' program and most others do."""


@dataclass(frozen=True)
class Recipe:
    """What the composites of a batch of N images are made of; the same for all N.

    Attributes
    ----------
    partners : Tensor of shape (parts, N), int64, on the CPU
        σ: part s of composite j is of the image ``partners[s, j]``.
    weights : tuple of float
        wσ, one a part, adding up to 1: the part's share of the area, or of the mix.
    split : tuple of int (row, column), optional
        RICAP: where its four parts meet. None: MixUp.
    """

    partners: Tensor
    weights: tuple[float, ...]
    split: tuple[int, int] | None = None


def draw_ricap(
    n: int, height: int, width: int, draws: torch.Generator, alpha: float = 0.3
) -> Recipe:
    """Draw a recipe of RICAP (Takahashi et al. 2018), one for a batch.

    The row and the column where the four parts meet are drawn from Beta(alpha, alpha) of the
    height and of the width. A part larger than a quarter is of the image itself (released), the
    others are of images drawn, each from a permutation of its own.

    Parameters
    ----------
    n, height, width : int
        Images, and their size in pixels.
    draws : torch.Generator
        On the CPU.
    alpha : float, default=0.3
        The lower, the more often a composite is nearly one image.
    """
    row = round(height * beta(alpha, draws))
    column = round(width * beta(alpha, draws))
    areas = [h * w for _, _, h, w in _boxes((row, column), height, width)]
    itself = torch.arange(n)
    others = [torch.randperm(n, generator=draws) for _ in areas]
    quarter = height * width / 4
    partners = [
        itself if area > quarter else other for area, other in zip(areas, others, strict=True)
    ]
    weights = tuple(area / (height * width) for area in areas)
    return Recipe(torch.stack(partners), weights, (row, column))


def draw_mixup(n: int, draws: torch.Generator, alpha: float = 0.3) -> Recipe:
    """Draw a recipe of MixUp (Zhang et al. 2018): w·image + (1 - w)·other, w ~ Beta(alpha, alpha).

    Parameters as in `draw_ricap`; one w for the batch.
    """
    weight = beta(alpha, draws)
    partners = torch.stack([torch.arange(n), torch.randperm(n, generator=draws)])
    return Recipe(partners, (weight, 1 - weight))


def compose(images: Tensor, recipe: Recipe, draws: torch.Generator) -> Tensor:
    """Make the composites of a batch.

    Parameters
    ----------
    images : Tensor of shape (N, C, height, width), floating
        Of the size the recipe was drawn for.
    recipe : Recipe
        From `draw_ricap` or `draw_mixup`.
    draws : torch.Generator
        RICAP: where in its image each part is cut from, one place a part for the whole batch. So
        two composites of one recipe have the same images in the same places, cut elsewhere.

    Returns
    -------
    Tensor of shape (N, C, height, width)
    """
    parts = zip(recipe.partners.to(images.device), recipe.weights, strict=True)
    if recipe.split is None:
        mixed = torch.zeros_like(images)
        for partners, weight in parts:
            mixed += weight * images[partners]
        return mixed
    height, width = images.shape[2:]
    composites = torch.empty_like(images)
    boxes = _boxes(recipe.split, height, width)
    for (partners, _), (top, left, h, w) in zip(parts, boxes, strict=True):
        y = int(torch.randint(height - h + 1, (), generator=draws))
        x = int(torch.randint(width - w + 1, (), generator=draws))
        piece = images[partners, :, y : y + h, x : x + w]
        composites[:, :, top : top + h, left : left + w] = piece
    return composites


def pair_targets(A: Tensor, recipe: Recipe) -> Tensor:
    """Targets of image i against composite j: Σσ wσ A[i, σ(j)], one soft target (figure 3).

    Eq. 6 read literally sums one cross-entropy for each part instead, which counts what is not
    connected several times; the authors' program has the soft target.

    Parameters
    ----------
    A : Tensor of shape (N, N)
        Labels of the pairs of images, 1 for "of a kind".
    recipe : Recipe
        Of the composites.

    Returns
    -------
    Tensor of shape (N, N)
        In [0, 1] where A is.
    """
    targets = torch.zeros_like(A)
    for partners, weight in zip(recipe.partners.to(A.device), recipe.weights, strict=True):
        targets += weight * A[:, partners]
    return targets


def weak_views(images: Tensor, draws: torch.Generator, *, flip: bool, pad: int = PAD) -> Tensor:
    """Shift every image by up to `pad` pixels either way, what comes in being 0, and mirror half.

    Parameters
    ----------
    images : Tensor of shape (N, C, height, width)
        Of any dtype, on any device.
    draws : torch.Generator
        On the CPU.
    flip : bool
        Whether to mirror: not where left and right differ, as in digits.
    pad : int, default=4
        Pixels.

    Returns
    -------
    Tensor
        Of the same shape, dtype and device.
    """
    n, _, height, width = images.shape
    top, left = torch.randint(2 * pad + 1, (2, n, 1), generator=draws)
    rows, columns = top + torch.arange(height), left + torch.arange(width)
    if flip:
        mirrored = torch.randint(2, (n, 1), generator=draws).bool()
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = torch.nn.functional.pad(images, (pad, pad, pad, pad))
    each = torch.arange(n)[:, None, None]
    rows, columns = rows[:, :, None], columns[:, None, :]
    index = (part.to(images.device) for part in (each, rows, columns))
    # Indices apart from each other put their axes first.
    return padded.permute(0, 2, 3, 1)[tuple(index)].permute(0, 3, 1, 2).contiguous()


def _boxes(split: tuple[int, int], height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Return top, left, height and width of the four parts that meet at a point."""
    row, column = split
    return [
        (top, left, h, w)
        for top, h in ((0, row), (row, height - row))
        for left, w in ((0, column), (column, width - column))
    ]
