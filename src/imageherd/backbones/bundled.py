"""The backbone that comes with the package, so that everything works with no network."""

from __future__ import annotations

import json
from pathlib import Path

from imageherd.backbones.preprocess import Preprocessing

BUNDLED_NAME = "efficientnet-lite0"
DATA = Path(__file__).parent / "data"
BUNDLED_FILE = DATA / "efficientnet-lite0.onnx"
BUNDLED_REVISION = "1"
# Trained on (pixel - 127) / 128. The classifier's own protocol resizes to 256 before the crop;
# without that margin less of the photograph is lost.
BUNDLED_PREPROCESSING = Preprocessing(
    size=224, resize=224, mode="crop", mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)
)


def imagenet_class_names() -> list[str]:
    """Names of the 1,000 ImageNet classes, in the order of the logits.

    Two pairs of classes share a name ("missile", "sunglasses").
    """
    names: list[str] = json.loads((DATA / "imagenet_classes.json").read_text(encoding="utf-8"))
    return names
