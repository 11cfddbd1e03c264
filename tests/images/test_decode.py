"""Every format and every kind of pixel, turned upright, with what the file says of itself."""

from __future__ import annotations

import io
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import (
    BLUE,
    FILES,
    GREEN,
    GREY,
    HEIGHT,
    RED,
    WIDTH,
    assert_is_picture,
    encoded,
    exif,
    file_of,
    picture,
    png_chunk,
    quarters,
)
from PIL import Image

from imageherd.images.decode import decode, to_8_bits


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
