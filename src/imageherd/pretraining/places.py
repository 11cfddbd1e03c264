"""Where the networks trained here are kept. Light: the command line asks before anything else."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from imageherd.errors import ImageherdError

WORK = "run"
"""Folder in the result's where an unfinished run keeps its images and its checkpoint."""

_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)


def networks_dir() -> Path:
    """Return where networks that have a name are kept; it need not exist.

    ``IMAGEHERD_NETWORKS`` names another folder.
    """
    if chosen := os.environ.get("IMAGEHERD_NETWORKS"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library/Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share")
    return base / "imageherd" / "networks"


def folder_of(out: str) -> Path:
    """Return the folder that a network's name or path stands for, whether or not it is there.

    What has a slash in it is a path, anything else a name.
    """
    return Path(out).expanduser() if _is_path(out) else networks_dir() / out


def check_name(out: str) -> None:
    """Refuse what is neither a path nor a name that a network can have.

    Raises
    ------
    ImageherdError
        If it is no name, or that of a backbone there is already.
    """
    from imageherd.backbones.bundled import BUNDLED_NAME
    from imageherd.backbones.presets import PRESETS

    if _is_path(out):
        return
    if not is_name(out):
        raise ImageherdError(
            f"{out!r} is no name for a network; use letters, digits, '-', '_' and '.', or give a "
            "path, such as ./my-dino."
        )
    if out in (BUNDLED_NAME, *PRESETS):
        raise ImageherdError(f"{out} is another backbone's name already; choose a new one.")


def is_name(text: str) -> bool:
    """Whether a network can be called so."""
    return _NAME.fullmatch(text) is not None


def is_first_process() -> bool:
    """Whether this is not one of the processes that Fabric starts for further devices."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _is_path(out: str) -> bool:
    return "/" in out or os.sep in out
