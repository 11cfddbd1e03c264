"""The exported file says what PyTorch says, is made once, and never mixes with other features."""

import numpy as np
import onnx
import pytest
import torch
from tiny_families import SIDE, save_family
from tiny_onnx import mean_colour

from imageherd.backbones import load_backbone, onnx_export
from imageherd.backbones.cache import cache_dir
from imageherd.errors import ImageherdError

RNG = np.random.default_rng(3)
PIXELS = RNG.normal(size=(5, 3, SIDE, SIDE)).astype(np.float32)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEHERD_CACHE", str(tmp_path / "cache"))


def cosine(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize(
    ("family", "output"),
    [
        ("dinov2_with_registers", "cls+mean-patch"),
        ("clip", "pooled"),
        ("siglip", "mean-patch"),
        ("vit_mae", "cls"),
        ("convnext", "pooled"),
    ],
)
def test_onnx_runtime_answers_as_pytorch(tmp_path, family, output):
    save_family(tmp_path / "tiny", family)
    theirs = load_backbone(str(tmp_path / "tiny"), device="cpu", output=output)
    ours = load_backbone(str(tmp_path / "tiny"), device="cpu", output=output, runtime="onnx")
    features = ours.embed(PIXELS)["features"]
    assert features == pytest.approx(theirs.embed(PIXELS)["features"], abs=2e-5)
    assert np.array_equal(ours.embed(PIXELS[3:4])["features"][0], features[3])
    assert (ours.dim, ours.preprocessing) == (theirs.dim, theirs.preprocessing)
    assert ours.name.endswith(",runtime=onnx")
    assert ours.identity["weights"] == theirs.identity["weights"]
    assert ours.key != theirs.key


def test_eight_bits_are_close_and_rows_do_not_depend_on_their_company(tmp_path, monkeypatch):
    save_family(tmp_path / "tiny", "clip")
    name = str(tmp_path / "tiny")
    whole = load_backbone(name, device="cpu").embed(PIXELS)["features"]
    small = load_backbone(name, device="cpu", runtime="onnx-int8")
    features = small.embed(PIXELS)["features"]
    assert cosine(features, whole).min() > 0.999
    assert not np.allclose(features, whole, atol=1e-5)
    assert np.array_equal(small.embed(PIXELS[2:3] * 1)["features"][0], features[2])
    folder = next((cache_dir() / "onnx").glob("*-onnx-int8-*/net.onnx"))
    kinds = {node.op_type for node in onnx.load(folder, load_external_data=False).graph.node}
    assert "MatMulInteger" in kinds

    # Made once: with the exporter gone, the file is still there.
    monkeypatch.setattr(onnx_export, "export", None)
    again = load_backbone(name, device="cpu", runtime="onnx-int8")
    assert again.key == small.key
    assert np.array_equal(again.embed(PIXELS)["features"], features)


def test_a_file_that_answers_otherwise_is_never_used(tmp_path, monkeypatch):
    save_family(tmp_path / "tiny", "vit")

    def export_another(found, path, *, batch):
        path.write_bytes(mean_colour())

    monkeypatch.setattr(onnx_export, "export", export_another)
    with pytest.raises(ImageherdError, match="does not answer as PyTorch does"):
        load_backbone(str(tmp_path / "tiny"), device="cpu", runtime="onnx")
    kept = [path.parent.name for path in cache_dir().rglob("net.onnx")]
    assert all(name.endswith(".unfinished") for name in kept)


def test_a_model_that_cannot_be_exported_is_explained(tmp_path, monkeypatch):
    save_family(tmp_path / "tiny", "vit")

    def fail(*_, **__):
        raise RuntimeError("no such operator\nand a page of reasons")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ImageherdError, match=r"cannot be exported .*\(no such operator\)"):
        load_backbone(str(tmp_path / "tiny"), device="cpu", runtime="onnx")


def test_the_extra_is_named(tmp_path, monkeypatch):
    save_family(tmp_path / "tiny", "vit")
    monkeypatch.setattr(onnx_export, "find_spec", lambda package: None)
    with pytest.raises(ImageherdError, match=r'pip install "imageherd\[onnx\]"'):
        load_backbone(str(tmp_path / "tiny"), device="cpu", runtime="onnx")
