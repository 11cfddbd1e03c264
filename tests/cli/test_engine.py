"""Options that say what embeds."""

import sys

import pytest

from imageherd.features import ray_cluster
from imageherd.features.ray_engine import RayEngine

REQUIRE_RAY = ray_cluster.require_ray


@pytest.fixture(autouse=True)
def _ray_is_there(monkeypatch):
    # Its import takes a second, and whether it is installed is a test of its own.
    monkeypatch.setattr(ray_cluster, "require_ray", lambda: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_embed_and_assign_take_ray(run, made, photos):
    result = run("embed", photos, "--engine", "ray", "--address", "head:6379", "--actors", 3)
    assert result.exit_code == 0, result.output
    assert made.calls[-1][2]["engine"] == RayEngine("head:6379", 3)
    # What this machine would take says nothing of a cluster.
    assert [verb for verb, *_ in made.calls] == ["embed"]
    result = run("assign", made.path, photos, "--engine", "ray", "--device", "cuda")
    assert result.exit_code == 0, result.output
    assert made.calls[-1][2] == {
        **{"name": "default", "reject": 0.01, "device": "cuda", "workers": None},
        "engine": RayEngine(),
    }


def test_the_cluster_is_the_one_of_the_environment(run, herd, photos, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    run("embed", photos, "--engine", "ray")
    assert herd.calls[-1][2]["engine"] == RayEngine("10.0.0.1:6379")
    run("embed", photos)
    assert herd.calls[-1][2]["engine"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "spark"], "--engine spark is not known; choose local or ray."),
        (["--address", "auto"], "--address goes with --engine ray; add it, or leave it out."),
        (["--actors", "2"], "--actors goes with --engine ray; add it, or leave it out."),
    ],
)
def test_options_that_do_not_go_together(run, herd, photos, options, message):
    result = run("embed", photos, *options)
    assert (result.exit_code, result.stderr.strip()) == (2, f"Error: {message}")
    assert herd.calls == []


def test_a_missing_extra_is_named(run, herd, photos, monkeypatch):
    monkeypatch.setattr(ray_cluster, "require_ray", REQUIRE_RAY)
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run("embed", photos, "--engine", "ray")
    assert result.exit_code == 2
    assert 'pip install "imageherd[ray]"' in result.stderr
