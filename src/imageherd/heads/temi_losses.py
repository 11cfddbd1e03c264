"""TEMI's losses, as pure functions of probabilities; shapes are H heads, B pairs, K clusters.

Source and equation numbers: Adaloglou et al. 2023, see `imageherd.heads.temi`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def update_prior(prior: Tensor, q_t: Tensor, momentum: float = 0.9) -> Tensor:
    """Move the average of how much each class is used towards this batch (eq. 6).

    Parameters
    ----------
    prior : Tensor of shape (H, K)
        q̃t of each head so far.
    q_t : Tensor of shape (H, N, K)
        Teacher probabilities of all rows of a batch, both views.
    momentum : float, default=0.9
        m.
    """
    return momentum * prior + (1 - momentum) * q_t.mean(dim=1)


def pmi(
    log_qs: Tensor, log_qt: Tensor, prior: Tensor, beta: float = 0.6, balance: float = 1.0
) -> Tensor:
    """Pointwise mutual information of pairs, ``log Σc (qs(c|x) qt(c|x′))^β / q̃t(c)`` (eq. 8).

    Taken in logarithms, where a vanishing probability has a finite gradient.

    Parameters
    ----------
    log_qs, log_qt : Tensor of shape (H, B, K)
        Log probabilities: the student's of one view, the teacher's of the other.
    prior : Tensor of shape (H, K)
        q̃t.
    beta : float, default=0.6
        β.
    balance : float, default=1
        Exponent on q̃t, the push to equal cluster sizes: 1 is the paper's, 0 none.

    Returns
    -------
    Tensor of shape (H, B)
    """
    log_prior = prior.clamp_min(torch.finfo(prior.dtype).tiny).log()
    return torch.logsumexp(beta * (log_qs + log_qt) - balance * log_prior[:, None, :], dim=2)


def pair_weights(q_t: Tensor, q_t_other: Tensor) -> Tensor:
    """How far the teacher believes that two views are of one class, (H, B) (eq. 9)."""
    return (q_t * q_t_other).sum(dim=2)


def pmi_losses(
    log_qs: Tensor,
    log_qt: Tensor,
    prior: Tensor,
    weights: Tensor | float = 1.0,
    beta: float = 0.6,
    balance: float = 1.0,
) -> Tensor:
    """Symmetrised loss of each head, ``mean over the batch of w·L`` (eqs. 7, 8 and 10).

    Parameters
    ----------
    log_qs, log_qt : Tensor of shape (H, 2B, K)
        Log probabilities of student and teacher; rows B to 2B are the other views of rows 0 to B.
    prior : Tensor of shape (H, K)
        q̃t.
    weights : float or Tensor of shape (B,) or (H, B), default=1
        w of each pair: the mean over heads ("temi"), each head's own ("wpmi"), 1 ("pmi").
    beta, balance : float
        See `pmi`.

    Returns
    -------
    Tensor of shape (H,)
    """
    (s, s_other), (t, t_other) = log_qs.chunk(2, dim=1), log_qt.chunk(2, dim=1)
    both = pmi(s, t_other, prior, beta, balance) + pmi(s_other, t, prior, beta, balance)
    return (weights * both / -2).mean(dim=1)


def scan_losses(
    log_qs: Tensor,
    log_qt: Tensor,
    alpha: float = 5.0,
    over_ranks: Callable[[Tensor], Tensor] = lambda mean: mean,
) -> Tensor:
    """Compute SCAN's loss of each head, ``−log⟨qs, qt⟩ − α·H(mean qs)``, symmetrised, (H,).

    Shapes as in `pmi_losses`. The mean of qs is over the batch, for each view its own; where the
    rows are part of a batch, `over_ranks` makes their mean that of all (`Ranks.mean`).
    """
    (s, s_other), (t, t_other) = log_qs.chunk(2, dim=1), log_qt.chunk(2, dim=1)
    agreement = torch.logsumexp(s + t_other, dim=2) + torch.logsumexp(s_other + t, dim=2)
    means = over_ranks(torch.stack([s.exp().mean(dim=1), s_other.exp().mean(dim=1)]))
    return -agreement.mean(dim=1) / 2 - alpha * entropy(means).sum(dim=0) / 2


def entropy(q: Tensor) -> Tensor:
    """Entropy over the last dimension, in nats."""
    # The bound only keeps the gradient finite where a probability has vanished.
    return -(q * q.clamp_min(torch.finfo(q.dtype).tiny).log()).sum(dim=-1)
