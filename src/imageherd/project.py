"""``herd.json`` — what a herd is made from — and the lock that keeps a second writer out."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import filelock

from imageherd.errors import ImageherdError
from imageherd.features.store import read_manifest
from imageherd.files import read_json, write_json

_log = logging.getLogger(__name__)

FORMAT = 1
FILE = "herd.json"
REMOTES = "remotes.json"
"""Where a herd was pushed to or pulled from; without `FILE` beside it, it is half pulled."""
PACKAGES = (
    *("imageherd", "numpy", "onnxruntime", "onnxruntime-gpu"),
    *("scikit-learn", "torch", "transformers"),
)


def read_project(herd: Path) -> dict[str, Any]:
    """Return the contents of ``herd.json``.

    Its fields: format, created, versions (of the packages), sources, features (the key of the set
    in use), backbones (the name of each key's backbone).

    Raises
    ------
    ImageherdError
        If the folder holds no herd, a damaged one, or one in a newer format.
    """
    file = herd / FILE
    if is_half_pulled(herd):
        raise ImageherdError(f"{herd} is half pulled; run the same `imageherd pull` again.")
    if not is_herd(herd):
        there = "is not a herd" if herd.exists() else "does not exist"
        raise ImageherdError(
            f"{herd} {there}; make a herd of your photos with `imageherd sort PHOTOS`."
        )
    try:
        project: dict[str, Any] = read_json(file)
        newer = project["format"] > FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise ImageherdError(f"{file} is damaged ({error}); restore it or start anew.") from error
    if newer:
        raise ImageherdError(
            f"{herd} was written by a newer imageherd (format {project['format']}, this one reads "
            f"up to {FORMAT}); update imageherd to read it."
        )
    return project


def is_herd(folder: Path) -> bool:
    """Whether the folder holds a herd."""
    return (folder / FILE).is_file()


def is_half_pulled(folder: Path) -> bool:
    """Whether the folder holds what is to become a herd, once it is pulled whole."""
    return (folder / REMOTES).is_file() and not is_herd(folder)


def register_source(herd: Path, uri: str) -> int:
    """Return the index of a source, adding it, and the herd itself, if they are new."""
    known = is_herd(herd) or is_half_pulled(herd)
    project = read_project(herd) if known else _new_project()
    if uri not in project["sources"]:
        project["sources"].append(uri)
        write_json(herd / FILE, project)
    return int(project["sources"].index(uri))


def set_features(herd: Path, key: str, backbone: str) -> None:
    """Record the feature set used unless another is asked for, and which backbone gives it."""
    project = read_project(herd)
    backbones = {**project["backbones"], key: backbone}
    if project["features"] != key or project["backbones"] != backbones:
        write_json(herd / FILE, {**project, "features": key, "backbones": backbones})


@contextmanager
def another_feature_set(herd: Path, key: str, clustering: str) -> Iterator[dict[str, Any]]:
    """Let images be embedded for `clustering`, which was made on features `key`.

    Gives the name of the backbone to do it with and the dtype to keep them in, as `Herd.embed`
    takes them. Which features the herd uses stays as it was: placing images is no reason to change
    it.

    Raises
    ------
    ImageherdError
        If that backbone gave features of another key.
    """
    before = read_project(herd)
    backbone = before["backbones"][key]
    yield {"backbone": backbone, "dtype": read_manifest(herd / "features" / key)["dtype"]}
    now = read_project(herd)["features"]
    with locked(herd):
        set_features(herd, before["features"], before["backbones"][before["features"]])
    if now != key:
        raise ImageherdError(
            f"Clustering {clustering!r} was made on features {key}, but backbone {backbone!r} now "
            f"gives {now}; run `imageherd cluster` to make it anew."
        )


@contextmanager
def locked(herd: Path) -> Iterator[None]:
    """Hold the herd's lock; a thread that has it may take it again.

    Raises
    ------
    ImageherdError
        If another process holds it, or the herd cannot be written.
    """
    try:
        herd.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(herd / ".lock", timeout=0, is_singleton=True)
        lock.acquire()
    except PermissionError as error:
        raise ImageherdError(
            f"{herd} cannot be written; change its permissions, or copy it to a folder of yours."
        ) from error
    except filelock.Timeout as error:
        raise ImageherdError(
            f"Another imageherd is writing {herd}; wait for it to finish."
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise ImageherdError(f"{herd} is a file; a herd is a folder: name another.") from error
    try:
        yield
    finally:
        lock.release()


def keep(herd: Path, write: Callable[[], object]) -> None:
    """Write what can be computed again, unless the herd is read-only or in another's hands."""
    try:
        with locked(herd):
            write()
    except (ImageherdError, OSError) as error:
        _log.info("not kept in %s: %s", herd, error)


def _new_project() -> dict[str, Any]:
    return {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | _versions(),
        "sources": [],
        "features": None,
        "backbones": {},
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            # One may stand in for another: onnxruntime-gpu for onnxruntime.
            continue
    return found
