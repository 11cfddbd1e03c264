"""A herd of vectors, with and without images: identity, quarantine, resuming, adding to it."""

import json
import warnings

import numpy as np
import pytest
from PIL import Image

from imageherd.errors import ImageherdError
from imageherd.features.items import OK, UNREADABLE
from imageherd.features.listing import Listed
from imageherd.features.writer import Writer
from imageherd.herd import Herd
from imageherd.images.source import open_source
from imageherd.images.vectors.vector_file import VectorFile
from imageherd.images.vectors.with_vectors import WithVectors

RNG = np.random.default_rng(0)
CENTERS = np.eye(8) * 6
X = (CENTERS[np.arange(60) % 3] + RNG.normal(size=(60, 8))).astype(np.float32)


@pytest.fixture
def vectors(tmp_path):
    np.save(tmp_path / "clip.npy", X)
    return tmp_path / "clip.npy"


@pytest.fixture
def herd(tmp_path):
    return Herd(tmp_path / "v.herd")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(12):
        Image.new("RGB", (10 + i, 9), (20 * i, 0, 0)).save(folder / f"{i:02d}.png")
    return folder


def with_vectors(pictures, tmp_path, rows, name="of-photos.npy"):
    np.save(tmp_path / name, X[rows])
    (tmp_path / "keys.txt").write_text("".join(f"{i:02d}.png\n" for i in rows))
    file = VectorFile(tmp_path / name)
    return Listed(WithVectors(open_source(pictures), file, tmp_path / "keys.txt"))


def test_the_features_are_the_vectors_and_their_key_is_the_contents(herd, vectors, tmp_path):
    summary = herd.embed(vectors)
    assert (summary.n_images, summary.n_embedded, summary.n_unreadable) == (60, 60, 0)
    data = herd.features()
    np.testing.assert_array_equal(data.X, X)
    assert data.key.startswith("clip-")
    data.store.verify()
    assert herd.items()["path"].to_pylist()[42] == "0000042"
    assert herd.embed(vectors).n_embedded == 0
    np.save(tmp_path / "other.npy", X + 1)
    other = Herd(tmp_path / "other.herd")
    other.embed(tmp_path / "other.npy")
    assert other.features().key != data.key


def test_float16_is_kept_exactly_and_float64_rounded_to_float32(tmp_path):
    for dtype in (np.float16, np.float64):
        given = (X / 3).astype(dtype)
        np.save(tmp_path / "x.npy", given)
        herd = Herd(tmp_path / f"{np.dtype(dtype)}.herd")
        herd.embed(tmp_path / "x.npy")
        np.testing.assert_array_equal(herd.features().X, given.astype(np.float32))


def test_vectors_that_are_not_finite_are_set_aside_and_come_back_when_mended(herd, tmp_path):
    bad = X.astype(np.float64)
    bad[3, 0], bad[7, 1], bad[9, 2] = np.nan, -np.inf, 1e300
    np.save(tmp_path / "x.npy", bad)
    summary = herd.embed(tmp_path / "x.npy")
    assert [path for path, _ in summary.reasons] == ["0000003", "0000007", "0000009"]
    status = herd.items()["status"].to_pylist()
    assert [row for row, s in enumerate(status) if s == UNREADABLE] == [3, 7, 9]
    assert len(herd.features().rows) == 57
    np.save(tmp_path / "x.npy", X)
    assert herd.embed(tmp_path / "x.npy").n_unreadable == 0
    np.testing.assert_array_equal(herd.features().X, X)


def test_killed_on_the_way_it_ends_with_the_same_bytes(herd, vectors, tmp_path, monkeypatch):
    whole = Herd(tmp_path / "whole.herd")
    whole.embed(vectors)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(Writer, "commit", stop)
        with pytest.raises(KeyboardInterrupt):
            herd.embed(vectors)
    herd.embed(vectors)
    shards = [next((h.path / "features").glob("*/shard-00000.npy")) for h in (herd, whole)]
    assert shards[0].read_bytes() == shards[1].read_bytes()


def test_more_rows_are_added_and_placed(herd, vectors, tmp_path):
    herd.embed(vectors)
    old = herd.cluster("kmeans", 3)
    assert sorted(c.name for c in old.clusters) == ["cluster 1", "cluster 2", "cluster 3"]
    new = (CENTERS[np.array([0, 1, 2])] + 0.1).astype(np.float32)
    np.save(tmp_path / "new.npy", new)
    found = herd.assign(tmp_path / "new.npy", reject=0)
    at = [int(old.uids[i]) for i in range(3)]
    assert found.uids.tolist() == at
    assert herd.features().key == old.config["features"]


def test_the_same_file_grown_keeps_its_rows(herd, tmp_path):
    np.save(tmp_path / "x.npy", X[:40])
    herd.embed(tmp_path / "x.npy")
    old = herd.cluster("kmeans", 3)
    np.save(tmp_path / "x.npy", X)
    found = herd.assign(tmp_path / "x.npy", reject=0)
    assert found.rows.tolist() == list(range(40, 60))
    np.testing.assert_array_equal(herd.clustering().uids[:40], old.uids)


def test_what_does_not_belong_to_the_features_is_refused(herd, vectors, pictures, tmp_path):
    herd.embed(vectors)
    herd.cluster("kmeans", 3)
    np.save(tmp_path / "narrow.npy", X[:, :5])
    (tmp_path / "texts.txt").write_text("some words\nmore words\n")
    for source, words in (
        (tmp_path / "narrow.npy", "vectors of 5 numbers"),
        (tmp_path / "texts.txt", "holds texts"),
        (pictures, "no backbone makes them of images"),
    ):
        with pytest.raises(ImageherdError, match=words):
            herd.assign(source)
    with pytest.raises(ImageherdError, match="dinov2-small makes no features"):
        herd.embed(vectors, backbone="dinov2-small")
    with pytest.raises(ImageherdError, match="no backbone makes them of images"):
        herd.search(image=pictures / "00.png")
    assert len(herd.search(item="0000004", n=5).rows) == 5


def test_without_images_the_report_shows_keys_and_folders_cannot_be_made(herd, vectors, tmp_path):
    herd.embed(vectors)
    herd.cluster("kmeans", 3)
    page = herd.report().read_text("utf-8")
    contents = page.partition('id="contents">')[2].partition("</script>")[0]
    report = json.loads(contents)
    assert report["noun"] == ["vector", "vectors"]
    assert report["counts"][0] == ["vectors", 60]
    assert not report["thumbnails"]
    assert {report["paths"][int(i)] for i in report["texts"]} == set(report["texts"].values())
    with pytest.raises(ImageherdError, match="no files to put into folders"):
        herd.export(tmp_path / "out", to="folders")
    assert herd.export(tmp_path / "out.csv").read_text().count("cluster ") >= 60


def test_images_get_the_vectors_of_their_paths(herd, pictures, tmp_path):
    rows = RNG.permutation(12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = herd.embed(with_vectors(pictures, tmp_path, rows))
    assert (summary.n_images, summary.n_embedded) == (12, 12)
    np.testing.assert_array_equal(herd.features().X, X[:12])
    items = herd.items()
    assert items["width"].to_pylist() == list(range(10, 22))
    # A backbone's features of the same images come beside them, in the same rows.
    herd.embed(pictures)
    assert herd.items().num_rows == 12


def test_an_image_without_a_vector_stays_an_image(herd, pictures, tmp_path):
    (pictures / "03.png").write_bytes(b"no picture")
    X_of = with_vectors(pictures, tmp_path, [0, 1, 2, 3, 5])
    with pytest.warns(UserWarning, match="7 of the 12 images have no vector"):
        summary = herd.embed(X_of)
    assert herd.features().rows.tolist() == [0, 1, 2, 5]
    status = herd.items()["status"].to_pylist()
    assert [row for row, s in enumerate(status) if s != OK] == [3]
    assert dict(summary.reasons)["04.png"] == "no vector was given for it"
    assert herd.embed(pictures).n_embedded == 11


def test_new_images_with_vectors_are_placed(herd, pictures, tmp_path):
    herd.embed(with_vectors(pictures, tmp_path, np.arange(12)))
    old = herd.cluster("kmeans", 3)
    more = tmp_path / "more"
    more.mkdir()
    Image.new("RGB", (9, 9), (7, 7, 7)).save(more / "00.png")
    found = herd.assign(with_vectors(more, tmp_path, [0], "new.npy"), reject=0)
    assert found.uids.tolist() == [int(old.uids[0])]
