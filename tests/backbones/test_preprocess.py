import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import picture
from PIL import Image

from imageherd.backbones.preprocess import INTERPOLATIONS, Preprocessing
from imageherd.errors import ImageherdError


def resize_then_crop(image, preprocessing):
    """The same by the long way round: the whole image resized, the middle cut out."""
    width, height = image.size
    if preprocessing.mode == "squash":
        new = preprocessing.resize, preprocessing.resize
    else:
        short = min(width, height)
        new = tuple(int(preprocessing.resize * side / short) for side in image.size)
    resized = image.resize(new, INTERPOLATIONS[preprocessing.interpolation])
    left, top = ((side - preprocessing.size) // 2 for side in new)
    size = preprocessing.size
    pixels = np.asarray(resized.crop((left, top, left + size, top + size)), dtype=np.float64)
    return (pixels.transpose(2, 0, 1) - np.reshape(preprocessing.mean, (3, 1, 1))) / np.reshape(
        preprocessing.std, (3, 1, 1)
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(10, 150),
    st.integers(10, 150),
    st.integers(1, 48),
    st.integers(0, 16),
    st.sampled_from(["crop", "squash"]),
    st.sampled_from(sorted(INTERPOLATIONS)),
)
def test_apply_is_resize_then_centre_crop(width, height, size, margin, mode, interpolation):
    preprocessing = Preprocessing(
        size, size + margin, mode, interpolation, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )
    image = picture(width, height)
    got = preprocessing.apply(image)
    assert (got.shape, got.dtype) == ((3, size, size), np.float32)
    assert got.flags.c_contiguous
    assert np.array_equal(got, resize_then_crop(image, preprocessing))


def test_mean_and_std_are_on_the_scale_of_pixels():
    image = Image.new("RGB", (8, 8), (10, 127, 255))
    got = Preprocessing(4, 4, mean=(10.0, 0.0, 127.0), std=(1.0, 127.0, 128.0)).apply(image)
    assert got.reshape(3, -1).tolist() == [[0.0] * 16, [1.0] * 16, [1.0] * 16]


def test_crop_takes_the_middle_and_squash_takes_all():
    image = Image.new("RGB", (30, 10), (255, 0, 0))
    image.paste((0, 0, 255), (10, 0, 20, 10))
    plain = {"size": 10, "resize": 10, "interpolation": "box", "mean": (0, 0, 0), "std": (1, 1, 1)}
    assert (Preprocessing(mode="crop", **plain).apply(image)[2] == 255).all()
    squashed = Preprocessing(mode="squash", **plain).apply(image)
    assert squashed[0, :, 0].tolist() == squashed[0, :, -1].tolist() == [255] * 10
    assert squashed[2, :, 5].tolist() == [255] * 10


def test_a_strip_costs_no_more_than_another_image():
    # Resized whole, it would be 4 million pixels wide.
    strip = Image.new("RGB", (20_000, 1), (255, 0, 0))
    strip.paste((0, 0, 255), (9_998, 0, 10_002, 1))
    wide = Preprocessing(224, 224).apply(strip)
    assert (wide[2] > 0).all()
    assert np.array_equal(
        Preprocessing(224, 224).apply(strip.transpose(Image.Transpose.TRANSPOSE)),
        wide.transpose(0, 2, 1),
    )


def test_with_mode():
    crop = Preprocessing(224, 256)
    assert crop.with_mode(None) is crop
    assert crop.with_mode("squash") == Preprocessing(224, 224, "squash")
    assert Preprocessing(224, 224, "squash").with_mode("crop") == Preprocessing(224, 224, "crop")


def test_to_dict_and_back_through_json():
    preprocessing = Preprocessing(224, 256, "squash", "lanczos", (1, 2.5, 3), (4, 5, 6.25))
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": 0}, "size=0"),
        ({"size": True}, "size=True"),
        ({"size": 224.0}, "size=224.0"),
        ({"resize": 100}, "resize=100.*at least the input size, 224"),
        ({"mode": "pad"}, "mode='pad'.*crop, squash"),
        ({"interpolation": 3}, "interpolation=3.*bicubic"),
        ({"mean": [0.5, 0.5]}, r"mean=\[0.5, 0.5\].*3 numbers"),
        ({"mean": None}, "mean=None"),
        ({"mean": [0, 0, float("nan")]}, "finite"),
        ({"std": [1, 1, 0]}, "std.*above 0"),
        ({"stdev": 1}, "unknown fields: stdev"),
    ],
)
def test_wrong_values_are_named(change, says):
    values = Preprocessing(224, 256).to_dict()
    with pytest.raises(ImageherdError, match=says):
        Preprocessing.from_dict({**values, **change})


@pytest.mark.parametrize("field", ["size", "resize", "mode", "interpolation", "mean", "std"])
def test_every_field_must_be_stated(field):
    values = Preprocessing(224, 256).to_dict()
    del values[field]
    with pytest.raises(ImageherdError, match=f"lacks {field}"):
        Preprocessing.from_dict(values)
    with pytest.raises(ImageherdError, match="object"):
        Preprocessing.from_dict([values])
