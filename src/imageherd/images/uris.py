"""URIs of sources: which kind it is, where, and which of several columns or arrays was chosen."""

from __future__ import annotations

import os
import re
import urllib.parse
from pathlib import Path

from imageherd.images.names import display_path, key_from_display

_URI = re.compile(r"[a-z]+(?:@([^:]+))?:(.+)", re.DOTALL)


def uri_of(scheme: str, root: Path, chosen: str | None = None) -> str:
    """Return the URI of what is at an absolute path: "table:/a/b.csv", "table@thumb:/a/b.parquet".

    Parameters
    ----------
    scheme : str
        Without the colon.
    root : Path
        The path.
    chosen : str, optional
        What a person chose in it.
    """
    choice = f"@{urllib.parse.quote(chosen, safe='')}" if chosen else ""
    return f"{scheme}{choice}:{display_path(os.fsencode(root.as_posix()))}"


def parts_of(uri: str) -> tuple[Path, str | None]:
    """Return the path of a URI that `uri_of` made, and what was chosen in it."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise ValueError(f"{uri!r} is no URI of a source")
    chosen = urllib.parse.unquote(match[1]) if match[1] else None
    return Path(os.fsdecode(key_from_display(match[2]))), chosen
