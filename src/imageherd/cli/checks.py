"""Checks of what was typed, made before anything slow begins; each says what would be right."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imageherd.cli.screen import Screen, counted, shown
from imageherd.errors import ImageherdError
from imageherd.project import is_half_pulled, is_herd, read_project

if TYPE_CHECKING:
    from imageherd.features.listing import Listed

DEVICES = ("auto", "cpu", "cuda", "mps")
NEIGHBORS = ("auto", "exact", "approx")

_BRACES = re.compile(r"\{[^}]*\}")
_ENDINGS = re.compile(
    r"\.(tar|tar\.(gz|bz2|xz)|t[gbx]z|tbz2|zip|parquet|pq|arrow|feather|csv|tsv|npy|npz|txt)$",
    re.IGNORECASE,
)


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


def source(given: str, image_column: str | None = None) -> Listed:
    """Open what images are to be taken from; if it is a herd, say what to do with that."""
    path = Path(given)
    if is_herd(path):
        raise ImageherdError(
            f"{shown(given)} is a herd, not a folder of images. To cluster it anew: "
            f"imageherd cluster {shown(given)}"
        )
    from imageherd.features.listing import Listed
    from imageherd.images.source import open_source

    return Listed(open_source(given, image_column=image_column))


def only_images(given: str, found: Listed) -> None:
    """Refuse vectors and texts where a network is to be trained on images."""
    from imageherd.sources import noun_of

    if (noun := noun_of([found.uri])) != "image":
        raise ImageherdError(
            f"{shown(given)} holds {noun}s, and a network is trained on images. To cluster it: "
            f"imageherd sort {shown(given)}"
        )


def say_source(screen: Screen, given: str, found: Listed) -> int:
    """Say in one line what the source was taken for; returns how many images it seems to hold."""
    entries = found.scan()
    n_bad = sum(1 for entry in entries if entry.reason)
    if len(entries) == n_bad:
        raise ImageherdError(
            f"{shown(given)} holds no image that can be read, only {counted(n_bad, 'file')} that "
            f"cannot, such as {found.shown(entries[0].key)}: {entries[0].reason}."
        )
    from imageherd.sources import noun_of

    readable, noun = len(entries) - n_bad, noun_of([found.uri])
    bad = "file" if noun == "image" else noun
    besides = f", and {counted(n_bad, bad)} that cannot be read" if n_bad else ""
    screen.remark(f"{counted(readable, noun)} in {shown(given)}, {found.description}{besides}.")
    return readable


def existing_herd(path: Path) -> Path:
    """Return `path` if it is a herd, else say what it is and what to do."""
    if is_herd(path):
        return path
    if is_half_pulled(path):
        read_project(path)
    beside = default_herd(path)
    if path.suffix != ".herd" and is_herd(beside):
        raise ImageherdError(f"{shown(path)} is not a herd. Did you mean {shown(beside)}?")
    if path.is_dir():
        raise ImageherdError(
            f"{shown(path)} is not a herd. If it is a folder of images, sort it first: "
            f"imageherd sort {shown(path)}"
        )
    # As a path, s3://bucket/photos.herd has one slash less.
    if not path.exists() and (url := re.fullmatch(r"([a-z][a-z0-9+.-]+):/+(.+)", path.as_posix())):
        raise ImageherdError(
            f"{shown(path)} is no folder of this machine; fetch it first: "
            f"imageherd pull {url[1]}://{shown(url[2])}"
        )
    what = "is a file, not a herd" if path.exists() else "does not exist"
    raise ImageherdError(f"{shown(path)} {what}. To make a herd: imageherd sort PHOTOS")


def default_herd(given: str | Path) -> Path:
    """Return where the herd of a source is kept by default: ``<its name>.herd``, here.

    The name of a folder as it is; that of a file, there or gone, without the endings of archives
    and tables and without what stands in braces.
    """
    path = Path(given)
    name = path.resolve().name
    if not path.is_dir():
        name = _ENDINGS.sub("", _BRACES.sub("", name)).rstrip("-_. ")
    return Path(f"{name or 'images'}.herd")


def new_or_own_herd(
    herd: Path | None, given: str, found: Listed, moved_from: Path | None = None
) -> Path:
    """Return where to keep the herd of a source, refusing to mix it with something else."""
    path = herd or default_herd(moved_from or given)
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
    if herd is None and moved_from is None and is_herd(path):
        _refuse_another_source(path, found)
    return path


def _refuse_another_source(herd: Path, found: Listed) -> None:
    from imageherd.images.source import shown_uri
    from imageherd.sources import sources_of

    sources = sources_of(herd)
    if not sources or found.uri in [source.uri for source in sources]:
        return
    there = ", ".join(shown_uri(source.uri) for source in sources)
    gone = [shown_uri(source.uri) for source in sources if not source.is_there()]
    moved = f" If they are the same, moved: --moved-from {gone[0]}" if gone else ""
    raise ImageherdError(
        f"{shown(herd)} holds the images of another source ({there}). To add these to it say "
        f"--herd {shown(herd)}; to keep them apart name another.{moved}"
    )


def _is_unborn(path: Path) -> bool:
    """Whether a folder is empty but for the lock: a herd that was stopped before it began."""
    return all(entry.name == ".lock" for entry in path.iterdir())
