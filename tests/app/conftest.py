"""A herd of 24 small pictures in four clusters, made once and copied for every test; the API."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from imageherd.app.server import create_app
from imageherd.herd import Herd

TOKEN = "a-token-for-tests"
COLOURS = ((220, 30, 30), (30, 200, 40), (40, 60, 220), (230, 210, 40))


def draw_pictures(folder: Path, n: int = 24) -> None:
    """JPEGs of 64 x 48 pixels in four colours that take turns, in two folders."""
    random = np.random.default_rng(0)
    for i in range(n):
        pixels = np.array(COLOURS[i % 4]) + random.normal(0, 12, (48, 64, 3))
        path = folder / ("left" if i % 2 else "right") / f"{i:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("app")
    draw_pictures(folder / "photos")
    herd = Herd(folder / "photos.herd")
    herd.embed(folder / "photos")
    herd.cluster("kmeans", 4)
    herd.cluster("kmeans", 2, name="coarse")
    return herd.path


@pytest.fixture
def herd(template, tmp_path) -> Herd:
    return Herd(shutil.copytree(template, tmp_path / "photos.herd"))


@pytest.fixture
def client(herd) -> TestClient:
    """Asks the application with the token; its errors are raised here."""
    app = create_app(herd.path, TOKEN, author="Ann")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return TestClient(app, base_url="http://127.0.0.1", headers=headers)
