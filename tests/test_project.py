import json
import multiprocessing

import filelock
import pytest

from imageherd.errors import ImageherdError
from imageherd.project import keep, locked, read_project, register_source, set_features


def test_sources_get_their_index_once(tmp_path):
    assert register_source(tmp_path, "folder:/a") == 0
    assert register_source(tmp_path, "folder:/b") == 1
    assert register_source(tmp_path, "folder:/a") == 0
    set_features(tmp_path, "net-1", "net")
    project = read_project(tmp_path)
    assert project["sources"] == ["folder:/a", "folder:/b"]
    assert project["features"] == "net-1"
    assert project["backbones"] == {"net-1": "net"}
    assert project["versions"]["torch"]


def test_a_package_under_another_name_is_no_hindrance(tmp_path, monkeypatch):
    monkeypatch.setattr("imageherd.project.PACKAGES", ("torch", "no-such-package"))
    register_source(tmp_path, "folder:/a")
    assert read_project(tmp_path)["versions"].keys() == {"python", "torch"}


def test_what_is_no_herd_says_so(tmp_path):
    with pytest.raises(ImageherdError, match="is not a herd"):
        read_project(tmp_path)
    with pytest.raises(ImageherdError, match="does not exist"):
        read_project(tmp_path / "nothing.herd")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "x"}', "{"])
def test_a_damaged_file_says_so(tmp_path, content):
    (tmp_path / "herd.json").write_text(content)
    with pytest.raises(ImageherdError, match="damaged"):
        read_project(tmp_path)


def test_a_newer_format_is_refused(tmp_path):
    register_source(tmp_path, "folder:/a")
    file = tmp_path / "herd.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    with pytest.raises(ImageherdError, match="newer imageherd"):
        read_project(tmp_path)


def _hold(path, ready, release):
    with locked(path):
        ready.set()
        release.wait(30)


def test_a_second_writer_is_kept_out(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, ready, release))
    other.start()
    try:
        assert ready.wait(60)
        with pytest.raises(ImageherdError, match="Another imageherd is writing"), locked(tmp_path):
            pass
        keep(tmp_path, lambda: pytest.fail("written while another process is writing"))
    finally:
        release.set()
        other.join()
    with locked(tmp_path):
        pass


def test_a_herd_that_cannot_be_written_says_so(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    with pytest.raises(ImageherdError, match="cannot be written; change"), locked(tmp_path):
        pass


def test_what_goes_wrong_inside_is_not_taken_for_the_lock(tmp_path):
    with pytest.raises(PermissionError), locked(tmp_path):
        raise PermissionError(13, "a photo")
    with locked(tmp_path), locked(tmp_path):
        pass


def test_a_file_in_the_way_says_so(tmp_path):
    (tmp_path / "photos.herd").write_text("x")
    with pytest.raises(ImageherdError, match="is a file"), locked(tmp_path / "photos.herd"):
        pass


def test_who_has_the_lock_may_take_it_again(tmp_path):
    with locked(tmp_path), locked(tmp_path):
        keep(tmp_path, lambda: (tmp_path / "kept").touch())
    assert (tmp_path / "kept").exists()


def test_what_cannot_be_kept_is_no_error(tmp_path):
    def refused():
        raise PermissionError

    keep(tmp_path, refused)
