"""TEMI (Adaloglou et al. 2023) as a plain loop over heads, with the authors' program's settings.

Nothing is wasted: batches are drawn by number, without a data loader, and the two views of a batch
go through a network as one matrix.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from plain import Enough, never
from plain.neighbors import draw, nearest


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


def pmi_loss(student: Tensor, teacher: Tensor, prior: Tensor, beta: float) -> Tensor:
    """Minus the pointwise mutual information of each pair (eq. 8)."""
    return -torch.log(((student * teacher) ** beta / prior).sum(dim=1))


def teach(teachers: list[Head], x: Tensor, prior: Tensor) -> tuple[list[Tensor], Tensor]:
    """Update the priors (H, K); return the teachers' probabilities, and each pair's weight."""
    with torch.no_grad():
        q_teacher = [F.softmax(head(x) / 0.1, dim=1) for head in teachers]
        for i, q in enumerate(q_teacher):
            prior[i] = 0.9 * prior[i] + 0.1 * q.mean(dim=0)
        weights = [(q * q_other).sum(dim=1) for q, q_other in (q.chunk(2) for q in q_teacher)]
        return q_teacher, torch.stack(weights).mean(dim=0)


def temi_loss(
    q_student: Tensor, q_teacher: Tensor, prior: Tensor, weight: Tensor, beta: float
) -> Tensor:
    """Loss of one head from the probabilities of both views (2b, K) (eqs. 7, 8 and 10)."""
    (s, s_other), (t, t_other) = q_student.chunk(2), q_teacher.chunk(2)
    pair = pmi_loss(s, t_other, prior, beta) + pmi_loss(s_other, t, prior, beta)
    return (weight * pair / 2).mean()


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
    neighbors: np.ndarray | None = None,
    enough: Enough = never,
) -> tuple[np.ndarray, dict[str, list[float]]]:
    """Return the labels (n,) of the best head, and the seconds and loss of each epoch.

    `stop_after` ends the same schedule early, for timing. `on_epoch(epoch, labels)` is called after
    each epoch, off the clock; `labels()` gives the labels at that point. `neighbors` (n, k or more)
    are found if not given.
    """
    torch.manual_seed(seed)
    data = torch.as_tensor(X, dtype=torch.float32, device=device)
    n = len(data)
    ids = nearest(data, k) if neighbors is None else torch.from_numpy(neighbors[:, :k]).to(device)
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
            if enough(epoch):
                break
            rate = 1e-4 * batch_size / 256 * min(1, (epoch * steps + step + 1) / (20 * steps))
            for group in optimizer.param_groups:
                group["lr"] = rate
            rows = order[step * batch_size : (step + 1) * batch_size]
            x = data[torch.cat([rows, draw(ids, rows)])]
            q_teacher, weight = teach(teachers, x, prior)
            optimizer.zero_grad()
            for i, head in enumerate(students):
                q_student = F.softmax(head(x) / 0.1, dim=1)
                loss = temi_loss(q_student, q_teacher[i], prior[i], weight, beta)
                (loss / n_heads).backward()
                total[i] += loss.detach()
            for p in last if epoch == 0 else ():
                p.grad = None
            optimizer.step()
            move_teachers(students, teachers)
        best = int(total.argmin())
        losses.append(float(total[best]) / steps)
        seconds.append(time.perf_counter() - started)
        if on_epoch:
            on_epoch(epoch + 1, labels)
    return labels(), {"seconds": seconds, "loss": losses}
