"""Every verb that takes images takes an archive, and says what it took it for."""

import json
import shutil
import zipfile

import pytest

from imageherd.cli.checks import default_herd


@pytest.fixture
def packed(photos):
    path = photos.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in photos.iterdir():
            archive.writestr(file.name, file.read_bytes() if file.exists() else b"")
    shutil.rmtree(photos)
    return path


@pytest.mark.parametrize("verb", ["sort", "embed"])
def test_an_archive_is_told_and_named_after(run, herd, packed, verb):
    result = run(verb, packed)
    assert result.exit_code == 0, result.output
    first = result.stdout.splitlines()[0]
    assert first == f"6 images in {packed}, a zip archive, and 2 files that cannot be read."
    assert herd.path.name == "photos.herd"
    again = run(verb, packed, "--json")
    assert first in again.stderr
    assert json.loads(again.stdout)["herd"] == "photos.herd"
    assert "a zip archive" not in run(verb, packed, "--quiet").stdout


def test_new_images_may_come_in_an_archive(run, made, packed):
    result = run("assign", made.path, packed)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"6 images in {packed}, a zip archive")
    assert made.calls[-1][1][0].uri == f"archive:{packed}"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("photoz.zip", "photoz.zip does not exist; check the path. Did you mean photos.zip?"),
        ("text.zip", "text.zip is no archive, whatever its name says"),
        ("note.xyz", "note.xyz cannot be read as a source of images; these can: a folder, "),
        ("https://example.org/a.tar", "is a URL. Download it, or give a CSV file"),
        ("s-{0..3}.tar", "There is no file s-0.tar, nor any other that"),
        ("s-{3..0}.tar", "{3..0} in "),
    ],
)
def test_what_is_no_source(run, herd, packed, given, expected):
    for name in ("text.zip", "note.xyz"):
        packed.with_name(name).write_text("no images")
    for verb in (["sort"], ["embed"]):
        result = run(*verb, given)
        assert result.exit_code == 2
        assert expected in " ".join(result.stderr.split())
    assert herd.calls == []


def test_an_archive_of_what_cannot_be_read(run, herd, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", b"")
    result = run("sort", "a.zip")
    assert "a.zip holds no image that can be read, only 1 file that cannot, such as" in " ".join(
        result.stderr.split()
    )


def test_where_the_herd_of_a_source_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "holiday.2024.zip").mkdir()
    for given, name in {
        "holiday.2024.zip": "holiday.2024.zip",
        "x/photos/": "photos",
        "x/photos.2024": "photos.2024",
        "photos.tar": "photos",
        "photos.TAR.GZ": "photos",
        "photos.tgz": "photos",
        "list.csv": "list",
        "x/train-{000000..000131}.tar": "train",
        "{a,b}.tar": "images",
        ".": tmp_path.name,
    }.items():
        assert str(default_herd(given)) == f"{name}.herd"
