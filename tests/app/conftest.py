"""A herd of 24 small pictures in four clusters, made once and copied for every test; the API."""

import shutil
from pathlib import Path

import pytest
from app_herds import TOKEN, draw_pictures
from starlette.testclient import TestClient

from imageherd.app.server import create_app
from imageherd.herd import Herd


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
def client_of():
    """Return what asks the application of a herd, with the token; its errors are raised here."""

    def made(herd: Herd) -> TestClient:
        app = create_app(herd.path, TOKEN, author="Ann")
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return TestClient(app, base_url="http://127.0.0.1", headers=headers)

    return made


@pytest.fixture
def client(herd, client_of) -> TestClient:
    return client_of(herd)
