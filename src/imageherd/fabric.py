"""Lightning Fabric: devices, precision and the processes that share a training."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from imageherd.cores import usable_cores
from imageherd.device import resolve_device
from imageherd.errors import ImageherdError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PRECISIONS = ("32", "bf16-mixed", "16-mixed")


def make_fabric(device: str = "auto", precision: str = "32", devices: int = 1) -> Fabric:
    """Set up Lightning Fabric; with several devices this starts the other processes.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        What to train on.
    precision : {"32", "bf16-mixed", "16-mixed"}, default="32"
        "bf16-mixed" and "16-mixed" compute in half precision where that is safe and keep the
        weights in float32; "16-mixed" needs a CUDA GPU.
    devices : int, default=1
        GPUs, or processes on a CPU; each runs this program from its start and takes its part of
        every batch.

    Raises
    ------
    ImageherdError
        If lightning-fabric is not installed, or there is no such device, precision or number.
    """
    check_fabric()
    from lightning_fabric import Fabric

    where = resolve_device(device)
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise ImageherdError(f"precision={precision!r} is not known; choose one of {known}.")
    if precision == "16-mixed" and where.type != "cuda":
        raise ImageherdError(
            f"precision='16-mixed' needs a CUDA GPU, and this is {where.type}; bf16-mixed works "
            "anywhere."
        )
    check_devices(devices, where)
    fabric = Fabric(
        accelerator=where.type,
        devices=devices if where.index is None or devices > 1 else [where.index],
        strategy="ddp" if devices > 1 else "auto",
        precision="32-true" if precision == "32" else precision,  # type: ignore[arg-type]
    )
    with _quiet():
        fabric.launch()
    return fabric


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what Fabric logs of every process that joins."""
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def check_fabric() -> None:
    """Raise ImageherdError if lightning-fabric is not installed."""
    try:
        import lightning_fabric  # noqa: F401
    except ImportError as error:
        raise ImageherdError(
            'This training needs lightning-fabric: pip install "imageherd[train]"'
        ) from error


def check_devices(devices: int, where: torch.device) -> None:
    """Raise ImageherdError unless there are so many devices of a kind.

    Parameters
    ----------
    devices : int
        GPUs; on a CPU processes, at most one a core, or 2 to try it out.
    where : torch.device
        The kind; several are counted from the first, so that none may be named.
    """
    kinds = {"cuda": torch.cuda.device_count(), "mps": 1, "cpu": max(2, usable_cores())}
    present = kinds[where.type]
    if not 1 <= devices <= present:
        most = f"at most {present} processes" if where.type == "cpu" else f"there are {present}"
        raise ImageherdError(f"devices={devices} cannot be done on {where.type}; {most}.")
    if devices > 1 and where.index is not None:
        raise ImageherdError(
            f"devices={devices} are taken from the first on, so device={str(where)!r} cannot be "
            f"among what is asked for; give device={where.type!r}."
        )
