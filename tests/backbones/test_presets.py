"""The presets' preprocessing beside transformers' own, on photographs, and what is said of it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tiny_families import save_family

from imageherd.backbones import load_backbone
from imageherd.backbones.presets import PRESETS, preset_of
from imageherd.backbones.processor_config import KINDS, parse_preprocessing
from imageherd.errors import ImageherdError

PHOTOGRAPHS = sorted((Path(__file__).parents[2] / "examples/clothing").glob("*.jpg"))[:50]
# One of each distinct preprocessor_config.json.
DISTINCT = {json.dumps(dict(p.processor), sort_keys=True): n for n, p in PRESETS.items()}


@pytest.fixture(scope="module")
def photographs():
    assert len(PHOTOGRAPHS) == 50
    return [Image.open(path).convert("RGB") for path in PHOTOGRAPHS]


def by_transformers(config, image):
    """Pixels by the processor that the file names, in its version for Pillow."""
    stated = config.get("image_processor_type") or config["feature_extractor_type"]
    name = stated.replace("FeatureExtractor", "ImageProcessor")
    values = {k: v for k, v in config.items() if not k.endswith("_type")}
    if name == "DINOv3ViTImageProcessorFast":
        return by_dinov3(config, image)
    processor = getattr(transformers, f"{name}Pil").from_dict(values)
    return np.asarray(processor(image, return_tensors="np")["pixel_values"])[0]


def by_dinov3(config, image):
    """What DINOv3's processor does with torchvision: scale, resize with antialiasing, normalise."""
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255
    size = (config["size"]["height"], config["size"]["width"])
    pixels = torch.nn.functional.interpolate(
        pixels, size, mode="bilinear", antialias=True, align_corners=False
    )
    mean, std = (torch.tensor(config[f"image_{k}"])[None, :, None, None] for k in ("mean", "std"))
    return ((pixels - mean) / std)[0].numpy()


@pytest.mark.parametrize("name", DISTINCT.values())
def test_pixels_are_those_of_transformers(photographs, name):
    config = PRESETS[name].processor
    ours = parse_preprocessing(config)
    assert ours.size == PRESETS[name].size
    for image in photographs:
        theirs = by_transformers(config, image)
        apart = np.abs(ours.apply(image) - theirs).max(axis=(1, 2)) * np.array(ours.std)
        assert theirs.shape == (3, ours.size, ours.size)
        # On the scale 0 to 255.
        assert apart.max() <= 2


def test_every_preset_is_whole():
    assert len({preset.repo for preset in PRESETS.values()}) == len(PRESETS) >= 40
    for name, preset in PRESETS.items():
        assert preset.evidence, name
        assert preset.licence, name
        assert preset.config_url.startswith(f"https://huggingface.co/{preset.repo}/")
        assert preset.gated == name.startswith("dinov3-")
        numbers = parse_preprocessing(preset.processor)
        assert np.array(numbers.std).min() > 50, name


def test_a_name_finds_its_preset():
    base = PRESETS["dinov2-base-reg"]
    for name in ("dinov2-base-reg", base.repo, "/models/dinov2-with-registers-base"):
        assert preset_of(name) is base
    assert preset_of("facebook/dinov2-humungous") is None
    assert set(KINDS) >= {"Bit", "CLIP", "ConvNext", "DINOv3ViT", "Siglip", "Siglip2", "ViT"}


def rewrite(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def as_published(folder, preset, model_family):
    """A tiny model that says of its input what the preset's makers published."""
    save_family(folder, model_family)
    values = {**PRESETS[preset].processor, "size": 40, "crop_size": 32}
    (folder / "preprocessor_config.json").write_text(json.dumps(values))


def test_a_models_own_settings_are_used_and_a_difference_is_told(tmp_path):
    folder = tmp_path / "clip-vit-b32"
    as_published(folder, "clip-vit-b32", "clip")
    rewrite(folder / "preprocessor_config.json", image_mean=[0.5, 0.5, 0.5])
    with pytest.warns(UserWarning, match=r"mean \(127.5, .*in place of \(122.8, ") as told:
        backbone = load_backbone(str(folder), device="cpu")
    assert backbone.preprocessing.mean == (127.5, 127.5, 127.5)
    assert "size 32 in place of 224" in str(told[0].message)


def test_a_preset_that_says_nothing_of_its_input_gets_what_was_published(tmp_path):
    """The fallback is refused by a model that takes another size, which a warning comes before."""
    folder = tmp_path / "dino-vits16"
    save_family(folder, "dino")
    (folder / "preprocessor_config.json").unlink()
    with (
        pytest.warns(UserWarning, match=r"prepared as https://huggingface.co/facebook/dino-vits16"),
        pytest.raises(ImageherdError, match="does not turn one 224 x 224 image"),
    ):
        load_backbone(str(folder), device="cpu")


OFFLINE = """
import sys
from imageherd.backbones import load_backbone
from imageherd.errors import ImageherdError
for name in sys.argv[1:]:
    try:
        load_backbone(name, device="cpu")
    except ImageherdError as error:
        print(error)
"""


def test_a_preset_that_is_not_here_offline_is_one_sentence(tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, "dinov2-base", "dinov3-vitb16", "dinov2-bse"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    base, gated, misspelt = done.stdout.splitlines()
    assert "facebook/dinov2-base is not on this machine and HF_HUB_OFFLINE is set" in base
    assert "`hf download facebook/dinov2-base --local-dir dinov2-base`" in base
    assert "granted" not in base
    assert "access must be granted at https://huggingface.co/facebook/dinov3-vitb16-" in gated
    assert "Did you mean dinov2-base?" in misspelt


KEYS = """
import sys, warnings
from imageherd.backbones import load_backbone
warnings.simplefilter("ignore")
for name in sys.argv[1:]:
    backbone = load_backbone(name, device="cpu")
    print(backbone.name, backbone.identity["model"], backbone.key)
"""


def test_a_short_name_is_the_model_that_it_stands_for(tmp_path):
    save_family(tmp_path / "model", "dinov2")
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub/models--facebook--dinov2-small"
    shutil.copytree(tmp_path / "model", repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(revision)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", KEYS, "dinov2-small", "facebook/dinov2-small"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    short, full = (line.split() for line in done.stdout.splitlines())
    assert (short[0], full[0]) == ("dinov2-small", "facebook/dinov2-small")
    assert short[1:] == full[1:]
    assert short[1] == "facebook/dinov2-small"
