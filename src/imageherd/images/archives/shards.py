"""The images of many tar shards, such as WebDataset writes, read where they lie."""

from __future__ import annotations

import itertools
import math
import os
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from imageherd.errors import ImageherdError
from imageherd.images.archives.archive import ArchiveSource
from imageherd.images.archives.packing import has_archive_name
from imageherd.images.archives.side_files import table_of
from imageherd.images.decode import UnreadableImageError
from imageherd.images.folder import reason_of_error
from imageherd.images.names import (
    EXTENSIONS,
    display_path,
    has_image_name,
    is_skipped,
)
from imageherd.images.source import Entry, Given
from imageherd.images.uris import parts_of, uri_of
from imageherd.progress import progress

_SCHEME = "shards"
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_ENDING = b".tar"
_MOST = 100_000


class ShardsSource:
    """The images of several archives as one source; the key is the archive's name, "/", its key.

    Parameters
    ----------
    given : str or Path
        A folder that holds tar archives (``*.tar``) and neither images nor folders, or a pattern of
        paths: ``train-{000000..000131}.tar``, ``{train,val}-{0..9}.tar``.
    must_exist : bool, default=True
        False puts the check off until `scan`.

    Attributes
    ----------
    root : Path
        The absolute path of the folder, or of the innermost folder of all that the pattern names.
    uri : str
        "shards:" and the display form of the absolute path or pattern.
    name : str
        The last part of that.

    Raises
    ------
    ImageherdError
        If none of the archives is there.
    """

    def __init__(self, given: str | Path, *, must_exist: bool = True) -> None:
        path = Path(os.path.abspath(given))  # noqa: PTH100
        pattern = path.as_posix()
        self._is_pattern = not path.is_dir() and _BRACES.search(pattern) is not None
        start = _BRACES.split(pattern)[0] if self._is_pattern else pattern + "/"
        self.root = Path(os.path.dirname(start))  # noqa: PTH120
        self._pattern = pattern
        self._shown = display_path(os.fsencode(pattern))
        self.uri = uri_of(_SCHEME, path)
        self.name = path.name
        self._archives: dict[bytes, ArchiveSource] = {}
        self._lock = threading.Lock()
        if must_exist and not self.is_there():
            raise ImageherdError(
                f"There is no file {self._names()[0]}, nor any other that {self._shown} names. "
                "Check the path and the numbers."
            )

    @staticmethod
    def takes(given: Given) -> bool:
        """Whether it is a pattern of paths, or a folder of tar archives and nothing to look at."""
        if given.is_folder:
            return _is_folder_of_shards(given.path)
        is_pattern = _BRACES.search(given.path.as_posix()) is not None and not given.is_file
        return is_pattern and has_archive_name(given.path.name) and "://" not in given.text

    @classmethod
    def from_uri(cls, uri: str) -> ShardsSource:
        """Return the source with this `uri`, whether or not its archives are there now."""
        return cls(parts_of(uri)[0], must_exist=False)

    @property
    def description(self) -> str:
        """What it was taken for."""
        return f"{len(self._names()):,} tar shards"

    def scan(self) -> list[Entry]:
        """List the images of all shards, sorted by key; see `ArchiveSource.scan`.

        A shard that is not there or cannot be read is listed itself, with the reason.

        Raises
        ------
        ImageherdError
            If there is no shard or no image in any.

        Warns
        -----
        UserWarning
            Of each shard that is cut off or damaged.
        """
        names, found = self._names(), []
        with progress("Listing", len(names), "shards") as advance:
            for name in names:
                shard = os.fsencode(name)
                try:
                    entries = self._archive(shard).entries()
                    found += [replace(e, key=shard + b"/" + e.key) for e in entries]
                except ImageherdError as error:
                    found.append(Entry(shard, 0, 0, f"a shard that cannot be read: {error}"))
                advance(1)
        if not found:
            raise ImageherdError(
                f"There is no image in the {len(names):,} tar archives of {self._shown}. "
                f"These file names are taken for images: {', '.join(EXTENSIONS)}."
            )
        return sorted(found, key=lambda entry: entry.key)

    def read(self, key: bytes) -> bytes:
        """Read the image with this key; see `ArchiveSource.read`."""
        for at in (match.start() for match in re.finditer(rb"/", key)):
            if has_archive_name(os.fsdecode(key[:at])):
                return self._archive(key[:at]).read(key[at + 1 :])
        raise UnreadableImageError("in none of the shards")

    def columns(self) -> pa.Table:
        """Return what lies beside the images of all shards: see `side_files`."""
        told: list[tuple[bytes, dict[str, Any]]] = []
        for shard in map(os.fsencode, self._names()):
            # One that cannot be read is listed as such.
            with suppress(ImageherdError):
                told += [(shard + b"/" + key, said) for key, said in self._archive(shard).told()]
        return table_of(told)

    def path(self, key: bytes) -> None:
        """Return None: no image has a file of its own."""

    def shown(self, key: bytes) -> str:
        """Return the folder's path and the key below it."""
        return display_path(os.fsencode(self.root.as_posix()) + b"/" + key)

    def is_there(self) -> bool:
        """Whether any of the shards is there."""
        if not self._is_pattern:
            return self.root.is_dir()
        return any((self.root / name).is_file() for name in self._names())

    def _archive(self, name: bytes) -> ArchiveSource:
        with self._lock:
            if name not in self._archives:
                path = self.root / os.fsdecode(name)
                self._archives[name] = ArchiveSource(path, must_exist=False)
            return self._archives[name]

    def _names(self) -> list[str]:
        """Return the paths of the shards below the root, as they are now."""
        if self._is_pattern:
            return sorted(p[len(self.root.as_posix()) + 1 :] for p in expand(self._pattern))
        try:
            listing = sorted(os.listdir(self.root))  # noqa: PTH208
        except OSError as error:
            raise ImageherdError(
                f"{self._shown} cannot be listed: {reason_of_error(error)}."
            ) from error
        return [name for name in listing if _is_shard(os.fsencode(name))]


def expand(pattern: str) -> list[str]:
    """Write out a pattern's braces: ``{000..131}`` counts, ``{train,val}`` is one or the other.

    Raises
    ------
    ImageherdError
        If a range counts down or the pattern names more than 100,000 paths.
    """
    texts = _BRACES.split(pattern)
    choices = [_choices(text, pattern) if i % 2 else [text] for i, text in enumerate(texts)]
    if math.prod(map(len, choices)) > _MOST:
        raise ImageherdError(f"{pattern} names more than {_MOST:,} shards; name a part of them.")
    return ["".join(parts) for parts in itertools.product(*choices)]


def _choices(braces: str, pattern: str) -> Sequence[str]:
    counted = _RANGE.fullmatch(braces)
    if counted is None:
        return braces.split(",")
    first, last = map(int, counted.groups())
    if first > last:
        raise ImageherdError(f"{{{braces}}} in {pattern} counts down; write {{{last}..{first}}}.")
    if last - first >= _MOST:
        raise ImageherdError(f"{pattern} names more than {_MOST:,} shards; name a part of them.")
    return [str(number).zfill(len(counted[1])) for number in range(first, last + 1)]


def _is_shard(name: bytes) -> bool:
    return name.lower().endswith(_ENDING) and not is_skipped(name)


def _is_folder_of_shards(folder: Path) -> bool:
    found = False
    try:
        with os.scandir(os.fsencode(folder)) as listing:
            for child in listing:
                if is_skipped(child.name):
                    continue
                if has_image_name(child.name) or child.is_dir():
                    return False
                found = found or _is_shard(child.name)
    except OSError:
        return False
    return found
