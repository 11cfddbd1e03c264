"""TURTLE (Gadetsky et al. 2024) with one feature space: fresh linear classifiers at every step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from plain import Enough, never


def turtle_loss(tau: Tensor, logits: Tensor, balance: float) -> Tensor:
    """Eqs. 12 and 13 of the encoder's labels and the trained classifier's logits, (b, K)."""
    entropy = torch.special.entr(tau.mean(0)).sum()
    return -(tau * logits.log_softmax(1)).sum(1).mean() - balance * entropy


def learn(x: Tensor, tau: Tensor, inner_steps: int, inner_lr: float) -> nn.Linear:
    """Train a fresh classifier on the labels."""
    classifier = nn.Linear(x.shape[1], tau.shape[1])
    optimizer = torch.optim.Adam(classifier.parameters(), lr=inner_lr)
    for _ in range(inner_steps):
        loss = F.cross_entropy(classifier(x), tau)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return classifier


def fit(
    X: np.ndarray,
    n_clusters: int = 10,
    *,
    balance: float = 10.0,
    inner_steps: int = 10,
    inner_lr: float = 1e-3,
    lr: float = 1e-3,
    batch_size: int = 10_000,
    min_steps: int = 6000,
    seed: int = 0,
    enough: Enough = never,
) -> np.ndarray:
    """Return labels (n,). Batches are drawn by number: of 10,000 rows, a loader stacks for long."""
    torch.manual_seed(seed)
    data = torch.from_numpy(X)
    encoder = nn.utils.parametrizations.weight_norm(nn.Linear(X.shape[1], n_clusters))
    optimizer = torch.optim.Adam(encoder.parameters(), lr=lr)
    for _ in range(min_steps):
        if enough(0):
            break
        x = data[torch.randperm(len(data))[:batch_size]]
        tau = encoder(x).softmax(1)
        classifier = learn(x, tau.detach(), inner_steps, inner_lr)
        with torch.no_grad():
            logits = classifier(x)
        loss = turtle_loss(tau, logits, balance)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return encoder(data).argmax(1).numpy()
