"""CPP (Chu et al. 2024): dense rate reduction by autograd, then a spectral cut of landmarks."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse.linalg import eigsh
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it
from torch.utils.data import DataLoader, TensorDataset

from plain import Enough, never


class Network(nn.Module):
    """Table 7: a trunk, with features Z and codes C on top of it."""

    def __init__(self, d: int, hidden: int, dz: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(d, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )
        self.to_features = nn.Linear(hidden, dz)
        self.to_codes = nn.Linear(hidden, dz)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return Z and C, unit rows."""
        h = self.trunk(x)
        return F.normalize(self.to_features(h)), F.normalize(self.to_codes(h))


def potentials(A: Tensor) -> Tensor:
    """Two rounds of Sinkhorn's half steps on logits (B, B); the columns' potentials."""
    v = torch.zeros(len(A))
    with torch.no_grad():
        for _ in range(2):
            u = -(A + v).logsumexp(1)
            v = -(A + u[:, None]).logsumexp(0)
    return v


def membership(C: Tensor, gamma: float) -> Tensor:
    """Π (B, B) of codes: Sinkhorn for |C Cᵀ|, ended with a half step on the rows."""
    A = (C @ C.T).abs() / gamma
    return (A + potentials(A)).softmax(1)


def rate(Z: Tensor, eps2: float) -> Tensor:
    """Eq. 1."""
    B, dz = Z.shape
    return torch.logdet(torch.eye(dz) + dz / (B * eps2) * Z.T @ Z) / 2


def compression(Z: Tensor, Pi: Tensor, eps2: float) -> Tensor:
    """Eq. 2, a Gram matrix a column of Π."""
    B, dz = Z.shape
    mass = Pi.sum(0)
    grams = (Z.T * Pi.T[:, None]) @ Z
    log_dets = torch.logdet(torch.eye(dz) + dz / (mass[:, None, None] * eps2) * grams)
    return (mass * log_dets).sum() / (2 * B)


def cpp_loss(Z: Tensor, C: Tensor, gamma: float, eps2: float, penalty: float) -> Tensor:
    """Take the objective once the start is over."""
    Pi = membership(C, gamma)
    return compression(Z, Pi, eps2) - rate(Z, eps2) + penalty / 2 * (Pi**2).sum()


def fit(
    X: np.ndarray,
    n_clusters: int = 10,
    *,
    hidden: int = 4096,
    n_features_out: int = 128,
    eps2: float = 0.1,
    gamma: float = 0.175,
    landmark_gamma: float = 0.15,
    membership_penalty: float = 0.05,
    epochs: int = 5,
    start_epochs: int = 1,
    batch_size: int = 1024,
    lr: float = 1e-4,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    code_weight_decay: float = 5e-3,
    n_landmarks: int = 15_000,
    seed: int = 0,
    enough: Enough = never,
) -> np.ndarray:
    """Return labels (n,)."""
    torch.manual_seed(seed)
    data = torch.from_numpy(X)
    network = Network(X.shape[1], hidden, n_features_out)
    others = [*network.trunk.parameters(), *network.to_features.parameters()]
    codes = {"params": network.to_codes.parameters(), "weight_decay": code_weight_decay}
    optimizer = torch.optim.SGD(
        [{"params": others, "weight_decay": weight_decay}, codes], lr, momentum
    )
    loader = DataLoader(TensorDataset(data), batch_size, shuffle=True, drop_last=True)
    for epoch in range(epochs):
        if epoch == start_epochs:
            network.to_codes.load_state_dict(network.to_features.state_dict())
        for (x,) in loader:
            if enough(epoch):
                break
            Z, C = network(x)
            if epoch < start_epochs:
                loss = -rate(Z, eps2)
            else:
                loss = cpp_loss(Z, C, gamma, eps2, membership_penalty)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        C = torch.cat([network.eval()(x)[1] for x in data.split(1000)])
        landmarks = C[torch.randperm(len(C))[:n_landmarks]]
        return cut(C, landmarks, n_clusters, landmark_gamma, seed)


def cut(C: Tensor, landmarks: Tensor, n_clusters: int, gamma: float, seed: int) -> np.ndarray:
    """Cut the landmarks' Π spectrally; other rows go where most of their membership is."""
    A = (landmarks @ landmarks.T).abs() / gamma
    v = potentials(A)
    W = (A + v).softmax(1)
    W = (W + W.T) / 2
    scale = W.sum(1).rsqrt()
    _, vectors = eigsh((scale[:, None] * W * scale).numpy(), n_clusters, which="LA")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(vectors)
    one_hot = F.one_hot(torch.from_numpy(labels).long(), n_clusters).float()
    memberships = (((c @ landmarks.T).abs() / gamma + v).softmax(1) for c in C.split(1000))
    return torch.cat([(p @ one_hot).argmax(1) for p in memberships]).numpy()
