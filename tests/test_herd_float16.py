"""A herd of float16 features: every reader takes them, in numbers that float32 rounds to."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import adjusted_rand_score
from typer.testing import CliRunner

from imageherd.cli import app
from imageherd.errors import ImageherdError
from imageherd.features.computed import GivenVectors
from imageherd.herd import Herd
from imageherd.images.vectors.vector_file import VectorFile
from imageherd.makers import load_maker
from imageherd.onnx_model import write_onnx
from imageherd.project import read_project

EXAMPLES = Path(__file__).parents[1] / "examples" / "clothing"


@pytest.fixture(scope="module")
def halved(template, photos, tmp_path_factory) -> Path:
    """The herd of 48 photographs, with its features in float16 too, and clustered on those."""
    herd = Herd(shutil.copytree(template, tmp_path_factory.mktemp("half") / "half.herd"))
    assert herd.embed(photos, dtype="float16", views=1).n_embedded == 48
    herd.cluster("kmeans", 4, name="half")
    return herd.path


@pytest.fixture
def half(halved, tmp_path) -> Herd:
    return Herd(shutil.copytree(halved, tmp_path / "half.herd"))


def test_it_is_half_the_bytes_and_clusters_as_float32_does(half):
    wide = half.clustering("default").config["features"]
    data, before = half.features(), half.features(wide)
    assert (data.store.dtype, before.store.dtype) == ("float16", "float32")
    np.testing.assert_array_equal(data.X, before.X.astype(np.float16).astype(np.float32))
    assert data.views.dtype == np.float32
    sizes = [
        sum(path.stat().st_size for path in (half.path / "features" / key).glob("shard-*.npy"))
        for key in (wide, data.key)
    ]
    assert sizes[1] == pytest.approx(sizes[0] / 2, abs=100)
    names = [half.clustering(name) for name in ("default", "half")]
    assert adjusted_rand_score(names[0].uids, names[1].uids) == 1
    graphs = [half.neighbors(half.features(key), k=10) for key in (wide, data.key)]
    shared = [len(np.intersect1d(*ids)) for ids in zip(*(g.ids for g in graphs), strict=True)]
    assert np.mean(shared) >= 9.9
    # The classes that name clusters are the same in both.
    assert names[0].names() == names[1].names()


def test_what_comes_out_is_float32(half, tmp_path):
    table = pq.read_table(half.export(tmp_path / "out.parquet", to="parquet", name="half"))
    table = table.filter(table["features"].is_valid())
    vectors = np.stack(table["features"].to_numpy())
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, half.features().store.read(table["row"].to_numpy()))
    assert half.report(name="half").is_file()
    assert half.evaluate("folder", name="half").n_images == 48


def test_one_file_of_it_says_what_the_herd_says(half, tmp_path):
    path = write_onnx(half.path, tmp_path / "half.onnx", name="half")
    assert json.loads(path.with_suffix(".json").read_bytes())["clustering"]["name"] == "half"


def test_new_photographs_are_kept_in_the_clusterings_precision(half, tmp_path):
    key = half.features().key
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    for path in sorted(EXAMPLES.glob("*.jpg"))[100:103]:
        shutil.copy(path, fresh)
    project = read_project(half.path)
    placed = half.assign(fresh, name="half", reject=0)
    assert len(placed.rows) == 3
    assert placed.rows[-1] in half.features(key).rows
    assert read_project(half.path)["features"] == project["features"] == key
    # In the other precision they have no vector: a set of its own.
    other = half.features(half.clustering("default").config["features"])
    assert not np.isin(placed.rows, other.rows).any()


def test_a_search_by_image_finds_the_image(half, photos):
    path = half.items()["path"][5].as_py()
    hits = half.search(image=photos / path, n=3)
    assert hits.rows[0] == 5
    assert hits.similarity[0] == pytest.approx(1, abs=1e-5)
    by_row = half.search(item=5, n=2)
    np.testing.assert_array_equal(by_row.rows, hits.rows[1:])


def test_given_vectors_and_texts(tmp_path):
    X = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    np.save(tmp_path / "clip.npy", X)
    herd = Herd(tmp_path / "v.herd")
    herd.embed(tmp_path / "clip.npy", dtype="float16")
    np.testing.assert_array_equal(herd.features().X, X.astype(np.float16).astype(np.float32))
    assert herd.features().key != GivenVectors(VectorFile(tmp_path / "clip.npy")).key
    (tmp_path / "t.txt").write_text("red shoe\nblue shoe\nred hat\nblue hat\n" * 5)
    texts = Herd(tmp_path / "t.herd")
    texts.embed(tmp_path / "t.txt", dtype="float16")
    project = read_project(texts.path)
    assert texts.features().store.dtype == "float16"
    assert len(texts.search(text="hat", n=20).rows) == 10
    # Named by its key, the set keeps to its precision.
    (tmp_path / "more.txt").write_text("red hat red\n")
    texts.cluster("kmeans", 2)
    texts.assign(tmp_path / "more.txt", reject=0)
    assert read_project(texts.path)["backbones"] == project["backbones"]
    assert len(texts.features().rows) == 21


def test_vectors_too_long_for_it_are_refused_by_name(tmp_path):
    np.save(tmp_path / "long.npy", np.array([[1.0, 2], [3, 7e4]], np.float32))
    with pytest.raises(ImageherdError, match=r"row 1 reach 70,000 and float16 ends at 65,504"):
        Herd(tmp_path / "v.herd").embed(tmp_path / "long.npy", dtype="float16")


def test_on_the_command_line(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("v.npy", np.eye(4, dtype=np.float32))

    def run(*arguments):
        return CliRunner().invoke(app, ["embed", "v.npy", *arguments])

    assert "float64 is not known" in run("--dtype", "float64").stderr
    assert not Path("v.herd").exists()
    done = run("--dtype", "float16", "--json")
    assert done.exit_code == 0, done.output
    (manifest,) = Path("v.herd").glob("features/*/manifest.json")
    assert json.loads(manifest.read_bytes())["dtype"] == "float16"
    assert json.loads(done.stdout)["features"] == manifest.parent.name


def test_the_dtype_is_looked_at_before_anything_is_written(photos, tmp_path):
    with pytest.raises(ImageherdError, match="dtype='half' is not known"):
        Herd(tmp_path / "p.herd").embed(photos, dtype="half")
    assert not (tmp_path / "p.herd").exists()
    assert load_maker(tmp_path, None, "efficientnet-lite0", "cpu", "float16").identity["stored"]
