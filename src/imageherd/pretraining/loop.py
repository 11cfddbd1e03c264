"""Training that survives a kill: batches and draws by the step, devices and precision by Fabric."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from imageherd.errors import ImageherdError
from imageherd.features.prefetch import map_ahead
from imageherd.heads.loop import (
    LossNotFiniteError,
    generator,
    load_checkpoint,
    plan,
    save_checkpoint,
)
from imageherd.heads.ranks import Ranks
from imageherd.heads.ranks import share_norms as share_norms_on_any
from imageherd.pretraining.data import Pixels
from imageherd.pretraining.networks import Network
from imageherd.progress import progress

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_SECONDS = 10.0
# A checkpoint may take this share of the time: a large one is written less often.
_CHECKPOINT_SHARE = 0.05
_STEPS = 1

Callback = Callable[[dict[str, Any]], object]
Report = Callable[[Network], Mapping[str, float]]


@dataclass
class Run:
    """One run of a method: the images, how long, where, and what makes it reproducible.

    Attributes
    ----------
    pixels : Pixels
        n images; on the device if they fit (see `Pixels.to`).
    epochs : int
        Passes over them; the last incomplete batch of a pass is dropped.
    batch_size : int
        Images a step, over all devices together; see `batch_that_fits`.
    seed : int
        All randomness comes from here and from the number of the step.
    fabric : Fabric
        Devices and precision; see `imageherd.fabric.make_fabric`.
    rate : float
        Learning rate, as the method understands it.
    flip : bool, default=True
        Whether views may be mirrored: not where left and right differ, as in digits.
    recolor : bool, default=True
        Whether DINO's views differ in brightness and colours: not where these are what an image
        is of, and seldom for drawings and writing.
    folder : Path or None, default=None
        Where the checkpoint is kept; None for none.
    identity : dict
        Says which run this is; a checkpoint of another is refused.
    report : callable, optional
        ``report(network)`` gives more numbers for the history after each epoch.
    callback : callable, optional
        Gets each epoch's ``{"epoch": from 1, "loss", **report(network)}``, with what else the
        method tells; what it raises goes through.
    """

    pixels: Pixels
    epochs: int
    batch_size: int
    seed: int
    fabric: Fabric
    rate: float
    flip: bool = True
    recolor: bool = True
    folder: Path | None = None
    identity: dict[str, Any] = field(default_factory=dict)
    report: Report | None = None
    callback: Callback | None = None

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return len(self.pixels) // self.batch_size

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return self.steps * self.epochs

    def epoch(self, step: int) -> float:
        """Return how many epochs are over when `step`, counted from 0, begins."""
        return step / self.steps


def batch_that_fits(n: int, batch_size: int, devices: int = 1) -> int:
    """Return the batch for n images: at most a quarter of them, a multiple of the devices.

    Raises
    ------
    ImageherdError
        If there are fewer than 8 images a device.
    """
    if n < 8 * devices:
        raise ImageherdError(
            f"{n} images are too few to train a network on {devices} "
            f"device{'s' if devices > 1 else ''}; it takes {8 * devices} at the very least."
        )
    return max(1, plan(n, batch_size=batch_size, epochs=1).batch_size // devices) * devices


def share_norms(module: nn.Module, fabric: Fabric) -> None:
    """Let the batch norms in a module see the whole batch when several devices share it."""
    if fabric.device.type != "cuda":
        share_norms_on_any(module, Ranks(fabric.global_rank, fabric.world_size))
    elif fabric.world_size > 1:
        nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]


def train(
    step: Callable[[Tensor, int], Tensor],
    run: Run,
    state: Mapping[str, Any],
    *,
    network: Network,
    description: str,
    advice: str,
    told: Mapping[str, Tensor] | None = None,
) -> list[dict[str, Any]]:
    """Train for all steps of the run and return its history, one dict an epoch.

    Parameters
    ----------
    step : callable
        ``step(images, index)`` takes one optimiser step on images, uint8 (b, 3, s, s) on the
        device, and returns the loss without gradient; steps count from 0. torch's global generators
        are seeded for each by the run's seed, the step and the process, so it may draw from them.
    run : Run
        The run.
    state : mapping of str to Module, Optimizer or Tensor
        Everything that changes while training.
    network : Network
        What the run is to result in, for its `report`.
    description : str
        Shown with the progress.
    advice : str
        What to lower when the loss is not finite.
    told : mapping of str to Tensor of shape (), optional
        Zeros on the device that `step` adds a number to; the history has each epoch's mean.

    Raises
    ------
    LossNotFiniteError
        If the mean loss of an epoch is not finite.
    ImageherdError
        If the checkpoint is damaged or of another run.

    Notes
    -----
    A run that was killed and resumed ends, on the same CPU, with the same bytes as one that was
    not. The checkpoint is written at most every 10 s, between two steps, and left in place at the
    end for the caller to remove once the result is safe.
    """
    device = run.fabric.device
    done = torch.zeros((), dtype=torch.int64)
    totals = {"loss": torch.zeros((), device=device), **(told or {})}
    state = {**state, "done": done, **totals, "precision": run.fabric.strategy.precision}
    path = run.folder / CHECKPOINT if run.folder else None
    history: list[dict[str, Any]] = []
    if path is not None and path.exists():
        history = load_checkpoint(path, state, run.identity)
    begun = int(done)
    saved = _Saver(path if run.fabric.is_global_zero else None, run.identity)
    shown = progress if run.fabric.is_global_zero else _unseen
    with (
        _seedable(device),
        shown(description, (run.total - begun) * run.batch_size, "images") as advance,
        closing(_batches(run, begun, device)) as batches,
    ):
        for index, images in enumerate(batches, start=begun):
            _seed(run, _STEPS + index * run.fabric.world_size + run.fabric.global_rank)
            totals["loss"] += step(images, index)
            done += 1
            advance(run.batch_size)
            if (index + 1) % run.steps == 0:
                epoch = (index + 1) // run.steps
                history.append(_finished(run, network, epoch, totals, advice))
                for total in totals.values():
                    total.zero_()
                saved.now_and_then(state, history)
                if run.callback is not None:
                    run.callback(history[-1])
            else:
                saved.now_and_then(state, history)
    return history


def _finished(
    run: Run, network: Network, epoch: int, totals: Mapping[str, Tensor], advice: str
) -> dict[str, Any]:
    sums = run.fabric.all_reduce(torch.stack(list(totals.values())), reduce_op="mean")
    assert isinstance(sums, Tensor)
    means = dict(zip(totals, (sums / run.steps).tolist(), strict=True))
    if not math.isfinite(means["loss"]):
        raise LossNotFiniteError(
            f"The loss became {means['loss']} in epoch {epoch} of {run.epochs}; {advice}."
        )
    return {"epoch": epoch, **means, **(run.report(network) if run.report else {})}


def _batches(run: Run, begun: int, device: torch.device) -> Generator[Tensor, None, None]:
    """Yield the images of each step from `begun` on, the next one being fetched meanwhile."""
    world, rank = run.fabric.world_size, run.fabric.global_rank

    @lru_cache(2)
    def order(epoch: int) -> Tensor:
        return torch.randperm(len(run.pixels), generator=generator(run.seed, stream=-1 - epoch))

    def fetch(index: int) -> Tensor:
        epoch, i = divmod(index, run.steps)
        rows = order(epoch)[i * run.batch_size : (i + 1) * run.batch_size]
        return run.pixels.batch(rows[rank::world], device)

    return map_ahead(fetch, range(begun, run.total), workers=1, ahead=2)


def _seed(run: Run, stream: int) -> None:
    torch.manual_seed(generator(run.seed, stream=stream).initial_seed())


@contextmanager
def _seedable(device: torch.device) -> Iterator[None]:
    """Leave torch's global generators and settings as they were found."""
    cuda = [device.index or 0] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=cuda),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
    ):
        yield


def _unseen(description: str, total: int, unit: str) -> nullcontext[Callable[[int], None]]:
    return nullcontext(lambda n: None)


class _Saver:
    """Writes a checkpoint when the last one is long enough ago."""

    def __init__(self, path: Path | None, identity: dict[str, Any]) -> None:
        self._path, self._identity = path, identity
        self._next = time.monotonic() + CHECKPOINT_SECONDS

    def now_and_then(self, state: Mapping[str, Any], history: list[dict[str, Any]]) -> None:
        before = time.monotonic()
        if self._path is None or before < self._next:
            return
        save_checkpoint(self._path, state, history, self._identity)
        now = time.monotonic()
        self._next = now + max(CHECKPOINT_SECONDS, (now - before) / _CHECKPOINT_SHARE)
