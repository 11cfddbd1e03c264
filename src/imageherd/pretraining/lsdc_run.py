"""LSD-C on a source of images: from a pretrained network's folder to the clustered one's."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from imageherd.errors import ImageherdError
from imageherd.files import read_json
from imageherd.heads.saving import plain
from imageherd.heads.trained import save_classifier
from imageherd.pretraining.data import Readable, digest_of, read_pixels
from imageherd.pretraining.loop import Callback
from imageherd.pretraining.lsdc_images import LEAST_IMAGES, PRESETS, LSDCImages
from imageherd.pretraining.places import WORK
from imageherd.pretraining.run import is_done
from imageherd.pretraining.saving import CONFIG, load_network, save_network
from imageherd.project import locked


def train_lsdc(
    source: Readable,
    start: Path,
    folder: Path,
    n_clusters: int,
    *,
    preset: str | None = None,
    workers: int | None = None,
    callback: Callback | None = None,
    **params: Any,
) -> dict[str, Any]:
    """Train a pretrained network to cluster the images of a source, and keep it as a backbone.

    Stopped or killed, the same call goes on where it was, and ends with the same weights as if
    nothing had happened (on the same CPU). Finished already, it returns at once.

    Parameters
    ----------
    source : Readable
        The images; see `imageherd.features.listing.Listed`.
    start : Path
        Folder of the network to begin with, of `imageherd pretrain`. Images are resized and
        normalised as it was trained.
    folder : Path
        Where the result goes: a network as of `imageherd pretrain`, and its classifier. Until then
        its folder ``run`` holds the decoded images, n · 3 · size² bytes, and the checkpoint.
    n_clusters : int
        K.
    preset : str, optional
        One of `PRESETS`; by default `LSDCImages`' own row, for unknown images.
    workers : int, optional
        Threads that decode; by default one a core.
    callback : callable, optional
        Gets each epoch's entry of the history.
    **params
        Parameters of `LSDCImages`, which come before the preset's. With other epochs than the
        preset's its schedules keep their shape.

    Returns
    -------
    dict
        What ``config.json`` says: network, preprocessing, method, settings, history.

    Raises
    ------
    ImageherdError
        If a parameter is not possible, the images are too few, the start holds no network that can
        be trained so, or the folder holds something else.
    """
    try:
        model = LSDCImages(n_clusters, **{**_row(preset, params.get("epochs")), **params})
        model.check_params()
    except (ValueError, TypeError) as error:
        raise ImageherdError(f"LSD-C does not take these parameters: {error}") from error
    network, begun = load_network(start)
    preprocessing = begun["preprocessing"]
    size = preprocessing.size
    settings = {name: plain(value) for name, value in model.get_params().items()}
    del settings["device"]
    settings |= {
        "method": "lsdc",
        "milestones": list(model.milestones),
        "size": size,
        "start": begun["sha256"],
        "source": digest_of(source, size),
    }
    if is_done(folder, settings):
        return dict(read_json(folder / CONFIG))
    work = folder / WORK
    with locked(work):
        pixels = read_pixels(source, work, size=size, workers=workers)
        if len(pixels) < max(LEAST_IMAGES, n_clusters):
            raise ImageherdError(
                f"{len(pixels)} images are too few to train for {n_clusters} clusters; it takes as "
                f"many images as clusters, and {LEAST_IMAGES} at the very least."
            )
        # The frozen blocks are to see what they were trained on.
        pixels = replace(pixels, mean=preprocessing.mean, std=preprocessing.std)
        model.fit(pixels, network, folder=work, callback=callback)
        facts = {"settings": settings, "n_images": len(pixels), "images_sha256": pixels.sha256}
        history = {"history": model.history_}
        # First: the network's config.json says that all is there.
        save_classifier(model.classifier_, model.history_, folder)
        save_network(folder, network, preprocessing, {"method": "lsdc", **facts, **history})
    shutil.rmtree(work)
    return dict(read_json(folder / CONFIG))


def _row(preset: str | None, epochs: Any) -> dict[str, Any]:
    """Return the settings of a preset, or of none, stretched to so many epochs if that is said."""
    row = PRESETS[preset] if preset else {}
    if epochs is None:
        return row
    known = {**LSDCImages().get_params(), **row}
    factor = epochs / known["epochs"]
    row = {**row, "milestones": tuple(factor * epoch for epoch in known["milestones"])}
    if known["ramp_epochs"] is not None:
        row["ramp_epochs"] = factor * known["ramp_epochs"]
    return row
