"""Sources that move, and sources that are gone."""

import shutil

import pytest

from imageherd.errors import ImageherdError
from imageherd.herd import Herd
from imageherd.project import read_project


@pytest.fixture
def mine(herd, photos, tmp_path):
    """A copy of the photographs that the herd takes for its own."""
    mine = tmp_path / "mine"
    shutil.copytree(photos, mine)
    file = herd.path / "herd.json"
    file.write_text(file.read_text().replace(str(photos), str(mine)))
    herd.rename(herd.clustering().clusters[0].uid, "favourites")
    return mine


def facts(herd):
    items = herd.items()
    live = [status != "deleted" for status in items["status"].to_pylist()]
    found = herd.clustering()
    return items.filter(live).to_pylist(), found.rows.tolist(), found.uids.tolist(), found.names()


def check_moved(herd, before, where, tmp_path):
    assert facts(herd) == before
    assert len(herd.features().rows) == 48
    out = herd.export(tmp_path / "out", to="folders")
    assert len(list(out.rglob("*.jpg"))) == 48
    assert herd.report(tmp_path / "r.html").read_text().count("<title>moved") == 1
    assert read_project(herd.path)["sources"][0] == f"folder:{where}"


def test_a_folder_that_moved_keeps_rows_clusters_and_names(herd, mine, tmp_path):
    before = facts(herd)
    moved = mine.rename(tmp_path / "moved")
    assert herd.estimate(moved, moved_from=mine) == 0
    summary = herd.embed(moved, moved_from=mine)
    assert (summary.n_images, summary.n_embedded, summary.n_deleted) == (49, 0, 0)
    check_moved(herd, before, moved, tmp_path)
    # Ctrl-C's advice is to say the same again.
    assert herd.embed(moved, moved_from=mine).n_embedded == 0
    assert facts(herd) == before


def test_what_was_counted_twice_is_put_right(herd, mine, tmp_path):
    before = facts(herd)
    moved = mine.rename(tmp_path / "moved")
    with pytest.warns(UserWarning, match=rf"{mine} is no longer there; .*49.*--moved-from {mine}"):
        assert herd.embed(moved).n_copied == 48
    assert len(herd.features().rows) == 96
    assert herd.embed(moved, moved_from=mine).n_embedded == 0
    check_moved(herd, before, moved, tmp_path)
    assert herd.embed(moved, moved_from=mine).n_embedded == 0
    assert facts(herd) == before


def test_a_kill_on_the_way_leaves_it_to_the_next_run(herd, mine, tmp_path, monkeypatch):
    before = facts(herd)
    moved = mine.rename(tmp_path / "moved")
    with pytest.warns(UserWarning, match="no longer there"):
        herd.embed(moved)

    def die(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("imageherd.sources.write_json", die)
        with pytest.raises(KeyboardInterrupt):
            herd.embed(moved, moved_from=mine)
    herd = Herd(herd.path)
    herd.embed(moved, moved_from=mine)
    assert facts(herd) == before


def test_a_move_that_cannot_be_says_why(herd, mine, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(mine, copy)
    before = (herd.path / "herd.json").read_bytes()
    with pytest.raises(ImageherdError, match="still holds images, so it has not moved"):
        herd.embed(copy, moved_from=mine)
    with pytest.raises(ImageherdError, match=rf"is none of the sources .* these are {mine}"):
        herd.embed(copy, moved_from=tmp_path / "typo")
    assert (herd.path / "herd.json").read_bytes() == before
