"""TSP (Zhou and Zhang 2022): one linear layer from k-means, pairs of neighbours drawn by eq. 4."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from plain import Enough, never


def neighbor_probabilities(X: Tensor, neighbors: Tensor) -> Tensor:
    """Eq. 4: P(j|i) ∝ exp(-‖xi - xj‖² / 2σi²), σi half the distance to the third nearest."""
    found = []
    for i in range(0, len(X), 1000):
        rows = slice(i, i + 1000)
        distances = (X[neighbors[rows]] - X[rows, None]).norm(dim=2)
        sigma = distances.kthvalue(3, dim=1, keepdim=True).values / 2
        found.append((-(distances**2) / (2 * sigma**2)).softmax(1))
    return torch.cat(found)


def tsp_loss(p: Tensor, p_neighbor: Tensor, balance: float) -> Tensor:
    """Eq. 5 of probabilities (b, K)."""
    entropy = torch.special.entr(p.mean(0)).sum()
    return -(p * p_neighbor).sum(1).log().mean() - balance * entropy


def fit(
    X: np.ndarray,
    neighbors: np.ndarray,
    n_clusters: int = 10,
    *,
    balance: float = 3.0,
    n_neighbors: int = 20,
    lr: float = 1e-4,
    batch_size: int = 256,
    epochs: int = 100,
    seed: int = 0,
    enough: Enough = never,
) -> np.ndarray:
    """Return labels (n,)."""
    torch.manual_seed(seed)
    data = torch.from_numpy(X)
    ids = torch.from_numpy(neighbors[:, :n_neighbors])
    chances = neighbor_probabilities(data, ids)
    centers = KMeans(n_clusters, n_init=10, random_state=seed).fit(X).cluster_centers_
    head = nn.Linear(X.shape[1], n_clusters)
    with torch.no_grad():
        weight = torch.from_numpy(centers)
        head.weight.copy_(weight / weight.norm(dim=1, keepdim=True) / X.shape[1] ** 0.5)
        head.bias.zero_()
    optimizer = torch.optim.Adam(head.parameters(), lr=lr)
    dataset = TensorDataset(data, torch.arange(len(data)))
    loader = DataLoader(dataset, batch_size, shuffle=True, drop_last=True)
    for epoch in range(epochs):
        for x, rows in loader:
            if enough(epoch):
                break
            drawn = torch.multinomial(chances[rows], 1)
            partners = ids[rows].gather(1, drawn)[:, 0]
            p, p_neighbor = head(x).softmax(1), head(data[partners]).softmax(1)
            loss = tsp_loss(p, p_neighbor, balance)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return head(data).argmax(1).numpy()
