"""From the bytes of an image file to an upright RGB picture."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pillow_heif

# The plugins are imported here because Pillow would otherwise import all of its plugins, from
# whichever thread comes first, when it meets one of these formats.
from PIL import (
    AvifImagePlugin,  # noqa: F401
    BmpImagePlugin,  # noqa: F401
    ExifTags,
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,
    MpoImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

pillow_heif.register_heif_opener()

# AVIF before HEIF: both accept the brand "mif1", and only AVIF hands a file of the other kind on.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")
"""Pillow's names of the formats read; a JPEG with several pictures (MPO) counts as JPEG."""

MAX_PIXELS = 90_000_000
"""A picture that would still decode to more pixels than this is refused as a decompression bomb."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_FULL_SCALES = tuple(2.0**bits - 1 for bits in (8, 10, 12, 14, 16))


class UnreadableImageError(Exception):
    """An image that cannot be read.

    Parameters
    ----------
    reason : str
        Why, in a few words fit for a table, such as "empty file".
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class DecodedImage:
    """A picture, upright, with what its file says about it.

    Attributes
    ----------
    image : PIL.Image.Image
        Mode RGB, turned upright, without metadata; its size may be a fraction of the full one.
    width, height : int
        Size of the full upright picture, in pixels.
    taken_at : str or None
        When the photograph was taken, ISO 8601, with the offset from UTC where the camera wrote it:
        "2024-05-01T18:03:59+02:00".
    """

    image: Image.Image
    width: int
    height: int
    taken_at: str | None


def decode(data: bytes, *, min_side: int | None = None) -> DecodedImage:
    """Decode the first picture of an image file; safe to call from many threads.

    JPEG (and MPO), PNG, WebP, BMP, GIF, TIFF, HEIC/HEIF and AVIF, told by their contents, not by
    their names. Transparent parts are laid on white. Grey images deeper than 8 bits are scaled,
    never clipped: see `to_8_bits`. Colour profiles are ignored, as in the training of the usual
    backbones.

    Parameters
    ----------
    data : bytes
        The whole file.
    min_side : int, optional
        Allows a JPEG to be decoded at 1/2, 1/4 or 1/8 of its size, the smallest whose short side is
        at least this. That costs a fraction of the time and memory of the full size. Other formats
        are decoded in full.

    Returns
    -------
    DecodedImage
        The picture and its facts.

    Raises
    ------
    UnreadableImageError
        Whatever is wrong with the file: nothing else is raised because of its contents. A picture
        of more than `MAX_PIXELS` after reduction, or above Pillow's own limit of twice
        `PIL.Image.MAX_IMAGE_PIXELS`, is refused before its pixels are touched.
    """
    if not data:
        raise UnreadableImageError("empty file")
    # Damaged files make Pillow raise nearly anything: OSError, ValueError, SyntaxError, IndexError,
    # struct.error, MemoryError, its decompression bomb errors. To the user all are one thing.
    try:
        return _decode(data, min_side)
    except UnreadableImageError:
        raise
    except Exception as error:
        raise UnreadableImageError(_reason(error)) from error


def _decode(data: bytes, min_side: int | None) -> DecodedImage:
    with io.BytesIO(data) as file, Image.open(file, formats=FORMATS) as image:
        full, reduced = image.size, False
        if min_side is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
            image.draft("RGB", (min_side, min_side))
            reduced = True
        if image.width * image.height > MAX_PIXELS:
            raise UnreadableImageError(
                f"{full[0]:,} x {full[1]:,} pixels: too many to decode safely"
            )
        image.load()
        # Only now: a PNG's metadata may follow its pixels, and a TIFF turns itself upright on load.
        if not reduced:
            full = image.size
        orientation, taken_at = _metadata(image)
        upright = _to_rgb(image)
        if orientation in _UPRIGHT:
            upright = upright.transpose(_UPRIGHT[orientation])
    # A second reader of the orientation would turn the picture again.
    upright.info = {}
    width, height = full[::-1] if orientation in _SIDEWAYS else full
    return DecodedImage(upright, width, height, taken_at)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(to_8_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        page = Image.new("RGB", layer.size, "white")
        page.paste(layer, mask=layer)
        return page
    return image if image.mode == "RGB" else image.convert("RGB")


def to_8_bits(values: np.ndarray) -> np.ndarray:
    """Scale grey values deeper than 8 bits to 0..255, linearly and without clipping.

    What counts as white is stated nowhere in such a file: a camera of 12 bits writes 0..4095 into
    16, a program writes 0..1 or -3..8. Integers: white is the full scale of the fewest bits, 8, 10,
    12, 14 or 16, that holds all values, else the largest value; so pictures of one camera keep
    their relative brightness unless very dark. Floats: white is 1, or the largest value above it.
    Black is 0, or the smallest value below it.

    Parameters
    ----------
    values : ndarray (height, width), integer or float
        Not finite values count as 0.

    Returns
    -------
    ndarray (height, width), uint8
        The scaled values.
    """
    grey = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    black, top = min(0.0, float(grey.min())), float(grey.max())
    if np.issubdtype(values.dtype, np.floating):
        white = max(1.0, top)
    else:
        white = next((scale for scale in _FULL_SCALES if scale >= top), top)
    return np.rint((grey - black) * (255 / (white - black))).astype(np.uint8)


def _metadata(image: Image.Image) -> tuple[int, str | None]:
    # Broken metadata around a good picture is common; the picture counts.
    try:
        exif = image.getexif()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1, None
    try:
        taken_at = _taken_at(exif.get_ifd(ExifTags.IFD.Exif))
    except Exception:
        taken_at = None
    return (orientation if orientation in _UPRIGHT else 1), taken_at


def _taken_at(tags: dict[int, Any]) -> str | None:
    moment = _text(tags.get(ExifTags.Base.DateTimeOriginal))
    try:
        time = datetime.strptime(moment, "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    offset = _text(tags.get(ExifTags.Base.OffsetTimeOriginal))
    try:
        return datetime.fromisoformat(time.isoformat() + offset).isoformat()
    except ValueError:
        return time.isoformat()


def _text(value: Any) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    return text.strip(" \0")


def _reason(error: Exception) -> str:
    message = " ".join(str(error).split())
    if isinstance(error, UnidentifiedImageError):
        return "no image of a known format, or damaged at its start"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "too many pixels to decode safely"
    if isinstance(error, MemoryError):
        return "too little memory to decode it"
    if "truncated" in message.lower():
        return "truncated"
    return f"damaged ({message[:80] or type(error).__name__})"
