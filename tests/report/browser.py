"""A real browser's view of a report, and the check that it is neither blank nor broken."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from chromium import chromium


@dataclass
class Look:
    path: Path
    fragment: str
    dom: str
    console: list[str]

    @cached_property
    def pixels(self):
        return pixels_of(self.path, self.fragment)


def _run(*arguments):
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        return subprocess.run(
            [
                *(chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *("--enable-logging=stderr", "--virtual-time-budget=6000", "--no-first-run"),
                *(f"--user-data-dir={profile}", "--disable-dev-shm-usage", *arguments),
            ],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
            check=True,
        )


def dom_of(path, fragment="", size=(1400, 1800)):
    """Return the page's elements after its scripts have run, and what the console said."""
    window = f"--window-size={size[0]},{size[1]}"
    run = _run("--dump-dom", window, f"{Path(path).as_uri()}{fragment}")
    return run.stdout, [line for line in run.stderr.splitlines() if "CONSOLE" in line]


def pixels_of(path, fragment="", size=(1400, 1800)):
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder, "shot.png")
        _run(
            f"--screenshot={shot}",
            f"--window-size={size[0]},{size[1]}",
            f"{Path(path).as_uri()}{fragment}",
        )
        with Image.open(shot) as image:
            return np.asarray(image.convert("RGB"))


def look_at(path, fragment="#light"):
    return Look(path, fragment, *dom_of(path, fragment))


def share_near(pixels, colour):
    """Return the share of pixels within 40 of a colour, channel by channel averaged."""
    return float((np.abs(pixels.astype(int) - colour).mean(axis=-1) < 40).mean())


def attribute(dom, name):
    found = re.search(rf'\b{name}="([^"]*)"', dom)
    return found.group(1) if found else None


def check_page(look, *, n_cards, colours, points=None):
    """Raise AssertionError if the report is blank, broken or lacks its photographs or its map."""
    assert look.console == [], look.console
    assert attribute(look.dom, "data-ready") == "true"
    assert look.dom.count('<article class="card"') == n_cards
    sources = re.findall(r'<img[^>]* src="([^"]{0,40})', look.dom)
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    if points is not None:
        assert attribute(look.dom, "data-points-drawn") == str(points)
    assert len(np.unique(look.pixels @ np.array([1 << 16, 1 << 8, 1]))) > 2_000
    for colour in colours:
        assert share_near(look.pixels, colour) > 0.01, f"no photograph of colour {colour}"
