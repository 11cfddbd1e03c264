"""What can be had of a zip archive whose end is missing, and with it the list of its files."""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import BinaryIO, NamedTuple

from imageherd.images.archives.members import STORED
from imageherd.images.decode import UnreadableImageError

_HEADER = struct.Struct("<4s5HLLLHH")
_START = b"PK\x03\x04"
_DIRECTORY = b"PK\x01\x02"
_STREAMED = 8
_IN_EXTRA = 0xFFFFFFFF
_CHUNK = 1 << 16
# What follows the data of a streamed member: with or without a signature, in 32 or 64 bits.
_DESCRIPTORS = (0, 12, 16, 20, 24)
CUT_OFF = "cut off: the archive ends within it"


class Found(NamedTuple):
    """A member as the header before it tells; `reason` where it cannot be read."""

    name: bytes
    size: int
    date_time: tuple[int, int, int, int, int, int]
    offset: int
    packed: int
    method: int
    crc: int
    flags: int
    reason: str


def members_by_headers(file: BinaryIO, end: int) -> list[Found]:
    """Go from one member's header to the next, as far as that leads.

    Members written by a program that did not know their sizes beforehand have to be unpacked to
    find where they end, if that tells; so this can take as long as unpacking the archive.

    Parameters
    ----------
    file : binary file
        Seekable.
    end : int
        Its length.

    Returns
    -------
    list of Found
        In the order of the file; the last one may be cut off.
    """
    found: list[Found] = []
    at = 0
    while (member := _member_at(file, at, end)) is not None:
        found.append(member)
        if member.reason:
            break
        at = file.tell()
    return found


def _member_at(file: BinaryIO, at: int, end: int) -> Found | None:
    """Read the member whose header is at a place, and go to where the next one should be."""
    file.seek(at)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(_START):
        return None
    _, _, flags, method, time, date, crc, packed, size, n_name, n_extra = _HEADER.unpack(header)
    name, extra = file.read(n_name), file.read(n_extra)
    if _IN_EXTRA in (packed, size):
        size, packed = _large_sizes(extra) or (size, packed)
    start, reason = file.tell(), ""
    stored_nothing = method == STORED and name.endswith(b"/")
    if flags & _STREAMED and not packed and not stored_nothing:
        try:
            packed, size, crc = _measure(file, method)
        except UnreadableImageError as error:
            reason = error.reason
    if start + packed > end:
        reason = CUT_OFF
    file.seek(start + packed)
    if flags & _STREAMED:
        file.seek(start + packed + _descriptor(file.read(32)))
    when = (
        1980 + (date >> 9),
        date >> 5 & 15,
        date & 31,
        time >> 11,
        time >> 5 & 63,
        2 * (time & 31),
    )
    return Found(name, size, when, at, packed, method, crc, flags, reason)


def _large_sizes(extra: bytes) -> tuple[int, int] | None:
    """Return size and packed size of a member beyond 4 GB."""
    while len(extra) >= 20:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            size, packed = struct.unpack_from("<QQ", extra, 4)
            return size, packed
        extra = extra[4 + length :]
    return None


def _measure(file: BinaryIO, method: int) -> tuple[int, int, int]:
    """Return packed size, size and checksum of what begins here, by unpacking it."""
    if method != zipfile.ZIP_DEFLATED:
        raise UnreadableImageError("where it ends stood at the end of the archive")
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    packed = size = crc = 0
    while not unpacker.eof:
        chunk = file.read(_CHUNK)
        if not chunk:
            raise UnreadableImageError(CUT_OFF)
        packed += len(chunk)
        try:
            data = unpacker.decompress(chunk)
        except zlib.error as error:
            raise UnreadableImageError("damaged") from error
        size, crc = size + len(data), zlib.crc32(data, crc)
    return packed - len(unpacker.unused_data), size, crc


def _descriptor(following: bytes) -> int:
    after = (n for n in _DESCRIPTORS if following[n : n + 4] in (_START, _DIRECTORY))
    return next(after, 0)
