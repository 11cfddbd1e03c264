"""Empty stores, and a herd small enough to be pushed a hundred times."""

import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from rigid import Rigid

from imageherd.herd import Herd
from imageherd.remote import contents as contents_module


@pytest.fixture(autouse=True)
def _stores(monkeypatch):
    fsspec.register_implementation("rigid", Rigid, clobber=True)
    for cls in (Rigid, MemoryFileSystem):
        cls.store.clear()
        cls.pseudo_dirs[:] = [""]
    monkeypatch.setattr(contents_module, "_PAUSES", (0.0,))
    Rigid.left = Rigid.before_create = None


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A herd of 60 vectors in three clusters, one of them renamed."""
    folder = tmp_path_factory.mktemp("remote")
    rng = np.random.default_rng(0)
    X = (6 * np.eye(8)[np.arange(60) % 3] + rng.normal(size=(60, 8))).astype(np.float32)
    np.save(folder / "v.npy", X)
    np.save(folder / "w.npy", X[:9] + 0.1)
    herd = Herd(folder / "v.herd")
    herd.embed(folder / "v.npy")
    herd.cluster("kmeans", 3)
    herd.rename(herd.clustering().clusters[0].uid, "Größte")
    (herd.path / "checkpoints" / "run").write_text("of this machine")
    return herd.path


@pytest.fixture
def herd(made, tmp_path) -> Herd:
    return Herd(shutil.copytree(made, tmp_path / "mine.herd"))
