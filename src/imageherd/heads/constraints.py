"""What is known of some rows beforehand, as a loss beside a method's own: labels and pairs.

A method that pulls neighbours into one cluster compares p(xi) with p(xj). A pair that must be
together, or must not be, is compared in the same way (-log⟨pi, pj⟩ is TSP's eq. 5 and the first
term of LSD-C's eq. 5, -log(1 - ⟨pi, pj⟩) the second), and where the cluster of one of the two is
known, its p is: then -log⟨pi, pj⟩ is -log pj(c), the cross-entropy of j with that label.

The sum is over 64 of a kind at most, and divided by 64: so many count as much as a batch, and one
alone cannot carry a cluster away. A label goes out from there as everything does in these methods,
to neighbours: a neighbour of a labelled row is asked for its label, see `belief_losses`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DRAWN = 64
"""How many of a kind a step looks at."""
KINDS = ("fixed", "typical", "must", "cannot")


@dataclass(frozen=True)
class Constraints:
    """What is known of some of the rows that a head is fitted to.

    Attributes
    ----------
    fixed : ndarray of int64, shape (m, 2)
        A row and its cluster, the column of `predict_proba`; its neighbours are to come along.
    typical : ndarray of int64, shape (l, 2)
        The same of rows that stand for a cluster; their neighbours need not.
    must, cannot : ndarray of int64, shape (a, 2) and (b, 2)
        Pairs of rows that belong in one cluster, or do not.
    """

    fixed: NDArray[np.int64]
    typical: NDArray[np.int64]
    must: NDArray[np.int64]
    cannot: NDArray[np.int64]

    @property
    def kinds(self) -> list[NDArray[np.int64]]:
        """The four, in order."""
        return [self.fixed, self.typical, self.must, self.cannot]

    def check(self, n: int, n_clusters: int) -> None:
        """Raise ValueError unless all rows are below `n` and all columns below `n_clusters`."""
        label, pair = (n, n_clusters), (n, n)
        for name, most in zip(KINDS, (label, label, pair, pair), strict=True):
            found = getattr(self, name)
            if found.ndim != 2 or found.shape[1] != 2 or (found < 0).any() or (found >= most).any():
                raise ValueError(
                    f"{name} of shape {found.shape} must be (m, 2) whole numbers from 0, below "
                    f"{most[0]} and {most[1]}."
                )

    def digest(self) -> str:
        """Return 12 hex digits that stand for them."""
        parts = (np.asarray(kind, dtype="<i8") for kind in self.kinds)
        content = b"".join(str(a.shape).encode() + a.tobytes() for a in parts)
        return hashlib.sha256(content).hexdigest()[:12]

    def draw(self, draws: torch.Generator, device: torch.device) -> Drawn:
        """Draw what a step looks at: all of a kind if they are 64 or fewer, else 64 of them."""
        return Drawn(*(_some(kind, draws).to(device) for kind in self.kinds))


@dataclass(frozen=True)
class Drawn:
    """The constraints of one step, as in `Constraints`."""

    fixed: Tensor
    typical: Tensor
    must: Tensor
    cannot: Tensor

    @property
    def labelled(self) -> Tensor:
        """The rows whose neighbours are to come along, shape (m,)."""
        return self.fixed[:, 0]

    @property
    def rows(self) -> Tensor:
        """The rows to be looked at, shape (m + l + 2a + 2b,), in the order that `losses` wants."""
        pairs = (self.must.T.flatten(), self.cannot.T.flatten())
        return torch.cat([self.labelled, self.typical[:, 0], *pairs])

    def losses(self, log_p: Tensor) -> Tensor:
        """Return the loss of each head, (H,).

        Parameters
        ----------
        log_p : Tensor of shape (H, m + l + 2a + 2b + m, K)
            Log probabilities of `rows`, and of a neighbour of each of the `labelled`, which is
            asked for the same label as far as it believes in it.
        """
        m, pairs = len(self.fixed), [2 * len(self.must), 2 * len(self.cannot)]
        sizes = [m, len(self.typical), *pairs, m]
        fixed, typical, must, cannot, near = torch.split(log_p, sizes, dim=1)
        losses = label_losses(fixed, self.fixed[:, 1]) + belief_losses(near, self.fixed[:, 1])
        losses = losses + label_losses(typical, self.typical[:, 1])
        return losses + must_losses(must) + cannot_losses(cannot)


def label_losses(log_p: Tensor, columns: Tensor) -> Tensor:
    """-Σ log pi(ci) / 64 of each head: (H, m, K) log probabilities and (m,) columns to (H,)."""
    return -_of_columns(log_p, columns).sum(1) / DRAWN


def belief_losses(log_p: Tensor, columns: Tensor) -> Tensor:
    """-Σ w log pi(ci) / 64 with w = pi(ci), held fixed; as `label_losses` else.

    TEMI's eq. 9, where one of the two is known: a pair counts as far as both are believed to be of
    one kind. What a person corrects is often the odd one out among its neighbours, and these are
    not to follow it all.
    """
    log_p = _of_columns(log_p, columns)
    return -(log_p.detach().exp() * log_p).sum(1) / DRAWN


def must_losses(log_p: Tensor) -> Tensor:
    """-Σ log⟨pi, pj⟩ / 64 of each head, (H,).

    Parameters
    ----------
    log_p : Tensor of shape (H, 2a, K)
        Log probabilities of the first of every pair, then of the second of every pair.
    """
    log_pi, log_pj = log_p.chunk(2, dim=1)
    return -(log_pi + log_pj).logsumexp(2).sum(1) / DRAWN


def cannot_losses(log_p: Tensor) -> Tensor:
    """-Σ log(1 - ⟨pi, pj⟩) / 64 of each head, (H,), at most 16 a pair; shapes as `must_losses`."""
    log_pi, log_pj = log_p.chunk(2, dim=1)
    apart = 1 - (log_pi + log_pj).logsumexp(2).exp()
    # As LSD-C's program has it: keeps the log finite where two are surely in one cluster.
    return -(apart.clamp_min(0) + 1e-7).log().sum(1) / DRAWN


def _of_columns(log_p: Tensor, columns: Tensor) -> Tensor:
    return log_p.gather(2, columns.view(1, -1, 1).expand(len(log_p), -1, 1)).squeeze(2)


def _some(kind: NDArray[np.int64], draws: torch.Generator) -> Tensor:
    found = torch.from_numpy(np.ascontiguousarray(kind, dtype=np.int64))
    if len(found) <= DRAWN:
        return found
    return found[torch.randint(len(found), (DRAWN,), generator=draws)]
