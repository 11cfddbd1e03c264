"""A fitted head on disk: tensors as safetensors, everything else as JSON; no code runs on load."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from imageherd.errors import ImageherdError
from imageherd.files import read_json, write_atomically, write_json
from imageherd.heads.scaling import BlockScaler, Scaler, block_sizes

if TYPE_CHECKING:
    from imageherd.heads.base import Head

FORMAT = 1

AnyHead = TypeVar("AnyHead", bound="Head")


def save_head(head: Head, folder: Path) -> None:
    """Write ``head.safetensors`` and ``config.json``; see `Head.save`."""
    check_is_fitted(head, "network_")
    modules = {"network": head.network_, "scaler": head.scaler_}
    tensors = {
        f"{part}.{name}": tensor.detach().cpu().contiguous().clone()
        for part, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    data = to_safetensors(tensors)
    config = {
        "format": FORMAT,
        "class": type(head).__name__,
        "params": {name: plain(value) for name, value in head.get_params().items()},
        "n_features_in": head.n_features_in_,
        "feature_names_in": plain(getattr(head, "feature_names_in_", None)),
        "n_clusters": head.n_clusters_,
        "n_outputs": head.scaler_.sizes,
        "learned": {name: plain(getattr(head, name)) for name in head._saved},
        "versions": {name: version(name) for name in ("imageherd", "torch", "scikit-learn")},
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    write_atomically(folder / "head.safetensors", lambda file: file.write(data))
    write_json(folder / "config.json", config)


def load_saved(head_class: type[AnyHead], folder: Path, device: str) -> AnyHead:
    """Read what `save_head` wrote; see `Head.load`."""
    config = read_config(folder)
    if config["class"] != head_class.__name__:
        raise ImageherdError(
            f"{folder} holds a {config['class']} head, not {head_class.__name__}; "
            "use imageherd.heads.load_head to read any."
        )
    try:
        data = (folder / "head.safetensors").read_bytes()
    except OSError as error:
        raise ImageherdError(f"{folder} holds no readable head.safetensors: {error}") from error
    if hashlib.sha256(data).hexdigest() != config["sha256"]:
        raise ImageherdError(
            f"{folder / 'head.safetensors'} does not belong to the config.json beside it, or "
            "is damaged; save the head again."
        )
    try:
        head = head_class(**{**_with_tuples(config["params"]), "device": device})
        _fill(head, config, from_safetensors(data))
    except Exception as error:
        raise ImageherdError(
            f"{folder} does not hold a whole {head_class.__name__} head ({error}); save it again."
        ) from error
    return head


def read_config(folder: Path) -> dict[str, Any]:
    """Read and check the config.json of a saved head.

    Raises
    ------
    ImageherdError
        If it is missing, garbled or of a newer format.
    """
    path = folder / "config.json"
    try:
        config = read_json(path)
    except (OSError, ValueError) as error:
        raise ImageherdError(f"{folder} holds no saved head: {path} ({error}).") from error
    if not isinstance(config, dict) or not isinstance(config.get("format"), int):
        raise ImageherdError(f"{path} is not the config of a saved head.")
    if config["format"] > FORMAT:
        raise ImageherdError(
            f"{folder} was written by a newer imageherd (format {config['format']}, this one "
            f"reads up to {FORMAT}); update imageherd."
        )
    missing = {"class", "params", "n_features_in", "n_outputs", "learned", "sha256"} - set(config)
    if missing:
        raise ImageherdError(f"{path} lacks {', '.join(sorted(missing))}; save the head again.")
    return config


def plain(value: Any) -> Any:
    """Return a parameter or learned attribute as JSON can hold it; a RandomState becomes None."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.random.RandomState):
        return None
    return value


def _with_tuples(params: dict[str, Any]) -> dict[str, Any]:
    """JSON has no tuples, and no parameter of a head is a list."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in params.items()}


def _fill(head: Head, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    d = head.n_features_in_ = int(config["n_features_in"])
    if config.get("feature_names_in") is not None:
        head.feature_names_in_ = np.asarray(config["feature_names_in"], dtype=object)
    # Heads saved before a method could count have as many as were asked for.
    asked = getattr(head, "n_clusters", 0)
    head.n_clusters_ = int(config.get("n_clusters", asked))
    for name in head._saved:
        setattr(head, name, config["learned"][name])
    outputs = config["n_outputs"]
    outputs = [outputs] if isinstance(outputs, int) else outputs
    head.scaler_ = BlockScaler(
        Scaler(head.scaling, size, kept)
        for size, kept in zip(block_sizes(head.blocks, d), outputs, strict=True)
    )
    head.network_ = head._network(head.scaler_.n_outputs, config["learned"])
    for part, module in (("network", head.network_), ("scaler", head.scaler_)):
        mine = {
            k.removeprefix(f"{part}."): v for k, v in tensors.items() if k.startswith(f"{part}.")
        }
        if part == "scaler" and not any(k.startswith("parts.") for k in mine):
            mine = {f"parts.0.{k}": v for k, v in mine.items()}
        module.load_state_dict(mine)
    head.network_.eval().requires_grad_(False)
