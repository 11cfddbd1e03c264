"""Any vision model that transformers can load, by hub name or from a folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from imageherd.backbones.base import files_sha256
from imageherd.backbones.hub import find_model
from imageherd.backbones.outputs import choose_output, identity_output, see_all
from imageherd.backbones.preprocess import Mode, Preprocessing
from imageherd.backbones.presets import Preset, preset_of
from imageherd.backbones.processor_config import (
    differences,
    has_config,
    parse_preprocessing,
    read_preprocessing,
)
from imageherd.backbones.torch_backbone import TorchBackbone
from imageherd.device import resolve_device
from imageherd.errors import ImageherdError


def load_huggingface(
    name: str,
    *,
    device: str = "auto",
    mode: Mode | None = None,
    output: str | None = None,
) -> TorchBackbone:
    """Load a transformers vision model from a folder, the Hugging Face cache or the hub.

    Never runs code that comes with a model, never opens pickled weights.

    Parameters
    ----------
    name : str
        A preset such as "dinov2-small", a hub name such as "facebook/dinov2-small", or a folder.
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        Where it runs.
    mode : {"crop", "squash"}, optional
        Overrides the model's own.
    output : str, optional
        What stands for an image; see `imageherd.backbones.outputs.choose_output`.

    Raises
    ------
    ImageherdError
        If the model cannot be found, is not whole, has no such output, or is not one that
        transformers can load.

    Warns
    -----
    UserWarning
        If the model says nothing of its preprocessing, or not what its makers published.
    """
    where = resolve_device(device)
    preset = preset_of(name)
    folder = Path(name).expanduser()
    place = preset.repo if preset is not None and not folder.is_dir() else name
    found = find_model(place, gated=preset is not None and preset.gated)
    preprocessing = _preprocessing(name, found.folder, preset).with_mode(mode)
    dtype = torch.float32 if where.type == "cpu" else torch.float16
    model, missing = _load(name, found.folder, dtype)
    output, extract = choose_output(model, output)
    see_all(model)
    # A pooling that is not asked for may be missing: DINO's checkpoints have none.
    unused = ("mask_token",) if "pooled" in output else ("mask_token", "pooler.")
    if needed := sorted(key for key in missing if not any(part in key for part in unused)):
        raise ImageherdError(
            f"{name} has no weights for {len(needed)} parts of its network, {needed[0]} among "
            f"them: its {output} features would be partly random. Get the whole model."
        )
    facts = {
        # A folder may be moved: what it is called stays, where it lies does not count.
        "model": place if found.revision else found.folder.resolve().name,
        "revision": found.revision,
        "weights": files_sha256(found.weights),
        "output": identity_output(model, output),
    }
    return TorchBackbone(
        *(model.to(where).eval(), extract, preprocessing), name=name, facts=facts, place=place
    )


def _preprocessing(name: str, folder: Path, preset: Preset | None) -> Preprocessing:
    """Read what the model says of its input, and compare it with what its makers published."""
    if preset is None:
        return read_preprocessing(folder)
    published = parse_preprocessing(preset.processor)
    if not has_config(folder):
        warnings.warn(
            f"{name} does not say how its images are prepared; they are prepared as "
            f"{preset.config_url} says.",
            stacklevel=2,
        )
        return published
    own = read_preprocessing(folder)
    if different := differences(own, published):
        warnings.warn(
            f"{name} prepares its images otherwise than its makers published ({different}). Its "
            f"own settings are used; {preset.config_url} has the makers'.",
            stacklevel=2,
        )
    return own


def _load(name: str, folder: Path, dtype: torch.dtype) -> tuple[Any, list[str]]:
    """Load the model and list the weights that its files lack."""
    try:
        with quiet():
            model, report = transformers.AutoModel.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # transformers and safetensors raise all kinds
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ImageherdError(
            f"transformers {transformers.__version__} cannot load {name}: {first} (Code that "
            "comes with a model is never run. If the files are damaged, get them again.)"
        ) from error
    return model, list(report["missing_keys"])


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' advice and bars for its own users off the screen."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
