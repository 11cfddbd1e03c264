"""Pixels to vectors: the bundled network, any ONNX file, any vision model of transformers."""

from __future__ import annotations

import re
from pathlib import Path

from imageherd.backbones.base import Backbone
from imageherd.backbones.bundled import (
    BUNDLED_FILE,
    BUNDLED_NAME,
    BUNDLED_PREPROCESSING,
    BUNDLED_REVISION,
    imagenet_class_names,
)
from imageherd.backbones.preprocess import MODES, Mode, Preprocessing
from imageherd.errors import ImageherdError

__all__ = [
    "DEFAULT_BACKBONE",
    "Backbone",
    "Preprocessing",
    "imagenet_class_names",
    "load_backbone",
]

DEFAULT_BACKBONE = BUNDLED_NAME
HUB_NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
CHOICES = (
    f"{BUNDLED_NAME} (bundled, works with no network), the path of an .onnx file with its "
    "preprocessing beside it as JSON, a Hugging Face model such as facebook/dinov2-small, or the "
    "path of a folder that holds one"
)


def load_backbone(
    name: str = DEFAULT_BACKBONE,
    *,
    device: str = "auto",
    preprocessing_mode: Mode | None = None,
) -> Backbone:
    """Load a backbone by name or path.

    Parameters
    ----------
    name : str, default="efficientnet-lite0"
        The bundled network; or the path of an ``.onnx`` file with its preprocessing beside it
        (``net.json``); or a Hugging Face model, by hub name or as a folder.
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        Where it runs.
    preprocessing_mode : {"crop", "squash"}, optional
        Overrides how an image becomes square: lose its ends, or its proportions. Default: as the
        network was trained.

    Raises
    ------
    ImageherdError
        If there is no such backbone, it cannot be read, or the device is not there. The message
        says what to do.
    """
    if preprocessing_mode not in (None, *MODES):
        raise ImageherdError(
            f"preprocessing_mode={preprocessing_mode!r} is not known; choose {' or '.join(MODES)}."
        )
    # The engines take seconds to import: each only when a backbone needs it.
    if name == BUNDLED_NAME:
        from imageherd.backbones.onnx import OnnxBackbone

        return OnnxBackbone(
            BUNDLED_FILE,
            BUNDLED_PREPROCESSING.with_mode(preprocessing_mode),
            device=device,
            revision=BUNDLED_REVISION,
        )
    if name.lower().endswith(".onnx"):
        from imageherd.backbones.onnx import load_onnx

        return load_onnx(Path(name).expanduser(), device=device, mode=preprocessing_mode)
    folder = Path(name).expanduser()
    if not (name and folder.is_dir()) and not HUB_NAME.fullmatch(name):
        raise ImageherdError(f"There is no backbone {name!r}. Choose {CHOICES}.")
    from imageherd.backbones.huggingface import load_huggingface

    return load_huggingface(name, device=device, mode=preprocessing_mode)
