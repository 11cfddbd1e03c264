"""Features kept in float16: half the bytes, a set of its own, and no number that is not there."""

import numpy as np
import pytest

from feature_fakes import FakeBackbone, picture
from imageherd.errors import ImageherdError
from imageherd.features.precision import DTYPES, rounded, stored_as
from imageherd.features.store import FeatureSet
from imageherd.files import read_json


class Fixed(FakeBackbone):
    """Gives the same vector for all pictures."""

    def __init__(self, vector):
        super().__init__()
        self.vector = np.array(vector, np.float32)

    def embed(self, batch):
        return super().embed(batch) | {"features": np.tile(self.vector, (len(batch), 1))}


def half(vectors):
    return vectors.astype(np.float16).astype(np.float32)


@pytest.fixture
def both(world):
    for number in range(13):
        world.source.put(f"{number:02d}.png", picture(number))
    world.source.put("copy.png", picture(2))
    world.source.put("text.png", b"text")
    world.embed()
    world.embed(stored_as(FakeBackbone(), "float16"))
    return world


def test_what_is_read_is_float32_rounded_once(both):
    wide, kept = both.features(), both.features(stored_as(FakeBackbone(), "float16"))
    assert (wide.dtype, kept.dtype) == ("float32", "float16")
    expected = half(wide.read())
    assert kept.read().dtype == np.float32
    for rows in (None, np.arange(6, 9), np.array([12, 0, 14, 3])):
        np.testing.assert_array_equal(kept.read(rows), expected if rows is None else expected[rows])
    np.testing.assert_array_equal(kept.top5()[0], wide.top5()[0])
    np.testing.assert_array_equal(kept.rows_present(), wide.rows_present())
    kept.verify()


def test_the_two_are_different_sets_and_one_takes_half_the_bytes(both):
    folders = [both.set_folder(stored_as(FakeBackbone(), dtype)) for dtype in DTYPES]
    assert folders[0] != folders[1]
    wide, kept = (np.load(folder / "shard-00000.npy") for folder in folders)
    assert (wide.nbytes, kept.nbytes) == (5 * 6 * 4, 5 * 6 * 2)
    manifests = [read_json(folder / "manifest.json") for folder in folders]
    # One that knows nothing of float16 asks for a newer one, and reads the other as ever.
    found = [(m["format_version"], m["dtype"]) for m in manifests]
    assert found == [(1, "float32"), (2, "float16")]
    assert manifests[1]["identity"] == FakeBackbone().identity | {"stored": "float16"}


def test_a_set_grows_in_its_own_precision_to_the_bytes_of_one_made_at_once(both, tmp_path):
    both.source.put("new.png", picture(99))
    backbone = stored_as(FakeBackbone(), "float16")
    assert both.embed(backbone).n_embedded == 1
    again = type(both)(tmp_path / "again", both.source)
    again.embed(backbone)
    rows = {row["path"]: row["row"] for row in again.rows()}
    for row in both.rows():
        np.testing.assert_array_equal(
            both.features(backbone).read(np.array([row["row"]])),
            again.features(backbone).read(np.array([rows[row["path"]]])),
        )


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        ([1, 0, 0, -65_505, 0, 0], r"row 0 reach 65,505 and float16 ends at 65,504; leave"),
        ([3e-7, -2e-7, 1e-7, 0, 0, 0], r"row 0 are 3.0e-07 at most, too small for float16"),
        ([1e-9] * 6, r"too small for float16"),
    ],
)
def test_what_float16_does_not_hold_is_an_error_and_nothing_is_kept(world, vector, said):
    world.source.put("0.png", picture(0))
    backbone = stored_as(Fixed(vector), "float16")
    with pytest.raises(ImageherdError, match=said):
        world.embed(backbone)
    assert FeatureSet(world.set_folder(backbone)).n_rows == 0
    assert world.embed(Fixed(vector)).n_embedded == 1


def test_its_greatest_number_and_nothing_at_all_are_held():
    for vector in (np.array([65_504, -65_504, 1e-9]), np.zeros(3), np.full(3, 6.2e-5)):
        kept = rounded(vector, np.dtype("<f2"), 0)
        assert kept.dtype == np.float16
        np.testing.assert_allclose(kept.astype(float), vector, atol=6e-8, rtol=2**-11)


def test_another_dtype_is_refused():
    with pytest.raises(ImageherdError, match="dtype='float64' is not known; choose float32 or"):
        stored_as(FakeBackbone(), "float64")
