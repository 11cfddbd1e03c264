"""TEMI as a plain loop over heads: the yardstick for the speed and accuracy of `imageherd.TEMI`.

Independent of the library on purpose: it shares no code with it. Nothing is wasted either: all
features lie in memory, batches are index batches, there is no data loader, and the two views of a
batch go through a network as one matrix.

Method: Adaloglou et al. 2023, "Exploring the limits of deep image clustering using pretrained
models", with the settings of the authors' program where the paper is silent.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it


class Head(nn.Module):
    """Linear, GELU, Linear, L2 normalisation, weight-normalised Linear without bias."""

    def __init__(self, d: int, n_clusters: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(d, 512)
        self.bottleneck = nn.Linear(512, 256)
        for layer in (self.hidden, self.bottleneck):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.last = nn.utils.parametrizations.weight_norm(nn.Linear(256, n_clusters, bias=False))
        nn.init.ones_(self.last.parametrizations.weight.original0)

    def forward(self, x: Tensor) -> Tensor:
        """Map rows (b, d) to scaled cosines (b, K)."""
        x = self.bottleneck(F.gelu(self.hidden(x)))
        return self.last(F.normalize(x, dim=1))


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


def pmi_loss(student: Tensor, teacher: Tensor, prior: Tensor, beta: float) -> Tensor:
    """Minus the pointwise mutual information of each pair (eq. 8)."""
    return -torch.log(((student * teacher) ** beta / prior).sum(dim=1))


def adamw(students: list[Head]) -> tuple[torch.optim.Optimizer, list[nn.Parameter]]:
    """Return the optimizer, and the parameters of the last layers."""
    named = [item for head in students for item in head.named_parameters()]
    # The gain of the weight normalisation is (K, 1), one number a cluster: not decayed.
    plain = [p for _, p in named if p.ndim == 1 or p.shape[1] == 1]
    decayed = [p for _, p in named if p.ndim == 2 and p.shape[1] > 1]
    groups = [{"params": decayed, "weight_decay": 1e-4}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups), [p for name, p in named if name.startswith("last")]


def move_teachers(students: list[Head], teachers: list[Head]) -> None:
    """Move each teacher a little towards its student."""
    with torch.no_grad():
        for student, teacher in zip(students, teachers, strict=True):
            for s, t in zip(student.parameters(), teacher.parameters(), strict=True):
                t.mul_(0.996).add_(s, alpha=0.004)


def fit_loop(
    X: np.ndarray,
    n_clusters: int = 10,
    *,
    n_heads: int = 16,
    epochs: int = 100,
    stop_after: int | None = None,
    batch_size: int = 512,
    beta: float = 0.6,
    k: int = 50,
    seed: int = 0,
    device: str = "cpu",
    on_epoch: Callable[[int, Callable[[], np.ndarray]], None] | None = None,
) -> tuple[np.ndarray, dict[str, list[float]]]:
    """Train and return the labels (n,) of the best head, and the seconds and loss of each epoch.

    `stop_after` ends the same schedule early, for timing. `on_epoch(epoch, labels)` is called after
    each epoch, off the clock; `labels()` gives the labels at that point.
    """
    torch.manual_seed(seed)
    data = torch.as_tensor(X, dtype=torch.float32, device=device)
    n = len(data)
    neighbors = nearest(data, k)
    students = [Head(data.shape[1], n_clusters).to(device) for _ in range(n_heads)]
    teachers = [copy.deepcopy(head).requires_grad_(False) for head in students]
    prior = torch.full((n_heads, n_clusters), 1 / n_clusters, device=device)

    optimizer, last = adamw(students)
    steps = n // batch_size
    best = 0

    def labels() -> np.ndarray:
        with torch.no_grad():
            return teachers[best](data).argmax(dim=1).cpu().numpy()

    seconds, losses = [], []
    for epoch in range(stop_after or epochs):
        started = time.perf_counter()
        order = torch.randperm(n).to(device)
        total = torch.zeros(n_heads, device=device)
        for step in range(steps):
            rate = 1e-4 * batch_size / 256 * min(1, (epoch * steps + step + 1) / (20 * steps))
            for group in optimizer.param_groups:
                group["lr"] = rate
            rows = order[step * batch_size : (step + 1) * batch_size]
            choice = torch.randint(k, (batch_size,)).to(device)
            x = data[torch.cat([rows, neighbors[rows, choice]])]

            with torch.no_grad():
                q_teacher = [F.softmax(head(x) / 0.1, dim=1) for head in teachers]
                for i, q in enumerate(q_teacher):
                    prior[i] = 0.9 * prior[i] + 0.1 * q.mean(dim=0)
                weights = [(q[:batch_size] * q[batch_size:]).sum(dim=1) for q in q_teacher]
                weight = torch.stack(weights).mean(dim=0)
            optimizer.zero_grad()
            for i, head in enumerate(students):
                s, s_other = F.softmax(head(x) / 0.1, dim=1).chunk(2)
                t, t_other = q_teacher[i].chunk(2)
                pair = pmi_loss(s, t_other, prior[i], beta) + pmi_loss(s_other, t, prior[i], beta)
                loss = (weight * pair / 2).mean()
                (loss / n_heads).backward()
                total[i] += loss.detach()
            if epoch == 0:
                for p in last:
                    p.grad = None
            optimizer.step()
            move_teachers(students, teachers)
        best = int(total.argmin())
        losses.append(float(total[best]) / steps)
        seconds.append(time.perf_counter() - started)
        if on_epoch:
            on_epoch(epoch + 1, labels)
    return labels(), {"seconds": seconds, "loss": losses}
