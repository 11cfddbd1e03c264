"""Pixels to vectors: the bundled network, ONNX files, models of transformers, timm, open_clip."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from imageherd.backbones.base import Backbone
from imageherd.backbones.bundled import (
    BUNDLED_FILE,
    BUNDLED_NAME,
    BUNDLED_PREPROCESSING,
    BUNDLED_REVISION,
    imagenet_class_names,
)
from imageherd.backbones.preprocess import MODES, Mode, Preprocessing
from imageherd.backbones.presets import PRESETS
from imageherd.backbones.spec import parse_spec
from imageherd.errors import ImageherdError

if TYPE_CHECKING:
    from imageherd.backbones.torch_backbone import TorchBackbone

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
    f"{BUNDLED_NAME} (bundled, works with no network), a name that `imageherd backbones` lists, "
    "the path of an .onnx file with its preprocessing beside it as JSON, a Hugging Face model such "
    "as facebook/dinov2-small, the path of a folder that holds one, the name or folder of a "
    "network of `imageherd pretrain`, timm:NAME or open_clip:NAME/TAG"
)


def load_backbone(
    name: str = DEFAULT_BACKBONE,
    *,
    device: str = "auto",
    preprocessing_mode: Mode | None = None,
    output: str | None = None,
    runtime: str | None = None,
) -> Backbone:
    """Load a backbone by name or path.

    Parameters
    ----------
    name : str, default="efficientnet-lite0"
        The bundled network; or a preset (`imageherd.backbones.presets`); or the path of an
        ``.onnx`` file with its preprocessing beside it (``net.json``); or a Hugging Face model, by
        hub name or as a folder; or a network of ``imageherd pretrain``, by name or folder; or
        ``timm:NAME``, ``open_clip:NAME/TAG``. It may carry output and
        runtime too: ``dinov2-base,output=cls+mean-patch,runtime=onnx``.
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        Where it runs.
    preprocessing_mode : {"crop", "squash"}, optional
        Overrides how an image becomes square: lose its ends, or its proportions. Default: as the
        network was trained.
    output : str, optional
        What stands for an image: "cls", "pooled", "mean-patch", or several joined by +. Default:
        what the family's makers use. Not for ONNX files, which have one output.
    runtime : {"torch", "onnx", "onnx-int8"}, optional
        What computes: PyTorch (the default), or ONNX Runtime on a file exported once and kept; see
        `imageherd.backbones.onnx_export`. Not for ONNX files, which it always computes.

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
    spec = parse_spec(name, output=output, runtime=runtime)
    # The engines take seconds to import: each only when a backbone needs it.
    if spec.model == BUNDLED_NAME or spec.model.lower().endswith(".onnx"):
        if spec.model != spec.name:
            raise ImageherdError(
                f"{spec.model} is an ONNX file with one output: say neither output nor runtime."
            )
        return _load_onnx(spec.model, device, preprocessing_mode)
    load = _loader(spec.model)
    if spec.runtime == "torch":
        found = load(spec.model, device=device, mode=preprocessing_mode, output=spec.output)
        found.name = spec.name
        return found
    from imageherd.backbones.onnx_export import load_exported

    found = load(spec.model, device="cpu", mode=preprocessing_mode, output=spec.output)
    return load_exported(found, spec, device=device)


def _load_onnx(name: str, device: str, mode: Mode | None) -> Backbone:
    from imageherd.backbones.onnx import OnnxBackbone, load_onnx

    if name != BUNDLED_NAME:
        return load_onnx(Path(name).expanduser(), device=device, mode=mode)
    return OnnxBackbone(
        *(BUNDLED_FILE, BUNDLED_PREPROCESSING.with_mode(mode)),
        device=device,
        revision=BUNDLED_REVISION,
    )


def _loader(model: str) -> Callable[..., TorchBackbone]:
    """Return what loads a PyTorch model of this name."""
    if model.startswith("timm:"):
        from imageherd.backbones.timm_models import load_timm

        return load_timm
    if model.startswith("open_clip:"):
        from imageherd.backbones.open_clip_models import load_open_clip

        return load_open_clip
    from imageherd.backbones.own import load_own, own_folder

    if own_folder(model) is not None:
        return load_own
    here = model and Path(model).expanduser().is_dir()
    if not here and model not in PRESETS and not HUB_NAME.fullmatch(model):
        raise ImageherdError(f"There is no backbone {model!r}.{_meant(model)} Choose {CHOICES}.")
    from imageherd.backbones.huggingface import load_huggingface

    return load_huggingface


def _meant(model: str) -> str:
    close = difflib.get_close_matches(model, [BUNDLED_NAME, *PRESETS], n=1, cutoff=0.7)
    return f" Did you mean {close[0]}?" if close else ""
