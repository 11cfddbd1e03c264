"""timm and open_clip behind our interface.

Both need torchvision, which does not go with every build of torch, so that neither can be counted
on here: small stand-ins answer as timm 1.0.31 and open_clip 3.3.0 do.
"""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from imageherd.backbones import load_backbone
from imageherd.backbones.open_clip_models import from_preprocess_config
from imageherd.backbones.timm_models import from_data_config
from imageherd.errors import ImageherdError

SIDE, DIM, PREFIX = 8, 6, 3
PIXELS = np.random.default_rng(0).normal(size=(4, 3, SIDE, SIDE)).astype(np.float32)
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class TinyViT(torch.nn.Module):
    """Tokens as timm's vision transformers have them: a class token, two registers, patches."""

    num_prefix_tokens, output_fmt = PREFIX, "NLC"

    def __init__(self):
        super().__init__()
        self.cls_token = torch.nn.Parameter(torch.randn(1, PREFIX, DIM))
        self.patch = torch.nn.Conv2d(3, DIM, 4, 4)
        self.head = torch.nn.Linear(DIM, 5)

    def reset_classifier(self, n):
        assert n == 0
        self.head = torch.nn.Identity()

    def forward_features(self, x):
        patches = self.patch(x).flatten(2).mT
        mixed = self.cls_token + patches.mean(1, keepdim=True)
        return torch.cat([mixed, patches], dim=1)

    def forward_head(self, x, pre_logits=False):
        return x[:, 0] if pre_logits else self.head(x[:, 0])


class TinyMap(torch.nn.Module):
    """A convolutional network of timm: a map, no class token."""

    output_fmt = "NHWC"

    def __init__(self):
        super().__init__()
        self.patch = torch.nn.Conv2d(3, DIM, 4, 4)
        self.head = torch.nn.Linear(DIM, 5)

    reset_classifier = TinyViT.reset_classifier

    def forward_features(self, x):
        return self.patch(x).permute(0, 2, 3, 1)

    def forward_head(self, x, pre_logits=False):
        return x.mean((1, 2)) if pre_logits else self.head(x.mean((1, 2)))


class TinyClip(torch.nn.Module):
    """The image side of open_clip's models."""

    def __init__(self):
        super().__init__()
        self.visual = torch.nn.Conv2d(3, DIM, SIDE)

    def encode_image(self, x):
        return self.visual(x).flatten(1)


@pytest.fixture
def timm(monkeypatch):
    """A timm of two models, which remembers where it was told to load from."""
    kinds = {"tiny_vit": TinyViT, "tiny_map": TinyMap}
    config = {
        **{"input_size": (3, SIDE, SIDE), "interpolation": "bilinear", **IMAGENET},
        **{"crop_pct": 0.875, "crop_mode": "center"},
    }
    module, data = ModuleType("timm"), ModuleType("timm.data")
    module.__version__ = "1"

    def create_model(name, *, pretrained, pretrained_cfg_overlay):
        assert pretrained
        model = kinds[name.partition(".")[0]]()
        model.load_state_dict(load_file(pretrained_cfg_overlay["file"]))
        return model

    module.is_model = lambda name: name in kinds
    module.get_pretrained_cfg = lambda name: SimpleNamespace(hf_hub_id=f"nobody/{name}")
    module.create_model = create_model
    data.resolve_model_data_config = lambda model: config
    module.data = data
    monkeypatch.setitem(sys.modules, "timm", module)
    monkeypatch.setitem(sys.modules, "timm.data", data)
    return kinds


@pytest.fixture
def open_clip(monkeypatch):
    module = ModuleType("open_clip")
    module.__version__ = "3"
    published = {
        **{"hf_hub": "nobody/tiny/", "quick_gelu": True, "interpolation": "bicubic"},
        **{"resize_mode": "squash", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    }

    def create_model(name, *, pretrained, force_quick_gelu, force_preprocess_cfg):
        assert force_quick_gelu
        model = TinyClip()
        model.load_state_dict(load_file(pretrained))
        model.cfg = {"size": SIDE, **force_preprocess_cfg}
        return model

    there = ("Tiny", "good")
    module.create_model = create_model
    module.get_pretrained_cfg = lambda name, tag: published if (name, tag) == there else {}
    module.list_pretrained_tags_by_model = lambda name: ["good"] if name == "Tiny" else []
    module.get_model_preprocess_cfg = lambda model: model.cfg
    monkeypatch.setitem(sys.modules, "open_clip", module)


def saved(model, folder):
    path = folder / "weights.safetensors"
    save_file(model.state_dict(), path)
    return path


def test_timm_outputs(tmp_path, timm):
    model = TinyViT()
    path = saved(model, tmp_path)
    with torch.no_grad():
        tokens = model.forward_features(torch.from_numpy(PIXELS))
    expected = {"cls": tokens[:, 0], "mean-patch": tokens[:, PREFIX:].mean(1)}
    expected["pooled"] = expected["cls"]
    for output, vectors in expected.items():
        name = f"timm:tiny_vit.ours@{path}"
        backbone = load_backbone(name, device="cpu", output=output)
        assert backbone.embed(PIXELS)["features"] == pytest.approx(vectors.numpy(), abs=1e-6)
    default = load_backbone(name, device="cpu")
    assert (default.identity["output"], default.dim) == ("pooled", DIM)
    assert (default.identity["model"], default.name) == ("timm:tiny_vit.ours", name)
    both = load_backbone(name, device="cpu", output="cls+mean-patch")
    joined = torch.cat([expected["cls"], expected["mean-patch"]], dim=1).numpy()
    assert both.embed(PIXELS)["features"] == pytest.approx(joined, abs=1e-6)
    how = default.preprocessing
    assert (how.size, how.resize, how.mode, how.interpolation) == (SIDE, 9, "crop", "bilinear")
    assert how.mean == pytest.approx((123.675, 116.28, 103.53))


def test_a_timm_map(tmp_path, timm):
    model = TinyMap()
    name = f"timm:tiny_map@{saved(model, tmp_path)}"
    with torch.no_grad():
        expected = model.forward_features(torch.from_numpy(PIXELS)).mean((1, 2)).numpy()
    for output in ("pooled", "mean-patch"):
        backbone = load_backbone(name, device="cpu", output=output)
        assert backbone.embed(PIXELS)["features"] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ImageherdError, match="no class token"):
        load_backbone(name, device="cpu", output="cls")


def test_open_clip(tmp_path, open_clip):
    model = TinyClip()
    name = f"open_clip:Tiny/good@{saved(model, tmp_path)}"
    backbone = load_backbone(name, device="cpu")
    with torch.no_grad():
        expected = model.encode_image(torch.from_numpy(PIXELS)).numpy()
    assert backbone.embed(PIXELS)["features"] == pytest.approx(expected, abs=1e-6)
    # The tag's own settings, though the weights come from a file.
    how = backbone.preprocessing
    assert (how.size, how.mode, how.mean) == (SIDE, "squash", (127.5, 127.5, 127.5))
    with pytest.raises(ImageherdError, match="pooled only"):
        load_backbone(name, device="cpu", output="cls")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("timm:nothing", "has no model 'nothing'"),
        ("timm:tiny_vit@weights.bin", "is not a safetensors file"),
        ("timm:tiny_vit@gone.safetensors", "is not a safetensors file"),
        ("timm:tiny_vit", r"model.safetensors of nobody/tiny_vit is not on this machine"),
        ("open_clip:Tiny", "has no model 'Tiny'; say NAME/TAG, its tags are good"),
        ("open_clip:Tiny/bad", "its tags are good"),
        ("open_clip:Nothing/good", r"list_pretrained\(\)` lists them"),
        ("open_clip:Tiny/good", "open_clip_model.safetensors of nobody/tiny is not on this mach"),
    ],
)
def test_what_is_not_there_is_explained(monkeypatch, timm, open_clip, name, says):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ImageherdError, match=says):
        load_backbone(name, device="cpu")


def test_a_file_of_another_network_is_refused(tmp_path, timm):
    path = saved(TinyMap(), tmp_path)
    with pytest.raises(ImageherdError, match=r"timm cannot load tiny_vit from .*: Error"):
        load_backbone(f"timm:tiny_vit@{path}", device="cpu")


@pytest.mark.parametrize(("name", "extra"), [("timm:x", "timm"), ("open_clip:x/y", "open-clip")])
def test_the_extra_is_named(monkeypatch, name, extra):
    module = name.partition(":")[0]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImageherdError, match=rf'pip install "imageherd\[{extra}\]"'):
        load_backbone(name, device="cpu")


def test_a_torchvision_for_another_torch_is_explained(monkeypatch):
    def fail(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("imageherd.backbones.library.importlib.import_module", fail)
    with pytest.raises(ImageherdError, match=r"nms does not exist.*made for another torch"):
        load_backbone("timm:x", device="cpu")


DATA = {
    **{"input_size": (3, 224, 224), "interpolation": "bicubic", **IMAGENET},
    **{"crop_pct": 0.9, "crop_mode": "squash"},
}
CLIP = {
    **{"size": (224, 224), "interpolation": "bicubic", "resize_mode": "shortest"},
    **{"mean": (0.5, 0.4, 0.3), "std": (0.25, 0.25, 0.25)},
}


def test_data_configs():
    squashed = from_data_config("x", DATA)
    assert (squashed.size, squashed.resize, squashed.mode) == (224, 248, "squash")
    whole = from_data_config("x", {**DATA, "crop_pct": 1.0, "crop_mode": None})
    assert (whole.resize, whole.mode) == (224, "crop")
    clip = from_preprocess_config("x", CLIP)
    assert (clip.size, clip.resize, clip.mode) == (224, 224, "crop")
    assert clip.mean == pytest.approx((127.5, 102, 76.5))


@pytest.mark.parametrize(
    ("make", "config", "change", "says"),
    [
        (from_data_config, DATA, {"crop_mode": "border"}, "crop mode 'border'"),
        (from_data_config, DATA, {"input_size": (1, 224, 224)}, "1 channels"),
        (from_data_config, DATA, {"input_size": (3, 224, 196)}, r"\[224, 196\]"),
        (from_data_config, DATA, {"interpolation": "random"}, "'random'"),
        (from_preprocess_config, CLIP, {"resize_mode": "longest"}, "'longest'"),
        (from_preprocess_config, CLIP, {"size": (224, 336)}, r"\[224, 336\]"),
    ],
)
def test_configs_that_ask_for_something_else_are_refused(make, config, change, says):
    with pytest.raises(ImageherdError, match=says):
        make("x", {**config, **change})
