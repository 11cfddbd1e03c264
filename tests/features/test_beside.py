"""Reading while another process embeds: what comes between two of its renames is no damage."""

import pytest

from feature_fakes import FakeBackbone, picture
from imageherd.errors import ImageherdError
from imageherd.features import items, store


@pytest.fixture
def filled(world):
    for number in range(7):
        world.source.put(f"{number:02d}.png", picture(number))
    world.embed()
    return world


def interrupted(monkeypatch, module, name, writer):
    """Let `writer` in before the first call of the function `name`."""
    original, waiting = getattr(module, name), [writer]

    def call(*args):
        while waiting:
            waiting.pop()()
        return original(*args)

    monkeypatch.setattr(module, name, call)


def grow(world):
    for number in range(7, 12):
        world.source.put(f"{number:02d}.png", picture(number))
    world.embed()


def test_a_shard_that_grows_after_the_manifest_was_read(filled, monkeypatch):
    interrupted(monkeypatch, store, "open_shard", lambda: grow(filled))
    features = filled.features()
    assert features.n_rows == 12
    features.verify()


def test_a_shard_that_stops_waiting_while_it_is_looked_at(filled, monkeypatch):
    shard = filled.set_folder(FakeBackbone()) / "shard-00001.npy"
    waiting = store.next_path(shard)
    shard.rename(waiting)
    interrupted(monkeypatch, store, "file_sha256", lambda: waiting.rename(shard))
    assert filled.features().read().shape == (7, 6)


def test_items_that_grow_while_they_are_read(filled, monkeypatch):
    read_part, calls = items._read_part, []

    def call(path, first, n):
        found = read_part(path, first, n)
        calls.append(path.name)
        if len(calls) == 2:
            # The reader has the short part, and goes on to look whether another follows it.
            grow(filled)
        return found

    monkeypatch.setattr(items, "_read_part", call)
    assert filled.items().n_rows == 12


def test_what_is_damaged_in_earnest_says_so(filled):
    (filled.set_folder(FakeBackbone()) / "shard-00001.npy").write_bytes(b"x")
    with pytest.raises(ImageherdError, match=r"shard-00001\.npy is damaged"):
        filled.features()
