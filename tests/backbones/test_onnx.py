import json

import numpy as np
import pytest
from tiny_onnx import FLOAT16, mean_colour

from imageherd.backbones import load_backbone
from imageherd.backbones.bundled import BUNDLED_FILE
from imageherd.backbones.onnx import choose_providers
from imageherd.backbones.preprocess import Preprocessing
from imageherd.errors import ImageherdError

SETTINGS = Preprocessing(8, 10, mean=(0, 0, 0), std=(255, 255, 255)).to_dict()


@pytest.fixture
def save(tmp_path):
    def save_network(data=None, settings=SETTINGS):
        path = tmp_path / "net.onnx"
        path.write_bytes(mean_colour() if data is None else data)
        if settings is not None:
            text = settings if isinstance(settings, str) else json.dumps(settings)
            (tmp_path / "net.json").write_text(text)
        return str(path)

    return save_network


def batch(rows, size=8):
    return np.random.default_rng(0).normal(size=(rows, 3, size, size)).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 70])
def test_any_number_of_rows(save, rows):
    backbone = load_backbone(save(), device="cpu")
    images = batch(rows)
    outputs = backbone.embed(images)
    assert list(outputs) == ["features"]
    assert outputs["features"] == pytest.approx(images.mean((2, 3)), abs=1e-6)
    assert (backbone.name, backbone.dim, backbone.batch_size) == ("net", 3, 32)


def test_a_network_with_one_output_needs_no_name_for_it(save):
    backbone = load_backbone(save(mean_colour(outputs=[("pooled", ("batch", 3))])), device="cpu")
    assert backbone.identity["output"] == "pooled"
    assert backbone.embed(batch(2))["features"].shape == (2, 3)


def test_a_fixed_batch_is_kept(save):
    data = mean_colour(shape=(4, 3, 8, 8), outputs=[("features", (4, 3))])
    backbone = load_backbone(save(data), device="cpu")
    assert backbone.batch_size == 4
    images = batch(6)
    assert backbone.embed(images)["features"] == pytest.approx(images.mean((2, 3)), abs=1e-6)


def test_logits_of_other_classes_are_left_alone(save):
    outputs = [("logits", ("batch", 3)), ("features", ("batch", 3))]
    backbone = load_backbone(save(mean_colour(outputs=outputs)), device="cpu")
    assert list(backbone.embed(batch(2))) == ["features"]


def test_preprocessing_comes_from_the_file_beside_it(save):
    assert load_backbone(save(), device="cpu").preprocessing.to_dict() == SETTINGS
    squash = load_backbone(save(), device="cpu", preprocessing_mode="squash").preprocessing
    assert (squash.mode, squash.resize) == ("squash", 8)


def test_the_key_follows_weights_and_preprocessing_but_not_the_place(save, tmp_path):
    first = load_backbone(save(), device="cpu").key
    assert first == load_backbone(save(), device="cpu").key
    assert first != load_backbone(save(settings={**SETTINGS, "resize": 11}), device="cpu").key
    assert first != load_backbone(save(mean_colour() + b"\x12\x01x"), device="cpu").key
    save()
    (tmp_path / "net.onnx.data").write_bytes(b"weights kept outside")
    assert first != load_backbone(str(tmp_path / "net.onnx"), device="cpu").key
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("net.onnx", "net.json"):
        (tmp_path / name).rename(elsewhere / name)
    assert first == load_backbone(str(elsewhere / "net.onnx"), device="cpu").key


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ({"outputs": [("features", ("batch", 3, 1, 1))], "last": "Identity"}, "map: pool it"),
        ({"outputs": [("a", ("batch", 3)), ("b", ("batch", 3))]}, "a, b.*must be called features"),
        (
            {"outputs": [("features", ("batch", 3, 1))], "last": "ReduceMean"},
            "3 dimensions.*class token",
        ),
        ({"shape": ("batch", 3, 16, 16)}, "16 x 16 pixels only.*size 8.*net.json"),
        ({"shape": ("batch", 8, 8, 3)}, r"\(batch, 3, height, width\)"),
        ({"shape": ("batch", 3)}, r"\(batch, 3, height, width\)"),
        ({"kind": FLOAT16}, "float16"),
        ({"second_input": True}, "2 inputs"),
    ],
)
def test_networks_of_another_shape_are_explained(save, network, says):
    with pytest.raises(ImageherdError, match=says):
        load_backbone(save(mean_colour(**network)), device="cpu")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (None, "net.json; for instance"),
        ("{", "not readable as JSON"),
        ("[1]", "object"),
        ({**SETTINGS, "colour": 1}, "net.json: .*unknown fields: colour"),
        ({"size": 8, "resize": 8}, "lacks interpolation, mean, mode, std"),
        ({**SETTINGS, "std": [0, 1, 1]}, "std"),
    ],
)
def test_the_file_beside_it_is_checked(save, settings, says):
    with pytest.raises(ImageherdError, match=says):
        load_backbone(save(settings=settings), device="cpu")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_file_cut_short_is_explained(save, share):
    whole = BUNDLED_FILE.read_bytes()
    path = save(whole[: int(len(whole) * share)])
    with pytest.raises(ImageherdError, match=r"net\.onnx is not a network.*cut short"):
        load_backbone(path, device="cpu")


def test_an_image_that_overflows_spoils_no_other(save):
    backbone = load_backbone(save(), device="cpu")
    batch = np.ones((3, 3, 8, 8), np.float32)
    batch[1] = np.inf
    features = backbone.embed(batch)["features"]
    assert not np.isfinite(features[1]).all()
    assert np.isfinite(features[[0, 2]]).all()
    np.testing.assert_array_equal(features[0], features[2])


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (1, 3, 9, 9), (3, 8, 8), (1, 8, 8, 3)])
def test_a_batch_of_the_wrong_shape_is_an_error(save, shape):
    backbone = load_backbone(save(), device="cpu")
    with pytest.raises(ImageherdError, match=r"\(b, 3, 8, 8\)"):
        backbone.embed(np.zeros(shape, np.float32))


GPU = ["CUDAExecutionProvider", "CPUExecutionProvider"]
MAC = ["CoreMLExecutionProvider", "CPUExecutionProvider"]
CPU = ["CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        ("auto", GPU, GPU),
        ("auto", MAC, MAC),
        ("auto", ["TensorrtExecutionProvider", *GPU], GPU),
        ("auto", CPU, CPU),
        ("cpu", GPU, CPU),
        ("cuda", GPU, GPU),
        ("mps", MAC, MAC),
    ],
)
def test_providers(device, available, expected):
    assert [name for name, _ in choose_providers(device, available)] == expected


def test_the_second_gpu():
    assert choose_providers("cuda:1", GPU)[0][1]["device_id"] == "1"
    assert "device_id" not in choose_providers("cuda", GPU)[0][1]


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("cuda", "onnxruntime-gpu"),
        ("mps", "on a Mac"),
        ("tpu", "'tpu' is not known"),
        ("cuda:", "not known"),
        ("cuda:x", "not known"),
        ("cpu:0", "not known"),
    ],
)
def test_a_device_that_is_not_there(device, says):
    with pytest.raises(ImageherdError, match=says):
        choose_providers(device, CPU)


@pytest.mark.parametrize(
    "name", ["nope", "no/such/folder", "/no/such", "", "./net", "a b/c", "a--b/c"]
)
def test_an_unknown_name_lists_the_choices(name):
    with pytest.raises(ImageherdError, match=r"efficientnet-lite0.*onnx.*facebook/dinov2-small"):
        load_backbone(name)


def test_a_missing_file_and_an_unknown_mode():
    with pytest.raises(ImageherdError, match=r"no file .*gone\.onnx"):
        load_backbone("gone.onnx")
    with pytest.raises(ImageherdError, match="preprocessing_mode='pad'"):
        load_backbone(preprocessing_mode="pad")
