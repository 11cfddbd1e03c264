import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from imageherd.cli import train_lsdc as verb
from imageherd.errors import ImageherdError
from imageherd.features.listing import Listed
from imageherd.heads import HEADS
from imageherd.heads.base import CollapseWarning
from imageherd.herd import Herd
from imageherd.images.source import open_source
from imageherd.pretraining import loop
from imageherd.pretraining.data import pixels_of_array
from imageherd.pretraining.lsdc_images import PRESETS, LSDCImages
from imageherd.pretraining.lsdc_run import _row, train_lsdc
from imageherd.pretraining.networks import make_network
from imageherd.pretraining.saving import load_network, save_network

QUICK = {
    **{"epochs": 2, "milestones": (1,), "min_steps": 0, "batch_size": 8},
    **{"random_state": 0, "device": "cpu"},
}


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with 24 images of 12 pixels and an untrained network."""
    folder = tmp_path_factory.mktemp("lsdc")
    images = np.random.default_rng(0).integers(0, 256, (24, 12, 12, 3)).astype(np.uint8)
    (folder / "photos").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / "photos" / f"{i:02}.png")
    network = make_network("resnet18-narrow", 12)
    facts = {"method": "rotnet", "settings": {}, "history": []}
    # Normalised in a way of its own, as if it had seen other images.
    preprocessing = pixels_of_array(images // 2).preprocessing
    save_network(folder / "start", network, preprocessing, facts)
    return folder


def source(home):
    return Listed(open_source(str(home / "photos")))


def test_the_result_is_a_backbone_and_a_clustering(home, tmp_path):
    out = tmp_path / "out"
    config = train_lsdc(source(home), home / "start", out, 3, **QUICK)
    assert sorted(p.name for p in out.iterdir()) == [
        "classifier.safetensors",
        "config.json",
        "model.safetensors",
    ]
    assert [entry["epoch"] for entry in config["history"]] == [1, 2]
    herd = Herd(tmp_path / "photos.herd")
    herd.embed(home / "photos", backbone=str(out), device="cpu")
    found = herd.cluster("trained", network=str(out), name="lsdc", device="cpu")
    # The herd's clusters are those that network and classifier give the images when trained.
    network, begun = load_network(home / "start")
    images = np.stack(
        [np.asarray(Image.open(path)) for path in sorted((home / "photos").iterdir())]
    )
    kind = begun["preprocessing"]
    pixels = replace(pixels_of_array(images), mean=kind.mean, std=kind.std)
    model = LSDCImages(3, **QUICK).fit(pixels, network)
    P = model.predict_proba(pixels)
    np.testing.assert_allclose(found.probability, P.max(1), rtol=1e-4)
    pairs = set(zip(found.uids.tolist(), model.labels_.tolist(), strict=True))
    assert len(pairs) == len(found.clusters) == len(set(model.labels_.tolist()))
    # New images are placed without the network's training.
    more = tmp_path / "more"
    shutil.copytree(home / "photos", more)
    assert herd.assign(more, name="lsdc", device="cpu").clustering.name == "lsdc"


def test_run_again_it_returns_at_once_and_another_is_refused(home, tmp_path):
    out = tmp_path / "out"
    settings = {**QUICK, "epochs": 1}
    first = train_lsdc(source(home), home / "start", out, 2, preset="mnist", **settings)
    seen = []
    again = train_lsdc(
        source(home), home / "start", out, 2, preset="mnist", callback=seen.append, **settings
    )
    assert again == first
    assert seen == []
    with pytest.raises(ImageherdError, match="trained with another n_clusters"):
        train_lsdc(source(home), home / "start", out, 3, preset="mnist", **settings)


@pytest.mark.parametrize(
    ("preset", "milestones", "ramp"), [("cifar10", (14, 18), 10), (None, (14.08, 18.04), None)]
)
def test_other_epochs_leave_the_schedules_shape(preset, milestones, ramp):
    row = _row(preset, 22)
    assert row["milestones"] == pytest.approx(milestones)
    assert row.get("ramp_epochs") == ramp
    assert _row(preset, None) == (PRESETS[preset] if preset else {})


class KilledError(Exception):
    pass


def test_killed_and_run_again_it_ends_with_the_same_bytes(home, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "_CHECKPOINT_SHARE", 1e9)

    def kill(entry):
        raise KilledError

    with pytest.raises(KilledError):
        train_lsdc(source(home), home / "start", tmp_path / "a", 3, callback=kill, **QUICK)
    assert (tmp_path / "a" / "run" / loop.CHECKPOINT).exists()
    assert not (tmp_path / "a" / "config.json").exists()
    seen = []
    train_lsdc(source(home), home / "start", tmp_path / "a", 3, callback=seen.append, **QUICK)
    assert [entry["epoch"] for entry in seen] == [2]
    train_lsdc(source(home), home / "start", tmp_path / "b", 3, **QUICK)
    for name in ("model.safetensors", "classifier.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_what_cannot_be_done_is_told(home, tmp_path):
    for params, told in (
        ({"n_clusters": 25}, "24 images are too few"),
        ({"labeling": "near"}, "does not take these parameters"),
    ):
        with pytest.raises(ImageherdError, match=told):
            train_lsdc(
                source(home),
                home / "start",
                tmp_path / "out",
                **{"n_clusters": 3, **QUICK, **params},
            )
    with pytest.raises(ImageherdError, match="holds no network"):
        train_lsdc(source(home), home / "photos", tmp_path / "out", 3, **QUICK)


def test_the_command_line(home, tmp_path, monkeypatch, capsys):
    from typer.testing import CliRunner

    from imageherd.cli import app

    monkeypatch.chdir(tmp_path)
    assert set(verb.PRESETS) == {name for name in PRESETS if "-" not in name}
    said = [str(home / "photos"), "--start", str(home / "start"), "--out", "./net", "--json"]
    made = ["--n-clusters", "3", "--preset", "mnist", "--epochs", "1", "--name", "found"]
    result = CliRunner().invoke(app, ["train-lsdc", *said, *made, "--labeling", "sne"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["clustering"]["method"] == "trained"
    assert told["clustering"]["n_images"] == 24
    assert len(told["history"]) == 1
    kept = json.loads((tmp_path / "net" / "config.json").read_text())["settings"]
    assert (kept["labeling"], kept["flip"], kept["epochs"]) == ("sne", False, 1)
    assert Herd(tmp_path / "photos.herd").clustering("found").config["method"] in HEADS
    (tmp_path / "words.txt").write_text("some words\nand others\n")
    result = CliRunner().invoke(app, ["train-lsdc", "words.txt", *said[1:], *made])
    assert (result.exit_code, "words.txt holds texts" in result.output) == (2, True)
    for wrong, sentence in (
        (["--preset", "reuters"], "--preset reuters is not known"),
        (["--composition", "cutmix"], "--composition cutmix is not known"),
        (["--n-clusters", "30"], "more than the 24 images"),
        (["--start", "nothing"], "is no network of yours"),
    ):
        result = CliRunner().invoke(app, ["train-lsdc", *said, *made, *wrong])
        assert result.exit_code == 2
        assert sentence in json.loads(result.stdout)["error"]
