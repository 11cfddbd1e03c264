"""k-means: what several methods start from, and the yardstick of all.

Lloyd's algorithm from the best of several k-means++ starts, all run together in PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from imageherd.heads.loop import generator
from imageherd.heads.scaling import BLOCK_ROWS

# Starts are compared on at most this many rows; the best one is then refined on all.
START_ROWS = 20_000
TOLERANCE = 1e-4


def kmeans(
    Z: Tensor,
    n_clusters: int,
    *,
    seed: int,
    n_init: int = 10,
    max_iter: int = 100,
    spherical: bool = False,
    start: Tensor | None = None,
) -> tuple[Tensor, float, int]:
    """Lloyd's k-means from the best of several k-means++ starts.

    Parameters
    ----------
    Z : Tensor of shape (n, d)
        Float32, on any device; read only.
    n_clusters : int
        K, at most n.
    seed : int
        Of the subsample and the starts.
    n_init : int, default=10
        Starts, all run at once on a sample of at most 20,000 rows.
    max_iter : int, default=100
        Rounds at most, for the starts and again for the best one on all rows.
    spherical : bool, default=False
        Bring every centre to length 1 after each round (Dhillon and Modha 2001), for rows of
        length 1: the nearest centre is then the one with the largest cosine.
    start : Tensor of shape (K, d), optional
        Centres to begin with, in place of k-means++.

    Returns
    -------
    centers : Tensor of shape (K, d)
    inertia : float
        Sum of squared distances to the nearest centre.
    rounds : int
        Rounds on all rows.
    """
    if start is None:
        start = kmeans_starts(
            Z, n_clusters, seed=seed, n_init=n_init, max_iter=max_iter, spherical=spherical
        )[0]
    found, rounds = _lloyd(Z, start.to(Z.device)[None], max_iter, spherical)
    return found[0], float(_inertias(Z, found)[0]), rounds


def kmeans_starts(
    Z: Tensor,
    n_clusters: int,
    *,
    seed: int,
    n_init: int,
    max_iter: int = 100,
    spherical: bool = False,
) -> Tensor:
    """Run k-means from `n_init` k-means++ starts on a sample of at most 20,000 rows.

    Parameters as for `kmeans`.

    Returns
    -------
    Tensor of shape (n_init, K, d)
        Centres, the runs in order of their inertia, the smallest first.
    """
    sample = _sample(Z, seed)
    centers = _plus_plus(sample, n_clusters, n_init, generator(seed, stream=101))
    centers, _ = _lloyd(sample, centers, max_iter, spherical)
    return centers[_inertias(sample, centers).argsort(stable=True)]


def _sample(Z: Tensor, seed: int) -> Tensor:
    if len(Z) <= START_ROWS:
        return Z
    rows = torch.randperm(len(Z), generator=generator(seed, stream=100))[:START_ROWS]
    return Z[rows.sort().values.to(Z.device)]


def _plus_plus(Z: Tensor, K: int, R: int, numbers: torch.Generator) -> Tensor:
    """k-means++ (Arthur and Vassilvitskii 2007), greedy: each centre the best of a few draws."""
    n, d = Z.shape
    tries = 2 + int(math.log(K))
    first = torch.randint(n, (R,), generator=numbers).to(Z.device)
    centers = torch.empty((R, K, d), device=Z.device)
    centers[:, 0] = Z[first]
    nearest = _squared(Z, centers[:, 0])
    each = torch.arange(R, device=Z.device)
    for k in range(1, K):
        sums = nearest.double().cumsum(1)
        points = torch.rand((R, tries), generator=numbers, dtype=torch.float64).to(Z.device)
        drawn = torch.searchsorted(sums, points * sums[:, -1:]).clamp_max(n - 1)
        reach = _squared(Z, Z[drawn.flatten()]).view(R, tries, n)
        reach = torch.minimum(reach, nearest[:, None])
        best = reach.sum(2, dtype=torch.float64).argmin(1)
        centers[:, k] = Z[drawn[each, best]]
        nearest = reach[each, best]
    return centers


def _squared(Z: Tensor, points: Tensor) -> Tensor:
    """Squared distances (m, n) of points (m, d) to the rows of Z."""
    shift = points.mean(0)
    points = points - shift
    out = torch.empty((len(points), len(Z)), device=Z.device)
    for i in range(0, len(Z), 4096):
        block = Z[i : i + 4096] - shift
        out[:, i : i + 4096] = (
            points.square().sum(1)[:, None] - 2 * points @ block.T + block.square().sum(1)
        )
    return out.clamp_min_(0)


def _blocks(Z: Tensor, centers: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Nearest centre (R, b), squared distance to it (R, b), rows less the centres' mean (b, d)."""
    R, K, d = centers.shape
    shift = centers.mean((0, 1))
    flat = (centers - shift).view(R * K, d)
    size = max(256, 2**24 // (R * K + d))
    for i in range(0, len(Z), size):
        block = Z[i : i + size] - shift
        distances = (flat.square().sum(1) - 2 * block @ flat.T).view(-1, R, K)
        nearest, labels = distances.min(2)
        nearest = (nearest + block.square().sum(1)[:, None]).clamp_min_(0)
        yield labels.T, nearest.T, block


def _inertias(Z: Tensor, centers: Tensor) -> Tensor:
    """Return the sums of squared distances (R,), float64, to the nearest of centres (R, K, d)."""
    return torch.stack(
        [near.sum(1, dtype=torch.float64) for _, near, _ in _blocks(Z, centers)]
    ).sum(0)


def _lloyd(Z: Tensor, centers: Tensor, max_iter: int, spherical: bool) -> tuple[Tensor, int]:
    """Run Lloyd's rounds from centres (R, K, d), together, each start until it has settled.

    Settled, as in scikit-learn: the centres' squared moves add up to at most 1e-4 of the mean
    variance of a column.
    """
    settled = TOLERANCE * _variance(Z)
    centers = centers.clone()
    active = torch.arange(len(centers), device=Z.device)
    rounds = 0
    while rounds < max_iter and len(active):
        rounds += 1
        moved = _round(Z, centers[active])
        if spherical:
            moved = nn.functional.normalize(moved, dim=2)
        moves = (moved - centers[active]).square().sum((1, 2))
        centers[active] = moved
        active = active[moves > settled]
    return centers, rounds


def _round(Z: Tensor, centers: Tensor) -> Tensor:
    R, K, _ = centers.shape
    sums = torch.zeros_like(centers)
    counts = torch.zeros((R, K), device=Z.device)
    distances = []
    for found, nearest, block in _blocks(Z, centers):
        one_hot = nn.functional.one_hot(found, K).to(Z.dtype)
        sums += (one_hot.transpose(1, 2).reshape(R * K, -1) @ block).view_as(sums)
        counts += one_hot.sum(1)
        distances.append(nearest)
    moved = sums / counts.clamp_min(1)[..., None] + centers.mean((0, 1))
    # An empty cluster takes the row that is farthest from its centre.
    for r in (counts == 0).any(1).nonzero().flatten().tolist():
        empty = (counts[r] == 0).nonzero().flatten()
        farthest = torch.cat(distances, 1)[r].topk(len(empty)).indices
        moved[r, empty] = Z[farthest]
    return moved


def _variance(Z: Tensor) -> float:
    """Mean variance of a column, in blocks."""
    mean = Z.mean(0)
    total = 0.0
    for start in range(0, len(Z), BLOCK_ROWS):
        total += float((Z[start : start + BLOCK_ROWS] - mean).square().sum())
    return total / Z.numel()
