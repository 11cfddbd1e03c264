"""LSD-C's second views, pairwise labels and losses (Rebuffi et al. 2020), as plain functions.

A is the matrix of pairwise labels within a batch of N points, 1 where two points are taken to be
of a kind. Table and equation numbers are the paper's. Costs are N² times the columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it


def beta(alpha: float, draws: torch.Generator) -> float:
    """Draw from Beta(alpha, alpha); torch has no such draw from a generator of one's own."""
    seed = int(torch.randint(2**62, (1,), generator=draws))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def second_views(
    Z: Tensor, neighbors: Tensor | None, views: Tensor | None, draws: torch.Generator
) -> Callable[[Tensor], Tensor]:
    """Return what draws a second view (b, d) of each of some rows (b,) of Z (n, d).

    It is one of `views` (n, V, d) or else of `neighbors` (n, k), or else the row itself.
    """

    def draw(rows: Tensor) -> Tensor:
        if views is None and neighbors is None:
            return Z[rows]
        many = cast(Tensor, neighbors if views is None else views).shape[1]
        choice = torch.randint(many, rows.shape, generator=draws).to(rows.device)
        if views is not None:
            return views[rows, choice]
        return Z[cast(Tensor, neighbors)[rows, choice]]

    return draw


def connections(
    f: Tensor,
    labeling: str,
    n_clusters: int,
    *,
    k: int | None = None,
    released_count: bool = False,
    threshold: float | None = None,
    temperature: float | None = None,
) -> Tensor:
    """Return A (N, N) of a batch's features (N, D): table 1's labels.

    Parameters
    ----------
    f : Tensor of shape (N, D)
        Features.
    labeling : {"knn", "sne", "cosine", "l2"}
        Which.
    n_clusters : int
        K, on which depends what is not given.
    k, released_count, threshold, temperature
        As in `imageherd.heads.lsdc.LSDC`.
    """
    share = 1 / n_clusters
    if labeling == "knn":
        k = default_k(len(f) * share) if k is None else k
        return knn_labels(f, max(0, k - 2) if released_count else k)
    if labeling == "sne":
        return sne_labels(f, temperature, threshold, share)
    labels = cosine_labels if labeling == "cosine" else l2_labels
    return labels(f, threshold, share)


def knn_labels(f: Tensor, k: int) -> Tensor:
    """Table 1, kNN: i and j are connected if one is among the k nearest of the other.

    Parameters
    ----------
    f : Tensor of shape (N, D)
        Features; nearest by Euclidean distance.
    k : int
        How many others count as near, from 0; at most N - 1 are used.

    Returns
    -------
    Tensor of shape (N, N)
        A of `f`'s dtype, symmetric, ones on the diagonal.
    """
    distances = squared_distances(f).fill_diagonal_(math.inf)
    k = min(k, len(f) - 1)
    near = distances.topk(k, dim=1, largest=False).indices
    A = torch.zeros_like(distances).scatter_(1, near, 1.0)
    return torch.maximum(A, A.T).fill_diagonal_(1.0)


def default_k(size: float) -> int:
    """Return k for batches with about `size` points of each kind: size - 1 - √size, at least 1.

    So many vary with the batch by √size or so: nearly every point then has k others of its kind.
    """
    return max(1, round(size - 1 - math.sqrt(size)))


def sne_labels(
    f: Tensor, temperature: float | None = None, threshold: float | None = None, share: float = 0.1
) -> Tensor:
    """Eqs. 1 and 2, symmetric SNE: connected if (p(j|i) + p(i|j)) / 2 > τ.

    Parameters
    ----------
    f : Tensor of shape (N, D)
        Features.
    temperature : float, optional
        T of eq. 1. By default T² is the mean squared distance of the batch's pairs, which makes
        the labels free of the features' unit.
    threshold, share : float
        τ, or the share of pairs to connect; see `connect`.

    Returns
    -------
    Tensor of shape (N, N)
        A, symmetric, ones on the diagonal.
    """
    distances = squared_distances(f)
    n = len(f)
    if temperature is None:
        # Copies of one point alone are at distance 0: any T will do for them.
        square = (distances.sum() / (n * max(n - 1, 1))).clamp_min(torch.finfo(f.dtype).tiny)
    else:
        square = torch.as_tensor(temperature**2, dtype=f.dtype, device=f.device)
    p = (-distances / square).fill_diagonal_(-math.inf).softmax(1)
    return connect((p + p.T) / 2, threshold, share)


def cosine_labels(f: Tensor, threshold: float | None = None, share: float = 0.1) -> Tensor:
    """Table 1, cosine: connected if cos(fi, fj) > τ; arguments and result as `sne_labels`."""
    f = F.normalize(f, dim=1)
    return connect(f @ f.T, threshold, share)


def l2_labels(f: Tensor, threshold: float | None = None, share: float = 0.1) -> Tensor:
    """Table 1, L2: connected if ‖fi - fj‖² < τ; arguments and result as `sne_labels`."""
    return connect(-squared_distances(f), None if threshold is None else -threshold, share)


def connect(similarity: Tensor, threshold: float | None, share: float) -> Tensor:
    """Connect the pairs (N, N) above the threshold; without one, the most similar `share` of them.

    The second has no unit and needs no search: with a share of 1/K each point is connected to as
    many others as are of its kind, were there K kinds of equal size.
    """
    n = len(similarity)
    if threshold is None:
        others = similarity.masked_fill(_diagonal(similarity), -math.inf)
        # A pair stands in the matrix twice.
        wanted = 2 * max(1, round(share * n * (n - 1) / 2))
        last = others.flatten().topk(min(wanted, n * (n - 1))).values[-1:]
        A = (others >= last).to(similarity.dtype)
    else:
        A = (similarity > threshold).to(similarity.dtype)
    # Rounding may tell s_ij from s_ji.
    return torch.maximum(A, A.T).fill_diagonal_(1.0)


def squared_distances(f: Tensor) -> Tensor:
    """Squared Euclidean distances (N, N) between rows of f (N, D), zero on the diagonal."""
    # Distances are much smaller than norms where the features share a mean: take it away first.
    f = f - f.mean(0)
    squares = f.square().sum(1)
    found = (squares[:, None] + squares - 2 * f @ f.T).clamp_min_(0.0)
    return found.fill_diagonal_(0.0)


def mixed_targets(A: Tensor, order: Tensor, weight: float) -> Tensor:
    """Targets of point i against composite j = w·j + (1 - w)·order(j): the same mix of A's columns.

    This is figure 3's soft target. Eq. 6 read literally sums one cross-entropy for each part,
    which counts what is not connected several times; the authors' program has the soft target.

    Parameters
    ----------
    A : Tensor of shape (N, N)
        Pairwise labels.
    order : Tensor of shape (N,), int64
        Permutation: whom each point is mixed with.
    weight : float
        w in [0, 1], of the point itself.

    Returns
    -------
    Tensor of shape (N, N)
    """
    return weight * A + (1 - weight) * A[:, order]


def clustering_loss(p: Tensor, p_view: Tensor, A: Tensor, balance: float = 1.0) -> Tensor:
    """Eq. 5, mean over all N² pairs, with pᵢᵀp′ⱼ the chance that i and j share a cluster.

    Parameters
    ----------
    p, p_view : Tensor of shape (N, K)
        Probabilities of the points, and of their augmented or composite versions.
    A : Tensor of shape (N, N)
        Targets in [0, 1].
    balance : float, default=1
        Weight of the second term, which pushes points that are not connected apart and so keeps
        clusters from growing without bound. The paper: 1.

    Returns
    -------
    Tensor
        A number.
    """
    # As in the authors' program: keeps log finite. Rounding may take a sum of products above 1.
    eps = 1e-7
    same = (p @ p_view.T).clamp_max(1.0)
    together = A * (same + eps).log()
    apart = (1 - A) * (1 - same + eps).log()
    return -(together + balance * apart).mean()


def consistency_loss(p: Tensor, p_view: Tensor) -> Tensor:
    """Eq. 8 without ω: mean over batch and clusters of the squared difference, (N, K) each."""
    return F.mse_loss(p, p_view)


def ramp_up(t: float, ramp_epochs: float, weight: float) -> float:
    """ω(t) of eq. 8: λ·exp(-5 (1 - min(t, T) / T)²), from 0.0067 λ at t = 0 to λ at T.

    Parameters
    ----------
    t : float
        Epochs trained so far.
    ramp_epochs : float
        T. 0 means that ω is λ from the start.
    weight : float
        λ.
    """
    done = min(t, ramp_epochs) / ramp_epochs if ramp_epochs > 0 else 1.0
    return weight * math.exp(-5 * (1 - done) ** 2)


def _diagonal(square: Tensor) -> Tensor:
    return torch.eye(len(square), dtype=torch.bool, device=square.device)
