"""k nearest neighbours by blocks of one matrix product, as most releases do it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it


def nearest(X: Tensor, k: int) -> Tensor:
    """Ids (n, k) of the nearest neighbours by cosine similarity, the point itself left out."""
    X = F.normalize(X, dim=1)
    ids = []
    for start in range(0, len(X), 1024):
        similarity = X[start : start + 1024] @ X.T
        rows = torch.arange(len(similarity), device=X.device)
        similarity[rows, start + rows] = -torch.inf
        ids.append(similarity.topk(k, dim=1).indices)
    return torch.cat(ids)


def draw(neighbors: Tensor, rows: Tensor) -> Tensor:
    """Draw one of the neighbours (n, k) of each of some rows (b,)."""
    choice = torch.randint(neighbors.shape[1], (len(rows),)).to(rows.device)
    return neighbors[rows, choice]
