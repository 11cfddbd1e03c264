"""Sources that move, and sources that are gone."""

import hashlib
import shutil
import tarfile

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


def without_times(facts):
    items, *rest = facts
    return [{k: v for k, v in item.items() if k != "mtime_ns"} for item in items], *rest


def test_a_folder_that_became_an_archive_and_a_folder_again(herd, mine, tmp_path):
    before = facts(herd)
    packed, moved = tmp_path / "packed.tar", tmp_path / "moved.tar"
    with tarfile.open(packed, "w") as tar:
        tar.add(mine, ".")
    shutil.rmtree(mine)
    assert herd.embed(packed, moved_from=mine).n_embedded == 0
    assert without_times(facts(herd)) == without_times(before)
    packed.rename(moved)
    with pytest.raises(ImageherdError, match=r"is none of the sources .* these are .*packed\.tar"):
        herd.embed(moved, moved_from=mine)
    assert herd.embed(moved, moved_from=packed).n_embedded == 0
    with pytest.raises(ImageherdError, match=r"moved\.tar/left/.* is no file of its own"):
        herd.export(tmp_path / "links", to="folders", link="hardlink")
    assert herd.report(tmp_path / "r.html").read_text().count("<title>moved.tar") == 1
    out = herd.export(tmp_path / "out", to="folders")
    items = {item["content_hash"]: item for item in herd.items().to_pylist()}
    for path in out.rglob("*.jpg"):
        item = items[hashlib.sha256(path.read_bytes()).hexdigest()]
        assert abs(path.stat().st_mtime_ns - item["mtime_ns"]) < 1000
    with tarfile.open(moved) as tar:
        tar.extractall(mine, filter="data")
    moved.unlink()
    assert herd.embed(mine, moved_from=moved).n_embedded == 0
    assert without_times(facts(herd)) == without_times(before)


def test_images_of_an_archive_that_is_gone_are_told_by_their_place_in_it(herd, mine, tmp_path):
    packed = tmp_path / "packed.tar"
    with tarfile.open(packed, "w") as tar:
        tar.add(mine, ".")
    shutil.rmtree(mine)
    herd.embed(packed, moved_from=mine)
    packed.unlink()
    with pytest.raises(ImageherdError, match=r"None of the 48 .* such as .*packed\.tar/"):
        herd.export(tmp_path / "out", to="folders")
