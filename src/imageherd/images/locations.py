"""Reading an image where a path or a URL says it is."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from imageherd.errors import ImageherdError
from imageherd.images.decode import UnreadableImageError
from imageherd.images.folder import FolderSource
from imageherd.images.source import MAX_FILE_BYTES

TIMEOUT = 30.0
"""Seconds without a byte after which a server is given up."""

NO_PATH = "no path: it has a zero byte"

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
# Everything that has a meaning in a URL; what is left to escape are blanks and other alphabets.
_RESERVED = ":/?#[]@!$&'()*+,;=%~"


def scheme_of(location: str) -> str:
    """Return the scheme of a URL in small letters, "" for a path (one with a drive included)."""
    match = _URL.match(location)
    return match[1].lower() if match else ""


def check_schemes(schemes: Iterable[str], where: str) -> None:
    """Raise ImageherdError if what `where` names cannot be read for want of a package."""
    import fsspec

    for scheme in sorted(set(schemes) - {"", "http", "https"}):
        try:
            fsspec.get_filesystem_class(scheme)
        except ImportError as error:
            raise ImageherdError(
                f"{where} names images at {scheme}://, for which a package is missing: {error}."
            ) from error
        except ValueError as error:
            raise ImageherdError(
                f"{where} names images at {scheme}://, which fsspec does not know."
            ) from error


def fetch(location: str, folder: Path) -> bytes:
    """Read the file at a path or URL, whole.

    Parameters
    ----------
    location : str
        A path, or a URL of a kind that fsspec reads. http and https need no further package.
    folder : Path
        What a relative path begins at.

    Raises
    ------
    UnreadableImageError
        If it is not there, may not be read, does not answer within `TIMEOUT` seconds or is larger
        than `MAX_FILE_BYTES`.
    """
    if "\0" in location:
        raise UnreadableImageError(NO_PATH)
    scheme = scheme_of(location)
    if not scheme:
        return FolderSource(folder, must_exist=False).read(location.encode("utf-8"))
    if scheme in ("http", "https"):
        return _from_the_web(location)
    import fsspec

    # A file system is other people's code, with errors of its own kinds.
    try:
        with fsspec.open(location, "rb") as file:
            return _limited(file)
    except UnreadableImageError:
        raise
    except FileNotFoundError as error:
        raise UnreadableImageError("no such file") from error
    except PermissionError as error:
        raise UnreadableImageError("no permission to read") from error
    except Exception as error:
        raise UnreadableImageError(f"cannot be fetched ({_short(error)})") from error


def _from_the_web(url: str) -> bytes:
    try:
        request = urllib.request.Request(
            urllib.parse.quote(url, safe=_RESERVED), headers={"User-Agent": "imageherd"}
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            data = _limited(answer)
            # Reading up to a limit, Python takes a connection that broke for the end of the file.
            if answer.length:
                raise UnreadableImageError("the connection broke off")
            return data
    except urllib.error.HTTPError as error:
        raise UnreadableImageError(f"HTTP {error.code} {error.reason}".strip()) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, TimeoutError):
            raise UnreadableImageError(f"no answer within {TIMEOUT:g} s") from error
        raise UnreadableImageError(f"cannot be fetched ({_short(cause)})") from error


def _limited(file: IO[bytes]) -> bytes:
    data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise UnreadableImageError(f"larger than {MAX_FILE_BYTES >> 20:,} MiB")
    return data


def _short(error: object) -> str:
    return " ".join(str(error).split())[:80] or type(error).__name__
