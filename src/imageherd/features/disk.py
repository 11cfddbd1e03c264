"""What writing to a herd's folders shares: leftovers of killed runs, a disk that refuses."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imageherd.errors import ImageherdError


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
