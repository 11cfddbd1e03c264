"""What training any head needs: length, batches, schedule, progress, checkpoints, a clear stop."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from imageherd.errors import ImageherdError
from imageherd.files import write_atomically
from imageherd.heads.constraints import Constraints
from imageherd.heads.ranks import Ranks
from imageherd.progress import progress

CHECKPOINT_FORMAT = 1
CHECKPOINT_SECONDS = 30.0

Callback = Callable[[dict[str, Any]], bool | None]
Schedule = Callable[[float], float]


class LossNotFiniteError(ImageherdError, FloatingPointError):
    """Training has left the finite numbers."""


@dataclass(frozen=True)
class Plan:
    """How long to train: `epochs` passes of `steps` batches of `batch_size` rows each."""

    n: int
    batch_size: int
    steps: int
    epochs: int


@dataclass
class Run:
    """What one call of `fit` hands to the method, beside the data.

    Attributes
    ----------
    seed : int
        All randomness of the run comes from here.
    device : torch.device
        Where the data is and where to train.
    callback : callable, optional
        See `train`.
    checkpoint : Path, optional
        File to resume from and to write to; see `train`.
    identity : dict
        Says which run this is (class, parameters, data); a checkpoint of another one is refused.
    views : Tensor of shape (n, V, d'), optional
        Scaled features of augmented views of every row.
    start : nn.Module, optional
        A network of the same method, trained before, that training goes on from.
    constraints : Constraints, optional
        What is known of some of the rows.
    ranks : Ranks
        The processes that share every batch; alone by default.
    """

    seed: int
    device: torch.device
    callback: Callback | None = None
    checkpoint: Path | None = None
    identity: dict[str, Any] = field(default_factory=dict)
    views: Tensor | None = None
    start: nn.Module | None = None
    constraints: Constraints | None = None
    ranks: Ranks = field(default_factory=Ranks)


def plan(n: int, *, batch_size: int, epochs: int, min_steps: int = 0) -> Plan:
    """Decide the batches and epochs for n rows.

    The batch is at most a quarter of the rows; the last incomplete batch of an epoch is dropped;
    epochs are added until at least `min_steps` optimiser steps are taken, so that a small folder
    is trained too.
    """
    batch_size = max(1, min(batch_size, n // 4))
    steps = n // batch_size
    return Plan(n, batch_size, steps, max(epochs, math.ceil(min_steps / steps)))


def warm_up(epochs: float, end: float | None = None) -> Schedule:
    """Learning rate that rises linearly from 0 over the first `epochs`, then stays.

    With `end`, the last epoch, it falls from there to 0 as half a cosine does.
    """

    def factor(epoch: float) -> float:
        rise = min(1.0, epoch / epochs) if epochs > 0 else 1.0
        if end is None:
            return rise
        done = max(0.0, epoch - epochs) / max(end - epochs, 1e-9)
        return rise * (1 + math.cos(math.pi * done)) / 2

    return factor


def generator(seed: int, stream: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """Make a generator whose numbers depend on `seed` and `stream` alone.

    Different streams of one seed are independent: one for batches, one a head, and so on.
    """
    mixed = (seed * 0x9E3779B97F4A7C15 + (stream + 1) * 0xBF58476D1CE4E5B9) % 2**63
    return torch.Generator(device=device).manual_seed(mixed)


def train(
    step: Callable[[Tensor, int], Tensor],
    plan: Plan,
    run: Run,
    *,
    state: Mapping[str, Any],
    optimizer: torch.optim.Optimizer | None = None,
    schedule: Schedule | None = None,
    report: Callable[[], Mapping[str, float]] | None = None,
    description: str = "Training",
    advice: str = "lower lr",
    checkpoint_seconds: float | None = None,
) -> list[dict[str, Any]]:
    """Run the training loop and return its history, one dict an epoch.

    Parameters
    ----------
    step : callable
        ``step(rows, epoch)`` takes one optimiser step on the rows given (int64, on the device)
        and returns the loss without gradient: one number, or one a head. Epochs count from 0.
        Where several processes share the batch, these are the rows of all; the step takes its own,
        ``run.ranks.rows`` of them, draws what is random for all, and returns the loss of its own.
    plan : Plan
        How long.
    run : Run
        Seed, device, callback, checkpoint, ranks. The callback gets
        ``{"epoch": from 1, "epochs", "loss", "seconds", **report()}`` after every epoch; when it
        returns True, training ends there as if it had been the last epoch; what it raises goes
        through.
    state : mapping of str to Module, Optimizer, Generator or Tensor
        Everything that changes while training; what a checkpoint holds. Tensors are filled in
        place. The optimizer is added by the loop, and so is the generator of the batches.
    optimizer : Optimizer, optional
        Whose learning rates follow `schedule`; each of its steps takes the gradient of all ranks.
    schedule : callable, optional
        Factor on the learning rate as a function of the time in epochs (fractional, from the
        step about to be taken: the first is ``1 / plan.steps``).
    report : callable, optional
        More numbers for the history, asked for after each epoch.
    description : str
        Shown with the progress bar.
    advice : str
        What to lower when the loss is not finite; ends that error's message.
    checkpoint_seconds : float, default=CHECKPOINT_SECONDS
        A checkpoint is written at the end of the first epoch that ends so long after the last
        one; 0 writes one after every epoch. It is removed when training is complete.

    Raises
    ------
    LossNotFiniteError
        If the mean loss of an epoch is not finite.
    ImageherdError
        If the checkpoint is damaged or belongs to another run.

    Notes
    -----
    A resumed run ends with the same bytes as one never interrupted, on the same machine. The loss
    is looked at once an epoch, so a GPU is not kept waiting at every step.
    """
    ranks, batches = run.ranks, generator(run.seed, stream=-1)
    ranks.share_out(plan.batch_size)
    state = {**state, "batches": batches}
    if optimizer is not None:
        state["optimizer"] = optimizer
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        ranks.average_before_steps(optimizer)
    pause = CHECKPOINT_SECONDS if checkpoint_seconds is None else checkpoint_seconds
    history: list[dict[str, Any]] = []
    if run.checkpoint is not None and run.checkpoint.exists():
        history = load_checkpoint(run.checkpoint, state, run.identity)
    # None may be so quick as to remove the checkpoint before all have read it.
    ranks.one_says(False, run.device)
    kept = run.checkpoint if ranks.rank == 0 else None
    written = time.monotonic()
    with progress(description, plan.epochs, "epochs") as advance:
        advance(len(history))
        for epoch in range(len(history), plan.epochs):
            began = time.monotonic()
            order = torch.randperm(plan.n, generator=batches).to(run.device)
            total = torch.zeros((), device=run.device)
            for i in range(plan.steps):
                _set_rates(optimizer, schedule, epoch + (i + 1) / plan.steps)
                rows = order[i * plan.batch_size : (i + 1) * plan.batch_size]
                total += step(rows, epoch).mean()
            loss = ranks.mean(total).item() / plan.steps
            if not math.isfinite(loss):
                raise LossNotFiniteError(
                    f"The loss became {loss} in epoch {epoch + 1} of {plan.epochs}; {advice}."
                )
            entry = {"epoch": epoch + 1, "loss": loss, **(report() if report else {})}
            history.append(entry)
            advance(1)
            info = {**entry, "epochs": plan.epochs, "seconds": time.monotonic() - began}
            if _enough(run, info):
                break
            if kept is not None and time.monotonic() - written >= pause:
                save_checkpoint(kept, state, history, run.identity)
                written = time.monotonic()
    if kept is not None:
        kept.unlink(missing_ok=True)
    return history


def _enough(run: Run, info: dict[str, Any]) -> bool:
    said = run.callback is not None and run.callback(info) is True
    return run.ranks.one_says(said, run.device)


def _set_rates(
    optimizer: torch.optim.Optimizer | None, schedule: Schedule | None, epoch: float
) -> None:
    if optimizer is not None and schedule is not None:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * schedule(epoch)


def save_checkpoint(
    path: Path,
    state: Mapping[str, Any],
    history: list[dict[str, Any]],
    identity: Mapping[str, Any],
) -> None:
    """Write state, history and identity as one safetensors file, its JSON in the header."""
    tensors: dict[str, Tensor] = {}
    tree = {name: _pack(_content(value), tensors, name) for name, value in state.items()}
    facts = {
        "format": CHECKPOINT_FORMAT,
        "identity": identity,
        "history": history,
        "state": tree,
    }
    data = to_safetensors(tensors, metadata={"imageherd": json.dumps(facts)})
    write_atomically(path, lambda file: file.write(data))


def load_checkpoint(
    path: Path, state: Mapping[str, Any], identity: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Fill `state` from a checkpoint and return its history.

    Raises
    ------
    ImageherdError
        If the file is not a checkpoint, is damaged, newer, or of another run.
    """
    start_anew = f"Delete {path} to start anew."
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["imageherd"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise ImageherdError(f"{path} is not a checkpoint, or is damaged. {start_anew}") from error
    if facts["format"] > CHECKPOINT_FORMAT:
        raise ImageherdError(f"{path} was written by a newer imageherd. {start_anew}")
    if facts["identity"] != json.loads(json.dumps(identity)):
        raise ImageherdError(
            f"{path} belongs to a run with other parameters or other data. {start_anew}"
        )
    for name, value in state.items():
        _restore(value, _unpack(facts["state"][name], tensors))
    history: list[dict[str, Any]] = facts["history"]
    return history


def _content(value: Any) -> Any:
    if isinstance(value, torch.Generator):
        return value.get_state()
    return value if isinstance(value, Tensor) else value.state_dict()


def _restore(value: Any, content: Any) -> None:
    if isinstance(value, torch.Generator):
        value.set_state(content)
    elif isinstance(value, Tensor):
        with torch.no_grad():
            value.copy_(content)
    else:
        value.load_state_dict(content)


def _pack(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    # JSON has no integer keys, and an optimizer's state is keyed by integers: dicts become pairs.
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[k, _pack(v, tensors, f"{name}.{k}")] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_pack(v, tensors, f"{name}.{i}") for i, v in enumerate(value)]}
    return {"value": value}


def _unpack(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    (kind, content), *_ = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {k: _unpack(v, tensors) for k, v in content}
    if kind == "list":
        return [_unpack(v, tensors) for v in content]
    return content
