"""``imageherd pretrain`` as typed: what is made, what is said, what is refused."""

import json

import pytest
from PIL import Image

from imageherd.pretraining import loop


@pytest.fixture(autouse=True)
def _own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEHERD_NETWORKS", str(tmp_path / "networks"))


@pytest.fixture
def tiles(tmp_path):
    for i in range(16):
        inside = tmp_path / "tiles" / ("light" if i % 2 else "dark")
        inside.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (8 * i, 0, 200 * (i % 2))).save(inside / f"{i}.png")
    return tmp_path / "tiles"


FEW = ["--network", "resnet18-narrow", "--epochs", "2", "--batch-size", "4", "--device", "cpu"]


def test_a_network_is_made_named_and_used(run, tiles, tmp_path):
    result = run("pretrain", "rotnet", tiles, "--out", "mine", *FEW, "--labels", "folder")
    assert result.exit_code == 0, result.output
    assert "Epoch 2: loss" in result.stdout
    assert "k-NN accuracy" in result.stdout
    assert "--backbone mine" in result.stdout
    assert result.stdout.splitlines()[-1] == str(tmp_path / "networks" / "mine")
    embedded = run("embed", tiles, "--backbone", "mine", "--device", "cpu", "--json")
    assert embedded.exit_code == 0, embedded.output
    assert json.loads(embedded.stdout)["images"]["n_embedded"] == 16


def test_json_says_it_all(run, tiles):
    result = run("pretrain", "rotnet", tiles, "--out", "./net", *FEW, "--no-flip", "--json")
    said = json.loads(result.stdout)
    assert (said["settings"]["flip"], said["settings"]["recolor"]) == (False, True)
    assert (said["folder"], said["backbone"], said["dim"]) == ("net", "./net", 128)
    assert [entry["epoch"] for entry in said["history"]] == [1, 2]


def test_stopped_it_says_that_the_same_command_goes_on(run, tiles, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_finished", stop)
    result = run("pretrain", "rotnet", tiles, "--out", "./net", *FEW)
    assert result.exit_code == 130
    assert "net is kept; the same command takes it up again" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("simclr", "tiles", "--out", "x"), "Choose from: rotnet, dino"),
        (("dino", "nowhere", "--out", "x"), "nowhere does not exist"),
        (("dino", "tiles", "--out", "efficientnet-lite0"), "another backbone's name"),
        (("dino", "tiles", "--out", "a b"), "is no name for a network"),
        (("dino", "tiles", "--out", "x", "--network", "vit"), "choose one of resnet18"),
        (("dino", "tiles", "--out", "x", "--labels", "column:kind"), "without a column 'kind'"),
    ],
)
def test_what_is_mistyped_is_explained(run, tiles, arguments, says):
    result = run("pretrain", *arguments)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())
