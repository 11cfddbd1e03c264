"""Pretraining, from a source of images to a folder that is a backbone."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from imageherd.errors import ImageherdError
from imageherd.fabric import make_fabric
from imageherd.files import read_json
from imageherd.pretraining import dino, rotnet
from imageherd.pretraining.data import Readable, digest_of, first_size, read_pixels
from imageherd.pretraining.loop import (
    Callback,
    Run,
    batch_that_fits,
    share_norms,
)
from imageherd.pretraining.networks import CONVOLUTIONAL, NETWORKS, Network, make_network
from imageherd.pretraining.places import WORK, is_first_process
from imageherd.pretraining.probe import make_probe, probe_accuracy, with_settled_norms
from imageherd.pretraining.saving import CONFIG, is_network, save_network
from imageherd.project import locked

Labels = Callable[[list[bytes]], list[str | None]]


class Method(NamedTuple):
    """A way to pretrain: what trains, the networks it is for, and its defaults."""

    train: Callable[[Network, Run], tuple[Network, list[dict[str, Any]]]]
    networks: tuple[str, ...]
    epochs: int
    batch_size: int
    rate: float


METHODS = {
    "rotnet": Method(
        rotnet.train_rotnet, CONVOLUTIONAL, rotnet.EPOCHS, rotnet.BATCH_SIZE, rotnet.RATE
    ),
    "dino": Method(dino.train_dino, NETWORKS, dino.EPOCHS, dino.BATCH_SIZE, dino.RATE),
}


def pretrain(
    method: str,
    source: Readable,
    folder: Path,
    *,
    network: str = "resnet18",
    size: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    flip: bool = True,
    recolor: bool = True,
    random_state: int = 0,
    device: str = "auto",
    precision: str = "32",
    devices: int = 1,
    workers: int | None = None,
    labels: Labels | None = None,
    callback: Callback | None = None,
) -> dict[str, Any]:
    """Train a network from nothing on the images of a source, and keep it as a backbone.

    Stopped or killed, the same call goes on where it was, and ends with the same weights as if
    nothing had happened (on the same CPU). Finished already, it returns at once.

    Parameters
    ----------
    method : {"rotnet", "dino"}
        See `imageherd.pretraining.rotnet` and `imageherd.pretraining.dino`.
    source : Readable
        The images; see `imageherd.features.listing.Listed`.
    folder : Path
        Where the result goes: ``model.safetensors`` and ``config.json``. Until then its folder
        ``run`` holds the decoded images, n · 3 · size² bytes, and the checkpoint.
    network : str, default="resnet18"
        One of `NETWORKS`; RotNet takes those that are `CONVOLUTIONAL`.
    size : int, optional
        Side in pixels the images are resized to; by default that of the first image, at most 96.
    epochs : int, optional
        Passes over the images; 200 for RotNet, 100 for DINO. Schedules keep their shape.
    batch_size : int, optional
        Images a step, over all devices; 128 for RotNet, 256 for DINO; at most n / 4.
    learning_rate : float, optional
        RotNet's first, 0.1; DINO's highest for a batch of 256, 5e-4, from which that of another
        batch follows in proportion.
    flip : bool, default=True
        Whether views may be mirrored: not where left and right differ, as in digits.
    recolor : bool, default=True
        Whether DINO's views differ in brightness and colours. RotNet's never do.
    random_state : int, default=0
        Seed of everything random.
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        What to train on.
    precision : {"32", "bf16-mixed", "16-mixed"}, default="32"
        See `imageherd.fabric.make_fabric`.
    devices : int, default=1
        How many GPUs.
    workers : int, optional
        Threads that decode; by default one a core.
    labels : callable, optional
        ``labels(keys)`` gives a label or None for each image. Nothing is trained or chosen by
        them: after each epoch they tell the k-NN accuracy of the features (`knn_accuracy`).
    callback : callable, optional
        Gets each epoch's ``{"epoch", "loss"}``, with DINO "entropy" and "mean_entropy" too (see
        `train_dino`), with labels "knn_accuracy".

    Returns
    -------
    dict
        What ``config.json`` says: network, preprocessing, method, settings, history.

    Raises
    ------
    ImageherdError
        If a parameter is not possible, the images are too few, or the folder holds something else.
    """
    chosen = _method(method, network)
    if not recolor and method != "dino":
        raise ImageherdError(
            f"{method} changes no colours; leave out recolor=False (--no-recolor)."
        )
    size = size or first_size(source)
    settings: dict[str, Any] = {
        "method": method,
        "network": network,
        "size": size,
        "epochs": _at_least(1, "epochs", chosen.epochs if epochs is None else epochs),
        "batch_size": _at_least(
            2, "batch_size", chosen.batch_size if batch_size is None else batch_size
        ),
        "learning_rate": _rate(chosen.rate if learning_rate is None else learning_rate),
        "flip": flip,
        "recolor": recolor,
        "random_state": random_state,
        "precision": precision,
        "devices": devices,
        "source": digest_of(source, size),
    }
    if is_done(folder, settings):
        return dict(read_json(folder / CONFIG))
    net = make_network(network, size, seed=random_state)
    work = folder / WORK
    with locked(work) if is_first_process() else nullcontext():
        pixels = read_pixels(source, work, size=size, workers=workers)
        batch = batch_that_fits(len(pixels), settings["batch_size"], devices)
        # Only now: the processes of further devices start here, and find the images decoded.
        fabric = make_fabric(device, precision, devices)
        pixels = pixels.to(fabric.device)
        share_norms(net, fabric)
        run = Run(
            *(pixels, settings["epochs"], batch, random_state, fabric),
            rate=settings["learning_rate"],
            flip=flip,
            recolor=recolor,
            folder=work,
            identity={**settings, "images": pixels.sha256},
            callback=callback if fabric.is_global_zero else None,
        )
        facts = {"settings": settings, "n_images": len(pixels), "images_sha256": pixels.sha256}
        if labels is not None:
            probe = make_probe(labels(pixels.keys), seed=random_state)

            def accuracy(network: Network) -> dict[str, float]:
                return {"knn_accuracy": probe_accuracy(network, pixels, probe, fabric.device)}

            run.report = accuracy
            untrained = with_settled_norms(net.to(fabric.device), pixels, probe.rows, fabric.device)
            facts["at_random"] = accuracy(untrained)
        trained, facts["history"] = chosen.train(net, run)
        if fabric.is_global_zero:
            save_network(folder, trained, pixels.preprocessing, {"method": method, **facts})
        fabric.barrier()
    if is_first_process():
        shutil.rmtree(work)
    return dict(read_json(folder / CONFIG))


def _method(method: str, network: str) -> Method:
    if method not in METHODS:
        raise ImageherdError(f"method={method!r} is not known; choose {' or '.join(METHODS)}.")
    chosen = METHODS[method]
    if network not in NETWORKS:
        raise ImageherdError(
            f"network={network!r} is not known; choose one of {', '.join(chosen.networks)}."
        )
    if network not in chosen.networks:
        raise ImageherdError(
            f"{method} is for {', '.join(chosen.networks)}; {network} is for dino."
        )
    return chosen


def _at_least(least: int, name: str, value: int) -> int:
    if value < least:
        raise ImageherdError(f"{name}={value} cannot be done; give {least} or more.")
    return value


def _rate(value: float) -> float:
    if not 0 < value < math.inf:
        raise ImageherdError(f"learning_rate={value} cannot be done; give a number above 0.")
    return value


def is_done(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder holds the result already; refuses one that holds anything else."""
    if is_network(folder):
        known = read_json(folder / CONFIG).get("settings")
        if known == settings:
            return True
        differ = [
            k for k, v in settings.items() if not isinstance(known, dict) or known.get(k) != v
        ]
        if "size" in differ:
            # The digest of a source is of images of one size: it tells nothing of another's.
            differ = [k for k in differ if k != "source"]
        raise ImageherdError(
            f"{folder} holds a network trained with another {', '.join(differ)}; name another "
            "place, or delete it."
        )
    if folder.exists() and (not folder.is_dir() or {p.name for p in folder.iterdir()} - {WORK}):
        raise ImageherdError(
            f"{folder} exists and holds something else; name another place for the network."
        )
    return False
