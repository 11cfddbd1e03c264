"""Models of timm, by name: ``timm:vit_small_patch14_dinov2.lvd142m``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from imageherd.backbones.base import files_sha256
from imageherd.backbones.library import import_extra, preprocessing_of, weights_file
from imageherd.backbones.outputs import Extract
from imageherd.backbones.preprocess import Mode, Preprocessing
from imageherd.backbones.spec import parse_output
from imageherd.backbones.torch_backbone import TorchBackbone
from imageherd.device import resolve_device
from imageherd.errors import ImageherdError

PREFIX = "timm:"
WEIGHTS = "model.safetensors"
MODES: dict[str, Mode] = {"center": "crop", "squash": "squash"}


def load_timm(
    name: str, *, device: str = "auto", mode: Mode | None = None, output: str | None = None
) -> TorchBackbone:
    """Load a model of timm, its classifier left out, prepared for as its own data config says.

    Parameters
    ----------
    name : str
        ``timm:NAME``, weights from the Hugging Face cache or hub, or ``timm:NAME@FILE``, weights
        from a safetensors file in timm's format. NAME as in ``timm.list_pretrained()``.
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        Where it runs.
    mode : {"crop", "squash"}, optional
        Overrides the model's own.
    output : str, optional
        "pooled" (the default: what its classifier is fed), "cls", "mean-patch", or several
        joined by +.

    Raises
    ------
    ImageherdError
        If timm or torchvision is missing (extra ``timm``), or there is no such model, output or
        weights in safetensors.
    """
    where = resolve_device(device)
    timm = import_extra("timm", "timm")
    import_extra("timm.data", "timm")
    wanted, _, given = name.removeprefix(PREFIX).partition("@")
    if not timm.is_model(wanted.partition(".")[0]):
        raise ImageherdError(f"timm {timm.__version__} has no model {wanted!r}.")
    published = timm.get_pretrained_cfg(wanted)
    repo = getattr(published, "hf_hub_id", None)
    path, revision = weights_file(f"{PREFIX}{wanted}", given, repo, WEIGHTS)
    try:
        # With its classifier, so that a file that lacks a layer is not loaded in silence.
        model = timm.create_model(
            wanted,
            pretrained=True,
            pretrained_cfg_overlay={"file": str(path), "custom_load": False},
        )
    except Exception as error:  # timm and safetensors raise all kinds
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ImageherdError(f"timm cannot load {wanted} from {path}: {first}") from error
    model.reset_classifier(0)
    preprocessing = from_data_config(name, timm.data.resolve_model_data_config(model))
    output = output or "pooled"
    extract = choose_timm_output(model, output)
    dtype = torch.float32 if where.type == "cpu" else torch.float16
    return TorchBackbone(
        model.to(where, dtype).eval(),
        extract,
        preprocessing.with_mode(mode),
        name=name,
        facts={
            "model": f"{PREFIX}{wanted}",
            "revision": revision,
            "weights": files_sha256([path]),
            "output": output,
        },
    )


def from_data_config(name: str, config: Mapping[str, Any]) -> Preprocessing:
    """Turn timm's data config into a `Preprocessing`, as timm's transform for evaluation reads it.

    Raises
    ------
    ImageherdError
        If it asks for what `Preprocessing` cannot do: borders, oblong or other than RGB input.
    """
    channels, *sides = config["input_size"]
    crop_mode = config.get("crop_mode") or "center"
    if channels != 3 or crop_mode not in MODES:
        raise ImageherdError(
            f"{name} takes {channels} channels and crop mode {crop_mode!r}; imageherd prepares RGB "
            f"images, by {' or '.join(MODES)}."
        )
    return preprocessing_of(
        name,
        size=sides,
        resize=math.floor(sides[0] / config["crop_pct"]),
        mode=MODES[crop_mode],
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
    )


def choose_timm_output(model: Any, output: str) -> Extract:
    """Return a function from pixels to what stands for the image, as `choose_output` does."""
    parts = parse_output(output)
    prefix = getattr(model, "num_prefix_tokens", 0)
    if "cls" in parts and getattr(model, "cls_token", None) is None:
        raise ImageherdError("This timm model has no class token; choose the output pooled.")
    of: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "cls": lambda hidden: hidden[:, 0],
        "mean-patch": lambda hidden: _mean(hidden, prefix, getattr(model, "output_fmt", "NCHW")),
        "pooled": lambda hidden: model.forward_head(hidden, pre_logits=True),
    }

    def extract(pixels: torch.Tensor) -> torch.Tensor:
        hidden = model.forward_features(pixels)
        return torch.cat([of[part](hidden) for part in parts], dim=1)

    return extract


def _mean(hidden: torch.Tensor, prefix: int, layout: str) -> torch.Tensor:
    if hidden.ndim == 3:
        return hidden[:, prefix:].mean(1)
    return hidden.flatten(1, 2).mean(1) if layout == "NHWC" else hidden.flatten(2).mean(2)
