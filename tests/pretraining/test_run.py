"""The whole way: a run that is killed and resumed, its result as a backbone, what is refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from imageherd.backbones import load_backbone
from imageherd.errors import ImageherdError
from imageherd.features.listing import Listed
from imageherd.pretraining import loop
from imageherd.pretraining.run import pretrain
from imageherd.pretraining.saving import load_network

SMALL = {"network": "resnet18-narrow", "epochs": 6, "batch_size": 8, "device": "cpu"}


@pytest.fixture(autouse=True)
def _own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEHERD_NETWORKS", str(tmp_path / "networks"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("photos")
    for i in range(36):
        inside = folder / ("light" if i % 2 else "dark")
        inside.mkdir(exist_ok=True)
        pixels = rng.integers(0, 60, (12, 12, 3)) + (150 if i % 2 else 20)
        Image.fromarray(pixels.astype(np.uint8)).save(inside / f"{i:02d}.png")
    return folder


def folder_labels(keys):
    return [key.split(b"/")[0].decode() for key in keys]


class StopError(Exception):
    pass


def stopping_before(step):
    seed = loop._seed

    def stop(run, stream):
        if stream == loop._STEPS + step:
            raise StopError
        seed(run, stream)

    return stop


@pytest.mark.parametrize("method", ["rotnet", "dino"])
def test_a_killed_run_ends_with_the_bytes_of_one_that_was_not(
    photos, tmp_path, method, monkeypatch
):
    """Of 4 epochs of 4 steps, killed in the third: its mean loss is of steps before and after."""
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    few = {**SMALL, "epochs": 4}
    expected = pretrain(method, Listed(photos), straight, **few)
    with monkeypatch.context() as patch:
        # A checkpoint after every step.
        patch.setattr(loop, "CHECKPOINT_SECONDS", 0)
        patch.setattr(loop, "_CHECKPOINT_SHARE", 1e9)
        patch.setattr(loop, "_seed", stopping_before(10))
        with pytest.raises(StopError):
            pretrain(method, Listed(photos), killed, **few)
    assert (killed / "run" / loop.CHECKPOINT).exists()
    epochs = []
    found = pretrain(
        method, Listed(photos), killed, **few, callback=lambda e: epochs.append(e["epoch"])
    )
    assert epochs == [3, 4]
    assert found == expected
    names = ["config.json", "model.safetensors"]
    assert [(killed / n).read_bytes() for n in names] == [
        (straight / n).read_bytes() for n in names
    ]
    assert sorted(p.name for p in killed.iterdir()) == names


def test_the_result_is_a_backbone_by_folder_and_by_name(photos, tmp_path):
    folder = tmp_path / "networks" / "mine"
    few = {**SMALL, "epochs": 1}
    config = pretrain("rotnet", Listed(photos), folder, **few, labels=folder_labels)
    assert config["history"][0]["knn_accuracy"] > 0.9
    by_name, by_folder = (load_backbone(n, device="cpu") for n in ("mine", str(folder)))
    assert by_name.key == by_folder.key
    assert by_name.identity["weights"] == config["sha256"]
    assert (by_name.dim, by_name.preprocessing.size) == (128, 12)
    network, _ = load_network(folder)
    image = Image.open(photos / "dark" / "00.png")
    batch = by_name.preprocessing.apply(image)[None]
    expected = network.features(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(by_name.embed(batch)["features"], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ImageherdError, match="one output"):
        load_backbone("mine,output=cls")


def test_labels_change_nothing_but_what_is_told(photos, tmp_path):
    few = {**SMALL, "epochs": 2}
    without = pretrain("rotnet", Listed(photos), tmp_path / "a", **few)
    with_labels = pretrain("rotnet", Listed(photos), tmp_path / "b", **few, labels=folder_labels)
    assert without["sha256"] == with_labels["sha256"]
    assert "knn_accuracy" not in without["history"][0]


@pytest.mark.parametrize("method", ["rotnet", "dino"])
def test_views_are_mirrored_unless_that_is_forbidden(photos, tmp_path, method):
    few = {**SMALL, "epochs": 1}
    mirrored = pretrain(method, Listed(photos), tmp_path / "a", **few)
    as_they_are = pretrain(method, Listed(photos), tmp_path / "b", **few, flip=False)
    assert mirrored["settings"]["flip"]
    assert mirrored["sha256"] != as_they_are["sha256"]


def test_a_finished_run_is_not_repeated_and_another_is_refused(photos, tmp_path):
    few = {**SMALL, "epochs": 1}
    config = pretrain("rotnet", Listed(photos), tmp_path / "a", **few)
    assert pretrain("rotnet", Listed(photos), tmp_path / "a", **few) == config
    with pytest.raises(ImageherdError, match="another random_state; name another place"):
        pretrain("rotnet", Listed(photos), tmp_path / "a", **few, random_state=1)
    with pytest.raises(ImageherdError, match="holds something else"):
        pretrain("rotnet", Listed(photos), photos, **few)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"method": "simclr"}, "choose rotnet or dino"),
        ({"network": "vit-mini"}, "vit-mini is for dino"),
        ({"recolor": False}, "rotnet changes no colours"),
        ({"network": "vit"}, "network='vit' is not known; choose one of resnet18"),
        ({"epochs": 0}, "epochs=0 cannot be done"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0 cannot be done"),
        ({"learning_rate": float("nan")}, "learning_rate=nan cannot be done"),
        ({"precision": "16-mixed"}, "needs a CUDA GPU"),
        ({"precision": "8"}, "precision='8' is not known"),
        ({"labels": lambda keys: ["one"] * len(keys)}, "takes 2 classes"),
    ],
)
def test_what_is_refused(photos, tmp_path, arguments, says):
    few = {"method": "rotnet", **SMALL, "epochs": 1, **arguments}
    with pytest.raises(ImageherdError, match=says):
        pretrain(few.pop("method"), Listed(photos), tmp_path / "a", **few)


def test_too_few_images(tmp_path):
    Image.new("RGB", (12, 12)).save(tmp_path / "one.png")
    with pytest.raises(ImageherdError, match="1 images are too few"):
        pretrain("dino", Listed(tmp_path), tmp_path / "net", **SMALL)


@pytest.mark.parametrize(
    ("damage", "says"),
    [("format", "newer imageherd"), ("sha256", "does not belong"), ("network", "not hold a whole")],
)
def test_a_damaged_result_is_refused(photos, tmp_path, damage, says):
    pretrain("rotnet", Listed(photos), tmp_path / "a", **{**SMALL, "epochs": 1})
    path = tmp_path / "a" / "config.json"
    config = json.loads(path.read_text())
    config[damage] = {"format": 9, "sha256": "0", "network": {"family": "lenet"}}[damage]
    path.write_text(json.dumps(config))
    with pytest.raises(ImageherdError, match=says):
        load_backbone(str(tmp_path / "a"), device="cpu")
