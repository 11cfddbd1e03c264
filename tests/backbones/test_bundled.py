import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imageherd.backbones import imagenet_class_names, load_backbone
from imageherd.backbones.bundled import BUNDLED_FILE
from imageherd.backbones.onnx import open_session

REFERENCE = json.loads((Path(__file__).parent / "efficientnet_lite0_reference.json").read_text())


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(device="cpu")


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    coarse = rng.normal(0, 1, (40, 3, 8, 8)).astype(np.float32)
    return np.kron(coarse, np.ones((28, 28), np.float32))


@pytest.fixture(scope="module")
def outputs(backbone, images):
    return backbone.embed(images[:32])


@pytest.mark.parametrize("case", REFERENCE, ids=lambda c: f"{c['height']}x{c['width']}")
def test_it_answers_as_the_eager_network_did(case):
    # The formula of scripts/convert_efficientnet_lite0.py, which wrote the reference.
    b, c, y, x = np.meshgrid(
        *(np.arange(n) for n in (2, 3, case["height"], case["width"])), indexing="ij"
    )
    waves = np.sin(0.05 * (b + 1) * x + 0.7 * c) * np.cos(0.03 * (c + 1) * y + b)
    session = open_session(BUNDLED_FILE, "cpu")
    got = session.run(["features", "logits"], {"images": waves.astype(np.float32)})
    for name, values in zip(("features", "logits"), got, strict=True):
        assert values[:, :64] == pytest.approx(np.array(case[name]), abs=1e-4)
    assert np.ptp(got[1]) > 1


def test_shapes(outputs, backbone):
    assert (backbone.dim, backbone.batch_size) == (1280, 32)
    assert {name: (v.shape, v.dtype) for name, v in outputs.items()} == {
        "features": ((32, 1280), np.float32),
        "logits": ((32, 1000), np.float32),
    }


def test_a_row_depends_neither_on_its_company_nor_on_its_place(backbone, images, outputs):
    for name, values in backbone.embed(images[4:5]).items():
        assert np.array_equal(values[0], outputs[name][4])
    order = np.random.default_rng(1).permutation(40)
    shuffled = backbone.embed(images[order])
    for name, values in outputs.items():
        first = order < 32
        assert np.array_equal(shuffled[name][first], values[order[first]])


def test_another_session_gives_the_same_bytes(images, outputs):
    again = load_backbone(device="cpu").embed(images[:32])
    assert all(np.array_equal(again[name], outputs[name]) for name in outputs)


def test_the_key_says_what_the_features_depend_on(backbone):
    assert backbone.key.startswith("efficientnet-lite0-")
    assert set(backbone.identity) == {
        *("model", "revision", "weights", "output", "preprocessing", "dtype")
    }
    assert json.loads(json.dumps(backbone.identity)) == backbone.identity
    assert load_backbone("efficientnet-lite0", device="cpu").key == backbone.key
    squash = load_backbone(device="cpu", preprocessing_mode="squash")
    assert squash.preprocessing.mode == "squash"
    assert squash.key != backbone.key


def test_class_names():
    names = imagenet_class_names()
    assert len(names) == 1000
    assert (names[0], names[610], names[999]) == ("tench", "T-shirt", "toilet paper")


def test_neither_torch_nor_transformers_is_needed():
    code = (
        "import sys; from imageherd.backbones import load_backbone; "
        "assert 'onnxruntime' not in sys.modules; load_backbone(device='cpu'); "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
