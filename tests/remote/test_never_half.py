"""Killed at every step, raced and damaged: what is pulled is whole, and nothing is lost."""

import shutil

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from rigid import URL, Killed, Rigid, assert_same, killed_after, mortal, published

from imageherd.errors import ImageherdError
from imageherd.herd import Herd
from imageherd.project import is_herd
from imageherd.remote import pull, push
from imageherd.remote.store import Store


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
    half = 0
    for n in range(100):
        theirs = shutil.copytree(tmp_path / "theirs.herd", tmp_path / f"{n}.herd")
        with monkeypatch.context() as patch:
            mortal(patch, n)
            try:
                pull(URL, theirs)
                break
            except Killed:
                pass
        if is_herd(theirs):
            assert_same(tmp_path / "theirs.herd", theirs)
        else:
            with pytest.raises(ImageherdError, match="half pulled"):
                Herd(theirs).clustering()
            half += 1
        pull(URL, theirs)
        assert_same(herd.path, theirs)
    assert half > 5


def test_a_pull_killed_in_place_may_go_on_with_a_later_push(herd, tmp_path, monkeypatch):
    push(herd.path, URL)
    herd.cluster("kmeans", 2, name="coarse")
    push(herd.path, URL)
    theirs = tmp_path / "theirs.herd"
    with monkeypatch.context() as patch:
        mortal(patch, 8)
        with pytest.raises(Killed):
            pull(URL, theirs)
    assert list(theirs.glob("clusterings/coarse/*.json"))
    shutil.rmtree(herd.path / "clusterings" / "coarse")
    push(herd.path, URL)
    pull(URL, theirs)
    assert_same(herd.path, theirs)
    assert push(theirs, URL).n_sent == 0


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
