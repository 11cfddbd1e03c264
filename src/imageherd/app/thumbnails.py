"""Thumbnails, made once and kept in the herd, and whole images as browsers can show them."""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, ImageOps

from imageherd.cores import usable_cores
from imageherd.features.items import UNREADABLE
from imageherd.images.decode import FORMATS, UnreadableImageError, decode
from imageherd.images.source import Source

SIZES = (96, 192, 384, 768)
FOLDER = "thumbnails"

LARGE = 16_000_000
"""Images of more pixels are decoded one at a time: 90 million take 540 MB on the way."""

_LONGEST = 4.5
_QUALITY = 82
_WHOLE_QUALITY = 92
_WHOLE, _END = b"\xff\xd8", b"\xff\xd9"
_SHOWN = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "AVIF": "image/avif",
}
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_making: set[Path] = set()
_made = threading.Condition()
# More may be waited for, by a network say, than are decoded.
_in_hand = threading.BoundedSemaphore(8)
_decoding = threading.BoundedSemaphore(min(4, usable_cores() + 1))
_one_large = threading.Lock()


def thumbnail(herd: Path, item: Mapping[str, Any], source: Source, size: int) -> bytes:
    """Return a small picture of an image as a JPEG file, upright, from the herd if it is there.

    Its longer side is `size`; of what is longer than 3:2 the shorter side is two thirds of that,
    so that it fills a square tile as sharply, and of what is longer than 9:2 only the middle is
    kept. Nothing is made larger than it is.

    Parameters
    ----------
    herd : Path
        The herd. One that cannot be written is served all the same.
    item : mapping
        The image's row of the items table.
    source : Source
        Where it is.
    size : int
        One of `SIZES`.

    Raises
    ------
    UnreadableImageError
        As `own_bytes`, and if it cannot be decoded.

    Notes
    -----
    Kept under ``thumbnails/`` by the hash of the image's contents, about 7 kB at 192 pixels. Any
    number of threads may ask; eight hold a file, four decode, and one of these a large image.
    """
    digest = _digest(item)
    path = herd / FOLDER / str(size) / digest[:2] / f"{digest}.jpg"
    found = _kept(path)
    if found is None:
        with _alone(path):
            found = _kept(path)
            if found is None:
                with _in_hand:
                    data = own_bytes(item, source)
                    with _turn(item):
                        found = _reduced(data, size)
                _keep(path, found)
    return found


def whole(item: Mapping[str, Any], source: Source) -> tuple[bytes, str]:
    """Return the file of an image and its media type; a JPEG of it where browsers show no such.

    Parameters, errors and threads as in `thumbnail`. HEIC, TIFF, CMYK, grey of more than 8 bits,
    and what is not a JPEG and does not stand upright are converted; a JPEG's own word on how it is
    to be turned is heeded by all browsers.
    """
    with _in_hand:
        data = own_bytes(item, source)
        media = _media_type(data)
        if media is not None:
            return data, media
        with _turn(item):
            return _jpeg(decode(data).image, _WHOLE_QUALITY), "image/jpeg"


def own_bytes(item: Mapping[str, Any], source: Source) -> bytes:
    """Return the file of an image, if it is the very one that the herd has the features of.

    Whatever a path leads to by now, what is returned has the hash that was taken when the image
    was embedded: nothing else that this machine holds can come out here.

    Raises
    ------
    UnreadableImageError
        If it is gone, was not readable then or is not now, or has changed since.
    """
    digest = _digest(item)
    data = source.read(item["key"])
    if hashlib.sha256(data).hexdigest() != digest:
        raise UnreadableImageError("it has changed since it was embedded; run imageherd embed")
    return data


def _digest(item: Mapping[str, Any]) -> str:
    if item["status"] == UNREADABLE:
        raise UnreadableImageError(item["reason"] or "it could not be read")
    digest = item["content_hash"] or ""
    # It becomes part of a path: a herd from elsewhere may say anything.
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise UnreadableImageError("it has not been read yet; run imageherd embed")
    return str(digest)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until nobody else makes this thumbnail: it is there then."""
    with _made:
        _made.wait_for(lambda: path not in _making)
        _making.add(path)
    try:
        yield
    finally:
        with _made:
            _making.discard(path)
            _made.notify_all()


@contextmanager
def _turn(item: Mapping[str, Any]) -> Iterator[None]:
    """Wait until this image may be decoded."""
    large = (item["width"] or 0) * (item["height"] or 0) > LARGE
    with _one_large if large else nullcontext(), _decoding:
        yield


def _reduced(data: bytes, size: int) -> bytes:
    image = decode(data, min_side=size).image
    short, long = sorted(image.size)
    if long > _LONGEST * short:
        width, height = (min(side, round(_LONGEST * short)) for side in image.size)
        image = ImageOps.fit(image, (width, height))
        long = max(image.size)
    scale = max(size / long, size / (1.5 * short))
    if scale < 1:
        box = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(box, Image.Resampling.LANCZOS, reducing_gap=2.0)
    return _jpeg(image, _QUALITY)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def _media_type(data: bytes) -> str | None:
    """Return the media type of a file that every browser shows as it is meant; None of others."""
    # Damaged files make Pillow raise nearly anything; `decode` will say what is wrong.
    try:
        with io.BytesIO(data) as file, Image.open(file, formats=FORMATS) as image:
            name, mode = image.format or "", image.mode
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:
        return None
    upright = name in ("JPEG", "MPO") or not turned
    return _SHOWN.get(name) if mode in _MODES and upright else None


def _kept(path: Path) -> bytes | None:
    """Return a thumbnail that is kept, None if it is not there or not whole."""
    with suppress(OSError):
        data = path.read_bytes()
        if data.startswith(_WHOLE) and data.endswith(_END):
            return data
    return None


def _keep(path: Path, data: bytes) -> None:
    # Not flushed to disk, which would take ten times as long as making it: after a power cut a
    # file that is not whole is seen as such and made again. A herd that cannot be written, or a
    # full disk, costs no more than time.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
