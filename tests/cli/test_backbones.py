"""The list of backbones, what is told of one, and how fast it is here."""

import json

import pytest

from imageherd.backbones import Preprocessing, speed
from imageherd.backbones.presets import PRESETS
from imageherd.pretraining.networks import make_network
from imageherd.pretraining.saving import save_network


@pytest.fixture(autouse=True)
def _nothing_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEHERD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("IMAGEHERD_NETWORKS", str(tmp_path / "networks"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_the_list_fits_a_terminal_and_says_what_is_here(run):
    result = run("backbones", "--quiet")
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    assert set(lines) == {"name", "efficientnet-lite0", *PRESETS}
    assert max(map(len, lines.values())) <= 80
    assert lines["efficientnet-lite0"].split()[1:] == ["1280", "224", "19", "yes", "apache-2.0"]
    assert lines["clip-vit-l14-336"].split()[1:5] == ["768", "336", "1,712", "no"]
    assert lines["dinov3-vitb16"].split()[4:] == ["ask", "dinov3-license"]


def test_one_is_told_with_its_sources(run):
    result = run("backbones", "dinov3-vits16", "facebook/dinov2-base-imagenet", "--json")
    assert result.exit_code == 2
    result = run("backbones", "dinov3-vits16", "facebook/dinov2-base")
    assert result.exit_code == 0
    dinov3, _, dinov2 = result.stdout.partition("dinov2-base\n")
    assert "access     must be granted at https://huggingface.co/facebook/dinov3-vits16-" in dinov3
    assert "to 256 (bicubic), the middle 224 of it; mean 0.485, 0.456, 0.406" in dinov2
    assert "facebook/dinov2-base/blob/main/preprocessor_config.json" in dinov2
    assert "768 numbers, output cls" in dinov2
    assert "access" not in dinov2


def test_networks_of_ones_own_are_listed(run, tmp_path):
    network = make_network("resnet18-narrow", 32)
    kind = Preprocessing(32, 32, "crop", "bicubic", (127.0,) * 3, (60.0,) * 3)
    save_network(tmp_path / "networks" / "holiday", network, kind, {"method": "rotnet"})
    line = next(x for x in run("backbones").stdout.splitlines() if x.startswith("holiday"))
    assert line.split()[1:] == ["128", "32", "3", "yes", "yours"]
    told = run("backbones", "holiday").stdout
    assert "made by rotnet: 128 numbers, input 32 x 32 pixels" in told


def test_json_has_every_fact(run):
    facts = json.loads(run("backbones", "--json").stdout)["backbones"]
    assert [fact["name"] for fact in facts[1:]] == list(PRESETS)
    assert all(fact["preprocessing"]["size"] == fact["size"] for fact in facts)
    assert all(fact["speed"] is None for fact in facts)
    assert {"repo", "family", "licence", "evidence", "config_url", "gated"} <= set(facts[1])


def test_what_is_measured_is_remembered(run, monkeypatch):
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    result = run("backbones", "--measure")
    assert result.exit_code == 0
    told = next(x for x in result.stdout.splitlines() if x.startswith("efficientnet-lite0 "))
    rate = float(told.split()[5].replace(",", ""))
    assert rate > 1
    again = json.loads(run("backbones", "efficientnet-lite0", "--json").stdout)["backbones"][0]
    assert again["speed"]["images_per_second"] == pytest.approx(rate, abs=0.5)
    assert again["speed"]["device"] == "auto"
    assert "images/s (--device auto, " in run("backbones", "efficientnet-lite0").stdout


def test_speeds_of_another_machine_and_a_damaged_file_do_not_count(run, monkeypatch):
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    speed.measure("efficientnet-lite0", device="cpu")
    assert speed.measured("efficientnet-lite0")["device"] == "cpu"
    monkeypatch.setattr(speed.platform, "node", lambda: "elsewhere")
    assert speed.measured("efficientnet-lite0") is None
    (speed.cache_dir() / "speed.json").write_text("[")
    assert run("backbones").exit_code == 0


def test_measuring_what_is_not_there_says_so(run):
    result = run("backbones", "--measure", "dinov2-smll", "--json")
    assert result.exit_code == 2
    assert "Did you mean dinov2-small?" in json.loads(result.stdout)["error"]
