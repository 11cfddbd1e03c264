"""TURTLE's inner problem: linear classifiers learn the labels of a batch in a few Adam steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from imageherd.heads.networks import onednn_helps, times_transposed


class Space(NamedTuple):
    """A batch in one feature space, by rows (b, d) and by columns (d, b)."""

    rows: Tensor
    columns: Tensor

    @classmethod
    def of(cls, z: Tensor) -> Space:
        """Take rows (b, d)."""
        # Only oneDNN wants the columns as a copy; elsewhere a view does.
        return cls(z, z.T.contiguous() if onednn_helps(z) else z.T)

    def logits(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Return W x + b of every row, (K, b), from W (K, d) and b (K,)."""
        found: Tensor = _Affine.apply(weight, bias, self)  # type: ignore[no-untyped-call]
        return found

    def gradients(self, slopes: Tensor) -> tuple[Tensor, Tensor]:
        """Return a loss's gradients by W (K, d) and b (K,), from those by the logits (K, b)."""
        return _product(slopes, self.columns), slopes.sum(1)


class _Affine(torch.autograd.Function):
    """`Space.logits`, whose backward uses the columns at hand instead of transposing again."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, space: Space) -> Tensor:
        ctx.space = space
        return _product(weight, space.rows) + bias[:, None]

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        return *ctx.space.gradients(slopes[0]), None


class Classifiers:
    """The inner problem: a linear classifier for each feature space, trained by Adam.

    Parameters
    ----------
    sizes : sequence of int
        Columns of each space.
    n_clusters : int
        K.
    lr : float, optional
        By default 1/d for each space.
    device : torch.device
        Where to train.
    """

    def __init__(
        self, sizes: Sequence[int], n_clusters: int, lr: float | None, device: torch.device
    ) -> None:
        self.weight = [torch.zeros(n_clusters, d, device=device) for d in sizes]
        self.bias = [torch.zeros(n_clusters, device=device) for _ in sizes]
        groups = [
            {"params": [weight, bias], "lr": lr or 1 / weight.shape[1]}
            for weight, bias in zip(self.weight, self.bias, strict=True)
        ]
        self.optimizer = torch.optim.Adam(groups, fused=True)

    def restart(self, draws: torch.Generator) -> None:
        """Forget everything, and draw the layers as PyTorch's Linear does."""
        self.optimizer.state.clear()
        for weight, bias in zip(self.weight, self.bias, strict=True):
            for layer in (weight, bias):
                layer.copy_(uniform(layer.shape, weight.shape[1], draws))

    @torch.no_grad()
    def learn(self, spaces: Sequence[Space], tau: Tensor, steps: int) -> Tensor:
        """Take Adam steps on the labels τ (b, K); return log probabilities (S, b, K) after them."""
        targets = tau.T.contiguous()
        layers = list(zip(spaces, self.weight, self.bias, strict=True))
        for _ in range(steps):
            for space, weight, bias in layers:
                weight.grad, bias.grad = classifier_gradients(space, weight, bias, targets)
            self.optimizer.step()
        return torch.stack([s.logits(weight, b).T.log_softmax(1) for s, weight, b in layers])

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        layers = {"weight": self.weight, "bias": self.bias}
        tensors = {f"{name} {i}": t for name, ts in layers.items() for i, t in enumerate(ts)}
        return {**tensors, "inner optimizer": self.optimizer}


def classifier_gradients(
    space: Space, weight: Tensor, bias: Tensor, tau: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients by W and b of the mean over the batch of CE(softmax(W x + b), τ); τ is (K, b)."""
    q = space.logits(weight, bias).softmax(0)
    return space.gradients(q.sub_(tau).div_(tau.shape[1]))


def uniform(shape: Sequence[int], d: int, draws: torch.Generator) -> Tensor:
    """Numbers within ±1/√d, as PyTorch's Linear starts with."""
    return (torch.rand(tuple(shape), generator=draws) * 2 - 1) / math.sqrt(d)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a bᵀ``."""
    return times_transposed(a, b) if onednn_helps(a) else a @ b.T
