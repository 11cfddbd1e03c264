"""Where on this machine things are kept that can be made anew."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_dir() -> Path:
    """Return the user's cache folder for imageherd; it need not exist.

    ``IMAGEHERD_CACHE`` names another. Whatever lies there may be deleted at any time.
    """
    if chosen := os.environ.get("IMAGEHERD_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "imageherd"
