"""A folder listed once, for all who ask what is in it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from imageherd.images.folder import Entry, FolderSource


class Listed:
    """A folder as it was when it was first scanned; what came later is for the next run.

    Parameters
    ----------
    root : str or Path
        The folder.

    Raises
    ------
    ImageherdError
        As `FolderSource` and its `scan`.
    """

    def __init__(self, root: str | Path) -> None:
        self._folder = FolderSource(root)
        self.uri = self._folder.uri

    @cached_property
    def _entries(self) -> list[Entry]:
        return self._folder.scan()

    def scan(self) -> list[Entry]:
        """Return the images found by the first scan, sorted by key."""
        return self._entries

    def read(self, key: bytes) -> bytes:
        """Read the file with this key, as it is now."""
        return self._folder.read(key)
