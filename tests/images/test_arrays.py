"""What is particular to arrays: shapes, types, labels beside them, files."""

import hashlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from feature_fakes import World
from imageherd.errors import ImageherdError
from imageherd.images.arrays import ArraySource, bmp_bytes
from imageherd.images.decode import UnreadableImageError, decode
from imageherd.images.source import open_source, source_from_uri
from imageherd.images.tables.columns import KEY

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (3, 5, 6), dtype=np.uint8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "images.npy"


def saved(path, array):
    np.save(path, array)
    return path


def pixels(source, number):
    return np.asarray(decode(source.read(b"%08d" % number)).image)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.uint8,
        st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
            lambda hw: st.sampled_from([hw, (*hw, 3), (*hw, 4)])
        ),
    )
)
def test_a_bmp_holds_every_pixel_as_it_is(picture):
    with Image.open(io.BytesIO(bmp_bytes(picture))) as image:
        found = np.asarray(image)
    np.testing.assert_array_equal(found, picture)


def test_the_bytes_are_always_the_same():
    # A content hash tells changed images from unchanged ones, whatever has been updated since.
    data = bmp_bytes(np.arange(60, dtype=np.uint8).reshape(5, 4, 3))
    assert hashlib.sha256(data).hexdigest()[:16] == "648b77288cea6b35"


@pytest.mark.parametrize("extra", [(), (1,), (3,), (4,)])
def test_shapes(path, extra):
    array = RNG.integers(0, 256, (3, 5, 6, *extra), dtype=np.uint8)
    source = open_source(saved(path, array))
    assert source.description == "an array of images of 6 x 5 pixels"
    assert [(e.key, e.size) for e in source.scan()] == [
        (b"%08d" % i, array[0].nbytes) for i in range(3)
    ]
    expected = np.broadcast_to(array.reshape(3, 5, 6, -1)[2, ..., :3], (5, 6, 3))
    if extra == (4,):
        opacity = array[2, ..., 3:] / 255
        expected = expected * opacity + 255 * (1 - opacity)
    np.testing.assert_allclose(pixels(source, 2), expected, atol=1 if extra == (4,) else 0)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (GREY / 255, GREY),
        ((GREY / 255).astype(np.float16), GREY),
        (np.asfortranarray(GREY), GREY),
        (GREY.astype(">i8"), GREY),
        # A camera of 12 bits.
        (GREY.astype(np.uint16) * 16 + 15, GREY),
        (GREY > 99, (GREY > 99) * np.uint8(255)),
        (np.where(GREY > 99, np.nan, 0.0), GREY * np.uint8(0)),
    ],
)
def test_types(path, array, expected):
    source = open_source(saved(path, array))
    for number in range(3):
        found = pixels(source, number)[..., 0].astype(int)
        assert np.abs(found - expected[number]).max() <= (array.dtype == np.uint16)


def test_floats_beyond_one_are_refused_not_guessed(path):
    with pytest.raises(
        ImageherdError, match=r"first image of .* values from 0 to 2.*save it as uint8"
    ):
        open_source(saved(path, GREY.astype(np.float32)))
    array = GREY / 255
    array[1, 0, 0] = -3
    source = open_source(saved(path, array))
    assert len(source.scan()) == 3
    with pytest.raises(UnreadableImageError, match=r"values from -3 to .*between 0 and 1"):
        source.read(b"00000001")
    assert World(path.parent / "world", source).embed().n_unreadable == 1


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 3, 8, 8), np.uint8), r"shape \(3, 3, 8, 8\).*transpose\(0, 2, 3, 1\)"),
        (np.zeros((8, 8, 3), np.uint8), r"a single image is X\[None\]"),
        (np.zeros(8, np.uint8), r"shape \(8,\); images have the shape"),
        (np.zeros((2, 8, 8), complex), "complex128 values; images are numbers"),
        (np.zeros((0, 8, 8), np.uint8), r"holds no image: its array has the shape \(0, 8, 8\)"),
    ],
)
def test_what_is_no_array_of_images(path, array, message):
    with pytest.raises(ImageherdError, match=message):
        ArraySource(saved(path, array))


def test_python_objects_are_never_loaded(path, tmp_path):
    with pytest.raises(ImageherdError, match="object values"):
        open_source(saved(path, np.array([[[None] * 5] * 5] * 5)))
    np.savez(tmp_path / "a.npz", x=GREY, names=np.array([None] * 3))
    assert open_source(tmp_path / "a.npz").columns().column_names == [KEY]


def test_what_lies_beside_the_images_is_carried(tmp_path):
    path = tmp_path / "digits.npz"
    beside = {"y": np.array([3, 1, 2]), "name": np.array(["a", "b", "ä"]), "w": np.zeros((3, 1))}
    np.savez(path, x=GREY, matrix=np.zeros((3, 3)), four=np.zeros(4), **beside)
    told = open_source(path).columns().to_pydict()
    keys = [b"00000000", b"00000001", b"00000002"]
    assert told == {KEY: keys, "y": [3, 1, 2], "name": ["a", "b", "ä"], "w": [0.0, 0.0, 0.0]}


def test_one_of_several_arrays(tmp_path):
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=GREY, y_train=np.arange(3), x_test=GREY[:2], y_test=np.arange(2))
    with pytest.raises(
        ImageherdError, match=r"Several arrays .* images: x_train, x_test.*--image-c"
    ):
        open_source(path)
    source = open_source(path, image_column="x_test")
    assert source.description == "the array x_test of images of 6 x 5 pixels"
    assert source.columns().column_names == [KEY, "y_test"]
    again = source_from_uri(source.uri)
    np.testing.assert_array_equal(pixels(again, 1)[..., 0], GREY[1])
    with pytest.raises(ImageherdError, match="no array x; it has x_train, y_train, x_test, y_test"):
        open_source(path, image_column="x")
    with pytest.raises(ImageherdError, match=r"holds an array of shape \(2,\); images"):
        open_source(path, image_column="y_test")


def test_a_file_that_is_damaged_or_gone(path, tmp_path):
    for name, data in {
        "a.npy": b"\x93NUMPY\x01\x00v\x00",
        "b.npz": b"PK\x03\x04 and no more",
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageherdError, match=f"{name} cannot be read"):
            open_source(tmp_path / name)
    data = saved(path, GREY).read_bytes()
    source = source_from_uri(open_source(path).uri)
    path.write_bytes(data[:-50])
    with pytest.raises(UnreadableImageError, match="the array cannot be read"):
        source.read(b"00000002")
    path.unlink()
    assert not source.is_there()
    with pytest.raises(ImageherdError, match="There is no file"):
        source.scan()


def test_images_added_to_an_array_are_all_that_is_embedded(path, tmp_path):
    world = World(tmp_path / "world", open_source(saved(path, GREY)))
    assert world.embed().n_embedded == 3
    more = np.concatenate([GREY, 255 - GREY[:1]])
    assert world.embed(source=open_source(saved(path, more))).n_embedded == 1
    summary = world.embed(source=ArraySource(saved(path, GREY[:2])))
    assert (summary.n_embedded, summary.n_deleted) == (0, 2)
