"""Where tensors live: ``auto``, ``cpu``, ``cuda`` or ``mps``."""

from __future__ import annotations

import torch

from imageherd.errors import ImageherdError

DEVICES = ("auto", "cpu", "cuda", "mps")
GPU_SHARE = 0.8
"""Of the free memory of a GPU, what features may take."""


def resolve_device(name: str = "auto") -> torch.device:
    """Turn a device name into a device this machine has.

    Parameters
    ----------
    name : {"auto", "cpu", "cuda", "mps"} or "cuda:N", default="auto"
        "auto" is the CUDA GPU if there is one, else the CPU. "mps" is for those who ask for it:
        it has no float64, which some methods need.

    Raises
    ------
    ImageherdError
        If the name is not known or this machine lacks the device.
    """
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        return torch.device("cuda" if available["cuda"] else "cpu")
    kind, _, index = name.partition(":")
    if kind not in available or (index and not (kind == "cuda" and index.isdecimal())):
        raise ImageherdError(f"device={name!r} is not known; choose one of {', '.join(DEVICES)}.")
    if not available[kind] or (index and int(index) >= torch.cuda.device_count()):
        present = ", ".join(d for d, there in available.items() if there)
        raise ImageherdError(
            f"device={name!r} was asked for, but this machine has only: {present}. "
            "Use --device auto to take what is there."
        )
    return torch.device(name)


def on_device(Z: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Move features to a device.

    Raises
    ------
    ImageherdError
        If they take more than 0.8 of what is free on a GPU.
    """
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        if Z.nbytes > GPU_SHARE * free:
            raise ImageherdError(
                f"The features take {Z.nbytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB of the GPU "
                "are free; fit a sample (--train-on), or train on the CPU (--device cpu), where "
                "they may be larger than memory."
            )
    return Z.to(device)
