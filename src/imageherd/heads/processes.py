"""A head trained by several processes, one a device: how they are started, heard and ended.

The caller's process trains nothing itself. It writes the data to a folder, which all processes map,
starts them, shows the first one's progress, asks the caller's callback, and takes over what the
first one has learned. They are programs of their own, not copies of the caller's, so that a script
needs no ``if __name__ == "__main__"``; they share their sums by torch.distributed, set up by
Lightning Fabric (NCCL on GPUs, Gloo on a CPU).
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_scalar
from torch import Tensor, nn

from imageherd.errors import ImageherdError
from imageherd.fabric import check_devices, check_fabric
from imageherd.heads.loop import Callback, Run
from imageherd.heads.ranks import LostTouchError
from imageherd.heads.worker import Task, send
from imageherd.progress import progress

if TYPE_CHECKING:
    from imageherd.heads.base import Head

# Seconds in which the others say what they have seen, once training has failed in one process.
_LAST_WORDS = 3.0


class _Heard(NamedTuple):
    """A message, see `imageherd.heads.worker.work`; "gone" if none will follow."""

    rank: int
    kind: str
    what: Any = None


class _Process(NamedTuple):
    popen: subprocess.Popen[bytes]
    orders: IO[bytes]
    answers: IO[bytes]
    log: Path


def check_sharing(head: Head, device: torch.device, devices: int) -> bool:
    """Return whether `devices` are several, having made sure that they can train a head.

    Raises
    ------
    ValueError
        If `devices` is less than 1, or the method does not share its batches.
    ImageherdError
        If there are not so many, or lightning-fabric is not installed.
    """
    check_scalar(devices, "devices", Integral, min_val=1)
    if devices == 1:
        return False
    if not head.shares_batches:
        raise ValueError(
            f"devices={devices} are for TEMI and CPP; {type(head).__name__} trains on one. Leave "
            "devices out."
        )
    check_fabric()
    check_devices(devices, device)
    return True


def fit_shared(
    head: Head, Z: Tensor, neighbors: Tensor | None, run: Run, devices: int
) -> nn.Module:
    """Return ``head._fit(Z, neighbors, run)``; with several devices that is done by as many others.

    Of every batch each takes a part; what the loss says of the whole batch is summed over all (see
    `imageherd.heads.ranks`), and so are gradients. Batches and what is random are those of one
    process, so the result is the same up to rounding.

    Parameters
    ----------
    head : Head
        With its scaling fitted; gets the attributes that `_fit` gives it.
    Z : Tensor of shape (n, d')
        Scaled features; for several devices on the CPU.
    neighbors : Tensor of shape (n, k) or None
        As `_fit` takes them.
    run : Run
        As `_fit` takes it; several GPUs are taken from the first on. The callback is called here.
    devices : int
        How many; see `check_sharing`.

    Returns
    -------
    Module
        The network.

    Raises
    ------
    ImageherdError
        If a process is ended from outside, or falls silent for 10 minutes. What else goes wrong in
        a process is raised here as it was there.

    Notes
    -----
    For several devices Z is written once more, 4 n d' bytes, beside the checkpoint or to the
    system's folder of temporary files. GPUs each hold a copy of it; on a CPU all map the one. A
    step of TEMI sums all gradients, 4 bytes a parameter of its students, one of CPP also Z and C of
    the batch; what is kept for the backward pass is divided by the number of devices.
    """
    if devices == 1:
        return head._fit(Z, neighbors, run)
    beside = run.checkpoint.parent if run.checkpoint and run.checkpoint.parent.is_dir() else None
    # The name is one that is cleared away if this process is killed: see `imageherd.leftovers`.
    with tempfile.TemporaryDirectory(f".{os.getpid()}.tmp", ".ranks.", beside) as folder:
        threads = max(1, torch.get_num_threads() // devices)
        told, asks = replace(run, callback=None), run.callback is not None
        task = Task(_untrained(head), told, devices, threads, Path(folder), asks)
        np.save(task.folder / "Z.npy", Z.numpy())
        if neighbors is not None:
            np.save(task.folder / "neighbors.npy", neighbors.cpu().numpy())
        with _started(task) as processes:
            learned, weights, warned = _result(task, run.callback, processes)
    head.__dict__.update(learned)
    for message, category in warned:
        warnings.warn(message, category, stacklevel=3)
    network = head._network(Z.shape[1], head.__dict__)
    network.load_state_dict(weights)
    return network


def _untrained(head: Head) -> Head:
    """Return a copy with what is known before training, and nothing of an earlier one."""
    copied: Head = clone(head)
    known = ("scaler_", "n_features_in_", "n_clusters_")
    copied.__dict__.update({name: getattr(head, name) for name in known})
    return copied


@contextmanager
def _started(task: Task) -> Iterator[list[_Process]]:
    """Start the processes; however this ends, none is left."""
    processes: list[_Process] = []
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    try:
        for rank in range(task.devices):
            processes.append(_start(task.folder / f"{rank}.log", rank, port))
        for process in processes:
            # One that has ended already is told of by `_result`.
            with suppress(BrokenPipeError):
                send(process.orders, task)
        yield processes
    finally:
        for process in processes:
            process.popen.kill()
        for process in processes:
            process.popen.wait()
            with suppress(BrokenPipeError):
                process.orders.close()


def _start(log: Path, rank: int, port: int) -> _Process:
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from imageherd.heads.worker import work; work()"
    )
    meeting = {"LOCAL_RANK": rank, "NODE_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with log.open("wb") as said:
        popen = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env={**os.environ, **{name: str(value) for name, value in meeting.items()}},
            # Ctrl-C is for the process that a person has started; it ends the others.
            start_new_session=True,
        )
    assert popen.stdin is not None
    assert popen.stdout is not None
    return _Process(popen, popen.stdin, popen.stdout, log)


def _result(task: Task, callback: Callback | None, processes: list[_Process]) -> Any:
    """Listen until the first process is done; return what it has learned."""
    heard: queue.SimpleQueue[_Heard] = queue.SimpleQueue()
    for rank, process in enumerate(processes):
        about = (rank, process.answers, heard)
        threading.Thread(target=_listen, args=about, daemon=True).start()
    with ExitStack() as shown:
        while True:
            rank, kind, what = message = heard.get()
            if kind == "task":
                advance = shown.enter_context(progress(*what))
            elif kind == "advance":
                advance(what)
            elif kind == "shown":
                shown.close()
            elif kind == "epoch" and callback is not None:
                send(processes[rank].orders, callback(what) is True)
            elif kind == "done" and rank == 0:
                return what
            elif kind in ("failed", "gone"):
                raise _cause(task, message, heard, processes)


def _listen(rank: int, answers: IO[bytes], heard: queue.SimpleQueue[_Heard]) -> None:
    kind = ""
    with answers:
        while kind not in ("done", "failed", "gone"):
            try:
                kind, what = pickle.load(answers)
            except (EOFError, OSError, pickle.UnpicklingError):
                kind, what = "gone", None
            heard.put(_Heard(rank, kind, what))


def _cause(
    task: Task, first: _Heard, heard: queue.SimpleQueue[_Heard], processes: list[_Process]
) -> BaseException:
    """Return what to raise: when one process ends the others fail too, and may say so sooner."""
    said, until = {first.rank: first}, time.monotonic() + _LAST_WORDS
    while len(said) < task.devices and (left := until - time.monotonic()) > 0:
        with suppress(queue.Empty):
            message = heard.get(timeout=left)
            if message.kind in ("failed", "gone"):
                said[message.rank] = message
    for message in said.values():
        if message.kind == "gone":
            return ImageherdError(_how_it_ended(task, message.rank, processes[message.rank]))
    errors: list[BaseException] = [message.what for message in said.values()]
    return min(errors, key=lambda error: isinstance(error, LostTouchError))


def _how_it_ended(task: Task, rank: int, process: _Process) -> str:
    code = process.popen.wait()
    lines = [line for line in process.log.read_text(errors="replace").split("\n") if line.strip()]
    last = f" ({lines[-1].strip()})" if lines else ""
    how = f"ended with code {code}{last}"
    if code < 0:
        how = f"was ended by {signal.Signals(-code).name}"
        how += ", as the system does where memory is short" if -code == signal.SIGKILL else last
    again = " Started again, it goes on from its last checkpoint." if task.run.checkpoint else ""
    return (
        f"Process {rank + 1} of the {task.devices} that trained {type(task.head).__name__} {how}."
        f"{again}"
    )
