"""`imageherd serve` as a process, and the browser that looks at it."""

import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from using import PATIENCE

from chromium import chromedriver, chromium

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
        end = time.monotonic() + 2 * PATIENCE
        while not self._answers():
            if not self.alive or time.monotonic() > end:
                self.kill()
                raise AssertionError(f"imageherd serve did not start:\n{self.log.read_text()}")
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


def started_browser(profile: Path) -> Chrome:
    """A browser with an empty profile and its console kept."""
    options = ChromeOptions()
    options.binary_location = chromium()
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return Chrome(options, ChromeService(chromedriver()))
