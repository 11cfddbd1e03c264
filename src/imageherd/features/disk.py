"""What reading and writing a herd's folders share: a writer beside, killed runs, a full disk."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from imageherd.errors import ImageherdError

_TRIES = 3
_PAUSE = 0.05

Result = TypeVar("Result")


def read_beside_a_writer(read: Callable[[], Result]) -> Result:
    """Return what `read` returns, called again if it fails: it may have come between two renames.

    A run that embeds replaces several files one after the other. What is damaged in earnest fails
    every time, a tenth of a second later.
    """
    for _ in range(_TRIES - 1):
        try:
            return read()
        except (ImageherdError, OSError):
            time.sleep(_PAUSE)
    return read()


def remove_temporary_files(folder: Path) -> None:
    """Remove what a killed run was in the middle of writing; the herd's lock must be held."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn the system's refusal to write into an error that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ImageherdError(
                f"No space left while writing to {folder}. Free some space and run the same "
                "command again: what was written so far is kept."
            ) from error
        raise ImageherdError(f"Cannot write to {folder}: {error}.") from error
