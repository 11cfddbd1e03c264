"""A herd of 48 photographs in four clusters, made once and copied for every test."""

import shutil
import signal
from pathlib import Path

import pytest

from imageherd.herd import Herd

# Started in the background, a shell's child ignores Ctrl-C and hands that on to the children whose
# answer to it is tested here.
signal.signal(signal.SIGINT, signal.default_int_handler)

EXAMPLES = Path(__file__).parents[1] / "examples" / "clothing"


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "clothes"
    for i, path in enumerate(sorted(EXAMPLES.glob("*.jpg"))[:48]):
        inside = folder / ("left" if i % 2 else "right")
        inside.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, inside / f"{i // 2}.jpg")
    (folder / "left" / "empty.jpg").touch()
    return folder


@pytest.fixture(scope="session")
def template(photos, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("herds") / "clothes.herd"
    herd = Herd(path)
    herd.embed(photos)
    herd.cluster("kmeans", 4)
    return path


@pytest.fixture
def herd(template, tmp_path) -> Herd:
    return Herd(shutil.copytree(template, tmp_path / "clothes.herd"))
