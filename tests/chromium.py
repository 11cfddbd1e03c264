"""The browser that tests look through: Chromium, and the program that drives it."""

import shutil

import pytest

INSTALL = "`make browser` as root, or `apt-get install chromium chromium-driver`, installs it"


def chromium() -> str:
    """Path of the browser; fails where there is none."""
    return _found("chromium", "chromium-browser", "google-chrome")


def chromedriver() -> str:
    """Path of the program that drives it."""
    return _found("chromedriver")


def _found(*names: str) -> str:
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.fail(f"Pages are tested in a browser, and {names[0]} is missing: {INSTALL}.")
    return path
