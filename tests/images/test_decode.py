"""Every format, every kind of pixel, and whatever can be wrong with a file."""

from __future__ import annotations

import io
import pickle
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from imageherd.images.decode import (
    MAX_PIXELS,
    DecodedImage,
    UnreadableImageError,
    decode,
    to_8_bits,
)

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


@pytest.mark.parametrize("name", FILES)
def test_format(name):
    assert_is_picture(decode(file_of(name)), tolerance=FILES[name][3])


@pytest.mark.parametrize("name", ["heic", "avif"])
def test_the_brand_that_heic_and_avif_share(name):
    data = bytearray(file_of(name))
    data[8:12] = b"mif1"
    assert_is_picture(decode(bytes(data)), tolerance=FILES[name][3])


def test_gives_no_metadata_and_pickles():
    decoded = decode(encoded(picture(), "JPEG", exif=exif(6), dpi=(72, 72)))
    assert decoded.image.info == {}
    again = pickle.loads(pickle.dumps(decoded))
    assert np.array_equal(np.asarray(again.image), np.asarray(decoded.image))


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_becomes_rgb(mode):
    image = Image.new(mode, (5, 4), 255 if mode == "1" else 77)
    expected = 255 if mode == "1" else 77
    decoded = decode(encoded(image, "PNG")).image
    assert decoded.mode == "RGB"
    assert np.all(np.asarray(decoded) == expected)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame(format):
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, GREEN)]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert decode(data).image.getpixel((10, 10)) == RED


class TestTransparency:
    @pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
    def test_rgba_on_white(self, format):
        image = Image.new("RGBA", (32, 32), (*RED, 255))
        image.paste((0, 0, 0, 0), (0, 0, 16, 32))
        options = {"lossless": True} if format == "WEBP" else {}
        decoded = decode(encoded(image, format, **options)).image
        assert np.abs(np.array(decoded.getpixel((4, 16))) - 255).max() <= 6
        assert np.abs(np.array(decoded.getpixel((27, 16))) - RED).max() <= 12

    def test_half_transparent_black_is_middle_grey(self):
        data = encoded(Image.new("RGBA", (3, 3), (0, 0, 0, 128)), "PNG")
        assert decode(data).image.getpixel((1, 1)) == (127, 127, 127)

    def test_grey_with_alpha(self):
        image = Image.new("LA", (4, 1))
        image.putdata([(0, 0), (0, 255), (100, 255), (100, 0)])
        pixels = np.asarray(decode(encoded(image, "PNG")).image)[0, :, 0]
        assert pixels.tolist() == [255, 0, 100, 255]

    def test_palette_with_one_transparent_colour(self):
        image = Image.new("P", (2, 1))
        image.putpalette([*RED, *GREEN])
        image.putdata([0, 1])
        for format in ("PNG", "GIF"):
            decoded = decode(encoded(image, format, transparency=0)).image
            assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), GREEN]

    def test_palette_with_alpha_per_colour(self):
        image = Image.new("P", (2, 1))
        image.putpalette([0, 0, 0, *GREEN])
        image.putdata([0, 1])
        decoded = decode(encoded(image, "PNG", transparency=bytes([128, 255]))).image
        assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(127, 127, 127), GREEN]

    def test_transparent_colour_of_rgb_and_grey(self):
        image = Image.new("RGB", (2, 1))
        image.putdata([RED, GREEN])
        decoded = decode(encoded(image, "PNG", transparency=RED)).image
        assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), GREEN]
        grey = Image.new("L", (2, 1))
        grey.putdata([10, 20])
        decoded = decode(encoded(grey, "PNG", transparency=10)).image
        assert [decoded.getpixel((x, 0))[0] for x in (0, 1)] == [255, 20]


class TestDeepGrey:
    ramp = np.linspace(0, 65535, 256).round()[None].repeat(2, 0)

    @pytest.mark.parametrize("format", ["PNG", "TIFF"])
    def test_16_bits_are_scaled_not_clipped(self, format):
        data = encoded(Image.fromarray(self.ramp.astype(np.uint16)), format)
        pixels = np.asarray(decode(data).image)
        assert pixels[0, :, 0].tolist() == list(range(256))
        assert np.all(pixels == pixels[..., :1])

    def test_big_endian_tiff(self):
        # Pillow writes the byte order of the machine, so the other one is put together here.
        values = self.ramp[0].astype(">u2").tobytes()
        tags = [(256, 256), (257, 1), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1)]
        tags += [(278, 1), (279, len(values))]
        entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
        directory = struct.pack(">H", len(tags)) + entries + bytes(4)
        data = b"MM\0*" + struct.pack(">I", 8 + len(values)) + values + directory
        assert Image.open(io.BytesIO(data)).mode == "I;16B"
        assert np.asarray(decode(data).image)[0, :, 0].tolist() == list(range(256))

    @pytest.mark.parametrize("dtype", [np.int32, np.float32])
    def test_32_bit_tiff(self, dtype):
        data = encoded(Image.fromarray(self.ramp.astype(dtype)), "TIFF")
        pixels = np.asarray(decode(data).image)[0, :, 0].astype(int)
        assert np.abs(pixels - np.arange(256)).max() <= 1

    def test_16_bit_transparent_grey_png_is_read(self):
        data = encoded(Image.fromarray(self.ramp.astype(np.uint16)), "PNG")
        transparent = png_chunk(b"tRNS", b"\0\0")
        at = data.index(b"IDAT") - 4
        assert decode(data[:at] + transparent + data[at:]).width == 256

    @pytest.mark.parametrize(("top", "white"), [(200, 255), (4095, 4095), (5000, 16383)])
    def test_integers_keep_the_scale_of_their_bits(self, top, white):
        scaled = to_8_bits(np.array([[0, top // 2, top]], np.uint16))
        assert scaled[0].tolist() == [0, round(top // 2 * 255 / white), round(top * 255 / white)]

    def test_floats(self):
        assert to_8_bits(np.array([[0.0, 0.2, 0.5]])).tolist() == [[0, 51, 128]]
        assert to_8_bits(np.array([[-3.0, 2.5, 8.0]])).tolist() == [[0, 128, 255]]
        assert to_8_bits(np.array([[np.nan, np.inf, 0.0, 1.0]])).tolist() == [[0, 0, 0, 255]]

    def test_flat(self):
        assert to_8_bits(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]
        assert to_8_bits(np.full((1, 2), -7, np.int32)).tolist() == [[0, 0]]

    @given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=2, max_size=20))
    @settings(deadline=None)
    def test_order_is_kept_and_nothing_wraps(self, values):
        values = np.sort(np.array([values], np.int32))
        scaled = to_8_bits(values)[0].astype(int)
        assert np.all(np.diff(scaled) >= 0)
        if values.min() < 0 and values.max() >= 2**16:
            assert (scaled[0], scaled[-1]) == (0, 255)


UPRIGHT = {
    1: [RED, GREEN, BLUE, GREY],
    2: [GREEN, RED, GREY, BLUE],
    3: [GREY, BLUE, GREEN, RED],
    4: [BLUE, GREY, RED, GREEN],
    5: [RED, BLUE, GREEN, GREY],
    6: [BLUE, RED, GREY, GREEN],
    7: [GREY, GREEN, BLUE, RED],
    8: [GREEN, GREY, RED, BLUE],
}


class TestOrientation:
    @pytest.mark.parametrize("orientation", UPRIGHT)
    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
    def test_upright(self, format, orientation):
        options = {"compression": "raw"} if format == "TIFF" else {}
        decoded = decode(encoded(picture(), format, exif=exif(orientation), **options))
        expected = (HEIGHT, WIDTH) if orientation >= 5 else (WIDTH, HEIGHT)
        assert decoded.image.size == (decoded.width, decoded.height) == expected
        difference = quarters(decoded.image).astype(int) - np.array(UPRIGHT[orientation])
        assert np.abs(difference).max() <= 30

    @pytest.mark.parametrize("orientation", UPRIGHT)
    def test_upright_at_reduced_size(self, orientation):
        data = encoded(picture(640, 480), "JPEG", exif=exif(orientation))
        decoded = decode(data, min_side=100)
        sideways = orientation >= 5
        assert (decoded.width, decoded.height) == ((480, 640) if sideways else (640, 480))
        assert decoded.image.size == ((120, 160) if sideways else (160, 120))
        difference = quarters(decoded.image).astype(int) - np.array(UPRIGHT[orientation])
        assert np.abs(difference).max() <= 30

    @pytest.mark.parametrize("orientation", [0, 9, 65535])
    def test_nonsense_is_upright(self, orientation):
        assert_is_picture(decode(encoded(picture(), "PNG", exif=exif(orientation))), 0)


class TestMinSide:
    @given(
        width=st.integers(1, 700),
        height=st.integers(1, 700),
        min_side=st.integers(1, 800),
        orientation=st.sampled_from([1, 6]),
    )
    @settings(max_examples=60, deadline=None)
    def test_short_side_is_enough(self, width, height, min_side, orientation):
        image = Image.new("RGB", (width, height), RED)
        decoded = decode(encoded(image, "JPEG", exif=exif(orientation)), min_side=min_side)
        upright = (width, height) if orientation == 1 else (height, width)
        assert (decoded.width, decoded.height) == upright
        short, full = min(decoded.image.size), min(width, height)
        assert short >= min(min_side, full)
        # No further halving, up to the third, would have been enough.
        fraction = next(f for f in (8, 4, 2, 1) if full >= f * min_side or f == 1)
        assert short == -(-full // fraction)

    def test_reduces(self):
        data = encoded(picture(4000, 3000), "JPEG")
        assert decode(data, min_side=224).image.size == (500, 375)
        assert decode(data).image.size == (4000, 3000)

    def test_reduces_mpo(self):
        frames = [picture(1600, 1200), picture(1600, 1200)]
        data = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
        decoded = decode(data, min_side=224)
        assert decoded.image.size == (400, 300)
        assert (decoded.width, decoded.height) == (1600, 1200)

    @pytest.mark.parametrize("format", ["PNG", "HEIF"])
    def test_other_formats_are_whole(self, format):
        decoded = decode(encoded(picture(640, 480), format), min_side=10)
        assert decoded.image.size == (decoded.width, decoded.height) == (640, 480)


class TestTakenAt:
    taken, iso = "2024:05:01 18:03:59", "2024-05-01T18:03:59"

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
    def test_with_offset(self, format):
        data = encoded(picture(), format, exif=exif(6, self.taken, "+02:00"))
        assert decode(data).taken_at == self.iso + "+02:00"

    @pytest.mark.parametrize("offset", [None, "", "   :  ", "summer"])
    def test_without_offset(self, offset):
        data = encoded(picture(), "JPEG", exif=exif(None, self.taken, offset))
        assert decode(data, min_side=8).taken_at == self.iso

    @pytest.mark.parametrize(
        "taken", ["0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday", ""]
    )
    def test_nonsense_is_none(self, taken):
        assert decode(encoded(picture(), "JPEG", exif=exif(1, taken))).taken_at is None

    def test_none(self):
        assert decode(file_of("jpeg")).taken_at is None
        assert decode(file_of("gif")).taken_at is None

    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("name", ["jpeg", "png", "webp"])
    def test_broken_metadata_is_no_reason_to_lose_a_picture(self, name):
        good = exif(1, self.taken)
        for bad in (
            good[:20],
            good[:-15],
            good[:14] + b"\xff" * 40,
            b"Exif\0\0II*\0\xff\xff\xff\x7f",
        ):
            assert_is_picture(decode(file_of(name, exif=bad)), FILES[name][3])

    @pytest.mark.parametrize("error", [struct.error("x"), SyntaxError("x"), ZeroDivisionError("x")])
    @pytest.mark.parametrize("method", ["get", "get_ifd"])
    def test_whatever_reading_the_metadata_raises(self, error, method, monkeypatch):
        def fail(self, *_):
            raise error

        data = encoded(picture(), "PNG", exif=exif(1, self.taken))
        monkeypatch.setattr(Image.Exif, method, fail)
        decoded = decode(data)
        assert_is_picture(decoded, 0)
        assert decoded.taken_at is None


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


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
        return {"exif": exif(6, TestTakenAt.taken)} if FILES[name][0] in ("JPEG", "PNG") else {}


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
