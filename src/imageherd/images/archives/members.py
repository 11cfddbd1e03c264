"""What an archive holds: which of its members are images, under which keys, and where they lie."""

from __future__ import annotations

from typing import NamedTuple

from imageherd.images.names import has_image_name, is_herd_name, is_skipped
from imageherd.images.source import MAX_FILE_BYTES, Entry

STORED = 0
_BESIDE = (b"json", b"cls", b"txt")
# What is longer says more than fits a table.
_MOST_BESIDE = 1 << 20
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
    beside : dict of bytes to Member
        What may say something of an image of the same name, by key: see `side_files`.
    remark : str
        What is wrong with the archive as a whole; empty if nothing is.
    """

    def __init__(self, changed_ns: int) -> None:
        self.members: dict[bytes, Member] = {}
        self.beside: dict[bytes, Member] = {}
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
        """Note an image, by the same rules as in a folder, or what lies beside one.

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
        if hidden and not odd:
            return
        known = 0 < mtime < _LATEST
        mtime_ns = int(mtime // 1) * 10**9 + int(mtime % 1 * 1e9) if known else self._changed_ns
        entry = Entry(key, size, mtime_ns, odd or reason or _reason_of(size))
        member = Member(entry, offset, packed, method, crc)
        if has_image_name(last):
            self.members[key] = member
        elif (
            last.partition(b".")[2].lower() in _BESIDE and not entry.reason and size <= _MOST_BESIDE
        ):
            self.beside[key] = member


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
