"""Processes that share every batch, each on a device of its own, and what they add up.

Of the B rows of a step, rank r of W takes one run of rows, a share s_r of them. A loss is a mean
over the batch of terms that may hold statistics of the whole batch, such as how full the clusters
are. With these statistics taken over all ranks (`Ranks.mean`, `Ranks.gather`) it is
L = Σr s_r L_r, L_r being what rank r finds for its own rows, and its gradient is Σr s_r ∂L_r
(`Ranks.average_gradients`): that of one process with the whole batch, up to rounding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from imageherd.errors import ImageherdError


class LostTouchError(ImageherdError):
    """Another process of the same training does not answer any more."""


class Ranks:
    """Which of several processes this is, and the sums over all of them.

    A process that is alone takes the whole batch, and all that is here leaves its numbers as they
    are. The others must call the same methods in the same order.

    Parameters
    ----------
    rank : int, default=0
        Number of this process.
    count : int, default=1
        W. If there are several, torch.distributed must have been set up.

    Attributes
    ----------
    size : int
        B, rows of a batch over all ranks.
    rows : slice
        Which of them are this rank's.
    share : float
        s_r.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank = rank
        self.count = count
        self.share_out(count)

    def share_out(self, size: int) -> None:
        """Share out batches of `size` rows, as evenly as that goes, from now on.

        Raises
        ------
        ImageherdError
            If there are fewer rows than ranks.
        """
        if size < self.count:
            raise ImageherdError(
                f"A batch of {size} rows cannot be shared by {self.count} devices; give fewer "
                "devices, or more rows."
            )
        first, end = (size * rank // self.count for rank in (self.rank, self.rank + 1))
        self.size = size
        self.rows = slice(first, end) if self.count > 1 else slice(None)
        self.share = (end - first) / size

    def mean(self, x: Tensor) -> Tensor:
        """Σr s_r x_r: what is a mean over this rank's rows becomes that over the whole batch."""
        return x if self.count == 1 else cast(Tensor, _Mean.apply(x, self))  # type: ignore[no-untyped-call]

    def gather(self, x: Tensor) -> Tensor:
        """Rows (b, ...) of this rank to those of the whole batch, (B, ...)."""
        return x if self.count == 1 else cast(Tensor, _Gather.apply(x, self))  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def sum(self, x: Tensor) -> Tensor:
        """Σr x_r, without gradient; x is left as it is.

        Raises
        ------
        LostTouchError
            If a rank has ended, or is not heard of for as long as torch.distributed waits.
        """
        if self.count == 1:
            return x
        total = x.detach().clone(memory_format=torch.contiguous_format)
        with self.in_touch():
            # Fabric's own all_reduce waits for every process first, at each call.
            torch.distributed.all_reduce(total)
        return total

    @contextmanager
    def in_touch(self) -> Iterator[None]:
        """Say in a sentence of ours what torch.distributed says where another is not heard of."""
        try:
            yield
        except RuntimeError as error:
            # Gloo begins with the place in its source, and ends with advice and good wishes.
            why = re.split(r"\. |\.?\n|\.$", re.sub(r"^\[[^]]*\]\s*", "", str(error)))[0]
            raise LostTouchError(
                f"Process {self.rank + 1} of {self.count} has lost touch with the others ({why})."
            ) from error

    def one_says(self, said: bool, device: torch.device) -> bool:
        """Whether any rank says so; none knows before all have been asked."""
        return said if self.count == 1 else bool(self.sum(torch.tensor(float(said), device=device)))

    def average_before_steps(self, optimizer: torch.optim.Optimizer) -> None:
        """Let every step of an optimizer begin with `average_gradients`."""
        if self.count > 1:
            optimizer.register_step_pre_hook(lambda *_: self.average_gradients(optimizer))

    @torch.no_grad()
    def average_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Replace the gradients of an optimizer's parameters by Σr s_r g_r, as one tensor."""
        groups = optimizer.param_groups
        found = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        if self.count == 1 or not found:
            return
        total = self.sum(torch.cat([gradient.reshape(-1) for gradient in found]) * self.share)
        parts = torch.split(total, [gradient.numel() for gradient in found])
        for gradient, part in zip(found, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        """Return itself: a copy of a network is trained by the same processes."""
        return self


class _Mean(torch.autograd.Function):
    """y = Σr s_r x_r, and for the gradients the same: what each hands back still gets its s_r."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.sum(x * ranks.share)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.sum(gradients[0] * ctx.ranks.share), None


class _Gather(torch.autograd.Function):
    """All ranks' rows, one after the other; zeros elsewhere, and a sum: shares may differ."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        whole = x.new_zeros((ranks.size, *x.shape[1:]))
        whole[ranks.rows] = x
        return ranks.sum(whole)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        ranks = ctx.ranks
        return ranks.sum(gradients[0] * ranks.share)[ranks.rows] / ranks.share, None


class SharedNorm(_BatchNorm):
    """Batch norm by the mean and variance of all ranks' rows: see `share_norms`."""

    def __init__(self, norm: _BatchNorm, ranks: Ranks) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine)
        self.load_state_dict(norm.state_dict())
        self.train(norm.training)
        self.ranks = ranks

    def _check_input_dim(self, input: Tensor) -> None:
        """Take rows and images alike."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise x (b, c) or (b, c, ...) channel by channel."""
        if not self.training:
            return super().forward(input)
        x = input.float()
        over = [0, *range(2, x.ndim)]
        mean = self.ranks.mean(x.mean(over, keepdim=True))
        variance = self.ranks.mean((x - mean).square().mean(over, keepdim=True))
        self._remember(mean.detach().view(-1), variance.detach().view(-1), x)
        scale = self.weight.view_as(mean) * (variance + self.eps).rsqrt()
        return ((x - mean) * scale + self.bias.view_as(mean)).to(input.dtype)

    def _remember(self, mean: Tensor, variance: Tensor, x: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        weight = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        n = x.numel() / x.shape[1] / self.ranks.share
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance * n / (n - 1), weight)


def share_norms(module: nn.Module, ranks: Ranks) -> None:
    """Let the batch norms in a module see the whole batch where several ranks share it, in place.

    On any device, as torch's SyncBatchNorm does on GPUs; the names of the weights stay.
    """
    if ranks.count == 1:
        return
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, SharedNorm(child, ranks).to(next(child.parameters()).device))
        else:
            share_norms(child, ranks)
