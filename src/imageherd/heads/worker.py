"""One of several processes that train a head together: the program it runs, and what it is told."""

from __future__ import annotations

import os
import pickle
import queue
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from imageherd.device import on_device
from imageherd.heads.loop import Callback, Run
from imageherd.heads.ranks import Ranks
from imageherd.progress import Advance, reporting

if TYPE_CHECKING:
    from imageherd.heads.base import Head

SILENCE = timedelta(minutes=10)
"""A process that is not heard of for so long is taken for lost; a callback may take as long."""


@dataclass
class Task:
    """What every process is told.

    Attributes
    ----------
    head : Head
        What to train, with its scaling.
    run : Run
        As `Head._fit` takes it, with the kind of device; which one, and ranks and callback, are
        each process's own.
    devices : int
        How many processes.
    threads : int
        Of a process, on a CPU.
    folder : Path
        Where ``Z.npy`` is, and ``neighbors.npy`` if the head wants some.
    asks : bool
        Whether the caller is to be told of every epoch, and may end the training.
    """

    head: Head
    run: Run
    devices: int
    threads: int
    folder: Path
    asks: bool


def work() -> None:
    """Do one process's part of a training: the task comes by stdin, messages go out by stdout.

    A message is a pair: "task" and what it is called, how long and in what units; "advance" and how
    far; "shown"; "epoch" and a callback's dict, which wants an answer; at the end "done" with what
    the first process has learned, or "failed" with an exception.
    """
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What libraries print must not get between the messages.
    os.dup2(2, 1)
    task: Task = pickle.load(orders)
    replies: queue.SimpleQueue[bool] = queue.SimpleQueue()
    threading.Thread(target=_hear, args=(orders, replies), daemon=True).start()
    rank = int(os.environ["LOCAL_RANK"])

    def ask(info: dict[str, Any]) -> bool:
        send(answers, ("epoch", info))
        return replies.get()

    @contextmanager
    def show(*what: Any) -> Iterator[Advance]:
        send(answers, ("task", what))
        yield lambda n: send(answers, ("advance", n))
        send(answers, ("shown", None))

    before = set(vars(task.head))
    try:
        with ExitStack() as first, warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            if rank == 0:
                first.enter_context(reporting(show))
            network = _train(task, rank, ask if task.asks and rank == 0 else None)
        learned = None
        if rank == 0:
            attributes = {k: v for k, v in vars(task.head).items() if k not in before}
            weights = {name: value.cpu() for name, value in network.state_dict().items()}
            learned = attributes, weights, [(str(w.message), w.category) for w in warned]
        send(answers, ("done", learned))
    except BaseException as error:
        error.add_note(f"In process {rank + 1} of {task.devices}:\n{traceback.format_exc()}")
        send(answers, ("failed", _sendable(error)))
    # Not by way of NCCL, which would wait for processes that may have ended.
    os._exit(0)


def send(stream: IO[bytes], message: Any) -> None:
    """Send what `pickle.load` reads at the other end of a pipe."""
    pickle.dump(message, stream)
    stream.flush()


def _train(task: Task, rank: int, callback: Callback | None) -> nn.Module:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy

    if task.run.device.type == "cpu":
        torch.set_num_threads(task.threads)
    fabric = Fabric(
        accelerator=task.run.device.type,
        devices=task.devices,
        strategy=DDPStrategy(timeout=SILENCE),
        # Not whatever else has started the caller, such as a cluster's scheduler.
        plugins=[LightningEnvironment()],
    )
    ranks = Ranks(rank, task.devices)
    with ranks.in_touch():
        fabric.launch()
    device = fabric.device
    run = replace(task.run, device=device, callback=callback, ranks=ranks)
    Z = on_device(_array(task.folder / "Z.npy"), device)
    path = task.folder / "neighbors.npy"
    return task.head._fit(Z, _array(path).to(device) if path.exists() else None, run)


def _array(path: Path) -> Tensor:
    # Copied where written to, which torch asks for and nobody does.
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def _hear(orders: IO[bytes], replies: queue.SimpleQueue[bool]) -> None:
    with suppress(Exception):
        while True:
            replies.put(pickle.load(orders))
    # The caller has ended, and nobody waits for the result.
    os._exit(1)


def _sendable(error: BaseException) -> BaseException:
    """Return the error, or where it cannot be sent, one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    return error
