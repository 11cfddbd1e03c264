"""DINO: a student that predicts what its own average over time says of other views of an image.

Source: Zhou and Zhang 2022 (TSP), section 3.1; what it leaves open from Caron et al. 2021,
"Emerging properties in self-supervised vision transformers".
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from imageherd.pretraining.augment import N_LOCAL, MultiCrop
from imageherd.pretraining.data import normalize
from imageherd.pretraining.loop import Run, share_norms, train
from imageherd.pretraining.networks import Network, VisionTransformer

EPOCHS, BATCH_SIZE = 100, 256
STUDENT_TEMPERATURE = 0.1
TEACHER_TEMPERATURES = (0.04, 0.07)
CENTER_MOMENTUM = 0.9
TEACHER_MOMENTUM, LEAST_MOMENTUM = 0.996, 0.98
MOST_HIDDEN, BOTTLENECK, MOST_OUTPUTS, FEWEST_OUTPUTS = 2048, 256, 65_536, 256
# The first for a batch of 256 images.
RATE, LAST_RATE = 5e-4, 1e-6
WEIGHT_DECAYS = (0.04, 0.4)
MAX_NORM = 3.0
DROP_PATH = 0.1
# In epochs.
RATE_WARM_UP, TEMPERATURE_WARM_UP = 10, 30


def teacher_probabilities(g: Tensor, center: Tensor, temperature: float) -> Tensor:
    """Return the teacher's P(y|v): the softmax of its centred and sharpened outputs.

    Parameters
    ----------
    g : Tensor of shape (..., K)
        Its outputs.
    center : Tensor of shape (K,)
        c of eq. 3.
    temperature : float
        τ_t.
    """
    return ((g.float() - center) / temperature).softmax(-1)


def dino_loss(g: Tensor, p: Tensor, temperature: float = STUDENT_TEMPERATURE) -> Tensor:
    """Return the mean cross entropy of the teacher's and the student's views (eq. 1).

    Σ_v Σ_v'≠v −P_t(y|v) log P_s(y|v'), v over the global views, v' over all, divided by the number
    of pairs (the paper sums, its authors' program divides) and averaged over the images.

    Parameters
    ----------
    g : Tensor of shape (V, b, K)
        The student's outputs of V views, the global ones first.
    p : Tensor of shape (G, b, K)
        The teacher's probabilities of the G global views.
    temperature : float, default=0.1
        τ_s.
    """
    log_q = (g.float() / temperature).log_softmax(-1)
    # The sum over v' ≠ v is that over all v', less v itself.
    others = log_q.sum(0) - log_q[: len(p)]
    return -(p * others).sum(-1).mean(1).sum() / (len(p) * (len(g) - 1))


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher's weights: θ_t ← λ θ_t + (1 − λ) θ_s (eq. 2), in place.

    Parameters
    ----------
    teacher, student : Module
        Of one shape. What is no parameter, such as a batch norm's averages, is left alone.
    momentum : float
        λ.
    """
    theta_t: list[Tensor] = list(teacher.parameters())
    theta_s: list[Tensor] = list(student.parameters())
    torch._foreach_lerp_(theta_t, theta_s, 1 - momentum)


def entropy(p: Tensor) -> Tensor:
    """Return the entropies, in nats, of distributions (..., K) over K outputs."""
    entropies: Tensor = torch.special.entr(p).sum(-1)
    return entropies


def new_center(center: Tensor, g: Tensor, momentum: float = CENTER_MOMENTUM) -> Tensor:
    """Return the next centre: c ← m c + (1 − m) · mean of g (eq. 3).

    Parameters
    ----------
    center : Tensor of shape (K,)
        c.
    g : Tensor of shape (..., K)
        The teacher's outputs of the batch's global views.
    momentum : float, default=0.9
        m.
    """
    return momentum * center + (1 - momentum) * g.float().flatten(0, -2).mean(0)


def cosine(start: float, end: float, share: float) -> float:
    """Go from `start` to `end` along half a cosine wave, `share` of the way from 0 to 1."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def learning_rate(epoch: float, epochs: int, peak: float) -> float:
    """Return the rate: linear warm-up to the peak, then a cosine to 1e-6.

    Parameters
    ----------
    epoch : float
        Epochs that are over.
    epochs : int
        Epochs in all; the warm-up takes 10, at most a tenth.
    peak : float
        The highest rate: the paper's is 5e-4 · batch / 256.
    """
    warm_up = min(RATE_WARM_UP, epochs / 10)
    if epoch < warm_up:
        return peak * epoch / warm_up
    return cosine(peak, LAST_RATE, (epoch - warm_up) / (epochs - warm_up))


def teacher_temperature(epoch: float) -> float:
    """Return τ_t: from 0.04 to 0.07 over 30 epochs, then 0.07.

    Not less in a short run: until the views agree, answers that are not sharp enough fade to one
    answer for all images.
    """
    start, end = TEACHER_TEMPERATURES
    return start + (end - start) * min(1.0, epoch / TEMPERATURE_WARM_UP)


def teacher_momentum(step: int, total: int) -> float:
    """Return λ of eq. 2: from 0.996 along a cosine to 1.

    In a run of fewer than 5,000 steps it starts lower, at 1 − 20 / total, so that the teacher's
    memory is at most a twentieth of the run, but not below 0.98. Ours: answers become sharper only
    as fast as the teacher follows the student; but a teacher that follows faster than the centre
    follows it, 2.5 · 10 steps, runs away from the centre, with the same answer to all images.
    """
    first = min(TEACHER_MOMENTUM, max(LEAST_MOMENTUM, 1 - 20 / total))
    return cosine(first, 1.0, step / total)


def n_outputs(n: int) -> int:
    """Return K for n images: 65,536, or for fewer the largest power of two up to n/4; 256 at least.

    The rule is ours: with nearly as many outputs as images most would never be an answer.
    """
    return max(FEWEST_OUTPUTS, min(MOST_OUTPUTS, 1 << max(0, (n // 4).bit_length() - 1)))


class ProjectionHead(nn.Module):
    """The projection head h: three layers to a bottleneck of unit length, then unit weights.

    Linear(d, w) – BN – GELU – Linear(w, w) – BN – GELU – Linear(w, 256) – L2-normalise –
    Linear(256, K) without bias, each row of its weight scaled to length 1, so that an output is a
    cosine. w is 2048; less, 8 · d, for the narrow networks, which it would cost more than
    themselves. Weights start truncated-normal (std 0.02), biases at 0.

    The batch norms are an option of the DINO program. Features of a network not yet trained have so
    much in common that without them all answers fade to one in the first steps, and what is left of
    the differences is too small to grow again.

    Parameters
    ----------
    d : int
        Columns of the features.
    n_outputs : int
        K.
    """

    def __init__(self, d: int, n_outputs: int) -> None:
        super().__init__()
        hidden = min(MOST_HIDDEN, 8 * d)
        layers: list[nn.Module] = []
        for n_in in (d, hidden):
            layers += [nn.Linear(n_in, hidden), nn.BatchNorm1d(hidden), nn.GELU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(hidden, BOTTLENECK))
        self.last = nn.Parameter(torch.empty(n_outputs, BOTTLENECK))
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Turn features (b, d) into outputs g (b, K)."""
        return F.linear(F.normalize(self.mlp(features)), F.normalize(self.last))


class Branch(nn.Module):
    """Network and projection head: g = h(f(x)).

    Parameters
    ----------
    network : Network
        f.
    head : ProjectionHead
        h.
    """

    def __init__(self, network: Network, head: ProjectionHead) -> None:
        super().__init__()
        self.network, self.head = network, head

    def forward(self, *views: Tensor) -> Tensor:
        """Turn views of one image size each, (b', 3, s, s), into outputs (Σ b', K)."""
        return self.head(torch.cat([self.network.features(view) for view in views]))  # type: ignore[no-any-return]


def train_dino(network: Network, run: Run) -> tuple[Network, list[dict[str, Any]]]:
    """Pretrain a network by DINO.

    AdamW with weight decay from 0.04 to 0.4 along a cosine (none on biases and norms), gradients
    clipped to norm 3, the head's last layer fixed for the first epoch; a ViT student skips layers
    for up to a tenth of the images. The centre starts at the first batch's mean.

    Parameters
    ----------
    network : Network
        The student, at its start; it becomes part of the run.
    run : Run
        The run.

    Returns
    -------
    network : Network
        The teacher's, without its head: f_θt.
    history : list of dict
        See `train`. "entropy" is that of the teacher's answers, in nats, "mean_entropy" that of
        the mean answer of each batch, both log K at most. "loss" below "mean_entropy" says that
        the student tells an image's answer from another view of it better than by giving all
        images the mean one: by so many nats. While it learns that grows; at 0 all get one answer.

    Notes
    -----
    An image costs 2 passes of the teacher on global crops, and forward and backward passes of the
    student on 2 global and 8 local crops: for 32-pixel crops about 14 forward passes in all.
    """
    fabric, K = run.fabric, n_outputs(len(run.pixels))
    peak = run.rate * run.batch_size / 256
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        head = ProjectionHead(network.dim, K)
    share_norms(head, fabric)
    student = Branch(network, head)
    teacher = copy.deepcopy(student).requires_grad_(False)
    if isinstance(network, VisionTransformer):
        network.drop_path = DROP_PATH
    optimizer = torch.optim.AdamW(_groups(student), lr=run.rate)
    center = torch.zeros(K, device=fabric.device)
    teacher.to(fabric.device)
    wrapped, fabric_optimizer = fabric.setup(student, optimizer)
    crops = MultiCrop(run.pixels.size, network.patch, flip=run.flip, recolor=run.recolor)
    told = {name: torch.zeros((), device=fabric.device) for name in ("entropy", "mean_entropy")}

    def step(images: Tensor, index: int) -> Tensor:
        epoch, share = run.epoch(index), index / run.total
        optimizer.param_groups[0]["weight_decay"] = cosine(*WEIGHT_DECAYS, share)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(epoch, run.epochs, peak)
        views = crops(images.float() / 255)
        large, small = (normalize(255 * torch.cat(some), run.pixels) for some in views)
        with torch.no_grad(), fabric.autocast():
            g_t = teacher(large).reshape(2, len(images), K)
        if index == 0:
            # From 0 it would take 20 steps to get there, with all answers alike until then.
            center.copy_(_mean_over_devices(run, g_t.float().flatten(0, -2).mean(0)))
        p = teacher_probabilities(g_t, center, teacher_temperature(epoch))
        g_s = wrapped(large, small).reshape(2 + N_LOCAL, len(images), K)
        loss = dino_loss(g_s, p)
        fabric_optimizer.zero_grad()
        fabric.backward(loss)
        if epoch < 1:
            head.last.grad = None
        fabric.clip_gradients(wrapped, fabric_optimizer, max_norm=MAX_NORM)
        fabric_optimizer.step()
        update_teacher(teacher, student, teacher_momentum(index, run.total))
        center.copy_(_mean_over_devices(run, new_center(center, g_t)))
        told["entropy"] += entropy(p).mean()
        told["mean_entropy"] += entropy(_mean_over_devices(run, p.flatten(0, 1).mean(0)))
        return loss.detach()

    state = {"student": student, "teacher": teacher, "optimizer": optimizer, "center": center}
    history = train(
        *(step, run, state),
        network=teacher.network,
        description="DINO",
        advice="try --precision 32",
        told=told,
    )
    return teacher.network, history


def _groups(student: nn.Module) -> list[dict[str, Any]]:
    """Put the weights that decay first, biases and norms second."""
    parameters = list(student.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1]},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]


def _mean_over_devices(run: Run, values: Tensor) -> Tensor:
    mean = run.fabric.all_reduce(values, reduce_op="mean")
    assert isinstance(mean, Tensor)
    return mean
