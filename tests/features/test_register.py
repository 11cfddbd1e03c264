"""Which row a file gets: a row stands for one content of one item."""

from dataclasses import replace

import numpy as np
import pytest

from feature_fakes import FakeBackbone, picture
from imageherd.features.items import Items
from imageherd.features.register import register

NAME = "x.png"


@pytest.fixture
def one(world):
    world.source.put(NAME, picture(0))
    world.embed()
    return world


def state(world):
    return [(item["status"], item["reason"]) for item in world.rows()]


OK = ("ok", "")


def test_new_files_are_registered_in_key_order_and_appended_later(world):
    for name in ["b", "a", "é", "B"]:
        world.source.put(name, picture(len(name)))
    world.embed()
    world.source.put("aa", picture(7))
    world.embed()
    keys = [item["key"].decode() for item in world.rows()]
    assert keys == ["B", "a", "b", "é", "aa"]


def test_registering_alone_leaves_pending_rows(world):
    world.source.put(NAME, picture(0))
    result = register(world.items(), world.source, 0, workers=1)
    assert (result.n_images, result.n_deleted, result.retry) == (1, 0, [])
    assert state(world) == [("pending", "")]
    assert world.source.n_reads == 0


def test_a_touched_file_keeps_its_row(one):
    one.source.put(NAME, picture(0), mtime=2)
    backbone = FakeBackbone()
    summary = one.embed(backbone)
    assert (backbone.n_images, summary.n_copied) == (0, 0)
    assert state(one) == [OK]
    one.check()


def test_a_changed_file_gets_a_new_row(one):
    one.source.put(NAME, picture(1), mtime=2)
    one.embed()
    assert state(one) == [("deleted", "replaced by row 1"), OK]
    one.check()


def test_a_file_that_gets_its_old_content_back_gets_its_old_row_back(one):
    one.source.put(NAME, picture(1), mtime=2)
    one.embed()
    one.source.put(NAME, picture(0), mtime=3)
    backbone = FakeBackbone()
    one.embed(backbone)
    assert backbone.n_images == 0
    assert state(one) == [OK, ("deleted", "replaced by row 0")]
    one.check()


@pytest.mark.parametrize("mtime", [1, 2])
def test_a_deleted_file_that_comes_back_gets_its_row_back(one, mtime):
    one.source.files.clear()
    assert one.embed().n_deleted == 1
    assert state(one) == [("deleted", "no longer in the source")]
    assert np.isfinite(one.features().read()).all()
    assert one.embed().n_deleted == 0
    one.source.put(NAME, picture(0), mtime=mtime)
    backbone = FakeBackbone()
    one.embed(backbone)
    assert backbone.n_images == 0
    assert state(one) == [OK]
    one.check()


def test_a_deleted_file_that_comes_back_different_gets_a_new_row(one):
    one.source.files.clear()
    one.embed()
    one.source.put(NAME, picture(1), mtime=2)
    one.embed()
    assert state(one) == [("deleted", "no longer in the source"), OK]
    one.check()


def test_no_picture_that_goes_and_comes_back_is_still_none(world):
    world.source.put(NAME, b"text")
    world.embed()
    before = world.rows()
    world.source.files.clear()
    world.embed()
    world.source.put(NAME, b"text")
    world.embed()
    assert world.rows() == before
    world.check()


def test_a_row_never_read_takes_the_content_that_is_read_first(world):
    world.source.put(NAME, "permission denied")
    world.embed()
    world.source.files.clear()
    world.embed()
    assert state(world) == [("deleted", "no longer in the source")]
    world.source.put(NAME, picture(3), mtime=4)
    world.embed()
    assert state(world) == [OK]
    world.check()


def test_a_file_that_can_no_longer_be_opened_keeps_its_row_until_it_changes(one):
    data = one.source.files[b"x.png"][0]
    one.source.reasons[b"x.png"] = "no permission"
    one.embed()
    assert state(one) == [OK]
    one.source.put(NAME, "no permission", mtime=2)
    one.embed()
    assert state(one) == [("deleted", "replaced by row 1"), ("unreadable", "no permission")]
    one.source.reasons.clear()
    one.source.put(NAME, data, mtime=3)
    one.embed()
    assert state(one) == [OK, ("deleted", "replaced by row 0")]
    one.check()


def test_what_the_scan_says_is_kept_up_to_date(world):
    world.source.put(NAME, "")
    for reason in ("a folder", "a dangling link"):
        world.source.reasons[b"x.png"] = reason
        world.embed()
        assert state(world) == [("unreadable", reason)]
    assert world.source.n_reads == 0


def test_sources_do_not_see_each_others_rows(one):
    items = Items(one.folder / "items", part_rows=5)
    result = register(items, one.source, 1, workers=1)
    assert result.n_deleted == 0
    assert [(row["source"], row["status"]) for row in one.rows()] == [(0, "ok"), (1, "pending")]


def test_size_and_time_of_a_replaced_row_prove_nothing(world):
    world.source.put(NAME, b"text 0", mtime=1)
    world.embed()
    world.source.put(NAME, b"text 1", mtime=2)
    world.embed()
    world.source.put(NAME, b"text 1", mtime=1)
    world.embed()
    assert [status for status, _ in state(world)] == ["deleted", "unreadable"]
    world.source.files.clear()
    world.embed()
    world.source.put(NAME, b"text 1", mtime=1)
    world.embed()
    assert [status for status, _ in state(world)] == ["deleted", "unreadable"]
    world.check()


def test_new_images_get_rows_by_their_position_in_the_source(world):
    positions = {b"a": 2, b"b": 0, b"c": 1, b"d": 0}
    for number, key in enumerate(positions):
        world.source.put(key.decode(), picture(number))
    plain = world.source.scan
    world.source.scan = lambda: [replace(e, position=positions[e.key]) for e in plain()]
    world.embed()
    assert [row["key"] for row in world.rows()] == [b"b", b"d", b"c", b"a"]
    world.source.put("b", picture(7), mtime=2)
    world.source.put("c", picture(8), mtime=2)
    world.embed()
    assert [row["key"] for row in world.rows()[4:]] == [b"b", b"c"]
    assert [world.rows()[row]["reason"] for row in (0, 2)] == [
        "replaced by row 4",
        "replaced by row 5",
    ]
    world.check()
