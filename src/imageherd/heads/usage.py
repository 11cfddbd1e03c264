"""How a method uses its clusters while it trains: what goes into `history_` beside the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from imageherd.heads.ranks import Ranks


class Usage:
    """Sums over an epoch: how even the clusters are, how sure the assignments, how many used.

    Parameters
    ----------
    n_clusters : int
        K.
    device : torch.device or str
        Where the probabilities come from; nothing is waited for before `report`.
    n_heads : int, default=1
        H; each head's clusters are its own, and what is reported is the mean over heads.
    ranks : Ranks, optional
        Processes that each count rows of their own; what is reported is of all.
    """

    def __init__(
        self,
        n_clusters: int,
        device: torch.device | str,
        n_heads: int = 1,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        shape = (n_heads, n_clusters)
        self.total = torch.zeros(shape, dtype=torch.float64, device=device)
        self.entropy = torch.zeros(n_heads, dtype=torch.float64, device=device)
        self.used = torch.zeros(shape, dtype=torch.bool, device=device)
        self.rows = torch.zeros(n_heads, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, p: Tensor, first_head: int = 0) -> None:
        """Count the probabilities (b, K) or (H, b, K) of one step.

        `first_head` is the number of the first head in p, where not all heads come at once.
        """
        p = p if p.ndim == 3 else p[None]
        heads = slice(first_head, first_head + len(p))
        self.total[heads] += p.sum(1)
        self.entropy[heads] -= torch.xlogy(p, p).sum((1, 2))
        self.used[heads] = self.used[heads].scatter(1, p.argmax(2), True)
        self.rows[heads] += p.shape[1]

    def report(self) -> dict[str, float]:
        """Return the epoch's numbers and start the next epoch.

        Returns
        -------
        dict
            marginal_entropy, H(q(c)), and conditional_entropy, the mean H(q(c|x)), in nats;
            used_clusters, how many were some row's most probable one.
        """
        rows = self.ranks.sum(self.rows).clamp_min(1)
        q = self.ranks.sum(self.total) / rows[:, None]
        found = {
            "marginal_entropy": -torch.xlogy(q, q).sum(1),
            "conditional_entropy": self.ranks.sum(self.entropy) / rows,
            "used_clusters": (self.ranks.sum(self.used.double()) > 0).sum(1, dtype=torch.float64),
        }
        for sums in (self.total, self.entropy, self.used, self.rows):
            sums.zero_()
        return {name: float(value.mean()) for name, value in found.items()}
