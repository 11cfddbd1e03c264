"""What is particular to tables: which column, which keys, what is read, and what is wrong."""

import os
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_makers import table_of

from feature_fakes import FakeBackbone, World, picture
from imageherd.errors import ImageherdError
from imageherd.images.decode import UnreadableImageError
from imageherd.images.folder import FolderSource
from imageherd.images.source import open_source, shown_uri, source_from_uri
from imageherd.images.tables import files as table_files
from imageherd.images.tables import table as tables
from imageherd.images.tables.columns import KEY
from imageherd.images.tables.files import ParquetRows
from imageherd.images.tables.table import TableSource

IMAGES = {f"{name}.png": picture(i) for i, name in enumerate(["b", "d", "a", "c", "e"])}


def written(path, table, **options):
    pq.write_table(pa.table(table), path, **options)
    return path


def structs(names, data=None):
    data = data or [picture(i) for i in range(len(names))]
    return [{"bytes": d, "path": n} for d, n in zip(data, names, strict=True)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "photos.parquet"


class TestHuggingFace:
    @pytest.fixture
    def dataset(self):
        features = datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
        )
        rows = {"image": structs(list(IMAGES), list(IMAGES.values())), "label": [0, 1, 1, 0, -1]}
        return datasets.Dataset.from_dict(rows, features=features)

    def check(self, given, below=""):
        source = open_source(given)
        assert {e.key: source.read(e.key) for e in source.scan()} == {
            os.fsencode(below + name): data for name, data in IMAGES.items()
        }
        assert source.columns()["label"].to_pylist() == ["cat", "dog", "dog", "cat", None]
        return source

    def test_saved_to_disk(self, dataset, tmp_path):
        dataset.save_to_disk(tmp_path / "set", num_shards=2)
        source = self.check(tmp_path / "set")
        assert source.description == "a Hugging Face dataset with the images in column image"

    def test_several_splits(self, dataset, tmp_path):
        splits = {"test": dataset.select([0]), "train": dataset.select([1, 2, 3, 4])}
        datasets.DatasetDict(splits).save_to_disk(tmp_path / "set")
        self.check(tmp_path / "set")

    def test_as_parquet(self, dataset, tmp_path):
        dataset.to_parquet(tmp_path / "photos.parquet")
        self.check(tmp_path / "photos.parquet")

    def test_the_column_that_the_metadata_calls_images(self, tmp_path):
        features = {"thumb": datasets.Value("binary"), "photo": datasets.Image()}
        rows = {"thumb": [b"no"], "photo": structs(["a.png"])}
        dataset = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
        dataset.to_parquet(tmp_path / "photos.parquet")
        assert open_source(tmp_path / "photos.parquet").read(b"a.png") == picture(0)


class TestWhichColumn:
    def test_one_of_several_by_its_name(self, path):
        data = {"thumb": [picture(0)], "Image": [picture(1)]}
        source = open_source(written(path, data))
        assert source.description == "a table with the images in column Image"
        assert source.read(b"00000000") == picture(1)

    def test_one_of_several_by_choice_which_the_uri_keeps(self, path):
        written(path, {"thumb/ä@:": [picture(0)], "big": [picture(1)]})
        with pytest.raises(ImageherdError, match=r"Several columns of .* thumb/ä@:, big"):
            open_source(path)
        for name, number in (("thumb/ä@:", 0), ("big", 1)):
            source = open_source(path, image_column=name)
            again = source_from_uri(source.uri)
            assert (again.root, again.image_column) == (path, name)
            assert shown_uri(source.uri) == str(path)
            assert again.read(b"00000000") == picture(number)

    @pytest.mark.parametrize(
        ("wanted", "message"),
        [
            ("image", "has no column image; its columns are id, text, inner"),
            ("id", "Column id of .* holds int64; images are files as bytes, structs"),
            ("inner", "Column inner of .* holds struct<x: int64>"),
            (None, "no column that looks like images: its columns are id, text, inner"),
        ],
    )
    def test_what_is_no_image(self, path, wanted, message):
        written(path, {"id": [1], "text": ["a"], "inner": [{"x": 1}]})
        with pytest.raises(ImageherdError, match=message):
            open_source(path, image_column=wanted)

    def test_a_column_of_text_may_be_chosen_as_paths(self, tmp_path, path):
        (tmp_path / "a.png").write_bytes(picture(0))
        written(path, {"where": ["a.png"]})
        source = open_source(path, image_column="where")
        assert source.read(b"a.png") == picture(0)
        assert source.path(b"a.png") == tmp_path / "a.png"

    def test_a_folder_has_no_columns(self, tmp_path):
        with pytest.raises(ImageherdError, match="no table or array, so it has no column image"):
            open_source(tmp_path, image_column="image")


class TestKeys:
    @pytest.mark.parametrize("names", [["a.png", "a.png"], ["a.png", None], ["a.png", ""]])
    def test_paths_that_are_not_unique_or_not_there_are_no_keys(self, path, names):
        source = open_source(written(path, {"image": structs(names)}))
        assert [e.key for e in source.scan()] == [b"00000000", b"00000001"]
        # They say something all the same, but a field of the image's own struct is not carried.
        assert source.columns().column_names == [KEY]

    def test_a_column_beside_the_struct_does_where_its_paths_do_not(self, path):
        data = {"image": structs(["x.png", "x.png"]), "file_name": ["b", "a"], "n": [1, 2]}
        source = open_source(written(path, data))
        assert [e.key for e in source.scan()] == [b"a", b"b"]
        assert source.read(b"a") == picture(1)
        assert source.columns().to_pydict() == {KEY: [b"b", b"a"], "n": [1, 2]}

    def test_the_order_of_the_rows_is_where_they_are_best_read(self, path):
        source = open_source(written(path, table_of(IMAGES)))
        entries = sorted(source.scan(), key=lambda entry: entry.position)
        assert [e.key.decode() for e in entries] == list(IMAGES)[::-1]


class TestReading:
    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.integers(0, 39), max_size=60), st.integers(1, 40), st.integers(1, 2000))
    def test_any_order_gives_the_right_cells(self, tmp_path_factory, order, group, block):
        path = tmp_path_factory.mktemp("t") / "t.parquet"
        cells = [b"%d" % i * (1 + i % 7) for i in range(40)]
        written(path, {"image": cells}, row_group_size=group)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(table_files, "_BLOCK_BYTES", block)
            patch.setattr(table_files, "_KEPT_BYTES", block)
            rows = ParquetRows(path)
            with ThreadPoolExecutor(3) as threads:
                found = list(threads.map(lambda row: rows.cell("image", row), order))
        assert found == [cells[row] for row in order]

    def test_row_after_row_decodes_a_group_once_and_keeps_few_blocks(self, path, monkeypatch):
        monkeypatch.setattr(table_files, "_BLOCK_BYTES", 2_000)
        monkeypatch.setattr(table_files, "_KEPT_BYTES", 5_000)
        opened, decoded = [], ParquetRows._decoded
        monkeypatch.setattr(
            ParquetRows, "_decoded", lambda *args: opened.append(args[2]) or decoded(*args)
        )
        rows = ParquetRows(
            written(path, {"image": [os.urandom(1_000) for _ in range(40)]}, row_group_size=20)
        )
        most = 0
        for row in range(40):
            rows.cell("image", row)
            most = max(most, sum(block.nbytes for _, block in rows._blocks))
        assert opened == [0, 1]
        assert 1_000 < most < 6_000

    def test_a_scan_reads_no_image(self, path, monkeypatch):
        written(path, table_of(IMAGES))
        asked = []
        read = ParquetRows.read
        monkeypatch.setattr(
            ParquetRows, "read", lambda self, names: asked.append(names) or read(self, names)
        )
        source = open_source(path)
        source.scan()
        source.columns()
        assert asked == [["image.path"], ["id"]]

    def test_row_groups_in_which_single_images_are_slow_are_told(self, path, monkeypatch):
        size = sum(len(data) for data in IMAGES.values())
        monkeypatch.setattr(tables, "_LARGE_GROUP", size)
        with pytest.warns(UserWarning, match=r"row groups of up to 0\.0 GiB.*row_group_size=1000"):
            open_source(written(path, table_of(IMAGES))).scan()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            open_source(written(path, table_of(IMAGES), row_group_size=1)).scan()

    def test_cells_without_an_image(self, path, tmp_path, monkeypatch):
        monkeypatch.setattr(tables, "MAX_FILE_BYTES", 1 << 20)
        (tmp_path / "there.png").write_bytes(picture(7))
        names = ["none", "empty", "large", "there.png", "gone.png"]
        cells = structs(names, [None, b"", bytes((1 << 20) + 1), None, None])
        cells[0] = None
        source = open_source(written(path, {"image": cells, "path": names}))
        # Without its bytes, a struct's path says where the file is.
        assert source.read(b"there.png") == picture(7)
        for key, reason in {
            b"none": "no image in its row",
            b"empty": "empty file",
            b"large": "larger than 1 MiB",
            b"gone.png": "no such file",
            b"never there": "no longer in the table",
        }.items():
            with pytest.raises(UnreadableImageError, match=reason):
                source.read(key)

    def test_a_table_written_anew_while_it_is_read_gives_no_other_images(self, path):
        source = open_source(written(path, table_of(IMAGES)))
        source.scan()
        written(path, table_of(dict(reversed(IMAGES.items()))))
        with pytest.raises(UnreadableImageError, match="it was changed while it was being read"):
            source.read(b"a.png")
        source.scan()
        assert source.read(b"a.png") == IMAGES["a.png"]

    def test_a_damaged_page_costs_its_images_and_no_others(self, path, tmp_path):
        images = {f"{i}.png": picture(i) for i in range(40)}
        written(path, table_of(images), row_group_size=10, compression="snappy")
        data = bytearray(path.read_bytes())
        at = data.index(picture(35)[60:80])
        data[at - 400 : at + 40] = bytes(440)
        path.write_bytes(data)
        world = World(tmp_path / "world", open_source(path))
        summary = world.embed()
        assert 1 <= summary.n_unreadable <= 10
        assert summary.n_embedded == 40 - summary.n_unreadable
        assert world.embed().n_unreadable == summary.n_unreadable

    def test_a_table_that_is_gone_or_damaged_says_so(self, path, tmp_path):
        written(path, table_of(IMAGES))
        source = source_from_uri(open_source(path).uri)
        shutil.copy(path, tmp_path / "half.parquet")
        os.truncate(tmp_path / "half.parquet", 300)
        with pytest.raises(ImageherdError, match=r"half\.parquet cannot be read: "):
            open_source(tmp_path / "half.parquet")
        path.unlink()
        assert not source.is_there()
        assert source.description == "a table"
        assert source.shown(b"a.png") == f"{path}/a.png"
        assert source.path(b"a.png") is None
        with pytest.raises(UnreadableImageError, match=r"cannot be read \(There is no table"):
            source.read(b"a.png")
        with pytest.raises(ImageherdError, match="There is no table"):
            source.scan()

    @pytest.mark.parametrize(
        "table", [{"image": pa.array([], pa.binary())}, {"path": pa.array([], pa.string())}]
    )
    def test_an_empty_table(self, path, table):
        with pytest.raises(ImageherdError, match="holds no image: it has no rows"):
            open_source(written(path, table)).scan()


class TestFolders:
    def test_files_that_are_not_alike(self, tmp_path):
        written(tmp_path / "a.parquet", {"image": structs(["a"])})
        written(tmp_path / "b.parquet", {"image": [picture(0)]})
        with pytest.raises(ImageherdError, match=r"b\.parquet has other columns than .*a\.parquet"):
            open_source(tmp_path).scan()

    def test_columns_that_only_some_files_have(self, tmp_path):
        written(tmp_path / "a.parquet", {"image": structs(["a"]), "n": [1]})
        written(tmp_path / "b.parquet", {"image": structs(["b"]), "n": [2.5], "x": ["y"]})
        assert open_source(tmp_path).columns().to_pydict() == {
            KEY: [b"a", b"b"],
            "n": [1, 2.5],
            "x": [None, "y"],
        }

    def test_columns_that_have_nothing_in_common_are_text(self, tmp_path):
        written(tmp_path / "a.parquet", {"image": structs(["a"]), "n": [1]})
        written(tmp_path / "b.parquet", {"image": structs(["b"]), "n": ["two"]})
        assert open_source(tmp_path).columns()["n"].to_pylist() == ["1", "two"]

    def test_a_table_among_images_makes_no_table_of_the_folder(self, tmp_path):
        (tmp_path / "in").mkdir()
        written(tmp_path / "in" / "facts.parquet", table_of(IMAGES))
        assert isinstance(open_source(tmp_path), TableSource)
        (tmp_path / "in" / "a.png").write_bytes(picture(0))
        assert isinstance(open_source(tmp_path), FolderSource)

    def test_neither_do_a_herds_tables(self, tmp_path):
        (tmp_path / "x.herd" / "items").mkdir(parents=True)
        written(tmp_path / "x.herd" / "items" / "part.parquet", table_of(IMAGES))
        assert isinstance(open_source(tmp_path), FolderSource)
        with pytest.raises(ImageherdError, match="is a herd"):
            open_source(tmp_path / "x.herd")


class TestColumns:
    def test_what_is_carried_and_what_is_left_out(self, path):
        labels = pa.array(["x", None]).dictionary_encode()
        data = {
            "image": structs(["a", "b"]),
            "label": labels,
            "price": [1.5, None],
            "ok": [True, False],
            "day": pa.array([1, 2], pa.date32()),
            "vector": [[1.0], [2.0]],
            "blob": [b"1", b"2"],
            "box": [{"x": 1}, {"x": 2}],
            KEY: ["no", "no"],
        }
        told = open_source(written(path, data)).columns()
        assert told.column_names == [KEY, "label", "price", "ok", "day"]
        assert told["label"].type == pa.string()
        assert told["label"].to_pylist() == ["x", None]


class TestAgain:
    """A table is an item a row: what is there already is not embedded again."""

    def embed(self, world, path, table):
        written(path, table)
        world.source = open_source(path)
        return world.embed()

    def test_rows_put_in_another_order_and_added(self, path, tmp_path):
        world = World(tmp_path / "world")
        assert self.embed(world, path, table_of(IMAGES)).n_embedded == 5
        before = {row["key"]: row["row"] for row in world.rows()}
        more = {**dict(sorted(IMAGES.items())), "0.png": picture(9)}
        summary = self.embed(world, path, table_of(more))
        assert (summary.n_embedded, summary.n_deleted) == (1, 0)
        assert {row["key"]: row["row"] for row in world.rows()} == before | {b"0.png": 5}
        changed = IMAGES | {"b.png": picture(20)}
        summary = self.embed(world, path, table_of(changed))
        assert (summary.n_embedded, summary.n_deleted) == (1, 1)

    def test_an_unchanged_table_is_not_read_again(self, path, tmp_path, monkeypatch):
        world = World(tmp_path / "world")
        self.embed(world, path, table_of(IMAGES))
        monkeypatch.setattr(ParquetRows, "cell", None)
        again = World(tmp_path / "world", open_source(path)).embed()
        assert (again.n_images, again.n_embedded, again.n_deleted) == (5, 0, 0)

    def test_the_rows_of_a_new_herd_are_those_of_the_table(self, path, tmp_path):
        world = World(tmp_path / "world")
        self.embed(world, path, table_of(IMAGES))
        X = world.features().read()
        for row, name in enumerate(list(IMAGES)[::-1]):
            np.testing.assert_array_equal(X[row], FakeBackbone().of_bytes(IMAGES[name]))
