import os

import pytest

from feature_fakes import World


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    # fsync guards against a power cut, which no test makes; here it only takes time.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "world")
