"""Many tar archives as one source, what lies beside their images, and ten thousand in one."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st
from test_sources import tar_of

from feature_fakes import FakeBackbone, World, picture
from imageherd.errors import ImageherdError
from imageherd.images.archives.archive import ArchiveSource
from imageherd.images.archives.shards import ShardsSource, expand
from imageherd.images.archives.side_files import KEY
from imageherd.images.decode import UnreadableImageError
from imageherd.images.source import open_source, source_from_uri


def shards(root: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        tar_of(path, {f"{j}.png": picture(10 * i + j) for j in range(2)})
    return root


def keys(given) -> list[bytes]:
    return [entry.key for entry in open_source(given).scan()]


class TestPatterns:
    def test_braces_count_and_choose(self):
        assert expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
        assert expand("{0..10}")[-2:] == ["9", "10"]
        assert expand("{x,y}/{1..2}") == ["x/1", "x/2", "y/1", "y/2"]
        assert expand("none") == ["none"]

    @given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 5))
    def test_a_range_has_as_many_as_it_says(self, first, length, width):
        texts = expand(f"{{{first:0{width}d}..{first + length}}}")
        assert list(map(int, texts)) == list(range(first, first + length + 1))
        assert all(len(text) >= width for text in texts)

    def test_what_cannot_be_meant(self):
        with pytest.raises(ImageherdError, match=r"\{9\.\.0\} in a\{9\.\.0\} counts down; write"):
            expand("a{9..0}")
        for pattern in ("{0..999999999999}", "{0..999}{0..999}{0..999}"):
            with pytest.raises(ImageherdError, match="more than 100,000 shards"):
                expand(pattern)

    def test_shards_in_several_folders(self, tmp_path):
        root = shards(tmp_path, "train/s-0.tar", "train/s-1.tar", "val/s-0.tar")
        source = open_source(root / "{train,val}" / "s-0.tar")
        assert source.name == "s-0.tar"
        assert [entry.key for entry in source.scan()] == [
            *(b"train/s-0.tar/0.png", b"train/s-0.tar/1.png"),
            *(b"val/s-0.tar/0.png", b"val/s-0.tar/1.png"),
        ]
        assert source.read(b"val/s-0.tar/1.png") == picture(21)

    def test_none_of_them_is_there(self, tmp_path):
        with pytest.raises(ImageherdError, match=r"no file s-0\.tar, nor any other that"):
            open_source(tmp_path / "s-{0..3}.tar")

    def test_a_file_with_braces_in_its_name_is_that_file(self, tmp_path):
        shards(tmp_path, "a{0..3}.tar")
        assert isinstance(open_source(tmp_path / "a{0..3}.tar"), ArchiveSource)


class TestFolder:
    def test_only_tars_and_what_is_no_image(self, tmp_path):
        shards(tmp_path / "s", "0.tar", "1.TAR", ".hidden.tar")
        (tmp_path / "s" / "index.json").write_text("{}")
        source = open_source(tmp_path / "s")
        assert source.description == "2 tar shards"
        assert len(source.scan()) == 4

    @pytest.mark.parametrize("other", ["a.jpg", "folder/x"])
    def test_images_or_folders_beside_them_make_it_a_folder(self, tmp_path, other):
        shards(tmp_path / "s", "0.tar")
        (tmp_path / "s" / other).parent.mkdir(exist_ok=True)
        (tmp_path / "s" / other).write_bytes(b"x")
        source = open_source(tmp_path / "s")
        assert source.description == "a folder"
        if other != "a.jpg":
            with pytest.raises(ImageherdError, match=r"but 0\.tar: give an archive by its own"):
                source.scan()

    def test_a_shard_that_cannot_be_read_is_listed_itself(self, tmp_path):
        shards(tmp_path, "s-0.tar", "s-1.tar")
        (tmp_path / "s-1.tar").write_bytes(b"nothing")
        source = open_source(tmp_path / "s-{0..2}.tar")
        found = {entry.key: entry.reason for entry in source.scan()}
        assert list(found) == [b"s-0.tar/0.png", b"s-0.tar/1.png", b"s-1.tar", b"s-2.tar"]
        assert "s-1.tar is no archive" in found[b"s-1.tar"]
        assert "There is no file" in found[b"s-2.tar"]
        for key in (b"s-1.tar", b"s-2.tar/0.png", b"0.png", b"s-0.tar/none.png"):
            with pytest.raises(UnreadableImageError):
                source.read(key)

    def test_shards_without_images(self, tmp_path):
        tar_of(tmp_path / "0.tar", {"a.txt": b"text"})
        with pytest.raises(ImageherdError, match=r"no image in the 1 tar archives of"):
            open_source(tmp_path).scan()

    def test_shards_that_come_later_are_found(self, tmp_path):
        shards(tmp_path / "s", "0.tar")
        world = World(tmp_path / "world", open_source(tmp_path / "s"))
        assert world.embed().n_embedded == 2
        tar_of(tmp_path / "s" / "1.tar", {"new.png": picture(99)})
        summary = world.embed()
        assert (summary.n_images, summary.n_embedded, summary.n_deleted) == (3, 1, 0)

    def test_gone(self, tmp_path):
        shards(tmp_path / "s", "0.tar")
        uris = [open_source(given).uri for given in (tmp_path / "s", tmp_path / "s" / "{0..1}.tar")]
        (tmp_path / "s").rename(tmp_path / "t")
        for uri in uris:
            source = source_from_uri(uri)
            assert not source.is_there()
            with pytest.raises(UnreadableImageError):
                source.read(b"0.tar/0.png")
        with pytest.raises(ImageherdError, match="cannot be listed: no such file"):
            ShardsSource(tmp_path / "s", must_exist=False).scan()


FILES = {
    "a/1.jpg": picture(1),
    "a/1.cls": b"7\n",
    "a/1.json": b'{"where": "Bern", "iso": 100, "tags": ["x"], "ok": true, "mixed": 1}',
    "a/2.seg.png": picture(2),
    "a/2.jpg": picture(3),
    "a/2.txt": b" ein Schaf \n",
    "a/2.json": b'{"mixed": "text", "iso": 2.5}',
    "b/1.jpg": picture(4),
    "b/3.json": b'{"where": "nowhere"}',
    "b/4.jpg": picture(5),
    "b/4.json": b"{broken",
    "b/5.jpg": picture(6),
    "b/5.json": b"[1, 2]",
    "b/6.jpg": picture(7),
    "b/6.cls": b"\xff",
}

EXPECTED = {
    b"a/1.jpg": {
        "cls": 7,
        "iso": 100.0,
        "mixed": "1",
        "ok": True,
        "txt": None,
        "where": "Bern",
    },
    b"a/2.jpg": {
        **{"cls": None, "iso": 2.5, "mixed": "text", "ok": None},
        **{"txt": "ein Schaf", "where": None},
    },
}
EXPECTED[b"a/2.seg.png"] = EXPECTED[b"a/2.jpg"]


class TestBeside:
    def rows(self, table: pa.Table) -> dict:
        return {row.pop(KEY): row for row in table.to_pylist()}

    def test_labels_texts_and_values_of_each_sample(self, tmp_path):
        path = tar_of(tmp_path / "a.tar", FILES)
        assert self.rows(open_source(path).columns()) == EXPECTED

    def test_of_all_shards_by_their_keys(self, tmp_path):
        half = list(FILES.items())
        tar_of(tmp_path / "s-0.tar", dict(half[:3]))
        tar_of(tmp_path / "s-1.tar", dict(half[3:]))
        source = open_source(tmp_path / "s-{0..2}.tar")
        found = self.rows(source.columns())
        assert found == {
            (b"s-0.tar/" if key == b"a/1.jpg" else b"s-1.tar/") + key: row
            for key, row in EXPECTED.items()
        }

    def test_nothing_beside(self, tmp_path):
        source = open_source(tar_of(tmp_path / "a.tar", {"a.jpg": picture(1)}))
        assert source.columns().column_names == [KEY]

    def test_as_webdataset_writes_it(self, tmp_path):
        with webdataset.TarWriter(str(tmp_path / "s-000000.tar")) as out:
            for i in range(3):
                sample = {"png": picture(i), "cls": i % 2, "json": {"i": i, "deep": {"x": 1}}}
                out.write({"__key__": f"{i:06d}", **sample})
        source = open_source(tmp_path / "s-{000000..000000}.tar")
        assert [source.read(entry.key) for entry in source.scan()] == [picture(i) for i in range(3)]
        assert self.rows(source.columns()) == {
            b"s-000000.tar/%06d.png" % i: {"cls": i % 2, "i": i} for i in range(3)
        }


N = 10_000


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.tar"
    # 47 MB, of which an index may hold no part.
    body = picture(0) + bytes(4096)
    with tarfile.open(path, "w") as tar:
        for i in range(N):
            info = tarfile.TarInfo(f"{i % 10}/{i:05d}.png")
            data = json.dumps(i).encode() + body
            info.size, info.mtime = len(data), 1_700_000_000 + i
            tar.addfile(info, io.BytesIO(data))
    return path


def test_a_scan_reads_headers_and_keeps_an_index(large, monkeypatch):
    n_read = []
    raw = io.FileIO.readinto

    class Spy(io.FileIO):
        def readinto(self, buffer):
            n_read.append(raw(self, buffer))
            return n_read[-1]

    opened = Path.open

    def spied(path, mode="r", buffering=-1):
        if path != large:
            return opened(path, mode, buffering)
        return io.BufferedReader(Spy(path)) if buffering else Spy(path)

    monkeypatch.setattr(Path, "open", spied)
    source = open_source(large)
    tracemalloc.start()
    entries = source.scan()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(entries) == N
    assert held < 600 * N
    assert peak < 800 * N + 1_000_000
    assert max(n_read) <= 1 << 16


def test_reading_takes_no_more_than_the_image(large):
    source = ArchiveSource(large)
    entries = source.scan()
    tracemalloc.start()
    for entry in entries[:: N // 50]:
        i = int(entry.key[2:7])
        assert source.read(entry.key).startswith(json.dumps(i).encode() + b"\x89PNG")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_what_changed_in_an_archive_is_told_by_size_and_time(tmp_path):
    path = tmp_path / "a.tar"
    images = {f"{i}.png": picture(i) for i in range(6)}
    tar_of(path, images)
    world = World(tmp_path / "world", open_source(path))
    assert world.embed().n_embedded == 6
    # Packed anew, in another order, one gone, one new, one with another content.
    del images["0.png"]
    images = dict(reversed(images.items())) | {"new.png": picture(9), "3.png": picture(33)}
    with tarfile.open(path, "w") as tar:
        for name, data in images.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_700_000_000 + (name == "3.png")
            tar.addfile(info, io.BytesIO(data))
    backbone = FakeBackbone()
    summary = world.embed(backbone)
    assert (summary.n_images, summary.n_embedded, summary.n_deleted) == (6, 2, 1)
    assert backbone.n_images == 2
