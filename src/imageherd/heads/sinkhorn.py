"""Who is whose company: a doubly stochastic Π from codes, as CPP has it (eq. 3).

Chu et al. 2024, sec. 3.1; where it is silent, the authors' program is followed. Π = B times the
plan of Sinkhorn's algorithm for |C Cᵀ| at temperature γ, five half steps from the rows' on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from imageherd.heads.scaling import BLOCK_ROWS


def membership(C: Tensor, others: Tensor, potentials: Tensor, gamma: float) -> Tensor:
    """Row j of Π: p(j|i) ∝ exp((|cᵢᵀcⱼ| + vⱼ)/γ).

    With the potentials of `column_potentials` this is B times Sinkhorn's plan after a last half
    step on the rows.

    Parameters
    ----------
    C : Tensor of shape (b, dz)
        Unit rows.
    others : Tensor of shape (m, dz)
        Unit rows; C itself in training, the landmarks in prediction.
    potentials : Tensor of shape (m,)
        v.
    gamma : float
        Temperature.

    Returns
    -------
    Tensor of shape (b, m)
        Rows add to 1.
    """
    return (((C @ others.T).abs() + potentials) / gamma).softmax(1)


@torch.no_grad()
def column_potentials(C: Tensor, gamma: float, balance: float = 1.0) -> Tensor:
    """Sinkhorn in the log domain for |C Cᵀ| with marginals 1/B: two rounds of rows, columns.

    The projection onto eq. 3's set, cut short as in the authors' program, where a third half step
    on the rows follows (`membership`) and the columns' potentials have no gradient.

    Parameters
    ----------
    C : Tensor of shape (B, dz)
        Unit rows.
    gamma : float
        Temperature.
    balance : float, default=1.0
        How hard the columns are held to their marginal, 0 to 1: their potential is multiplied by
        it. That is unbalanced Sinkhorn (Chizat et al. 2018) with a penalty ρ KL(columns | 1/B),
        balance = ρ/(ρ + γ).

    Returns
    -------
    Tensor of shape (B,)
        v.

    Notes
    -----
    O(B² dz) time; memory for 1,024 rows of |C Cᵀ|, which, being symmetric, is its own columns.
    """
    v = torch.zeros(len(C), dtype=C.dtype, device=C.device)
    for _ in range(2):
        u = -_log_sums(C, v, gamma)
        v = -balance * _log_sums(C, u, gamma)
    return v


def _log_sums(C: Tensor, potentials: Tensor, gamma: float) -> Tensor:
    """γ log(B Σj exp((|cᵢᵀcⱼ| + potentialⱼ)/γ)) for every row i."""
    found = torch.empty_like(potentials)
    for start in range(0, len(C), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        found[rows] = (((C[rows] @ C.T).abs() + potentials) / gamma).logsumexp(1)
    return gamma * (found + math.log(len(C)))


@torch.no_grad()
def whole_membership(C: Tensor, potentials: Tensor, gamma: float) -> Tensor:
    """Π (m, m) of codes C (m, dz) among themselves, without memory for more than Π."""
    found = C.new_empty(len(C), len(C))
    for start in range(0, len(C), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        found[rows] = membership(C[rows], C, potentials, gamma)
    return found


def default_gamma(n_clusters: int) -> float:
    """Temperature for K clusters: 0.4/ln K, between 0.1 and 0.175.

    With K equal clusters, mates weigh as much as all others together when exp(gap/γ) = K - 1, gap
    being how much more alike (in |cos|) mates are than others. 0.4/ln K is that for a gap of 0.4,
    and gives table 8's values for 10 and 20 clusters; beyond 0.1 to 0.175 the paper does not go.
    """
    return min(max(0.4 / math.log(max(n_clusters, 2)), 0.1), 0.175)
