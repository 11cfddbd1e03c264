"""The papers' settings, by method and name."""

from __future__ import annotations

import difflib
import sys
from typing import Any

from imageherd.errors import ImageherdError
from imageherd.heads import HEADS


def presets(method: str) -> dict[str, dict[str, Any]]:
    """Return the presets that the method's module defines, empty if none."""
    module = sys.modules[HEADS[method].__module__]
    found: dict[str, dict[str, Any]] = getattr(module, "PRESETS", {})
    return found


def preset(method: str, name: str) -> dict[str, Any]:
    """Return the parameters of a method's preset.

    Raises
    ------
    ImageherdError
        If the method has no preset of that name.
    """
    known = presets(method)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        meant = f" Did you mean {close[0]}?" if close else ""
        listed = f"it has {', '.join(known)}" if known else "it has none"
        raise ImageherdError(f"{method} has no preset {name}.{meant} ({listed})")
    return dict(known[name])
