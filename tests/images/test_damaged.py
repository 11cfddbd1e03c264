"""Whatever is wrong with a file comes out as one kind of error with a short reason."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import (
    FILES,
    RED,
    encoded,
    exif,
    file_of,
    picture,
    png_chunk,
)
from PIL import Image

from imageherd.images.decode import MAX_PIXELS, UnreadableImageError, decode


def huge_png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def huge_jpeg(width: int, height: int) -> bytes:
    data = bytearray(encoded(picture(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


class TestUnreadable:
    def test_empty(self):
        with pytest.raises(UnreadableImageError) as caught:
            decode(b"")
        assert caught.value.reason == str(caught.value) == "empty file"

    @pytest.mark.parametrize(
        "data",
        [
            b"Dear diary,\n",
            b"\xff",
            bytes(100),
            b"<svg/>",
            b"%PDF-1.7",
            b"\xff\xd8\xff",
            b"BM",
            b"II*\0",
        ],
    )
    def test_no_image(self, data):
        with pytest.raises(UnreadableImageError) as caught:
            decode(data)
        assert 0 < len(caught.value.reason) < 120

    @pytest.mark.parametrize("format", ["PPM", "ICO", "TGA", "JPEG2000", "PCX", "SGI"])
    def test_formats_we_do_not_name(self, format):
        data = encoded(picture(), format)
        assert Image.open(io.BytesIO(data)).format == format
        with pytest.raises(UnreadableImageError, match="known format"):
            decode(data)

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("kept", [0.1, 0.5, 0.8])
    def test_truncated(self, name, kept):
        format, mode, options, _ = FILES[name]
        noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        image = Image.fromarray(noise).convert(mode if mode != "LAB" else "RGB")
        data = encoded(image, format, **options)
        with pytest.raises(UnreadableImageError):
            decode(data[: int(len(data) * kept)])

    def test_truncated_says_so(self):
        noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        data = encoded(Image.fromarray(noise), "JPEG")
        with pytest.raises(UnreadableImageError, match=r"^truncated$"):
            decode(data[: len(data) // 2], min_side=32)

    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    @pytest.mark.parametrize("side", [9_500, 14_000, 60_000])
    @pytest.mark.parametrize("make", [huge_png, huge_jpeg])
    def test_decompression_bomb(self, make, side):
        assert side * side > MAX_PIXELS
        with pytest.raises(UnreadableImageError, match="too many"):
            decode(make(side, side))

    @pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
    def test_decompression_bomb_where_warnings_are_errors(self):
        with pytest.raises(UnreadableImageError, match="too many"):
            decode(huge_png(9_500, 9_500))

    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    def test_a_large_photograph_is_no_bomb_when_reduced(self):
        data = encoded(Image.new("RGB", (12_000, 9_000), RED), "JPEG")
        with pytest.raises(UnreadableImageError, match="12,000 x 9,000"):
            decode(data)
        decoded = decode(data, min_side=224)
        assert decoded.image.size == (1500, 1125)
        assert (decoded.width, decoded.height) == (12_000, 9_000)

    @pytest.mark.parametrize(
        "error",
        [
            *(SyntaxError("x"), struct.error("x"), OSError("x"), ValueError("x"), MemoryError()),
            *(IndexError("x"), KeyError("x"), RecursionError(), EOFError(), ZeroDivisionError("x")),
        ],
    )
    def test_whatever_pillow_raises(self, error, monkeypatch):
        def load(self):
            raise error

        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
        with pytest.raises(UnreadableImageError) as caught:
            decode(file_of("jpeg"))
        assert caught.value.reason
        assert caught.value.__cause__ is error

    def test_stopping_is_not_an_unreadable_image(self, monkeypatch):
        def load(self):
            raise KeyboardInterrupt

        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
        with pytest.raises(KeyboardInterrupt):
            decode(file_of("jpeg"))


def assert_image_or_reason(data: bytes, min_side: int | None = None) -> None:
    decoded, reason = None, ""
    try:
        decoded = decode(data, min_side=min_side)
    except UnreadableImageError as error:
        reason = error.reason
    if decoded is None:
        assert 0 < len(reason) < 120
        assert reason.isprintable()
    else:
        assert decoded.image.mode == "RGB"
        assert min(decoded.width, decoded.height) > 0
        assert decoded.image.load() is not None


@pytest.mark.filterwarnings("ignore")
class TestDamage:
    @given(st.binary(max_size=400), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]))
    @settings(max_examples=150, deadline=None)
    def test_garbage(self, data, start):
        assert_image_or_reason(start + data)

    @pytest.mark.parametrize("name", FILES)
    @given(data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_flipped_bits(self, name, data):
        damaged = bytearray(file_of(name, **self.more(name)))
        for _ in range(data.draw(st.integers(1, 6))):
            place = data.draw(st.integers(0, len(damaged) - 1))
            damaged[place] ^= 1 << data.draw(st.integers(0, 7))
        cut = data.draw(st.one_of(st.none(), st.integers(1, len(damaged))))
        assert_image_or_reason(bytes(damaged[:cut]), data.draw(st.sampled_from([None, 16])))

    @staticmethod
    def more(name: str) -> dict:
        return {"exif": exif(6, "2024:05:01 18:03:59")} if FILES[name][0] in ("JPEG", "PNG") else {}


def test_many_threads_get_what_one_gets():
    files = [file_of(name) for name in FILES] + [b"no image", file_of("jpeg")[:200]]

    def pixels(data: bytes) -> bytes | str:
        try:
            return decode(data, min_side=16).image.tobytes()
        except UnreadableImageError as error:
            return error.reason

    alone = [pixels(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(pixels, files * 20)) == alone * 20
