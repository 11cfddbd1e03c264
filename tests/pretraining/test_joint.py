import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from tests.reference import temi as reference
from typer.testing import CliRunner

from imageherd.cli import app
from imageherd.errors import ImageherdError
from imageherd.heads import loop
from imageherd.heads.base import CollapseWarning
from imageherd.heads.loop import Run
from imageherd.heads.temi import TEMI
from imageherd.herd import Herd
from imageherd.pretraining import joint
from imageherd.pretraining.data import pixels_of_array
from imageherd.pretraining.joint_run import unfreeze
from imageherd.pretraining.networks import make_network
from imageherd.pretraining.saving import load_network, save_network
from imageherd.versions import versions_of

QUICK = {"epochs": 1, "min_steps": 10, "n_heads": 2, "device": "cpu"}


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        yield


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A folder of 30 images in three colours, an untrained network, and TEMI on its features."""
    home = tmp_path_factory.mktemp("joint")
    draws = np.random.default_rng(0)
    images = draws.integers(0, 80, (30, 12, 12, 3)).astype(np.uint8)
    images[np.arange(30), ..., np.arange(30) % 3] += 150
    (home / "photos").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(home / "photos" / f"{i:02}.png")
    network = make_network("resnet18-narrow", 12)
    facts = {"method": "rotnet", "settings": {}, "history": []}
    save_network(home / "start", network, pixels_of_array(images).preprocessing, facts)
    herd = Herd(home / "photos.herd")
    herd.embed(home / "photos", backbone=str(home / "start"), device="cpu")
    herd.cluster("temi", 3, **QUICK)
    return home


@pytest.fixture
def herd(template, tmp_path):
    return Herd(shutil.copytree(template / "photos.herd", tmp_path / "photos.herd"))


def test_the_result_is_a_network_and_a_version(template, herd, tmp_path):
    before = herd.clustering()
    found = unfreeze(herd, before, tmp_path / "joint", epochs=2, device="cpu")
    assert found.version == "v0002"
    assert found.config["joint"]["epochs"] == 2
    assert found.config["features"] == herd.features().key != before.config["features"]
    assert sorted(p.name for p in (tmp_path / "joint").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    old, new = (load_network(folder)[0] for folder in (template / "start", tmp_path / "joint"))
    pairs = zip(old.parameters(), new.parameters(), strict=True)
    assert all(not torch.equal(a, b) for a, b in pairs)
    # What is kept is what network and head say.
    again = herd.clustering()
    np.testing.assert_array_equal(again.uids, found.uids)
    more = shutil.copytree(template / "photos", tmp_path / "more")
    placed = herd.assign(more, device="cpu", reject=0).clustering
    np.testing.assert_array_equal(placed.uids[30:], found.uids)
    # The history goes on from the head's.
    epochs = [entry["epoch"] for entry in load_history(herd, found)]
    assert epochs == list(range(1, len(epochs) + 1))


def load_history(herd, clustering):
    return versions_of(herd.path, clustering.name).head(clustering.version).history_


class KilledError(Exception):
    pass


def test_killed_and_run_again_it_ends_with_the_same_bytes(herd, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    before = herd.clustering()
    unfreeze(herd, before, tmp_path / "whole", epochs=3, device="cpu")
    save, saved = loop.save_checkpoint, []

    def kill(*arguments):
        save(*arguments)
        saved.append(arguments)
        if len(saved) == 2:
            raise KilledError

    monkeypatch.setattr(loop, "save_checkpoint", kill)
    with pytest.raises(KilledError):
        unfreeze(herd, before, tmp_path / "killed", epochs=3, device="cpu")
    assert not (tmp_path / "killed" / "config.json").exists()
    unfreeze(herd, before, tmp_path / "killed", epochs=3, device="cpu")
    assert len(saved) == 3
    networks = [(tmp_path / name / "model.safetensors") for name in ("whole", "killed")]
    assert networks[0].read_bytes() == networks[1].read_bytes()


def test_what_cannot_be_done_is_told(template, herd, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(ImageherdError, match="is there already"):
        unfreeze(herd, herd.clustering(), tmp_path / "taken", device="cpu")
    by_kmeans = herd.cluster("kmeans", 3, name="km")
    with pytest.raises(ImageherdError, match="'km' is by kmeans"):
        unfreeze(herd, by_kmeans, tmp_path / "new", device="cpu")
    herd.embed(template / "photos", device="cpu")
    on_another = herd.cluster("temi", 3, name="other", **QUICK)
    with pytest.raises(ImageherdError, match="efficientnet-lite0 is no network of yours"):
        unfreeze(herd, on_another, tmp_path / "new", device="cpu")


def test_the_first_steps_loss_against_float64(template, monkeypatch):
    network, _ = load_network(template / "start")
    pixels = pixels_of_array(np.random.default_rng(0).integers(0, 256, (32, 12, 12)).astype("u1"))
    X = np.random.default_rng(1).normal(size=(40, network.dim)).astype(np.float32)
    head = TEMI(3, random_state=0, **QUICK).fit(X)
    seen = []

    def spy(*arguments):
        # As they are now: the prior is moved in place.
        seen.append([value.detach().clone() for value in arguments[:4]])
        seen[-1].append(joint_losses(*arguments).detach())
        return joint_losses(*arguments)

    joint_losses = joint.pmi_losses
    monkeypatch.setattr(joint, "pmi_losses", spy)
    monkeypatch.setattr(joint, "BATCH_SIZE", 8)
    neighbors = torch.arange(32).roll(4)[:, None]
    joint.train_jointly(pixels, network, head, neighbors, Run(0, torch.device("cpu")), epochs=1)
    assert len(seen) == 4
    log_qs, log_qt, prior, weight, loss = (value.double().numpy() for value in seen[0])
    # Student and teacher begin alike; images are those of the batch, then their neighbours.
    np.testing.assert_allclose(log_qs, log_qt, atol=1e-6)
    q = np.exp(log_qt[0])
    expected = reference.prior(np.full(3, 1 / 3), q)
    np.testing.assert_allclose(prior[0], expected, rtol=1e-5)
    np.testing.assert_allclose(weight[0], (q[:8] * q[8:]).sum(1), rtol=1e-5)
    both = q.reshape(1, 2, 8, 3)
    found = reference.losses("wpmi", both, both, expected[None], head.beta, head.balance)
    np.testing.assert_allclose(loss, found, rtol=1e-4)
    # Afterwards they are not: the student has moved.
    assert (seen[1][0] - seen[1][1]).abs().max().item() > 1e-4


def test_the_command_line(template, herd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = ["cluster", str(herd.path), "--n-clusters", "3", "--json"]
    quick = [*made, "--param", "n_heads=2", "--param", "min_steps=10", "--param", "epochs=1"]
    result = CliRunner().invoke(app, [*quick, "--method", "temi", "--unfreeze", "./joint"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["clustering"]["version"] == "v0003"
    begun = load_network(template / "start")[1]["sha256"]
    assert herd.clustering().config["joint"]["start"] == begun
    for wrong, told in (
        (["--method", "temi", "--unfreeze", "./joint"], "is there already"),
        (["--method", "tsp", "--unfreeze", "./new"], "--unfreeze is for --method temi"),
    ):
        result = CliRunner().invoke(app, [*made, *wrong])
        assert result.exit_code == 2
        assert told in json.loads(result.stdout)["error"]
    # Nothing was clustered for nothing.
    assert herd.clustering().version == "v0003"
