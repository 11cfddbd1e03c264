"""A pretrained network on disk: weights as safetensors, all else as JSON; no code runs on load."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors

from imageherd.backbones.preprocess import Preprocessing
from imageherd.errors import ImageherdError
from imageherd.files import read_json, write_atomically, write_json
from imageherd.pretraining.networks import Network, network_from_settings, network_settings

FORMAT = 1
WEIGHTS, CONFIG = "model.safetensors", "config.json"
KIND = "imageherd network"


def save_network(
    folder: Path, network: Network, preprocessing: Preprocessing, facts: dict[str, Any]
) -> dict[str, Any]:
    """Write ``model.safetensors`` and ``config.json``, and return what the latter says.

    Parameters
    ----------
    folder : Path
        Made if need be.
    network : Network
        Its weights are saved, no head.
    preprocessing : Preprocessing
        What turns a picture into its input.
    facts : dict
        What else the config is to say: how it was trained, on what. Plain JSON values.
    """
    tensors = {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in network.state_dict().items()
    }
    data = to_safetensors(tensors)
    config = {
        "format": FORMAT,
        "kind": KIND,
        "network": network_settings(network),
        "dim": network.dim,
        "preprocessing": preprocessing.to_dict(),
        **facts,
        "versions": {name: version(name) for name in ("imageherd", "torch")},
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    write_atomically(folder / WEIGHTS, lambda file: file.write(data))
    write_json(folder / CONFIG, config)
    return config


def is_network(folder: Path) -> bool:
    """Whether a folder holds a network that `save_network` wrote."""
    try:
        config = read_json(folder / CONFIG)
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("kind") == KIND


def load_network(folder: Path) -> tuple[Network, dict[str, Any]]:
    """Read what `save_network` wrote.

    Returns
    -------
    network : Network
        On the CPU, in evaluation mode, without gradients.
    config : dict
        What ``config.json`` says, "preprocessing" as a `Preprocessing`.

    Raises
    ------
    ImageherdError
        If the folder holds no such network, or a newer or damaged one.
    """
    if not is_network(folder):
        raise ImageherdError(
            f"{folder} holds no network of imageherd pretrain: its {CONFIG} says so of itself."
        )
    config = read_json(folder / CONFIG)
    if not isinstance(config.get("format"), int) or config["format"] > FORMAT:
        raise ImageherdError(
            f"{folder} was written by a newer imageherd (format {config.get('format')}, this one "
            f"reads up to {FORMAT}); update imageherd."
        )
    try:
        data = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise ImageherdError(f"{folder} holds no readable {WEIGHTS}: {error}.") from error
    if hashlib.sha256(data).hexdigest() != config.get("sha256"):
        raise ImageherdError(
            f"{folder / WEIGHTS} does not belong to the {CONFIG} beside it, or is damaged; train "
            "it again."
        )
    try:
        network = network_from_settings(config["network"])
        network.load_state_dict(from_safetensors(data))
        config["preprocessing"] = Preprocessing.from_dict(config["preprocessing"])
    except Exception as error:  # whatever a garbled config makes torch raise
        raise ImageherdError(f"{folder} does not hold a whole network ({error}).") from error
    network.eval().requires_grad_(False)
    return network, config
