"""Models of open_clip, by name: ``open_clip:ViT-B-32/laion2b_s34b_b79k``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from imageherd.backbones.base import files_sha256
from imageherd.backbones.library import import_extra, preprocessing_of, weights_file
from imageherd.backbones.preprocess import Mode, Preprocessing
from imageherd.backbones.torch_backbone import TorchBackbone
from imageherd.device import resolve_device
from imageherd.errors import ImageherdError

PREFIX = "open_clip:"
WEIGHTS = "open_clip_model.safetensors"
MODES: dict[str, Mode] = {"shortest": "crop", "squash": "squash"}


def load_open_clip(
    name: str, *, device: str = "auto", mode: Mode | None = None, output: str | None = None
) -> TorchBackbone:
    """Load the image side of a model of open_clip, prepared for as its tag says.

    Parameters
    ----------
    name : str
        ``open_clip:NAME/TAG``, weights from the Hugging Face cache or hub, or
        ``open_clip:NAME/TAG@FILE``, weights from a safetensors file. NAME and TAG as in
        ``open_clip.list_pretrained()``. The tag is needed with a file too: it alone says how images
        are prepared, and open_clip itself guesses where it is left out.
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        Where it runs.
    mode : {"crop", "squash"}, optional
        Overrides the model's own.
    output : {"pooled"}, optional
        The image embedding; there is no other.

    Raises
    ------
    ImageherdError
        If open_clip or torchvision is missing (extra ``open-clip``), or there is no such model,
        tag or weights in safetensors.
    """
    where = resolve_device(device)
    open_clip = import_extra("open_clip", "open-clip")
    if output not in (None, "pooled"):
        raise ImageherdError(f"A model of open_clip has the output pooled only, not {output}.")
    wanted, _, given = name.removeprefix(PREFIX).partition("@")
    architecture, _, tag = wanted.partition("/")
    published = open_clip.get_pretrained_cfg(architecture, tag) if tag else None
    if not published:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture))
        there = f"its tags are {tags}" if tags else "`open_clip.list_pretrained()` lists them"
        raise ImageherdError(
            f"open_clip {open_clip.__version__} has no model {wanted!r}; say NAME/TAG, {there}."
        )
    repo, _, filename = published.get("hf_hub", "").rpartition("/")
    filename = filename if filename.endswith(".safetensors") else WEIGHTS
    path, revision = weights_file(f"{PREFIX}{wanted}", given, repo, filename)
    asked = {key: published[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    try:
        model = open_clip.create_model(
            architecture,
            pretrained=str(path),
            force_quick_gelu=bool(published.get("quick_gelu", False)),
            force_preprocess_cfg=asked,
        )
    except Exception as error:  # open_clip and safetensors raise all kinds
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ImageherdError(f"open_clip cannot load {wanted} from {path}: {first}") from error
    preprocessing = from_preprocess_config(name, open_clip.get_model_preprocess_cfg(model))
    dtype = torch.float32 if where.type == "cpu" else torch.float16
    return TorchBackbone(
        model.to(where, dtype).eval(),
        lambda pixels: model.encode_image(pixels),
        preprocessing.with_mode(mode),
        name=name,
        facts={
            "model": f"{PREFIX}{wanted}",
            "revision": revision,
            "weights": files_sha256([path]),
            "output": "pooled",
        },
    )


def from_preprocess_config(name: str, config: Mapping[str, Any]) -> Preprocessing:
    """Turn open_clip's preprocess config into a `Preprocessing`.

    Raises
    ------
    ImageherdError
        If it asks for what `Preprocessing` cannot do: padding ("longest"), an oblong input.
    """
    if config["resize_mode"] not in MODES:
        raise ImageherdError(
            f"{name} prepares images by {config['resize_mode']!r}; imageherd can "
            f"{' or '.join(MODES)}."
        )
    return preprocessing_of(
        name,
        size=config["size"],
        resize=None,
        mode=MODES[config["resize_mode"]],
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
    )
