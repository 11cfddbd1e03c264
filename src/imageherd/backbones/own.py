"""Networks that `imageherd pretrain` made, as backbones: from a folder or by the name they got."""

from __future__ import annotations

from pathlib import Path

import torch

from imageherd.backbones.preprocess import Mode
from imageherd.backbones.torch_backbone import TorchBackbone
from imageherd.device import resolve_device
from imageherd.errors import ImageherdError
from imageherd.pretraining.places import is_name, networks_dir
from imageherd.pretraining.saving import is_network, load_network


def own_names() -> list[str]:
    """List the names under which a network is kept, sorted."""
    folder = networks_dir()
    return sorted(p.name for p in folder.iterdir() if is_network(p)) if folder.is_dir() else []


def own_folder(model: str) -> Path | None:
    """Return the folder of our own network that a folder or name stands for, if it does.

    A folder that is there comes before a name.
    """
    places = [Path(model).expanduser()] if model else []
    if is_name(model):
        places.append(networks_dir() / model)
    return next((place for place in places if is_network(place)), None)


def load_own(
    model: str, *, device: str = "auto", mode: Mode | None = None, output: str | None = None
) -> TorchBackbone:
    """Load a network that `imageherd pretrain` made.

    Parameters
    ----------
    model : str
        Its folder, or the name it was given.
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        Where it runs.
    mode : {"crop", "squash"}, optional
        How an image becomes square; trained on "crop".
    output : None
        It has one output: its features, pooled or, of a ViT, of the class token.

    Raises
    ------
    ImageherdError
        If there is no such network, it is damaged, or another output is asked for.
    """
    where = resolve_device(device)
    folder = own_folder(model)
    if folder is None:
        raise ImageherdError(f"There is no network of imageherd pretrain called {model!r}.")
    if output is not None:
        raise ImageherdError(f"{model} has one output, the one it was trained for: name none.")
    network, config = load_network(folder)
    preprocessing = config["preprocessing"].with_mode(mode)
    dtype = torch.float32 if where.type == "cpu" else torch.float16
    return TorchBackbone(
        network.to(where, dtype),
        network.features,
        preprocessing,
        name=model,
        facts={
            # A folder may be moved: what it is called stays, where it lies does not count.
            "model": folder.resolve().name,
            "revision": config["method"],
            "weights": config["sha256"],
            "output": "cls" if config["network"]["family"] == "vit" else "pooled",
        },
    )
