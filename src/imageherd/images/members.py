"""What an archive holds: which of its members are images, under which keys, and where they lie."""

from __future__ import annotations

from typing import NamedTuple

from imageherd.images.names import has_image_name, is_herd_name, is_skipped
from imageherd.images.source import MAX_FILE_BYTES, Entry

STORED = 0
LINK = "a link; those in an archive are not followed"
# Times beyond are mistakes, and their nanoseconds would not fit into 64 bits.
_LATEST = 1 << 33


class Member(NamedTuple):
    """An image of an archive and where it lies.

    Attributes
    ----------
    entry : Entry
        What the scan tells of it.
    offset : int
        Where in the file its data begin; in a zip, the header before them.
    packed : int
        How many bytes of the file are its data.
    method : int, default=0
        How they are compressed, as zip numbers it; 0 is not at all.
    crc : int, default=0
        Checksum of the image, in a zip.
    """

    entry: Entry
    offset: int
    packed: int
    method: int = STORED
    crc: int = 0


class Contents:
    """The images of one archive; about 500 bytes of memory each.

    Parameters
    ----------
    changed_ns : int
        When the archive itself was last changed: the time of members that have none.

    Attributes
    ----------
    members : dict of bytes to Member
        The images by key. Of members with the same name the last one counts, as in unpacking.
    remark : str
        What is wrong with the archive as a whole; empty if nothing is.
    """

    def __init__(self, changed_ns: int) -> None:
        self.members: dict[bytes, Member] = {}
        self.remark = ""
        self._changed_ns = changed_ns

    def add(
        self,
        name: bytes,
        size: int,
        mtime: float,
        *,
        offset: int = 0,
        packed: int = 0,
        method: int = STORED,
        crc: int = 0,
        reason: str = "",
    ) -> None:
        """Note a member if it has an image's name, by the same rules as in a folder.

        Parameters
        ----------
        name : bytes
            As it stands in the archive.
        size : int
            Bytes of the image.
        mtime : float
            When it was last changed, in seconds since 1970; 0 or nonsense: not known.
        offset, packed, method, crc
            As in `Member`.
        reason : str, default=""
            Why it cannot be read.
        """
        key, odd = _key_of(name)
        *folders, last = key.split(b"/")
        hidden = any(map(is_skipped, [*folders, last])) or any(map(is_herd_name, folders))
        if (hidden and not odd) or not has_image_name(last):
            return
        known = 0 < mtime < _LATEST
        mtime_ns = int(mtime // 1) * 10**9 + int(mtime % 1 * 1e9) if known else self._changed_ns
        entry = Entry(key, size, mtime_ns, odd or reason or _reason_of(size))
        self.members[key] = Member(entry, offset, packed, method, crc)


def _key_of(name: bytes) -> tuple[bytes, str]:
    """Return the path below the archive's root, or the name as it is and what is odd about it."""
    if name.startswith(b"/"):
        return name, "an absolute name"
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        return name, "a name that leads out of the archive"
    return b"/".join(parts), ""


def _reason_of(size: int) -> str:
    if size == 0:
        return "empty file"
    return f"larger than {MAX_FILE_BYTES >> 20:,} MiB" if size > MAX_FILE_BYTES else ""
