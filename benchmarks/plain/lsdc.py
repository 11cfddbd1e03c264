"""LSD-C (Rebuffi et al. 2020) on vectors: k-NN labels in the batch, MixUp, dropout as the view."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it
from torch.utils.data import DataLoader, TensorDataset

from plain import Enough, never


def knn_labels(f: Tensor, k: int) -> Tensor:
    """Table 1, kNN, counting as the authors do: the point itself, and strictly."""
    distances = torch.cdist(f, f)
    near = distances < distances.kthvalue(k, dim=1, keepdim=True).values
    return (near | near.T).float().fill_diagonal_(1.0)


def clustering_loss(p: Tensor, p_mixed: Tensor, A: Tensor) -> Tensor:
    """Eq. 5 over all pairs."""
    same = (p @ p_mixed.T).clamp_max(1.0)
    return -(A * torch.log(same + 1e-7) + (1 - A) * torch.log(1 - same + 1e-7)).mean()


def fit(
    X: np.ndarray,
    n_clusters: int = 10,
    *,
    k: int = 20,
    hidden: int = 512,
    noise: float = 0.2,
    mixup_alpha: float = 0.3,
    consistency: float = 5,
    ramp_epochs: int = 100,
    lr: float = 0.1,
    weight_decay: float = 1e-4,
    milestones: tuple[int, ...] = (140, 180),
    batch_size: int = 256,
    epochs: int = 220,
    seed: int = 0,
    enough: Enough = never,
) -> np.ndarray:
    """Return labels (n,)."""
    torch.manual_seed(seed)
    numbers = np.random.default_rng(seed)
    data = torch.from_numpy(X)
    trunk = nn.Sequential(nn.Linear(X.shape[1], hidden), nn.ReLU())
    classifier = nn.Linear(hidden, n_clusters)
    nn.init.kaiming_normal_(trunk[0].weight, nonlinearity="relu")
    parameters = [*trunk.parameters(), *classifier.parameters()]
    optimizer = torch.optim.SGD(parameters, lr, momentum=0.9, weight_decay=weight_decay)
    falls = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones)
    loader = DataLoader(TensorDataset(data), batch_size, shuffle=True, drop_last=True)
    for epoch in range(epochs):
        omega = consistency * math.exp(-5 * (1 - min(epoch, ramp_epochs) / ramp_epochs) ** 2)
        for (x,) in loader:
            if enough(epoch):
                break
            order = torch.randperm(len(x))
            share = float(numbers.beta(mixup_alpha, mixup_alpha))
            f = trunk(x)
            f_mixed = trunk(share * x + (1 - share) * x[order])
            p = classifier(f).softmax(1)
            p_mixed, p_again = (classifier(F.dropout(f_mixed, noise)).softmax(1) for _ in range(2))
            A = knn_labels(f.detach(), k)
            A = share * A + (1 - share) * A[:, order]
            loss = clustering_loss(p, p_mixed, A) + omega * F.mse_loss(p_mixed, p_again)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        falls.step()
    with torch.no_grad():
        return classifier(trunk(data)).argmax(1).numpy()
