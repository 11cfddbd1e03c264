"""SCP (Li et al. 2025): five layers on pairs; without views, a neighbour is the second view."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from plain import Enough, never
from plain.neighbors import draw


def network(d: int, n_clusters: int) -> nn.Sequential:
    """Layers d → 1024 → 786 → 512 → 1024 → K."""
    return nn.Sequential(
        nn.Linear(d, 1024),
        nn.ReLU(),
        nn.Linear(1024, 786),
        nn.ReLU(),
        nn.Linear(786, 512),
        nn.ReLU(),
        nn.Linear(512, 1024),
        nn.ReLU(),
        nn.Linear(1024, n_clusters),
    )


def scp_loss(logits_a: Tensor, logits_b: Tensor, balance: float) -> Tensor:
    """Eqs. 3 to 6 of logits (b, K)."""
    log_b = logits_b.log_softmax(1)
    y_a, y_b = logits_a.softmax(1), log_b.exp()
    cross_entropy = -(y_a * log_b).sum(1).mean()
    confidence = -(y_a * y_b).sum(1).mean().log()
    entropy = sum(torch.special.entr(y.mean(0)).sum() for y in (y_a, y_b))
    return cross_entropy + confidence - balance * entropy


def fit(
    X: np.ndarray,
    neighbors: np.ndarray,
    n_clusters: int = 10,
    *,
    balance: float = 1.0,
    n_neighbors: int = 20,
    lr: float = 1e-3,
    batch_size: int = 512,
    epochs: int = 30,
    seed: int = 0,
    enough: Enough = never,
) -> np.ndarray:
    """Return labels (n,)."""
    torch.manual_seed(seed)
    data = torch.from_numpy(X)
    ids = torch.from_numpy(neighbors[:, :n_neighbors])
    head = network(X.shape[1], n_clusters)
    optimizer = torch.optim.Adam(head.parameters(), lr=lr)
    dataset = TensorDataset(data, torch.arange(len(data)))
    loader = DataLoader(dataset, batch_size, shuffle=True, drop_last=True)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    for epoch in range(epochs):
        for x, rows in loader:
            if enough(epoch):
                break
            logits_a, logits_b = head(torch.cat([x, data[draw(ids, rows)]])).chunk(2)
            loss = scp_loss(logits_a, logits_b, balance)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cosine.step()
    with torch.no_grad():
        return torch.cat([head(x).argmax(1) for x in data.split(1000)]).numpy()
