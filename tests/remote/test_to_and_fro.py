"""A herd on a store that cannot rename: there and back, and what is refused."""

import json
import shutil
import sqlite3
import sys

import numpy as np
import pytest
from rigid import URL, Rigid, assert_same, files_of, published

from imageherd.errors import ImageherdError
from imageherd.herd import Herd
from imageherd.project import REMOTES
from imageherd.remote import pull, push
from imageherd.remote.store import Store


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


def test_clusterings_edited_alike(herd, tmp_path):
    """What two files hold is sent once, and put in both places."""
    theirs = tmp_path / "theirs.herd"
    push(herd.path, URL)
    pull(URL, theirs)
    folder = herd.path / "clusterings"
    shutil.copytree(folder / "default", folder / "twin")
    assert push(herd.path, URL).n_sent == 0
    assert pull(URL, theirs).n_fetched == 0
    assert Herd(theirs).edit("twin").log() == herd.edit().log()
    assert files_of(theirs) == files_of(herd.path)


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
