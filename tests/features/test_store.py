"""Reading a feature set, and noticing when its files are not what they were."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_fakes import PART_ROWS, FakeBackbone, World, picture
from imageherd.errors import ImageherdError
from imageherd.features.items import ITEMS_SCHEMA, Items, read_parquet
from imageherd.features.items import PART_ROWS as DEFAULT_PART_ROWS
from imageherd.features.store import SHARD_ROWS, FeatureSet
from imageherd.files import read_json, write_json


@pytest.fixture
def filled(world):
    for number in range(13):
        world.source.put(f"{number:02d}.png", picture(number))
    world.source.put("03.png", b"text")
    world.embed()
    return world


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"))
    for number in range(13):
        world.source.put(f"{number:02d}.png", picture(number))
    world.embed()
    return world.features()


def test_a_shard_and_a_part_hold_the_same_rows_by_default():
    assert SHARD_ROWS == DEFAULT_PART_ROWS == 4096


def test_the_layout_can_be_read_without_this_package(filled):
    folder = filled.set_folder(FakeBackbone())
    manifest = read_json(folder / "manifest.json")
    assert manifest["format_version"] == 1
    assert manifest["key"] == folder.name
    assert manifest["identity"] == FakeBackbone().identity
    assert (manifest["shape"], manifest["dtype"]) == ([13, 6], "float32")
    assert [shard["rows"] for shard in manifest["shards"]] == [5, 5, 3]
    assert [shard["missing"] for shard in manifest["shards"]] == [[[3, 4]], [], []]
    stacked = np.concatenate([np.load(path) for path in sorted(folder.glob("shard-*.npy"))])
    np.testing.assert_array_equal(stacked, FeatureSet(folder).read())
    top5 = np.load(folder / "top5-00000.npy")
    assert top5["classes"].dtype == np.int16
    assert top5["probabilities"].shape == (5, 5)
    table = pq.read_table(filled.folder / "items")
    assert table.schema.names == ITEMS_SCHEMA.names
    assert table.num_rows == 13


@given(st.lists(st.integers(0, 12), max_size=20))
def test_any_rows_in_any_order(features, rows):
    everything = features.read()
    assert everything.shape == (13, 6)
    rows = np.array(rows, int)
    np.testing.assert_array_equal(features.read(rows), everything[rows])
    classes, probabilities = features.top5()
    np.testing.assert_array_equal(features.top5(rows)[0], classes[rows])
    np.testing.assert_array_equal(features.top5(rows)[1], probabilities[rows])
    blocks = list(features.blocks(rows, size=4))
    assert all(len(some) <= 4 for some, _ in blocks)
    joined = np.concatenate([np.zeros((0, 6)), *(block for _, block in blocks)])
    np.testing.assert_array_equal(joined, everything[rows])


def test_a_range_inside_a_shard_is_no_copy(features):
    view = features.read(np.arange(6, 9))
    assert not view.flags.owndata
    assert not view.flags.writeable
    np.testing.assert_array_equal(view, features.read()[6:9])


@pytest.mark.parametrize("row", [-1, 13])
def test_a_row_that_is_not_there(features, row):
    with pytest.raises(IndexError, match=str(row)):
        features.read(np.array([0, row]))


def spoil_flip(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


def spoil_truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def spoil_header(path):
    np.save(path, np.zeros((2, 2)))


def spoil_empty(path):
    path.write_bytes(b"")


SPOILERS = [spoil_flip, spoil_truncate, spoil_header, spoil_empty]


@pytest.mark.parametrize("name", ["shard-00001.npy", "top5-00002.npy"])
@pytest.mark.parametrize("spoil", SPOILERS)
def test_a_spoiled_shard_is_named_and_embed_makes_it_anew(filled, spoil, name):
    before = filled.snapshot()
    path = filled.set_folder(FakeBackbone()) / name
    spoil(path)
    with pytest.raises(ImageherdError, match=rf"{name} is damaged.*Delete this file.*embed again"):
        filled.features().verify()
    if spoil is not spoil_flip:
        with pytest.raises(ImageherdError, match=rf"{name} is damaged"):
            filled.features()
        with pytest.raises(ImageherdError, match=rf"{name} is damaged"):
            filled.embed()
    path.unlink()
    with pytest.raises(ImageherdError, match=rf"{name} is missing"):
        filled.features()
    assert filled.embed().n_embedded > 0
    filled.check()
    assert filled.snapshot() == before


def test_a_flipped_byte_is_not_carried_into_a_rewritten_shard(filled):
    spoil_flip(filled.set_folder(FakeBackbone()) / "shard-00002.npy")
    filled.source.put("new.png", picture(77))
    with pytest.raises(ImageherdError, match=r"shard-00002.npy is damaged"):
        filled.embed()


def test_a_newer_format_is_refused(filled):
    path = filled.set_folder(FakeBackbone()) / "manifest.json"
    write_json(path, read_json(path) | {"format_version": 3})
    for attempt in (filled.features, filled.embed):
        with pytest.raises(ImageherdError, match=r"format version 3.*newer imageherd"):
            attempt()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format_version": '])
def test_a_manifest_that_is_none(filled, text):
    path = filled.set_folder(FakeBackbone()) / "manifest.json"
    path.write_text(text)
    with pytest.raises(ImageherdError, match="Delete it and run embed again"):
        filled.features()
    path.unlink()
    with pytest.raises(ImageherdError, match="run embed first"):
        filled.features()
    filled.embed()
    filled.check()


def test_items_that_are_damaged_are_refused(filled):
    folder = filled.folder / "items"
    part = folder / "part-00001.parquet"
    good = part.read_bytes()
    for bad in (good[:-9], b"", (folder / "part-00000.parquet").read_bytes()):
        part.write_bytes(bad)
        with pytest.raises(ImageherdError, match=r"part-00001\.parquet"):
            filled.items()
    part.write_bytes((folder / "part-00002.parquet").read_bytes())
    with pytest.raises(ImageherdError, match=r"part-00001\.parquet"):
        filled.items()
    pq.write_table(pq.read_table(folder / "part-00000.parquet").select(["row"]), part)
    with pytest.raises(ImageherdError, match="another version"):
        filled.items()


# No deadline: it writes files, on a machine that may do something else.
@settings(deadline=None)
@given(st.lists(st.integers(0, 7), max_size=5), st.data())
def test_items_are_what_was_put_in(tmp_path_factory, lengths, data):
    folder = tmp_path_factory.mktemp("items")
    items = Items(folder, part_rows=PART_ROWS)
    expected = []
    for length in lengths:
        items.append({"key": [b"\xff%d" % n for n in range(length)], "bytes": [1] * length})
        for n in range(length):
            blank = dict.fromkeys(ITEMS_SCHEMA.names)
            expected.append(blank | {"row": len(expected), "key": b"\xff%d" % n, "bytes": 1})
        for row in data.draw(st.lists(st.sampled_from(range(len(expected))))) if expected else []:
            items.change(row, status="ok", bytes=row)
            expected[row] |= {"status": "ok", "bytes": row}
            assert items.get(row) == expected[row]
        items.save()
        items = Items(folder, part_rows=PART_ROWS)
        assert items.n_rows == len(expected)
        assert items.table().to_pylist() == expected


def test_no_thread_holds_a_parquet_file_that_was_read(tmp_path, monkeypatch):
    # Arrow's dataset threads do, and abort the process if they let go of it while Python ends.
    path = tmp_path / "part.parquet"
    pq.write_table(pa.table({"a": [1, 2]}), path)
    monkeypatch.setattr(pq, "read_table", None)
    assert read_parquet(path)["a"].to_pylist() == [1, 2]
    path.write_bytes(b"no Parquet")
    with pytest.raises(pa.ArrowException):
        read_parquet(path)
