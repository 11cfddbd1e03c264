"""A herd on a store that cannot rename: pushed, pulled, killed at every step, and never half."""

import json
import shutil
import sqlite3
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from imageherd.errors import ImageherdError
from imageherd.herd import Herd
from imageherd.project import REMOTES
from imageherd.remote import contents as contents_module
from imageherd.remote import pull, push
from imageherd.remote.store import Store

URL = "rigid://bucket/photos.herd"


class Killed(BaseException):
    """Stands for SIGKILL."""


class Rigid(MemoryFileSystem):
    """Files that are put, read and listed: not renamed, not removed; a writer may be killed."""

    protocol = "rigid"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    cachable = False
    left: int | None = None
    lock = threading.Lock()
    before_create = None

    @classmethod
    def _one(cls):
        with cls.lock:
            if cls.left is not None:
                if cls.left == 0:
                    raise Killed
                cls.left -= 1

    def put_file(self, lpath, rpath, **kwargs):
        try:
            self._one()
        except Killed:
            # Half of it is seen, as on a disk.
            data = Path(lpath).read_bytes()
            super().pipe_file(rpath, data[: len(data) // 2])
            raise
        super().pipe_file(rpath, Path(lpath).read_bytes())

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        assert mode == "create"
        if Rigid.before_create:
            before, Rigid.before_create = Rigid.before_create, None
            before()
        try:
            self._one()
        except Killed:
            super().pipe_file(path, value[: len(value) // 2])
            raise
        if self.exists(path):
            raise OSError(22, "PreconditionFailed")
        super().pipe_file(path, value)

    def get_file(self, rpath, lpath, **kwargs):
        self._one()
        Path(lpath).write_bytes(self.cat_file(rpath))

    def _refused(self, *args, **kwargs):
        raise AssertionError("this store renames and removes nothing")

    mv = move = rename = rm = rm_file = _rm = delete = cp_file = copy = touch = _refused


@pytest.fixture(autouse=True)
def _stores(monkeypatch):
    fsspec.register_implementation("rigid", Rigid, clobber=True)
    for cls in (Rigid, MemoryFileSystem):
        cls.store.clear()
        cls.pseudo_dirs[:] = [""]
    monkeypatch.setattr(contents_module, "_PAUSES", (0.0,))
    Rigid.left = Rigid.before_create = None


@contextmanager
def killed_after(n):
    Rigid.left = n
    try:
        yield
    except Killed:
        pass
    finally:
        Rigid.left = None


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A herd of 60 vectors in three clusters, one of them renamed."""
    folder = tmp_path_factory.mktemp("remote")
    rng = np.random.default_rng(0)
    X = (6 * np.eye(8)[np.arange(60) % 3] + rng.normal(size=(60, 8))).astype(np.float32)
    np.save(folder / "v.npy", X)
    np.save(folder / "w.npy", X[:9] + 0.1)
    herd = Herd(folder / "v.herd")
    herd.embed(folder / "v.npy")
    herd.cluster("kmeans", 3)
    herd.rename(herd.clustering().clusters[0].uid, "Größte")
    (herd.path / "checkpoints" / "run").write_text("of this machine")
    return herd.path


@pytest.fixture
def herd(made, tmp_path) -> Herd:
    return Herd(shutil.copytree(made, tmp_path / "mine.herd"))


def assert_same(a, b):
    """The same clusters, names, edits and vectors; the same files but for the journal's."""
    a, b = Herd(a), Herd(b)
    one, other = a.clustering(), b.clustering()
    np.testing.assert_array_equal(one.uids, other.uids)
    assert one.names() == other.names()
    assert a.edit().log() == b.edit().log()
    np.testing.assert_array_equal(a.features().X, b.features().X)
    b.features().store.verify()
    assert files_of(a.path) == files_of(b.path)


def files_of(herd):
    return {
        path.relative_to(herd).as_posix(): path.read_bytes()
        for path in herd.rglob("*")
        if path.is_file()
        and not {"checkpoints", "incoming"} & set(path.parts)
        and not path.name.startswith(("edits.sqlite", ".lock", REMOTES))
    }


def published(url=URL):
    return sorted(name for name in Store(url).sizes("published"))


@pytest.mark.parametrize("url", [URL, "memory://bucket/photos.herd", "file://{}/photos.herd"])
def test_there_and_back(herd, tmp_path, url):
    url = url.format(tmp_path / "disk")
    pushed = push(herd.path, url + "/")
    assert (pushed.number, pushed.n_sent) == (1, pushed.n_files)
    pulled = pull(url, tmp_path / "theirs.herd")
    assert (pulled.number, pulled.n_files, pulled.n_bytes) == (1, pushed.n_files, pushed.n_bytes)
    assert_same(herd.path, tmp_path / "theirs.herd")
    assert not (tmp_path / "theirs.herd" / "checkpoints").exists()
    assert not (tmp_path / "theirs.herd" / "incoming").exists()
    # Nothing has changed: nothing is sent, nothing fetched, and there is no new version.
    assert push(herd.path, url).n_sent == push(tmp_path / "theirs.herd", url).n_sent == 0
    assert pull(url, tmp_path / "theirs.herd").n_fetched == 0
    assert published(url) == ["published/00000001.json"]


def test_what_shows_images_stays_here(herd, tmp_path):
    herd.report()
    for name in ("thumbnails/96/a.webp", "report/figures/a.png", "report/map-x.npy.txt"):
        (herd.path / name).parent.mkdir(parents=True, exist_ok=True)
        (herd.path / name).write_text("a picture")
    push(herd.path, URL)
    pull(URL, tmp_path / "theirs.herd")
    (map_,) = (tmp_path / "theirs.herd" / "report").iterdir()
    assert map_.read_bytes() == (herd.path / "report" / map_.name).read_bytes()
    assert not (tmp_path / "theirs.herd" / "thumbnails").exists()


def test_anyone_can_read_what_lies_there(herd):
    push(herd.path, URL)
    store = Store(URL)
    found = json.loads(store.read("published/00000001.json"))
    assert (found["format"], found["number"]) == (1, 1)
    for path, (sha256, size) in found["files"].items():
        data = store.read(f"contents/{sha256}")
        assert len(data) == size
        if not path.endswith("edits.jsonl"):
            assert data == (herd.path / path).read_bytes()
    sha256, _ = found["files"]["clusterings/default/edits.jsonl"]
    (entry,) = map(json.loads, store.read(f"contents/{sha256}").splitlines())
    assert (entry["kind"], entry["payload"]["name"]) == ("rename", "Größte")
    assert set(store.sizes("contents")) == {f"contents/{s}" for s, _ in found["files"].values()}


def test_it_goes_to_and_fro(herd, made, tmp_path):
    """One grows it, the other edits it: only what is new travels."""
    theirs = tmp_path / "theirs.herd"
    push(herd.path, URL)
    pull(URL, theirs)
    herd.assign(made.parent / "w.npy", reject=0)
    herd.rename(herd.clustering().clusters[1].uid, "second")
    grown = push(herd.path, URL)
    assert (grown.number, grown.n_sent < grown.n_files) == (2, True)
    # Looking at it is no change of it.
    Herd(theirs).neighbors(k=5)
    Herd(theirs).report()
    fetched = pull(URL, theirs)
    assert (fetched.number, fetched.n_fetched) == (2, grown.n_sent)
    assert len(Herd(theirs).clustering().rows) == 69
    np.testing.assert_array_equal(Herd(theirs).features().X, herd.features().X)
    assert Herd(theirs).edit().log() == herd.edit().log()
    uid = Herd(theirs).clustering().clusters[2].uid
    Herd(theirs).rename(uid, "third")
    assert push(theirs, URL).number == 3
    pull(URL, herd.path)
    assert herd.clustering().names()[uid] == "third"
    assert published() == [f"published/0000000{n}.json" for n in (1, 2, 3)]


def test_what_is_gone_there_goes_here(herd, tmp_path):
    herd.cluster("kmeans", 2, name="coarse")
    herd.rename(herd.clustering("coarse").clusters[0].uid, "x", name="coarse")
    push(herd.path, URL)
    pull(URL, tmp_path / "theirs.herd")
    shutil.rmtree(herd.path / "clusterings" / "coarse")
    push(herd.path, URL)
    pull(URL, tmp_path / "theirs.herd")
    assert_same(herd.path, tmp_path / "theirs.herd")
    assert not list((tmp_path / "theirs.herd" / "clusterings" / "coarse").glob("*.*"))


def test_who_pushed_second_is_refused_and_told_by_whom(herd, tmp_path):
    theirs = tmp_path / "theirs.herd"
    push(herd.path, URL)
    pull(URL, theirs)
    Herd(theirs).rename(Herd(theirs).clustering().clusters[1].uid, "theirs")
    push(theirs, URL)
    herd.rename(herd.clustering().clusters[1].uid, "mine")
    said = r"at version 2, pushed by \S+@\S+ at 20\S+, and this herd comes from version 1 of it"
    with pytest.raises(ImageherdError, match=said):
        push(herd.path, URL)
    with pytest.raises(ImageherdError, match=r"changed since .*default/edits.jsonl\)\. Push it"):
        pull(URL, herd.path)
    assert herd.clustering().names()[herd.clustering().clusters[1].uid] == "mine"
    with pytest.raises(ImageherdError, match="this herd does not come from it"):
        push(shutil.copytree(herd.path, tmp_path / "c", ignore=lambda *_: [REMOTES]), URL)
    # Both ways out that the sentence names.
    assert push(herd.path, "rigid://bucket/mine.herd").number == 1
    pull(URL, tmp_path / "look.herd")
    assert_same(theirs, tmp_path / "look.herd")


def test_of_two_pushes_at_the_same_moment_one_wins(herd, tmp_path):
    theirs = tmp_path / "theirs.herd"
    push(herd.path, URL)
    pull(URL, theirs)
    herd.rename(herd.clustering().clusters[1].uid, "mine")
    Herd(theirs).rename(Herd(theirs).clustering().clusters[1].uid, "theirs")
    Rigid.before_create = lambda: push(theirs, URL)
    with pytest.raises(ImageherdError, match="is at version 2, pushed by"):
        push(herd.path, URL)
    pull(URL, tmp_path / "look.herd")
    assert_same(theirs, tmp_path / "look.herd")
    Store(URL)._fs.store.clear()
    Rigid.before_create = lambda: push(theirs, URL)
    with pytest.raises(ImageherdError, match="is at version 1, pushed by"):
        push(herd.path, URL)


def test_a_push_whose_answer_is_lost_has_happened(herd, monkeypatch):
    create = Rigid.pipe_file

    def lost(self, *args, **kwargs):
        create(self, *args, **kwargs)
        raise TimeoutError("no answer")

    monkeypatch.setattr(Rigid, "pipe_file", lost)
    assert push(herd.path, URL).number == 1


def test_a_push_killed_at_any_step_is_not_seen_and_goes_on(herd, tmp_path, monkeypatch):
    monkeypatch.setattr("imageherd.remote.store.THREADS", 1)
    push(herd.path, URL)
    first = shutil.copytree(herd.path, tmp_path / "first.herd")
    herd.cluster("kmeans", 4)
    n_sent = []
    for n in range(100):
        with killed_after(n):
            push(herd.path, URL)
            break
        pull(URL, tmp_path / f"{n}.herd")
        assert_same(first, tmp_path / f"{n}.herd")
        n_sent.append(len(Store(URL).sizes("contents")))
    assert n >= 4
    assert n_sent == sorted(n_sent)
    pull(URL, tmp_path / "after.herd")
    assert_same(herd.path, tmp_path / "after.herd")


def test_a_first_push_killed_leaves_no_herd_and_goes_on(herd, tmp_path):
    with killed_after(4):
        push(herd.path, URL)
    with pytest.raises(ImageherdError, match="holds no herd"):
        pull(URL, tmp_path / "theirs.herd")
    assert not (tmp_path / "theirs.herd").exists()
    assert push(herd.path, URL).number == 1
    pull(URL, tmp_path / "theirs.herd")
    assert_same(herd.path, tmp_path / "theirs.herd")


def test_a_pull_killed_while_fetching_leaves_the_herd_as_it_was(herd, tmp_path):
    theirs = tmp_path / "theirs.herd"
    for n in (0, 3):
        push(herd.path, URL)
        with killed_after(n):
            pull(URL, theirs)
        with pytest.raises(ImageherdError, match="half pulled; run the same `imageherd pull`"):
            Herd(theirs).clustering()
    pull(URL, theirs)
    before = shutil.copytree(theirs, tmp_path / "before.herd")
    herd.cluster("kmeans", 4)
    n_sent = push(herd.path, URL).n_sent
    with killed_after(3):
        pull(URL, theirs)
    assert_same(before, theirs)
    assert pull(URL, theirs).n_fetched == n_sent - 3
    assert_same(herd.path, theirs)


def test_a_pull_killed_while_things_are_put_in_place_goes_on(herd, made, tmp_path, monkeypatch):
    push(herd.path, URL)
    pull(URL, tmp_path / "theirs.herd")
    herd.assign(made.parent / "w.npy", reject=0)
    herd.rename(herd.clustering().clusters[1].uid, "second")
    push(herd.path, URL)
    replace = Path.replace
    for n in range(100):
        theirs = shutil.copytree(tmp_path / "theirs.herd", tmp_path / f"{n}.herd")
        left = [n]

        def mortal(self, target, left=left):
            if "incoming" not in str(target) and not str(target).endswith(REMOTES):
                if not left[0]:
                    raise Killed
                left[0] -= 1
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", mortal)
        try:
            pull(URL, theirs)
            break
        except Killed:
            pass
        finally:
            monkeypatch.setattr(Path, "replace", replace)
        with pytest.raises(ImageherdError, match="half pulled"):
            Herd(theirs).clustering()
        pull(URL, theirs)
        assert_same(herd.path, theirs)
    assert n > 5


def test_an_edit_made_while_things_are_fetched_is_not_lost(herd, tmp_path, monkeypatch):
    theirs = tmp_path / "theirs.herd"
    push(herd.path, URL)
    pull(URL, theirs)
    herd.rename(herd.clustering().clusters[1].uid, "mine")
    push(herd.path, URL)
    uid, fetch = Herd(theirs).clustering().clusters[2].uid, Rigid.get_file

    def meanwhile(self, *args, **kwargs):
        monkeypatch.setattr(Rigid, "get_file", fetch)
        Herd(theirs).rename(uid, "theirs")
        return fetch(self, *args, **kwargs)

    monkeypatch.setattr(Rigid, "get_file", meanwhile)
    with pytest.raises(ImageherdError, match="was edited here, and elsewhere otherwise"):
        pull(URL, theirs)
    assert Herd(theirs).clustering().names()[uid] == "theirs"


def test_what_is_damaged_there_is_never_put_in_place(herd, tmp_path):
    push(herd.path, URL)
    store = Store(URL)
    name = next(iter(store.sizes("contents")))
    data = bytearray(store.read(name))
    data[-1] ^= 1
    MemoryFileSystem.pipe_file(store._fs, store._at(name), bytes(data))
    with pytest.raises(ImageherdError, match=rf"{name} is damaged: delete it there, and push"):
        pull(URL, tmp_path / "theirs.herd")
    store._fs.store.pop(store._at(name))
    with pytest.raises(ImageherdError, match=rf"lacks {name}; push the herd again"):
        pull(URL, tmp_path / "theirs.herd")


def test_what_is_damaged_here_is_never_sent(herd):
    (shard,) = herd.path.glob("features/*/shard-00000.npy")
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(ImageherdError, match=r"shard-00000.npy is damaged.*run embed"):
        push(herd.path, URL)
    assert not published()


@pytest.mark.parametrize(
    "path", ["../evil", "/etc/evil", "a/../../evil", "a\\evil", ".lock", "a//b", "c:/x", "", "a/."]
)
def test_a_listing_that_names_files_elsewhere_is_refused(herd, tmp_path, path):
    push(herd.path, URL)
    store = Store(URL)
    found = json.loads(store.read("published/00000001.json"))
    found["files"][path] = found["files"]["herd.json"]
    store.create("published/00000002.json", json.dumps(found).encode())
    with pytest.raises(ImageherdError, match="holds a listing that is no herd's"):
        pull(URL, tmp_path / "theirs.herd")
    assert not (tmp_path / "theirs.herd").exists()


def test_a_newer_format_is_refused(herd, tmp_path):
    push(herd.path, URL)
    store = Store(URL)
    found = json.loads(store.read("published/00000001.json")) | {"format": 2}
    store.create("published/00000002.json", json.dumps(found).encode())
    with pytest.raises(ImageherdError, match="newer imageherd"):
        pull(URL, tmp_path / "theirs.herd")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("photos.herd", r"photos.herd is no URL; write s3://"),
        ("gs://bucket/photos.herd", r"gs:// needs a package that is not here: pip install gcsfs"),
        ("nosuch://x", r"nosuch://x cannot be used: Protocol not known"),
    ],
)
def test_a_place_that_cannot_be_used(herd, tmp_path, monkeypatch, url, said):
    # Not here, whatever is installed.
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    for run in (lambda: push(herd.path, url), lambda: pull(url, tmp_path / "theirs.herd")):
        with pytest.raises(ImageherdError, match=said):
            run()
    assert not (tmp_path / "theirs.herd").exists()


def test_places_that_hold_something_else(herd, made, tmp_path):
    push(herd.path, URL)
    with pytest.raises(ImageherdError, match="holds something else than a herd"):
        push(herd.path, f"file://{made}")
    with pytest.raises(ImageherdError, match="is a herd that does not come from rigid://"):
        pull(URL, shutil.copytree(made, tmp_path / "other.herd"))
    with pytest.raises(ImageherdError, match="holds something else; pull into a new folder"):
        pull(URL, made.parent)
    with pytest.raises(ImageherdError, match="is a file; a herd is a folder"):
        pull(URL, made.parent / "v.npy")
    with pytest.raises(ImageherdError, match="is not a herd"):
        push(tmp_path, URL)
    (tmp_path / "empty.herd").mkdir()
    assert pull(URL, tmp_path / "empty.herd").number == 1


def test_a_store_that_says_no_is_named(herd, tmp_path, monkeypatch):
    def denied(self, *args, **kwargs):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(Rigid, "put_file", denied)
    with pytest.raises(ImageherdError, match=rf"^{URL} cannot be written: Access Denied\.$"):
        push(herd.path, URL)
    monkeypatch.setattr(Rigid, "find", denied)
    with pytest.raises(ImageherdError, match=rf"^{URL} cannot be read: Access Denied\.$"):
        pull(URL, tmp_path / "theirs.herd")


def test_the_journal_pulled_is_one_to_which_is_only_added(herd, tmp_path):
    push(herd.path, URL)
    pull(URL, tmp_path / "theirs.herd")
    path = tmp_path / "theirs.herd" / "clusterings" / "default" / "edits.sqlite"
    with sqlite3.connect(path) as connection, pytest.raises(sqlite3.Error, match="only grows"):
        connection.execute("DELETE FROM edits")
