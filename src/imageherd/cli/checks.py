"""Checks of what was typed, made before anything slow begins; each says what would be right."""

from __future__ import annotations

import ast
import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from imageherd.cli.screen import shown
from imageherd.errors import ImageherdError
from imageherd.project import is_herd

DEVICES = ("auto", "cpu", "cuda", "mps")


def one_of(option: str, value: str, allowed: Iterable[str]) -> str:
    """Return `value` if it is among `allowed`, else say which are and which one is closest."""
    choices = list(allowed)
    if value in choices:
        return value
    close = difflib.get_close_matches(value.lower(), choices, n=1, cutoff=0.5)
    meant = f" Did you mean {close[0]}?" if close else ""
    raise ImageherdError(
        f"{option} {value} is not known.{meant} Choose from: {', '.join(choices)}."
    )


def device_name(value: str) -> str:
    """Return the device's name if it is one, whether this machine has it or not."""
    kind, _, index = value.partition(":")
    if kind == "cuda" and index.isdecimal():
        return value
    return one_of("--device", value, DEVICES)


def cluster_count(value: str) -> int | str:
    """Read --n-clusters: "auto" or an integer of at least 2."""
    if value == "auto":
        return value
    try:
        count = int(value)
    except ValueError:
        count = 0
    if count < 2:
        raise ImageherdError(
            f"--n-clusters {value} cannot be done; give auto or a whole number of at least 2."
        )
    return count


def fits(n_clusters: int | str, n_images: int) -> None:
    """Refuse more clusters than there are images, and clustering where there is next to none."""
    if n_images < 3:
        raise ImageherdError(f"Clustering needs at least 3 readable images; there are {n_images}.")
    if isinstance(n_clusters, int) and n_clusters > n_images:
        raise ImageherdError(
            f"--n-clusters {n_clusters} is more than the {n_images:,} images there are; "
            "give fewer, or auto."
        )


def parameters(method: str, pairs: list[str]) -> dict[str, Any]:
    """Read --param key=value, each value as a Python literal or else as text.

    Raises
    ------
    ImageherdError
        If there is no "=", or the head has no such parameter.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ImageherdError(f"--param {pair} is not key=value, such as --param epochs=50.")
        found[key.strip().replace("-", "_")] = _literal(text.strip())
    if found:
        _check_known(method, found)
    return found


def _literal(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _check_known(method: str, found: dict[str, Any]) -> None:
    from imageherd.heads import HEADS

    options = {"n_clusters": "--n-clusters", "random_state": "--seed", "device": "--device"}
    known = {k: v for k, v in HEADS[method]().get_params().items() if k not in options}
    for key in found:
        if key in options:
            raise ImageherdError(f"{key} has an option of its own: {options[key]}.")
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            meant = f" Did you mean {close[0]}?" if close else ""
            listed = ", ".join(f"{name}={default!r}" for name, default in known.items())
            raise ImageherdError(
                f"{method} has no parameter {key}.{meant} It has, with these defaults: {listed}."
            )


def photos_folder(path: Path) -> Path:
    """Return `path` if it is a folder that may hold images, else say why not."""
    if not path.exists():
        raise ImageherdError(f"{shown(path)} does not exist; give the folder your images are in.")
    if not path.is_dir():
        raise ImageherdError(
            f"{shown(path)} is a file; give the folder it is in: {shown(path.parent)}"
        )
    if is_herd(path):
        raise ImageherdError(
            f"{shown(path)} is a herd, not a folder of images. To cluster it anew: "
            f"imageherd cluster {shown(path)}"
        )
    if not os.access(path, os.R_OK | os.X_OK):
        raise ImageherdError(f"{shown(path)} may not be read: permission denied.")
    return path


def existing_herd(path: Path) -> Path:
    """Return `path` if it is a herd, else say what it is and what to do."""
    if is_herd(path):
        return path
    beside = default_herd(path)
    if path.suffix != ".herd" and is_herd(beside):
        raise ImageherdError(f"{shown(path)} is not a herd. Did you mean {shown(beside)}?")
    if path.is_dir():
        raise ImageherdError(
            f"{shown(path)} is not a herd. If it is a folder of images, sort it first: "
            f"imageherd sort {shown(path)}"
        )
    what = "is a file, not a herd" if path.exists() else "does not exist"
    raise ImageherdError(f"{shown(path)} {what}. To make a herd: imageherd sort PHOTOS")


def default_herd(photos: Path) -> Path:
    """Return where the herd of a folder is kept by default: ``<its name>.herd``, here."""
    return Path(f"{photos.resolve().name or 'images'}.herd")


def new_or_own_herd(herd: Path | None, photos: Path, moved_from: Path | None = None) -> Path:
    """Return where to keep the herd of `photos`, refusing to mix it with something else."""
    path = herd or default_herd(moved_from or photos)
    if moved_from is not None and not is_herd(path):
        raise ImageherdError(
            f"{shown(path)} is not a herd, so nothing in it has moved from {shown(moved_from)}; "
            "say which herd with --herd."
        )
    if path.is_dir() and not is_herd(path) and not _is_unborn(path):
        raise ImageherdError(
            f"{shown(path)} exists and is not a herd; name another folder with --herd."
        )
    if path.exists() and not path.is_dir():
        raise ImageherdError(f"{shown(path)} is a file; name another place with --herd.")
    if herd is None and is_herd(path):
        from imageherd.images.folder import FolderSource
        from imageherd.project import read_project

        sources = read_project(path)["sources"]
        if sources and moved_from is None and FolderSource(photos).uri not in sources:
            there = ", ".join(uri.partition(":")[2] for uri in sources)
            gone = [s.root for s in map(FolderSource.from_uri, sources) if not s.root.is_dir()]
            moved = f" If they are the same, moved: --moved-from {shown(gone[0])}" if gone else ""
            raise ImageherdError(
                f"{shown(path)} holds the images of another folder ({there}). To add these to it "
                f"say --herd {shown(path)}; to keep them apart name another.{moved}"
            )
    return path


def _is_unborn(path: Path) -> bool:
    """Whether a folder is empty but for the lock: a herd that was stopped before it began."""
    return all(entry.name == ".lock" for entry in path.iterdir())
