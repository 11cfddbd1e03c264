"""Vectors in NumPy and Parquet files: what is read, what is refused, and whose they are."""

import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from imageherd.errors import ImageherdError
from imageherd.images.decode import UnreadableImageError
from imageherd.images.folder import FolderSource
from imageherd.images.source import open_source, source_from_uri
from imageherd.images.tables.columns import KEY
from imageherd.images.vectors.vector_file import VectorFile
from imageherd.images.vectors.with_vectors import WithVectors

X = np.random.default_rng(0).normal(size=(12, 5))


def every(source):
    return source.take(np.arange(len(source)))


def table(file, **columns):
    pq.write_table(pa.table(columns), file)
    return file


def lists(values, kind=None):
    return pa.array(list(values), kind or pa.list_(pa.float32()))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_of_any_float_is_read_as_float32(tmp_path, dtype, order):
    stored = np.asarray(X.astype(dtype), order=order)
    np.save(tmp_path / "x.npy", stored)
    source = open_source(tmp_path / "x.npy")
    assert isinstance(source, VectorFile)
    assert (len(source), source.dim) == (12, 5)
    np.testing.assert_array_equal(every(source), stored.astype(np.float32))
    np.testing.assert_array_equal(source.take(np.array([7, 2, 7])), every(source)[[7, 2, 7]])
    assert source.read(b"0000007") == every(source)[7].tobytes()


def test_a_folder_of_arrays_is_one_below_the_other(tmp_path):
    for name, part in (("b", X[5:]), ("a", X[:5])):
        np.save(tmp_path / f"{name}.npy", part)
    source = open_source(tmp_path)
    np.testing.assert_array_equal(every(source), X.astype(np.float32))
    assert [entry.key for entry in source.scan()] == [b"%07d" % i for i in range(12)]
    np.save(tmp_path / "whole.npy", X)
    assert VectorFile(tmp_path / "whole.npy").sha256 == source.sha256
    np.save(tmp_path / "c.npy", X[:, :4])
    with pytest.raises(ImageherdError, match="vectors of 4 numbers"):
        VectorFile(tmp_path)


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), 5), pa.large_list(pa.float32())]
)
def test_a_column_of_lists_is_read(tmp_path, kind):
    path = table(tmp_path / "x.parquet", path=[f"{i}.jpg" for i in range(12)], v=lists(X, kind))
    source = open_source(path)
    np.testing.assert_array_equal(every(source), X.astype(np.float32))
    assert source.keys == [f"{i}.jpg".encode() for i in range(12)]
    assert source.columns().column_names == [KEY, "path"]


def test_an_empty_entry_of_a_column_is_a_vector_that_is_not_finite(tmp_path):
    for kind in (pa.list_(pa.float32()), pa.list_(pa.float32(), 5)):
        path = table(tmp_path / "x.parquet", v=lists([X[0], None, X[2]], kind))
        np.testing.assert_array_equal(
            np.isfinite(every(VectorFile(path))).all(1), [True, False, True]
        )


def test_several_columns_have_to_be_told_apart(tmp_path):
    path = table(tmp_path / "x.parquet", a=lists(X), b=lists(X + 1), text=["t"] * 12)
    with pytest.raises(ImageherdError, match=r"2 columns of vectors \(a, b\)"):
        VectorFile(path)
    with pytest.raises(ImageherdError, match="these: a, b"):
        VectorFile(path, column="text")
    np.testing.assert_array_equal(every(VectorFile(path, column="b")), (X + 1).astype(np.float32))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (X[0], r"shape \(5,\)"),
        (np.float32(3), r"shape \(\)"),
        (X[:0], r"shape \(0, 5\)"),
        (X[:, :0], r"shape \(12, 0\)"),
        (X.astype(np.int32), "int32"),
        (X.astype(complex), "complex"),
        (np.array([{"a": 1}, None], dtype=object), "Python objects"),
        (np.full((2, 2), None), "Python objects"),
    ],
)
def test_other_arrays_are_refused_and_never_unpickled(tmp_path, array, words):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(ImageherdError, match=words):
        open_source(tmp_path / "x.npy")


def test_damaged_files_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:200])
    with pytest.raises(ImageherdError, match="damaged"):
        VectorFile(tmp_path / "x.npy")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ImageherdError, match="damaged"):
        VectorFile(tmp_path / "x.parquet")
    with pytest.raises(ImageherdError, match="different lengths"):
        VectorFile(table(tmp_path / "y.parquet", v=lists([[1.0], [1.0, 2.0]])))
    with pytest.raises(ImageherdError, match="no file"):
        VectorFile(tmp_path / "gone.npy")


def test_what_holds_images_is_not_taken_for_vectors(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((3, 8, 8), np.uint8))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    file = table(tmp_path / "t.parquet", image=[b"jpeg"] * 12, v=lists(X))
    for given in (tmp_path / "images.npy", file, tmp_path):
        assert not isinstance(open_source(given), VectorFile)


def test_what_is_gone_says_so(tmp_path):
    np.save(tmp_path / "x.npy", X)
    source = VectorFile(tmp_path / "x.npy")
    with pytest.raises(UnreadableImageError, match="no such row"):
        source.read(b"0000012")
    source.root.unlink()
    gone = source_from_uri(source.uri)
    assert not gone.is_there()
    with pytest.raises(UnreadableImageError):
        gone.read(b"0000000")
    with pytest.raises(ImageherdError, match="no file"):
        gone.scan()


# ---- images and their vectors


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "photos"
    for i in range(4):
        path = folder / ("in" if i % 2 else "") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9 + i, 9), (60 * i, 0, 0)).save(path)
    return FolderSource(folder)


def joined(pictures, tmp_path, names, n=None):
    np.save(tmp_path / "v.npy", X[: len(names) if n is None else n])
    (tmp_path / "keys.txt").write_text("".join(f"{name}\n" for name in names))
    return WithVectors(pictures, VectorFile(tmp_path / "v.npy"), tmp_path / "keys.txt")


def test_vectors_find_their_images_by_path_in_any_order(pictures, tmp_path):
    names = ["in/3.png", "./0.png", f"{pictures.root}/2.png", "in/1.png"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = joined(pictures, tmp_path, names).position
    assert found == {b"in/3.png": 0, b"0.png": 1, b"2.png": 2, b"in/1.png": 3}


def test_images_without_vectors_and_vectors_without_images_are_told(pictures, tmp_path):
    source = joined(pictures, tmp_path, ["0.png", "9.png"])
    with (
        pytest.warns(UserWarning, match="3 of the 4 images have no vector"),
        pytest.warns(UserWarning, match="1 of the 2 vectors"),
    ):
        assert source.position == {b"0.png": 0}


def test_position_alone_never_joins(pictures, tmp_path):
    np.save(tmp_path / "v.npy", X[:4])
    with pytest.raises(ImageherdError, match="--keys"):
        WithVectors(pictures, VectorFile(tmp_path / "v.npy"))


@pytest.mark.parametrize(
    ("names", "n", "words"),
    [
        (["0.png"], 4, "1 paths for the 4 vectors"),
        (["0.png", "in/1.png", "./0.png"], 3, "names 0.png twice"),
    ],
)
def test_keys_that_do_not_fit_the_vectors_are_refused(pictures, tmp_path, names, n, words):
    with pytest.raises(ImageherdError, match=words):
        joined(pictures, tmp_path, names, n)


def test_keys_of_other_images_say_what_both_look_like(pictures, tmp_path):
    with pytest.raises(ImageherdError, match=r"'0\.png', the vectors' such as 'a/x\.jpg'"):
        _ = joined(pictures, tmp_path, ["a/x.jpg"]).position


def test_a_table_names_the_images_itself(pictures, tmp_path):
    path = table(tmp_path / "v.parquet", key=[b"in/1.png", b"0.png"], v=lists(X[:2]))
    with pytest.warns(UserWarning, match="2 of the 4 images"):
        assert WithVectors(pictures, VectorFile(path)).position == {b"in/1.png": 0, b"0.png": 1}


def test_a_herd_remembers_which_column_was_chosen(tmp_path):
    path = table(tmp_path / "x.parquet", a=lists(X), b=lists(X + 1))
    again = source_from_uri(VectorFile(path, column="b").uri)
    np.testing.assert_array_equal(every(again), (X + 1).astype(np.float32))


def test_a_parquet_file_may_be_called_anything(tmp_path):
    source = open_source(table(tmp_path / "vectors.data", a=lists(X)))
    np.testing.assert_array_equal(every(source), X.astype(np.float32))
