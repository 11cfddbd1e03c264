"""Image files made on the fly, for the tests of decoding."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import ExifTags, Image

from imageherd.images.decode import DecodedImage

RED, GREEN, BLUE, GREY = (220, 30, 40), (20, 180, 60), (30, 60, 200), (128, 128, 128)
WIDTH, HEIGHT = 64, 48


def picture(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Red, green / blue, grey quarters: every turn and every swapped channel shows."""
    small = Image.new("RGB", (2, 2))
    small.putdata([RED, GREEN, BLUE, GREY])
    return small.resize((width, height), Image.Resampling.NEAREST)


def encoded(image: Image.Image, format: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def quarters(image: Image.Image) -> np.ndarray:
    """The colours at the middle of the four quarters, (4, 3)."""
    w, h = image.size
    at = [(w // 4, h // 4), (3 * w // 4, h // 4), (w // 4, 3 * h // 4), (3 * w // 4, 3 * h // 4)]
    return np.array([image.getpixel(place) for place in at])


def assert_is_picture(decoded: DecodedImage, tolerance: int) -> None:
    assert decoded.image.mode == "RGB"
    assert decoded.image.size == (decoded.width, decoded.height) == (WIDTH, HEIGHT)
    difference = quarters(decoded.image).astype(int) - np.array([RED, GREEN, BLUE, GREY])
    assert np.abs(difference).max() <= tolerance


def exif(
    orientation: int | None = None, taken: str | None = None, offset: str | None = None
) -> bytes:
    tags = Image.Exif()
    if orientation is not None:
        tags[ExifTags.Base.Orientation] = orientation
    inner = tags.get_ifd(ExifTags.IFD.Exif)
    if taken is not None:
        inner[ExifTags.Base.DateTimeOriginal] = taken
    if offset is not None:
        inner[ExifTags.Base.OffsetTimeOriginal] = offset
    return tags.tobytes()


FILES = {
    "jpeg": ("JPEG", "RGB", {"quality": 95}, 6),
    "jpeg-progressive": ("JPEG", "RGB", {"quality": 95, "progressive": True}, 6),
    "png": ("PNG", "RGB", {}, 0),
    "png-palette": ("PNG", "P", {}, 45),
    "webp": ("WEBP", "RGB", {"quality": 95}, 12),
    "webp-lossless": ("WEBP", "RGB", {"lossless": True}, 0),
    "bmp": ("BMP", "RGB", {}, 0),
    "gif": ("GIF", "RGB", {}, 0),
    "tiff": ("TIFF", "RGB", {}, 0),
    "tiff-lzw": ("TIFF", "RGB", {"compression": "tiff_lzw"}, 0),
    "tiff-jpeg": ("TIFF", "RGB", {"compression": "jpeg", "quality": 95}, 6),
    "heic": ("HEIF", "RGB", {"quality": 95}, 8),
    "avif": ("AVIF", "RGB", {"quality": 95}, 8),
    "mpo": ("MPO", "RGB", {"quality": 95}, 6),
    "jpeg-cmyk": ("JPEG", "CMYK", {"quality": 95}, 8),
    "tiff-cmyk": ("TIFF", "CMYK", {}, 1),
    "tiff-lab": ("TIFF", "LAB", {}, 10),
}


def file_of(name: str, **more) -> bytes:
    format, mode, options, _ = FILES[name]
    image = picture()
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
    if format == "MPO":
        more |= {"save_all": True, "append_images": [Image.new("RGB", (WIDTH, HEIGHT))]}
    return encoded(image.convert(mode), format, **options, **more)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
