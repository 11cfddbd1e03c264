"""The page of `imageherd serve` in a real browser, over a herd of the example photographs."""

import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from using import PATIENCE, Page

from chromium import chromedriver, chromium
from imageherd.herd import Herd

CLOTHING = Path(__file__).parents[2] / "examples" / "clothing"
TOKEN = "a-token-for-tests-that-is-long-enough"

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # The map is drawn with WebGL, here by the processor.
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
)


class Server:
    """`imageherd serve` as a process of its own, on a port that stays the same after a restart."""

    def __init__(self, herd: Path, log: Path) -> None:
        self.herd, self.log = herd, log
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.link = f"http://127.0.0.1:{self.port}/?token={TOKEN}"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [sys.executable, "-m", "imageherd", "serve", str(self.herd)]
        how = ["--port", str(self.port), "--token", TOKEN, "--no-browser"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([*command, *how], stdout=log, stderr=log)
        end = time.monotonic() + PATIENCE
        while not self._answers():
            if not self.alive or time.monotonic() > end:
                pytest.fail(f"imageherd serve did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        asked = Request(
            f"http://127.0.0.1:{self.port}/api/herd", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        try:
            with urlopen(asked, timeout=PATIENCE):
                return True
        except URLError:
            return False


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
    options = ChromeOptions()
    options.binary_location = chromium()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, ChromeService(chromedriver()))
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
    driver.set_window_size(1440, 900)
    page = Page(driver, server.link, clustering)
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
