"""What a name says: whether it is an image's, whether to pass it over, and how to show it."""

from __future__ import annotations

import os
import re
import unicodedata

from imageherd.errors import ImageherdError

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".gif"),
    *(".tif", ".tiff", ".heic", ".heif", ".hif", ".avif"),
)
"""File names that are taken for images, in any mixture of capitals."""

_EXTENSIONS = frozenset(os.fsencode(extension) for extension in EXTENSIONS)
# What Macs, Windows and Synology stations leave beside photographs: copies and thumbnails.
_SKIPPED = frozenset([b"__macosx", b"thumbs", b"@eadir", b"$recycle.bin"])
_ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2}|)")


def is_skipped(name: bytes) -> bool:
    """Whether a file or folder of this name is left alone: hidden, or a system's leavings."""
    return name.startswith(b".") or name.lower() in _SKIPPED


def is_herd_name(name: bytes) -> bool:
    """Whether a folder is called as herds are."""
    return name.lower().endswith(b".herd")


def has_image_name(name: bytes) -> bool:
    """Whether a name ends in one of `EXTENSIONS`."""
    return os.path.splitext(name)[1].lower() in _EXTENSIONS  # noqa: PTH122


def display_path(key: bytes) -> str:
    r"""Write a path as text from which `key_from_display` gets the same bytes.

    Valid UTF-8 stays as it is; bytes that are not, control characters and line separators are
    written ``\xNN``, a backslash is doubled.
    """
    text = key.decode("utf-8", "surrogateescape")
    return "".join(_shown_character(character) for character in text)


def key_from_display(text: str) -> bytes:
    r"""Get back the bytes of a path from its display form.

    Raises
    ------
    ImageherdError
        If a backslash is neither doubled nor the start of ``\xNN``.
    """

    def original(match: re.Match[str]) -> str:
        escape = match[1]
        if not escape:
            raise ImageherdError(
                f"{text!r} is no path as imageherd shows it: a backslash has to be written \\\\."
            )
        # Latin-1 puts one byte into one character; what is not escaped goes there byte by byte.
        return "\\" if escape == "\\" else chr(int(escape[1:], 16))

    as_latin = text.encode("utf-8", "surrogateescape").decode("latin-1")
    return _ESCAPE.sub(original, as_latin).encode("latin-1")


def _shown_character(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
        return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
    return character
