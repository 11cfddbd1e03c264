"""Images decoded once: right pixels, in key order, from where a kill left off."""

import numpy as np
import pytest
import torch
from PIL import Image

from imageherd.errors import ImageherdError
from imageherd.images.decode import decode
from imageherd.images.folder import FolderSource
from imageherd.pretraining import data
from imageherd.pretraining.data import native_size, normalize, pixels_of_array, read_pixels


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    root = tmp_path / "photos"
    (root / "b").mkdir(parents=True)
    for i in range(9):
        shape = (20 + i, 30, 3)
        image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
        image.save(root / ("b" if i % 2 else ".") / f"{i}.png")
    (root / "b" / "broken.jpg").write_bytes(b"\xff\xd8\xff no")
    (root / "empty.jpg").touch()
    return root


def test_the_pixels_are_those_a_backbone_would_get(folder, tmp_path):
    source = FolderSource(folder)
    pixels = read_pixels(source, tmp_path / "run", size=16)
    assert pixels.keys == [e.key for e in source.scan() if b"broken" not in e.key and e.size]
    assert [key for key, _ in pixels.unreadable] == [b"b/broken.jpg", b"empty.jpg"]
    image = decode(source.read(pixels.keys[2])).image
    expected = pixels.preprocessing.apply(image)
    got = normalize(pixels.batch(torch.tensor([2]), torch.device("cpu")), pixels)[0]
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_mean_and_std_are_those_of_all_pixels(folder, tmp_path):
    pixels = read_pixels(FolderSource(folder), tmp_path, size=12)
    values = pixels.values.numpy().astype(np.float64)
    np.testing.assert_allclose(pixels.mean, values.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(pixels.std, values.std((0, 2, 3)), rtol=1e-12)


class Stopping:
    """A source that is stopped at one image, and counts what is read."""

    def __init__(self, source, at):
        self.source, self.at, self.keys = source, at, []

    def scan(self):
        return self.source.scan()

    def read(self, key):
        if len(self.keys) == self.at:
            raise KeyboardInterrupt
        self.keys.append(key)
        return self.source.read(key)


def test_decoding_goes_on_where_it_was_stopped(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "_RECORD", 2)
    whole = read_pixels(FolderSource(folder), tmp_path / "whole", size=8)
    with pytest.raises(KeyboardInterrupt):
        read_pixels(Stopping(FolderSource(folder), 6), tmp_path / "run", size=8, workers=1)
    again = Stopping(FolderSource(folder), None)
    resumed = read_pixels(again, tmp_path / "run", size=8, workers=1)
    assert len(again.keys) < 8
    assert torch.equal(resumed.values, whole.values)
    assert (resumed.keys, resumed.sha256, resumed.unreadable) == (
        whole.keys,
        whole.sha256,
        whole.unreadable,
    )
    done = Stopping(FolderSource(folder), 0)
    assert read_pixels(done, tmp_path / "run", size=8).sha256 == whole.sha256


@pytest.mark.parametrize("change", ["size", "source", "file"])
def test_decoding_begins_anew_when_what_is_there_does_not_fit(folder, tmp_path, change):
    read_pixels(FolderSource(folder), tmp_path / "run", size=8)
    if change == "source":
        (folder / "0.png").unlink()
    if change == "file":
        (tmp_path / "run" / "pixels.u8").write_bytes(b"short")
    size = 12 if change == "size" else 8
    fresh = read_pixels(FolderSource(folder), tmp_path / "fresh", size=size)
    assert read_pixels(FolderSource(folder), tmp_path / "run", size=size).sha256 == fresh.sha256


def test_a_size_is_taken_from_the_first_image(folder, tmp_path):
    assert read_pixels(FolderSource(folder), tmp_path).size == 20
    assert [native_size(*s) for s in ((28, 28), (33, 90), (640, 480), (3, 5))] == [28, 32, 96, 8]


def test_no_readable_image_is_an_error(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"nothing")
    with pytest.raises(ImageherdError, match="None of the 1 images can be read: no image"):
        read_pixels(FolderSource(tmp_path / "photos"), tmp_path / "run")


def test_arrays_grey_or_rgb_channels_first_or_last():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (5, 12, 12, 3), dtype=np.uint8)
    last, first = pixels_of_array(rgb), pixels_of_array(rgb.transpose(0, 3, 1, 2))
    assert torch.equal(last.values, first.values)
    np.testing.assert_array_equal(last.values, rgb.transpose(0, 3, 1, 2))
    grey = pixels_of_array(rgb[..., 0], size=8)
    assert grey.values.shape == (5, 3, 8, 8)
    assert torch.equal(grey.values[:, 0], grey.values[:, 2])
    assert pixels_of_array(np.zeros((2, 8, 8), np.uint8)).std == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("shape", [(4, 12), (4, 12, 12, 2), (0, 12, 12)])
def test_arrays_that_are_no_images(shape):
    with pytest.raises(ValueError, match="array"):
        pixels_of_array(np.zeros(shape, np.uint8))
