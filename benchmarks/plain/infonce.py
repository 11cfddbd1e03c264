"""Debiased InfoNCE clustering (Alshammari et al. 2025): a linear head and dense targets."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.utils.data import DataLoader

from plain import Enough, never


def walk(neighbors: np.ndarray) -> csr_array:
    """P + P², the row itself left out and only the 2k largest kept, as rows adding to 1."""
    n, k = neighbors.shape
    P = csr_array((np.full(n * k, 1 / k), neighbors.ravel(), np.arange(0, n * k + 1, k)), (n, n))
    reached = P + P @ P
    ids, p = np.empty((n, 2 * k), np.int64), np.empty((n, 2 * k))
    for start in range(0, n, 1000):
        dense = torch.from_numpy(reached[start : start + 1000].toarray())
        rows = torch.arange(len(dense))
        dense[rows, start + rows] = 0
        best = dense.topk(2 * k, dim=1)
        ids[start : start + 1000] = best.indices
        p[start : start + 1000] = best.values
    p /= p.sum(1, keepdims=True)
    ends = np.arange(0, n * 2 * k + 1, 2 * k)
    return csr_array((p.ravel().astype(np.float32), ids.ravel(), ends), (n, n))


def infonce_loss(pi_i: Tensor, pi: Tensor, p: Tensor, alpha: float) -> Tensor:
    """Mean KL of p (b, N) from the steps of soft assignments (b, K) and (N, K), both debiased."""
    q = pi_i @ (pi / pi.sum(0)).T
    p = (1 - alpha) * p + alpha / len(pi)
    q = (1 - alpha) * q + alpha / len(pi)
    return (p * (p.log() - q.log())).sum(1).mean()


def fit(
    X: np.ndarray,
    neighbors: np.ndarray,
    n_clusters: int = 10,
    *,
    n_neighbors: int = 3,
    uniform_mass: float = 0.6,
    lr: float = 1e-3,
    batch_size: int = 4096,
    epochs: int = 30,
    seed: int = 0,
    enough: Enough = never,
) -> np.ndarray:
    """Return labels (n,)."""
    torch.manual_seed(seed)
    numbers = np.random.default_rng(seed)
    data = torch.from_numpy(X)
    reached = walk(neighbors[:, :n_neighbors])
    head = nn.Linear(X.shape[1], n_clusters)
    optimizer = torch.optim.Adam(head.parameters(), lr=lr)
    halving = torch.optim.lr_scheduler.StepLR(optimizer, 10, 0.5)
    loader = DataLoader(range(len(data)), batch_size // 2, shuffle=True, drop_last=True)
    for epoch in range(epochs):
        for rows in loader:
            if enough(epoch):
                break
            mine = reached[rows.numpy()]
            chances = mine.data.reshape(len(rows), -1).cumsum(1)
            drawn = (chances < numbers.random((len(rows), 1)) * chances[:, -1:]).sum(1)
            partners = mine.indices.reshape(len(rows), -1)[np.arange(len(rows)), drawn]
            batch, place = np.unique(np.concatenate([rows, partners]), return_inverse=True)
            p = torch.from_numpy(mine[:, batch].toarray())
            p = p / p.sum(1, keepdim=True)
            pi = head(data[batch]).softmax(1)
            loss = infonce_loss(pi[place[: len(rows)]], pi, p, uniform_mass)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        halving.step()
    with torch.no_grad():
        return head(data).argmax(1).numpy()
