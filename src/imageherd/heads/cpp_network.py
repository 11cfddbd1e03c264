"""CPP's network and its training: features Z and codes C of a row, its cluster by landmarks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from imageherd.heads.coding import coding_rate, compression
from imageherd.heads.loop import Plan, Run, train
from imageherd.heads.ranks import share_norms
from imageherd.heads.scaling import BLOCK_ROWS
from imageherd.heads.sinkhorn import column_potentials, membership, whole_membership
from imageherd.heads.spectral import spectral_labels
from imageherd.heads.usage import Usage

if TYPE_CHECKING:
    from imageherd.heads.cpp import CPP

# A batch of fewer rows holds no clusters to speak of: where n is so small, all rows are the batch.
_FEWEST_ROWS = 32


class CodingNetwork(nn.Module):
    """Table 7: a trunk, Z and C on top of it; and the landmarks that clusters are read off.

    Parameters
    ----------
    d : int
        Columns of the rows coming in.
    hidden : int
        Width of the trunk's two layers.
    dz : int
        Columns of Z and C.
    n_landmarks : int
        m.
    n_clusters : int
        K.
    gamma : float
        Temperature of the landmarks' memberships.
    """

    landmark_codes: Tensor
    landmark_features: Tensor
    landmark_potentials: Tensor
    landmark_labels: Tensor

    def __init__(
        self, d: int, hidden: int, dz: int, n_landmarks: int, n_clusters: int, gamma: float
    ) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            _linear(d, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            _linear(hidden, hidden),
            nn.ReLU(),
        )
        self.to_features = _linear(hidden, dz)
        self.to_codes = _linear(hidden, dz)
        self.n_clusters = n_clusters
        self.gamma = gamma
        self.register_buffer("landmark_codes", torch.zeros(n_landmarks, dz))
        self.register_buffer("landmark_features", torch.zeros(n_landmarks, dz))
        self.register_buffer("landmark_potentials", torch.zeros(n_landmarks))
        self.register_buffer("landmark_labels", torch.zeros(n_landmarks, dtype=torch.int64))

    def start(self, draws: torch.Generator) -> None:
        """Draw all weights and biases as PyTorch does, uniform within ±1/√inputs."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                nn.init.uniform_(layer.weight, -bound, bound, generator=draws)
                nn.init.uniform_(layer.bias, -bound, bound, generator=draws)

    def features(self, x: Tensor) -> Tensor:
        """Return Z (b, dz), unit rows."""
        return F.normalize(self.to_features(self.trunk(x)))

    def codes(self, x: Tensor) -> Tensor:
        """Return C (b, dz), unit rows, as float32 numbers in whatever dtype x has.

        So codes that were kept answer as codes computed anew do, to the bit.
        """
        return F.normalize(self.to_codes(self.trunk(x))).float().to(x.dtype)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return Z and C (b, dz), unit rows, through the trunk once."""
        h = self.trunk(x)
        return F.normalize(self.to_features(h)), F.normalize(self.to_codes(h))

    def forward(self, x: Tensor) -> Tensor:
        """Return log p(cluster | row), (b, K), of rows (b, d)."""
        return self.log_p(self.codes(x))

    def log_p(self, C: Tensor) -> Tensor:
        """Return the log of the landmarks' weights for codes (b, dz), summed by label: (b, K)."""
        weights = membership(C, self.landmark_codes, self.landmark_potentials, self.gamma)
        sums = weights.new_zeros(len(C), self.n_clusters)
        sums.index_add_(1, self.landmark_labels, weights)
        return sums.clamp_min(torch.finfo(sums.dtype).tiny).log()

    @torch.no_grad()
    def place_landmarks(self, x: Tensor, balance: float) -> None:
        """Make rows (m, d) the landmarks; their labels are still to be set."""
        for start in range(0, len(x), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            self.landmark_features[rows], self.landmark_codes[rows] = self.both(x[rows])
        potentials = column_potentials(self.landmark_codes, self.gamma, balance)
        self.landmark_potentials.copy_(potentials)

    def landmark_membership(self) -> Tensor:
        """Return Π (m, m) of the landmarks among themselves."""
        return whole_membership(self.landmark_codes, self.landmark_potentials, self.gamma)


def _linear(n_inputs: int, n_outputs: int) -> nn.Linear:
    # Weights still to be drawn: PyTorch's global seed is not touched.
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_inputs, n_outputs)  # type: ignore[no-untyped-call]
    return layer


def batches(settings: CPP, n: int) -> tuple[Plan, int]:
    """Batches and epochs for n rows, and how many of the epochs are the start."""
    size = min(settings.batch_size, n, max(n // 4, _FEWEST_ROWS))
    steps = n // size
    epochs = max(settings.epochs, math.ceil(settings.min_steps / steps))
    start = round(settings.start_epochs * epochs / settings.epochs) if settings.warm_start else 0
    return Plan(n, size, steps, epochs), start


def clusters_of_batch(C: Tensor, settings: CPP) -> Tensor:
    """P(cluster | row), (b, K), of codes (b, dz), clustered as the landmarks will be."""
    gamma, K = settings.landmark_gamma, settings.n_clusters
    Pi = whole_membership(C, column_potentials(C, gamma, settings.balance), gamma)
    labels = spectral_labels(Pi, min(K, len(C)), settings.seed_, n_init=1)
    return Pi @ F.one_hot(torch.from_numpy(labels).long().to(C.device), K).to(C.dtype)


def train_network(
    network: CodingNetwork, Z: Tensor, settings: CPP, run: Run
) -> list[dict[str, Any]]:
    """Train on scaled features Z (n, d) and return the history; see `CPP` for the settings.

    Several ranks each take their rows through the network, then know Z and C of the whole batch:
    what is cheap (eqs. 1 and 3) all compute from these, of eq. 2's sum over Π's columns each has
    its share.
    """
    ranks = run.ranks
    share_norms(network, ranks)
    length, start = batches(settings, len(Z))
    code_layer = list(network.to_codes.parameters())
    others = [*network.trunk.parameters(), *network.to_features.parameters()]
    optimizer = torch.optim.SGD(
        [
            {"params": others, "weight_decay": settings.weight_decay},
            {"params": code_layer, "weight_decay": settings.code_weight_decay},
        ],
        lr=settings.lr,
        momentum=settings.momentum,
    )
    sums = torch.zeros(3, dtype=torch.float64, device=run.device)
    usage = Usage(settings.n_clusters, run.device)
    epoch_before, newest = -1, Z[:0]

    def step(rows: Tensor, epoch: int) -> Tensor:
        nonlocal epoch_before, newest
        if settings.warm_start and epoch == start != epoch_before:
            network.to_codes.load_state_dict(network.to_features.state_dict())
        epoch_before = epoch
        Zb, C = (ranks.gather(part) for part in network.both(Z[rows[ranks.rows]]))
        rate = coding_rate(Zb, settings.eps2)
        newest = (Zb if epoch < start else C).detach()
        if epoch < start:
            loss = -rate
            sums[0] += rate.detach()
        else:
            potentials = column_potentials(C.detach(), settings.gamma_, settings.balance)
            Pi = membership(C, C, potentials, settings.gamma_)
            cost = compression(Zb, Pi[:, ranks.rows], settings.eps2) / ranks.share
            loss = cost - rate + settings.membership_penalty / 2 * Pi.square().sum()
            entropy = -torch.xlogy(Pi, Pi).sum(1).mean()
            sums.add_(torch.stack([rate, cost, entropy]).detach())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    def report() -> dict[str, float]:
        names = ("rate", "compression", "membership_entropy")
        means = (ranks.mean(sums) / length.steps).tolist()
        sums.zero_()
        usage.add(clusters_of_batch(newest, settings))
        return {**dict(zip(names, means, strict=True)), **usage.report()}

    history = train(
        step,
        length,
        run,
        state={"network": network},
        optimizer=optimizer,
        report=report,
        description="Training CPP",
        advice=f"lower lr (now {settings.lr:g}) or use scaling='standard'",
    )
    if settings.warm_start and len(history) <= start:  # a callback ended it there
        network.to_codes.load_state_dict(network.to_features.state_dict())
    return history
