"""TURTLE: Gadetsky, Jiang and Brbić, "Let Go of Your Labels with Unsupervised Transfer" (2024).

The labels sought are those that linear classifiers learn best in a few steps, in every feature
space at once. Labels come from task encoders, one linear layer a space; an outer step fits fresh
classifiers to the labels of a batch, then moves the encoders to labels that these classifiers
predict with less loss. ICML 2024; equation numbers are the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils import check_scalar
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from imageherd.heads.base import Head, check_choice
from imageherd.heads.kmeans import kmeans_starts
from imageherd.heads.loop import Plan, Run, generator, train
from imageherd.heads.scaling import Features
from imageherd.heads.temi_losses import entropy
from imageherd.heads.turtle_classifiers import Classifiers, Space, uniform
from imageherd.heads.usage import Usage

INITS = ("kmeans", "random")

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "scaling": "none",
        "balance": 10.0,
        "init": "random",
        "rotate": False,
        "lr": 1e-3,
        "inner_lr": 1e-3,
        "batch_size": 10_000,
        "epochs": 1,
        "min_steps": 6000,
    },
}


class TaskEncoders(nn.Module):
    """Eqs. 8 and 9: a weight-normalised linear layer for each feature space, softmaxes averaged.

    Row c of a layer is ``gain_c · v_c / ‖v_c‖``, its gain trainable.

    Parameters
    ----------
    sizes : sequence of int
        Columns of each space.
    n_clusters : int
        K.
    """

    def __init__(self, sizes: Sequence[int], n_clusters: int) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.direction = nn.ParameterList(torch.ones(n_clusters, d) for d in sizes)
        self.gain = nn.ParameterList(torch.ones(n_clusters, 1) for _ in sizes)
        self.bias = nn.ParameterList(torch.zeros(n_clusters) for _ in sizes)

    @torch.no_grad()
    def start_at(self, centers: Tensor) -> None:
        """Start with centres (K, d') as directions, the gains as a random start has them."""
        for v, gain, c in zip(
            self.direction, self.gain, torch.split(centers, self.sizes, 1), strict=True
        ):
            # Entries of order one: then lr is the angle, in radians, that a step turns a row by.
            v.copy_(F.normalize(c, dim=1) * math.sqrt(v.shape[1]))
            gain.fill_(1 / math.sqrt(3))

    @torch.no_grad()
    def start(self, draws: torch.Generator) -> None:
        """Draw the layers as PyTorch's Linear does, the gains such that they change nothing."""
        for v, gain, bias in zip(self.direction, self.gain, self.bias, strict=True):
            v.copy_(uniform(v.shape, v.shape[1], draws))
            gain.copy_(v.norm(dim=1, keepdim=True))
            bias.copy_(uniform(bias.shape, v.shape[1], draws))

    @torch.no_grad()
    def turn(self, rotations: Sequence[Tensor]) -> None:
        """Take a space's rows from x to x R, for orthogonal R (d, d)."""
        for v, rotation in zip(self.direction, rotations, strict=True):
            v.copy_(v @ rotation)

    def weights(self) -> list[Tensor]:
        """Return each space's layer, (K, d)."""
        return [
            F.normalize(v, dim=1) * gain for v, gain in zip(self.direction, self.gain, strict=True)
        ]

    def each(self, spaces: Sequence[Space]) -> Tensor:
        """Return log τ_s of every space, (S, b, K)."""
        layers = zip(spaces, self.weights(), self.bias, strict=True)
        return torch.stack([space.logits(w, b).T.log_softmax(1) for space, w, b in layers])

    def forward(self, Z: Tensor) -> Tensor:
        """Return the log of the mean of the spaces' probabilities: (b, d') to (b, K)."""
        spaces = torch.split(Z, self.sizes, 1)
        layers = zip(spaces, self.weights(), self.bias, strict=True)
        log_tau = [F.linear(z, w, b).log_softmax(1) for z, w, b in layers]
        return torch.stack(log_tau).logsumexp(0) - math.log(len(self.sizes))


def turtle_loss(log_tau: Tensor, log_q: Tensor, balance: float) -> Tensor:
    """Eqs. 12 and 13: Σs CE(q_s, τ) - γ Σs H(E τ_s), with τ the mean of the spaces' τ_s.

    Parameters
    ----------
    log_tau : Tensor of shape (S, b, K)
        Log probabilities by the S task encoders.
    log_q : Tensor of shape (S, b, K)
        The same by the classifiers; a constant here (first-order hypergradient).
    balance : float
        γ, the strength of the push towards equal cluster sizes.
    """
    tau = log_tau.exp()
    cross_entropies = -(tau.mean(0) * log_q).sum(2).mean(1)
    return cross_entropies.sum() - balance * entropy(tau.mean(1)).sum()


class TURTLE(Head):
    """TURTLE: the labels that a linear classifier learns best, in every feature space at once.

    Several feature spaces (backbones) side by side in X go by `blocks`; with one, the method is
    its paper's one-space form. The defaults are ours, chosen without labels; the paper's settings
    are ``TURTLE(**PRESETS["paper"])``.

    With `balance` at 1 the loss of one space is minus a lower bound on the mutual information of
    row and cluster; the paper's 10 makes all clusters of one size. Even so the lowest loss may
    split a large group and merge small ones. A start from k-means stays near the groups there are:
    from the paper's random start, seeds agree far less.

    `transform` returns X itself: the paper does not search.

    Parameters
    ----------
    n_clusters : int, default=10
        K.
    scaling : {"none", "l2", "standard", "pca"}, default="pca"
        See `imageherd.heads.scaling.Scaler`. The paper: "none".
    pca_variance : float, default=0.95
        Share of the variance that scaling="pca" keeps; with less, small groups can be lost.
    blocks : tuple of int, optional
        Columns of each feature space where X holds several side by side; each is scaled on its own.
    balance : float, default=1.0
        γ, the strength of the push towards equal cluster sizes. The paper: 10.
    init : {"kmeans", "random"}, default="kmeans"
        Where the encoders start: at the centres of k-means on all spaces, or like PyTorch's
        linear layers. The paper: "random".
    rotate : bool, default=True
        Train in randomly turned axes. Adam's first steps are as long in every column, however
        little the column varies: along principal components, classifiers of ten steps then lean
        on noise as much as on what tells rows apart. In random axes every column holds something
        of all components, each in its own proportion. The paper: False.
    inner_steps : int, default=10
        M, Adam steps of the classifiers in each outer step.
    inner_lr : float, optional
        Of the classifiers' Adam. By default 1/d for a space of d columns: with columns of
        variance 1, a step then moves a logit by at most about 1. The paper: 1e-3.
    warm_start : bool, default=False
        True keeps the classifiers from one outer step to the next; False draws them anew.
    lr : float, default=1e-2
        Of the encoders' Adam. The paper: 1e-3.
    batch_size : int, optional
        At most n is used; the last incomplete batch is dropped. By default 1,000 or, if that is
        more, 10 rows a cluster, as in the paper's 10,000 for ImageNet's 1,000 classes.
    epochs : int, default=1
        Passes over the rows at least.
    min_steps : int, default=500
        Epochs are added until at least so many outer steps are taken. The paper: 6000.
    random_state : int, RandomState or None, default=None
        Seed.
    device : str, default="auto"
        See `imageherd.device.resolve_device`.

    Notes
    -----
    An outer step takes 2 `inner_steps` + 3 products of O(batch d K) operations, and memory for two
    copies of the batch beside the scaled features. A batch of all rows is copied once, not at
    every step. `rotate` takes O(n d² + d³) operations once, and a copy of the scaled features.
    """

    _saved: ClassVar[tuple[str, ...]] = ("n_iter_", "history_")
    against_collapse: ClassVar[str] = "raise balance or lower n_clusters"
    starts_warm: ClassVar[bool] = True

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        scaling: str = "pca",
        pca_variance: float = 0.95,
        blocks: tuple[int, ...] | None = None,
        balance: float = 1.0,
        init: str = "kmeans",
        rotate: bool = True,
        inner_steps: int = 10,
        inner_lr: float | None = None,
        warm_start: bool = False,
        lr: float = 1e-2,
        batch_size: int | None = None,
        epochs: int = 1,
        min_steps: int = 500,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.scaling = scaling
        self.pca_variance = pca_variance
        self.blocks = blocks
        self.balance = balance
        self.init = init
        self.rotate = rotate
        self.inner_steps = inner_steps
        self.inner_lr = inner_lr
        self.warm_start = warm_start
        self.lr = lr
        self.batch_size = batch_size
        self.epochs = epochs
        self.min_steps = min_steps
        self.random_state = random_state
        self.device = device

    def transform(self, X: ArrayLike) -> Features:
        """Return X (n, d) itself, checked: the paper does not search."""
        return self._ready(X)[0]

    def _check_params(self) -> None:
        super()._check_params()
        check_choice(self.init, "init", INITS)
        check_scalar(self.balance, "balance", Real, min_val=0)
        for name in ("lr", "inner_lr"):
            if getattr(self, name) is not None or name == "lr":
                value = getattr(self, name)
                check_scalar(value, name, Real, min_val=0, include_boundaries="neither")
        for name in ("inner_steps", "epochs", "batch_size"):
            if getattr(self, name) is not None or name != "batch_size":
                check_scalar(getattr(self, name), name, Integral, min_val=1)
        check_scalar(self.min_steps, "min_steps", Integral, min_val=0)
        for name in ("rotate", "warm_start"):
            check_scalar(getattr(self, name), name, bool)

    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        network = self._network(Z.shape[1], {})
        if run.start is not None:
            network.load_state_dict(run.start.state_dict())
        elif self.init == "kmeans":
            network.start_at(kmeans_starts(Z, self.n_clusters, seed=run.seed, n_init=10)[0].cpu())
        else:
            network.start(generator(run.seed, stream=1))
        network.to(Z.device)
        parts = self.scaler_.split(Z)
        turns: list[Tensor] = []
        if self.rotate:
            turns = random_rotations(network.sizes, generator(run.seed, stream=3), Z.device)
            network.turn(turns)
            parts = tuple(z @ turn for z, turn in zip(parts, turns, strict=True))
        classifiers = Classifiers(network.sizes, self.n_clusters, self.inner_lr, Z.device)
        draws = generator(run.seed, stream=2)
        if self.warm_start:
            classifiers.restart(draws)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr, fused=True)
        usage = Usage(self.n_clusters, Z.device)
        length = self._plan(len(Z))
        whole = [Space.of(z) for z in parts] if length.batch_size == len(Z) else None

        def step(rows: Tensor, epoch: int) -> Tensor:
            spaces = whole or [Space.of(z[rows]) for z in parts]
            log_tau = network.each(spaces)
            tau = log_tau.detach().exp().mean(0)
            usage.add(tau)
            if not self.warm_start:
                classifiers.restart(draws)
            log_q = classifiers.learn(spaces, tau, self.inner_steps)
            loss = turtle_loss(log_tau, log_q, self.balance)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            return loss.detach()

        self.history_ = train(
            step,
            length,
            run,
            state={"network": network, "draws": draws, **classifiers.state()},
            optimizer=optimizer,
            report=usage.report,
            description="Training TURTLE",
            advice=f"lower lr (now {self.lr:g}) or use scaling='pca'",
        )
        self.n_iter_ = len(self.history_)
        if self.rotate:
            network.turn([turn.T for turn in turns])
        return network

    def _plan(self, n: int) -> Plan:
        batch_size = min(self.batch_size or max(1000, 10 * self.n_clusters), n)
        steps = n // batch_size
        return Plan(n, batch_size, steps, max(self.epochs, math.ceil(self.min_steps / steps)))

    def _network(self, d: int, facts: dict[str, Any]) -> TaskEncoders:
        return TaskEncoders(self.scaler_.sizes, self.n_clusters)


def random_rotations(
    sizes: Sequence[int], draws: torch.Generator, device: torch.device
) -> list[Tensor]:
    """Return a random orthogonal matrix (d, d) for each space; O(d³)."""
    normal = [torch.randn((d, d), generator=draws) for d in sizes]
    return [torch.linalg.qr(x)[0].to(device) for x in normal]
