"""A Hugging Face model's own preprocessing, read from its JSON.

The processors of transformers are not used: since version 5 most of them need torchvision.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from imageherd.backbones.preprocess import INTERPOLATIONS, Preprocessing
from imageherd.errors import ImageherdError

CONFIG = "preprocessor_config.json"
COMBINED_CONFIG = "processor_config.json"


class Kind(NamedTuple):
    """What a kind of processor does where its JSON is silent, as the older files are."""

    square: bool  # a size given as one number: both sides, else the short side
    resample: int
    center_crop: bool


# The processors whose steps are those of `Preprocessing`; a test compares with transformers.
KINDS = {
    "Beit": Kind(square=True, resample=3, center_crop=False),
    "Bit": Kind(square=False, resample=3, center_crop=True),
    "Blip": Kind(square=True, resample=3, center_crop=False),
    "CLIP": Kind(square=False, resample=3, center_crop=True),
    "ConvNext": Kind(square=False, resample=3, center_crop=False),
    "DeiT": Kind(square=True, resample=3, center_crop=True),
    "DINOv3ViT": Kind(square=True, resample=2, center_crop=False),
    "MobileNetV1": Kind(square=False, resample=2, center_crop=True),
    "MobileNetV2": Kind(square=False, resample=2, center_crop=True),
    "Pvt": Kind(square=True, resample=3, center_crop=False),
    "Siglip": Kind(square=False, resample=3, center_crop=False),
    "Siglip2": Kind(square=True, resample=2, center_crop=False),
    "ViT": Kind(square=True, resample=2, center_crop=False),
}
FILTERS = {int(resampling): name for name, resampling in INTERPOLATIONS.items()}
# ConvNext's rule: below this size resize to size / crop_pct and crop, from it on squash.
CONVNEXT_SQUASH = 384


def has_config(folder: Path) -> bool:
    """Whether a model folder says how its images are prepared."""
    return any((folder / name).is_file() for name in (CONFIG, COMBINED_CONFIG))


def differences(own: Preprocessing, published: Preprocessing) -> str:
    """Say in which settings two preprocessings differ by more than rounding; empty if in none."""
    theirs, ours = published.to_dict(), own.to_dict()
    return ", ".join(
        f"{name} {_shown(ours[name])} in place of {_shown(theirs[name])}"
        for name in ours
        if not _alike(ours[name], theirs[name])
    )


def read_preprocessing(folder: Path) -> Preprocessing:
    """Read what a model folder says about its input.

    Parameters
    ----------
    folder : Path
        Holds ``preprocessor_config.json``, or ``processor_config.json`` with an
        ``image_processor`` inside.

    Raises
    ------
    ImageherdError
        If there is no such file, or it asks for steps other than resize, centre crop, rescale
        and normalise.
    """
    path, values = _read(folder)
    try:
        return parse_preprocessing(values)
    except ImageherdError as error:
        raise ImageherdError(f"{path}: {error}") from None


def parse_preprocessing(values: Mapping[str, Any]) -> Preprocessing:
    """Turn the fields of ``preprocessor_config.json`` into a `Preprocessing`.

    An image that transformers would leave oblong (a short side, no crop) is squashed.
    """
    name, kind = _kind(values)
    if name == "Siglip2":
        # Models of any size take the image's own proportions; ours is the square among them.
        side = math.isqrt(values.get("max_num_patches", 256)) * values.get("patch_size", 16)
        values = {**values, "size": {"height": side, "width": side}}
    if not values.get("do_resize", True):
        raise _unsupported("do_resize=false (images would differ in size)")
    for field in ("do_pad", "do_flip_channel_order", "rescale_offset"):
        if values.get(field):
            raise _unsupported(f"{field}=true")
    size, resize, squash = _sizes(values, name, kind)
    resample = values.get("resample", kind.resample)
    if resample not in FILTERS:
        raise _unsupported(f"resample={resample!r}")
    scale = float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 1.0
    mean, std = [0.0] * 3, [1.0] * 3
    if values.get("do_normalize", True):
        mean, std = _three(values, "image_mean"), _three(values, "image_std")
    return Preprocessing(
        size=size,
        resize=resize,
        mode="squash" if squash else "crop",
        interpolation=FILTERS[resample],
        mean=(mean[0] / scale, mean[1] / scale, mean[2] / scale),
        std=(std[0] / scale, std[1] / scale, std[2] / scale),
    )


def _read(folder: Path) -> tuple[Path, Mapping[str, Any]]:
    for path in (folder / CONFIG, folder / COMBINED_CONFIG):
        if not path.is_file():
            continue
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ImageherdError(f"{path} is not readable as JSON: {error}") from error
        if path.name == COMBINED_CONFIG and isinstance(values, dict):
            values = values.get("image_processor")
        if isinstance(values, dict):
            return path, values
    raise ImageherdError(
        f"{folder} does not say how its images are prepared: it holds no {CONFIG}. Copy the one "
        "of the model it was made from into it."
    )


def _kind(values: Mapping[str, Any]) -> tuple[str, Kind]:
    stated = values.get("image_processor_type") or values.get("feature_extractor_type") or "?"
    name = str(stated)
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        name = name.removesuffix(ending)
    if name not in KINDS:
        raise _unsupported(f"the processor {stated}")
    return name, KINDS[name]


def _sizes(values: Mapping[str, Any], name: str, kind: Kind) -> tuple[int, int, bool]:
    """Return the input's size, what is resized before the crop, and whether it is squashed."""
    resize, squash = _side(values, "size", square=kind.square)
    if name == "ConvNext":
        if resize >= CONVNEXT_SQUASH:
            return resize, resize, True
        return resize, int(resize / (values.get("crop_pct") or 224 / 256)), False
    do_crop = values.get("do_center_crop")
    if kind.center_crop if do_crop is None else do_crop:
        return _side(values, "crop_size", square=True)[0], resize, squash
    return resize, resize, True


def _side(values: Mapping[str, Any], field: str, *, square: bool) -> tuple[int, bool]:
    """Return a size in pixels and whether it holds for both sides."""
    size = values.get(field)
    if isinstance(size, int):
        return size, square
    if isinstance(size, list) and len(size) == 2:
        size = {"height": size[0], "width": size[1]}
    # A saved file may name the other ways of giving a size too, as null.
    stated = {k: v for k, v in size.items() if v is not None} if isinstance(size, dict) else {}
    if set(stated) == {"shortest_edge"} and isinstance(stated["shortest_edge"], int):
        return stated["shortest_edge"], False
    if set(stated) == {"height", "width"} and isinstance(stated["height"], int):
        if stated["height"] == stated["width"]:
            return stated["height"], True
        raise _unsupported(f"an input that is not square, {field}={stated}")
    raise _unsupported(f"{field}={size!r}")


def _alike(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, list):
        return all(math.isclose(a, b, rel_tol=1e-3) for a, b in zip(ours, theirs, strict=True))
    return bool(ours == theirs)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "(" + ", ".join(f"{number:.4g}" for number in value) + ")"
    return str(value)


def _three(values: Mapping[str, Any], field: str) -> list[float]:
    numbers = values.get(field)
    if not isinstance(numbers, list) or len(numbers) != 3:
        raise _unsupported(f"{field}={numbers!r} (3 numbers are needed)")
    return [float(number) for number in numbers]


def _unsupported(what: str) -> ImageherdError:
    return ImageherdError(
        f"{what} is not something imageherd can do to an image before it is embedded. Export the "
        "network to ONNX, with its preprocessing beside it as JSON."
    )
