"""TEMI: self-distillation of many heads by pointwise mutual information (Adaloglou et al. 2023).

"Exploring the limits of deep image clustering using pretrained models", BMVC 2023. Equation
numbers are the paper's; where it is silent, the authors' program ("released") is followed.
"""

from __future__ import annotations

import copy
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it
from torch.optim.swa_utils import get_ema_multi_avg_fn

from imageherd.heads.base import Head, check_choice
from imageherd.heads.constraints import Constraints
from imageherd.heads.loop import Plan, Run, generator, plan, train, warm_up
from imageherd.heads.networks import HeadStack, heads_per_chunk
from imageherd.heads.scaling import BLOCK_ROWS, padded_block
from imageherd.heads.temi_losses import pair_weights, pmi_losses, scan_losses, update_prior
from imageherd.heads.usage import Usage

Objective = Literal["temi", "wpmi", "pmi", "scan"]
Decay = Literal["constant", "cosine"]

_PAPER: dict[str, Any] = {
    "n_heads": 50,
    "epochs": 200,
    "min_steps": 0,
    "batch_size": 512,
    "lr": 1e-4,
    "lr_decay": "constant",
    "teacher_momentum": 0.996,
    "scaling": "none",
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {**_PAPER, "scale_lr": False, "warmup_epochs": 0},
    "released": {**_PAPER, "scale_lr": True, "warmup_epochs": 20},
}
"""Settings by name, for ``TEMI(n_clusters, **PRESETS["paper"])``. Over-clustering adds beta=1."""

# Teachers' outputs kept from the pass for the mean weight; above, chunks compute them again.
_KEPT_BYTES = 256 * 2**20


class BestHead(nn.Module):
    """The head that predicts: rows (b, d) to logits (b, K), cosines over the temperature."""

    def __init__(self, stack: HeadStack, temperature: float) -> None:
        super().__init__()
        self.stack = stack
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits whose softmax is qt (eq. 4)."""
        logits: Tensor = self.stack(x)[0] / self.temperature
        return logits


class TEMI(Head):
    """Cluster by Teacher Ensemble-weighted pointwise Mutual Information.

    H heads, each a student and its moving average, the teacher, learn to give a point and one of
    its k neighbours the same cluster while using all clusters; a pair counts as much as the
    teachers of all heads believe in it. The teacher with the lowest loss predicts.

    Source: Adaloglou et al. 2023 (BMVC), eqs. 4 to 10, and the authors' program. `PRESETS` has the
    paper's and the released settings. The defaults are one row for unknown data, from n = 200 up:
    principal components with 80 % of the variance; 1000 steps at AdamW's customary rate,
    decaying; and a teacher whose memory is the same part of the run as the paper's, 1/80 of its
    20,000 steps: with the released memory of 250 steps it would hardly leave its start in 1000.

    Parameters
    ----------
    n_clusters : int, default=10
        K.
    objective : {"temi", "wpmi", "pmi", "scan"}, default="temi"
        "temi" weighs a pair by the mean of all heads (eq. 10), "wpmi" by each head's own belief,
        "pmi" not at all (eq. 8); "scan" is SCAN's loss in the same framework.
    n_heads : int, default=16
        H. The paper has 50 and loses less than 1 % with 16.
    n_neighbors : int, default=50
        k; at most max(5, n/(3K)) are used.
    beta : float, default=0.6
        β of eq. 8 in (0.5, 1]: lower uses the clusters more evenly; 1 for over-clustering.
        Without labels, take the lowest whose `history_` ends with a low conditional entropy.
    balance : float, default=1
        Strength of the push to equal cluster sizes: the exponent on the class prior in eq. 8,
        1 in the paper, 0 for none. Not used by "scan".
    alpha : float, default=5
        Strength of that push for "scan": α, the weight of the entropy.
    temperature : float, default=0.1
        τ of eq. 4, of students and teachers.
    prior_momentum : float, default=0.9
        m of eq. 6.
    teacher_momentum : float or "auto", default="auto"
        Share of itself that a teacher keeps at every step. Released: 0.996. "auto" is
        1 - 80 / steps, between 0.9 and 0.996.
    epochs, min_steps : int, default=10 and 1000
        Length: `epochs` passes over the data, more where that makes fewer than `min_steps` steps.
    batch_size : int, default=512
        Pairs a step; at most n/4. The last incomplete batch of an epoch is dropped.
    lr : float, default=1e-3
        Learning rate of AdamW. The paper: 1e-4.
    scale_lr : bool, default=False
        Multiply `lr` by batch/256, as released.
    lr_decay : {"constant", "cosine"}, default="cosine"
        What the rate does after the warm-up. The paper: "constant".
    warmup_epochs : float, default=1
        The rate rises linearly over these epochs, which stretch with the others where `min_steps`
        adds some.
    freeze_epochs : int, default=1
        Epochs in which the last layer keeps its weights.
    weight_decay : float, default=1e-4
        Of AdamW; not on biases and gains.
    scaling : {"none", "l2", "standard", "pca"}, default="pca"
        What is done to X first; fitted, and kept in the saved head. The paper: "none".
    pca_variance : float, default=0.8
        Share of the variance that "pca" keeps.
    blocks : tuple of int, optional
        Columns of each feature space where X holds several side by side, each scaled on its own.
    heads_per_chunk : int or "auto", default="auto"
        Heads computed at a time. Bounds the memory; results agree up to rounding.
    random_state : int, RandomState or None, default=None
        Seed. Head i starts the same whatever `n_heads` and `heads_per_chunk`.
    device : {"auto", "cpu", "cuda", "mps"}, default="auto"
        Where it trains.

    Attributes
    ----------
    best_head_ : int
        The head that predicts.
    head_losses_ : list of float
        Mean training loss of every head in the last epoch.
    history_ : list of dict
        By epoch: epoch, loss, and of the teachers what `Usage.report` gives; means over heads.

    Notes
    -----
    Memory: five numbers a parameter (student, gradient, two moments, teacher), X scaled, and one
    chunk's activations. Time: ``12 H B (512 d + 1.3·512·256 + 256 K)`` operations a step: three
    products a layer for two views (one more in the second), d after scaling.
    """

    _saved: ClassVar[tuple[str, ...]] = (*Head._saved, "best_head_", "head_losses_")
    keeps_dtypes: ClassVar[tuple[str, ...]] = ("float32",)
    against_collapse: ClassVar[str] = "raise balance, lower beta or lower n_clusters"
    starts_warm: ClassVar[bool] = True
    takes_constraints: ClassVar[bool] = True
    shares_batches: ClassVar[bool] = True

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        objective: Objective = "temi",
        n_heads: int = 16,
        n_neighbors: int = 50,
        beta: float = 0.6,
        balance: float = 1.0,
        alpha: float = 5.0,
        temperature: float = 0.1,
        prior_momentum: float = 0.9,
        teacher_momentum: float | Literal["auto"] = "auto",
        epochs: int = 10,
        min_steps: int = 1000,
        batch_size: int = 512,
        lr: float = 1e-3,
        scale_lr: bool = False,
        lr_decay: Decay = "cosine",
        warmup_epochs: float = 1,
        freeze_epochs: int = 1,
        weight_decay: float = 1e-4,
        scaling: str = "pca",
        pca_variance: float = 0.8,
        blocks: tuple[int, ...] | None = None,
        heads_per_chunk: int | Literal["auto"] = "auto",
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.objective = objective
        self.n_heads = n_heads
        self.n_neighbors = n_neighbors
        self.beta = beta
        self.balance = balance
        self.alpha = alpha
        self.temperature = temperature
        self.prior_momentum = prior_momentum
        self.teacher_momentum = teacher_momentum
        self.epochs = epochs
        self.min_steps = min_steps
        self.batch_size = batch_size
        self.lr = lr
        self.scale_lr = scale_lr
        self.lr_decay = lr_decay
        self.warmup_epochs = warmup_epochs
        self.freeze_epochs = freeze_epochs
        self.weight_decay = weight_decay
        self.scaling = scaling
        self.pca_variance = pca_variance
        self.blocks = blocks
        self.heads_per_chunk = heads_per_chunk
        self.random_state = random_state
        self.device = device

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the bottleneck of the best teacher: ndarray (n, 256) of float32, unit rows."""
        X, device = self._ready(X)
        stack = copy.deepcopy(self.network_.stack).to(device)
        blocks = []
        for start in range(0, len(X), BLOCK_ROWS):
            block = self.scaler_(padded_block(X, start)).to(device)
            blocks.append(stack.bottleneck(block)[0, : len(X) - start].cpu().numpy())
        return np.concatenate(blocks)

    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        assert neighbors is not None
        length = plan(
            len(Z), batch_size=self.batch_size, epochs=self.epochs, min_steps=self.min_steps
        )
        ensemble = Ensemble(self, Z, neighbors, length, run)
        warmup = self.warmup_epochs * length.epochs / self.epochs
        self.history_ = train(
            ensemble.step,
            length,
            run,
            state=ensemble.state(),
            optimizer=ensemble.optimizer,
            schedule=warm_up(warmup, length.epochs if self.lr_decay == "cosine" else None),
            report=ensemble.usage.report,
            description="Training TEMI",
        )
        self.n_iter_ = len(self.history_)
        self.head_losses_ = (ensemble.losses / length.steps).tolist()
        # Labels are about the columns of the head that began warm, the first.
        self.best_head_ = 0 if run.constraints else int(np.argmin(self.head_losses_))
        return BestHead(ensemble.teacher(self.best_head_), self.temperature)

    def _network(self, d: int, facts: dict[str, Any]) -> nn.Module:
        return BestHead(HeadStack(d, self.n_clusters), self.temperature)

    def _check_params(self) -> None:
        super()._check_params()
        check_choice(self.objective, "objective", get_args(Objective))
        check_choice(self.lr_decay, "lr_decay", get_args(Decay))
        least = {"n_heads": 1, "epochs": 1, "batch_size": 1, "min_steps": 0, "freeze_epochs": 0}
        for name, min_val in least.items():
            check_scalar(getattr(self, name), name, Integral, min_val=min_val)
        for name in ("balance", "alpha", "warmup_epochs", "weight_decay"):
            check_scalar(getattr(self, name), name, Real, min_val=0)
        for name in ("lr", "temperature"):
            check_scalar(getattr(self, name), name, Real, min_val=0, include_boundaries="neither")
        for name in ("prior_momentum", "teacher_momentum"):
            value = getattr(self, name)
            if value != "auto" or name == "prior_momentum":
                check_scalar(value, name, Real, min_val=0, max_val=1, include_boundaries="left")
        if not 0.5 < self.beta <= 1:
            raise ValueError(f"beta={self.beta!r} must be above 0.5 and at most 1.")
        if self.heads_per_chunk != "auto":
            check_scalar(self.heads_per_chunk, "heads_per_chunk", Integral, min_val=1)


class Ensemble:
    """All heads while they train: students, teachers, priors, optimizer, and the step.

    The heads are in chunks. As the mean weight of a pair needs every teacher, a step first goes
    through the teachers of all chunks without gradient, then trains chunk after chunk.
    """

    def __init__(
        self, settings: TEMI, Z: Tensor, neighbors: Tensor, length: Plan, run: Run
    ) -> None:
        self.settings = settings
        self.Z, self.neighbors, self.device = Z, neighbors, run.device
        self.constraints, self.ranks = run.constraints, run.ranks
        H, K = settings.n_heads, settings.n_clusters
        size = settings.heads_per_chunk
        if size == "auto":
            size = heads_per_chunk(2 * length.batch_size, K, run.device.type)
        self.students = nn.ModuleList(
            HeadStack(Z.shape[1], K, min(size, H - i), first_head=i, seed=run.seed)
            for i in range(0, H, size)
        ).to(run.device)
        if run.start is not None:
            self.students[0].begin_with(run.start.stack)  # type: ignore[operator]
        self.teachers = copy.deepcopy(self.students).requires_grad_(False)
        self.chunks = [slice(i, min(i + size, H)) for i in range(0, H, size)]
        self.prior = torch.full((H, K), 1 / K, device=run.device)
        self.losses = torch.zeros(H, device=run.device)
        self.usage = Usage(K, run.device, H, run.ranks)
        self.keep_teachers = H * 2 * length.batch_size * K * 4 <= _KEPT_BYTES
        self.draws = generator(run.seed, stream=-2)
        self.optimizer = self._optimizer(length.batch_size)
        auto = min(max(1 - 80 / (length.epochs * length.steps), 0.9), 0.996)
        m = auto if settings.teacher_momentum == "auto" else settings.teacher_momentum
        self.move_teachers = get_ema_multi_avg_fn(m)  # type: ignore[no-untyped-call]
        self.epoch = -1

    def _optimizer(self, batch_size: int) -> torch.optim.Optimizer:
        settings = self.settings
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in self.students.named_parameters():
            groups[not name.endswith(("bias", "gain"))].append(parameter)
        return torch.optim.AdamW(
            [
                {"params": groups[True], "weight_decay": settings.weight_decay},
                {"params": groups[False], "weight_decay": 0.0},
            ],
            lr=settings.lr * (batch_size / 256 if settings.scale_lr else 1.0),
            fused=self.device.type in ("cpu", "cuda"),
        )

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        kept = ("students", "teachers", "prior", "losses", "draws")
        return {name: getattr(self, name) for name in kept}

    def step(self, rows: Tensor, epoch: int) -> Tensor:
        """Take one optimiser step on rows (B,) and return the loss of each head, (H,)."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.losses.zero_()
        pairs = torch.stack([rows, self._partners(rows)])[:, self.ranks.rows].flatten()
        # A point that is in the batch more than once goes through the networks once.
        distinct, place = torch.unique(pairs, return_inverse=True)
        x = self.Z[distinct]
        weight, kept = self._teach(x, place)
        losses = []
        for i, student in enumerate(self.students):
            log_qt = kept[i] if kept else self._log_q(self.teachers[i], x, place)
            log_qs = self._log_q(student, x, place)
            chunk_losses = self._losses(log_qs, log_qt, self.chunks[i], weight)
            loss = chunk_losses.sum()
            if i == 0 and self.constraints is not None:
                loss = loss + self._known_loss(self.constraints, student)
            (loss / self.settings.n_heads).backward()  # type: ignore[no-untyped-call]
            losses.append(chunk_losses.detach())
        if epoch < self.settings.freeze_epochs:
            for student in self.students:
                student.direction.grad = student.gain.grad = None
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.move_teachers(list(self.teachers.parameters()), list(self.students.parameters()), 0)
        total = self.ranks.mean(torch.cat(losses))
        self.losses += total
        return total

    def _partners(self, rows: Tensor) -> Tensor:
        choice = torch.randint(self.neighbors.shape[1], rows.shape, generator=self.draws)
        return self.neighbors[rows, choice.to(self.device)]

    def _known_loss(self, constraints: Constraints, student: nn.Module) -> Tensor:
        known = constraints.draw(self.draws, self.device)
        asked = torch.cat([known.rows, self._partners(known.labelled)])
        log_q = self._log_q(student, self.Z[asked], torch.arange(len(asked)))
        return known.losses(log_q[:1])[0]

    @torch.no_grad()
    def _teach(self, x: Tensor, place: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Update the priors, and return the mean weight of each pair and the teachers' log q."""
        weight = torch.zeros(len(place) // 2, device=self.device)
        kept = []
        for chunk, teacher in zip(self.chunks, self.teachers, strict=True):
            log_qt = self._log_q(teacher, x, place)
            q_t = log_qt.exp()
            self.prior[chunk] = update_prior(self.prior[chunk], q_t, self.settings.prior_momentum)
            self.usage.add(q_t, chunk.start)
            weight += pair_weights(*q_t.chunk(2, dim=1)).sum(dim=0)
            if self.keep_teachers:
                kept.append(log_qt)
        self.prior[:] = self.ranks.mean(self.prior)  # eq. 6 is linear in the batch's mean
        return weight / self.settings.n_heads, kept

    def _log_q(self, heads: nn.Module, x: Tensor, place: Tensor) -> Tensor:
        """Log probabilities (heads, 2B, K) of the rows at `place` in x (eq. 4)."""
        return F.log_softmax(heads(x) / self.settings.temperature, dim=2)[:, place]

    def _losses(self, log_qs: Tensor, log_qt: Tensor, chunk: slice, weight: Tensor) -> Tensor:
        settings = self.settings
        if settings.objective == "scan":
            return scan_losses(log_qs, log_qt, settings.alpha, self.ranks.mean)
        weights: Tensor | float = 1.0
        if settings.objective == "temi":
            weights = weight
        elif settings.objective == "wpmi":
            weights = pair_weights(*log_qt.exp().chunk(2, dim=1))
        prior = self.prior[chunk]
        return pmi_losses(log_qs, log_qt, prior, weights, settings.beta, settings.balance)

    def teacher(self, i: int) -> HeadStack:
        """Return a copy of teacher i."""
        stack = cast(HeadStack, self.teachers[i // (size := self.chunks[0].stop)])
        return stack.head(i % size)
