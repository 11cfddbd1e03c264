"""The page of `imageherd serve` in a real browser, over a herd of the example photographs."""

import re
from pathlib import Path

import pytest
from serving import CLOTHING, Server, started_browser
from using import Page

from imageherd.herd import Herd


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One for all tests, on a herd of the 400 photographs."""
    folder = tmp_path_factory.mktemp("served")
    herd = Herd(folder / "clothing.herd")
    herd.embed(CLOTHING)
    herd.cluster("kmeans", 6, name="six", random_state=1)
    server = Server(herd.path, folder / "serve.log")
    yield server
    server.kill()


@pytest.fixture
def clustering(server, request) -> str:
    """Name of a clustering of its own for every test, to edit, in eight clusters."""
    name = re.sub(r"\W+", "-", request.node.name.removeprefix("test_"))[:40].strip("-")
    Herd(server.herd).cluster("kmeans", 8, name=name)
    return name


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """The browser, one for all tests."""
    driver = started_browser(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture
def stored(driver, tmp_path) -> Path:
    """The folder that the browser stores files in."""
    folder = tmp_path / "stored"
    folder.mkdir()
    how = {"behavior": "allow", "downloadPath": str(folder)}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", how)
    return folder


@pytest.fixture
def page(driver, server, clustering):
    """The page in a fresh tab; in the end the console must be without an error."""
    first = driver.current_window_handle
    driver.switch_to.new_window("tab")
    driver.get_log("browser")
    page = Page(driver, server.link, clustering)
    page.sized(1440, 900)
    # One test's theme is not the next one's.
    origin = {"origin": page.link.partition("/?")[0], "storageTypes": "local_storage"}
    driver.execute_cdp_cmd("Storage.clearDataForOrigin", origin)
    page.open()
    yield page
    errors = page.errors()
    for handle in driver.window_handles:
        if handle != first:
            driver.switch_to.window(handle)
            driver.close()
    driver.switch_to.window(first)
    driver.delete_all_cookies()
    if not server.alive:
        server.start()
    assert errors == []
