"""A source listed once, for all who ask what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from imageherd.images.source import Entry, Source, open_source


class Listed:
    """A source as it was when it was first scanned; what came later is for the next run.

    Parameters
    ----------
    source : str, Path or Source
        The source, or what `open_source` takes for one.

    Attributes
    ----------
    source : Source
        The source itself; `uri`, `name` and `description` are its.

    Raises
    ------
    ImageherdError
        As `open_source` and the source's own `scan`.
    """

    def __init__(self, source: str | Path | Source) -> None:
        self.source = open_source(source) if isinstance(source, str | Path) else source
        self.uri = self.source.uri
        self.name = self.source.name
        self.description = self.source.description

    @cached_property
    def _entries(self) -> Sequence[Entry]:
        return self.source.scan()

    def scan(self) -> Sequence[Entry]:
        """Return the images found by the first scan, sorted by key."""
        return self._entries

    def read(self, key: bytes) -> bytes:
        """Read the file with this key, as it is now."""
        return self.source.read(key)

    def path(self, key: bytes) -> Path | None:
        """Return the path of the file with this key, None where it has none of its own."""
        return self.source.path(key)

    def shown(self, key: bytes) -> str:
        """Return where an image is, for people."""
        return self.source.shown(key)

    def is_there(self) -> bool:
        """Whether the source is where it was."""
        return self.source.is_there()
