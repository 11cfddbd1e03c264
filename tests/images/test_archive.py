"""Archives with everything in them that archives have, and what is said of it."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from feature_fakes import FakeBackbone, World, killed_at, picture
from imageherd.errors import ImageherdError
from imageherd.images.archives import packing
from imageherd.images.archives.archive import ArchiveSource
from imageherd.images.decode import UnreadableImageError
from imageherd.images.source import open_source, source_from_uri

DAY = 1_700_000_000


def member(name: str, data: bytes = b"pixels", **facts) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = len(data), DAY
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info, data


def tar(path: Path, *found: tuple[tarfile.TarInfo, bytes], **options) -> ArchiveSource:
    with tarfile.open(path, "w", errors="surrogateescape", **options) as archive:
        for info, data in found:
            archive.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return ArchiveSource(path)


def zipped(path: Path, *names: str | zipfile.ZipInfo, method: int = 0) -> ArchiveSource:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            archive.writestr(name, b"pixels" * 100)
    return ArchiveSource(path)


def reasons(source: ArchiveSource) -> dict[bytes, str]:
    return {entry.key: entry.reason for entry in source.scan()}


def test_what_no_image_has_is_passed_over_as_in_a_folder(tmp_path):
    names = ["a.JPG", "./b.png", "c//d.webp", "labels.csv", ".e.jpg", "._f.jpg", ".g/h.jpg"]
    names += ["__MACOSX/i.jpg", "Thumbs/j.jpg", "k.herd/l.jpg", "m/@eaDir/n.jpg"]
    keys = [b"a.JPG", b"b.png", b"c/d.webp"]
    assert list(reasons(tar(tmp_path / "a.tar", *map(member, names)))) == keys
    assert list(reasons(zipped(tmp_path / "a.zip", *names))) == keys


def test_a_tar_s_odd_members_have_their_reasons(tmp_path):
    link = "a link; those in an archive are not followed"
    source = tar(
        tmp_path / "a.tar",
        member("good.jpg"),
        member("empty.jpg", b""),
        member("/etc/absolute.jpg"),
        member("a/../../out.jpg"),
        member("folder.jpg", type=tarfile.DIRTYPE),
        member("pipe.jpg", type=tarfile.FIFOTYPE),
        member("device.jpg", type=tarfile.CHRTYPE),
        member("soft.jpg", type=tarfile.SYMTYPE, linkname="good.jpg"),
        member("hard.jpg", type=tarfile.LNKTYPE, linkname="./good.jpg"),
        member("nowhere.jpg", type=tarfile.LNKTYPE, linkname="gone.jpg"),
    )
    assert reasons(source) == {
        b"/etc/absolute.jpg": "an absolute name",
        b"a/../../out.jpg": "a name that leads out of the archive",
        b"device.jpg": "a pipe, socket or device, not a file",
        b"empty.jpg": "empty file",
        b"folder.jpg": "a folder, not a file",
        b"good.jpg": "",
        b"hard.jpg": "",
        b"nowhere.jpg": link,
        b"pipe.jpg": "a pipe, socket or device, not a file",
        b"soft.jpg": link,
    }
    assert source.read(b"hard.jpg") == source.read(b"good.jpg") == b"pixels"
    with pytest.raises(UnreadableImageError, match="are not followed"):
        source.read(b"soft.jpg")
    with pytest.raises(UnreadableImageError, match="no longer in the archive"):
        source.read(b"other.jpg")


def test_a_zip_s_odd_members_have_their_reasons(tmp_path):
    soft = zipfile.ZipInfo("soft.jpg")
    soft.external_attr = (stat.S_IFLNK | 0o777) << 16
    source = zipped(tmp_path / "a.zip", "good.jpg", soft, "/abs.jpg", "../out.jpg", "folder.jpg/")
    with zipfile.ZipFile(source.file, "a") as archive:
        archive.writestr("lzma.jpg", b"pixels", zipfile.ZIP_LZMA)
        archive.writestr("empty.jpg", b"")
    assert reasons(source) == {
        b"../out.jpg": "a name that leads out of the archive",
        b"/abs.jpg": "an absolute name",
        b"empty.jpg": "empty file",
        b"folder.jpg": "a folder, not a file",
        b"good.jpg": "",
        b"lzma.jpg": "compressed by a method that is not read (number 14 of zip)",
        b"soft.jpg": "a link; those in an archive are not followed",
    }
    assert source.read(b"good.jpg") == b"pixels" * 100


def test_an_encrypted_member_says_so(tmp_path):
    source = zipped(tmp_path / "a.zip", "open.jpg", "secret.jpg")
    data = bytearray(source.file.read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.rindex(signature) + at] |= 1
    source.file.write_bytes(data)
    assert reasons(source) == {b"open.jpg": "", b"secret.jpg": "encrypted"}


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_in_any_encoding_and_length_survive_a_tar(tmp_path, format):
    raw = [b"caf\xe9.jpg", "Ärger/写真 🐑.jpg".encode(), b"a\nb\\c.jpg", b"\xff/\x80.png"]
    if format != tarfile.USTAR_FORMAT:
        raw.append(b"/".join([b"long" * 20] * 6) + b".jpg")
    source = tar(tmp_path / "a.tar", *(member(os.fsdecode(n)) for n in raw), format=format)
    assert [entry.key for entry in source.scan()] == sorted(raw)
    for key in raw:
        assert source.read(key) == b"pixels"


@pytest.mark.skipif(shutil.which("tar") is None, reason="GNU tar made the file")
def test_a_tar_by_tar_has_the_keys_of_its_folder(tmp_path):
    names = [b"caf\xe9.jpg", "Ärger/写真.jpg".encode(), b"long" * 40 + b"/a.jpg"]
    for name in names:
        path = tmp_path / "photos" / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"pixels")
    for i, options in enumerate((["--format=gnu"], ["--format=pax"], ["-b1"])):
        subprocess.run(
            ["tar", *options, "-cf", f"{i}.tar", "-C", "photos", "."], cwd=tmp_path, check=True
        )
        assert list(reasons(ArchiveSource(tmp_path / f"{i}.tar"))) == sorted(names)


def test_names_of_a_zip_are_the_bytes_in_it(tmp_path):
    source = zipped(tmp_path / "a.zip", "ä.jpg", "XX.jpg", "left-a.jpg")
    data = source.file.read_bytes()
    data = data.replace(b"XX.jpg", b"\x84\xff.jpg").replace(b"left-a", b"left\\a")
    source.file.write_bytes(data)
    # As Linux and Macs write it; as an old Windows does.
    assert set(reasons(source)) == {"ä.jpg".encode(), b"\x84\xff.jpg", b"left\\a.jpg"}
    at = data.rindex(b"PK\x01\x02")
    source.file.write_bytes(data[: at + 5] + b"\0" + data[at + 6 :])
    assert b"left/a.jpg" in reasons(source)


def test_of_one_name_the_last_counts_whatever_it_is(tmp_path):
    source = tar(
        tmp_path / "a.tar",
        member("a.jpg", b"old"),
        member("b.jpg"),
        member("./a.jpg", b"newer", mtime=DAY + 5),
        member("b.jpg", type=tarfile.SYMTYPE, linkname="a.jpg"),
    )
    first, second = source.scan()
    assert (first.size, first.mtime_ns, first.reason) == (5, (DAY + 5) * 10**9, "")
    assert source.read(b"a.jpg") == b"newer"
    assert "link" in second.reason


@pytest.mark.parametrize("mtime", [0, -5, float("nan"), 1e300])
def test_a_member_without_a_time_has_the_archive_s(tmp_path, mtime):
    facts = {"pax_headers": {"mtime": str(mtime)}}
    source = tar(tmp_path / "a.tar", member("a.jpg", **facts), member("b.jpg", mtime=DAY + 0.5))
    os.utime(source.file, ns=(7, 7))
    assert [entry.mtime_ns for entry in source.scan()] == [7, DAY * 10**9 + 5 * 10**8]
    source = zipped(tmp_path / "a.zip", zipfile.ZipInfo("a.jpg"))
    os.utime(source.file, ns=(7, 7))
    assert [entry.mtime_ns for entry in source.scan()] == [7]


class TestErrors:
    def test_an_archive_of_nothing_or_without_images(self, tmp_path):
        empty = [tar(tmp_path / "a.tar"), zipped(tmp_path / "a.zip")]
        others = [tar(tmp_path / "b.tar", member("a.txt")), zipped(tmp_path / "b.zip", "a.txt")]
        for source in empty + others:
            with pytest.raises(ImageherdError, match=rf"There is no image in .*{source.name}"):
                open_source(source.file).scan()

    @pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
    @pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html>", gzip.compress(b"no tar")])
    def test_what_is_called_an_archive_and_is_none(self, tmp_path, name, data):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageherdError, match=rf"{name} is no archive, whatever its name says"):
            open_source(tmp_path / name).scan()

    def test_gone_since_or_never_there(self, tmp_path):
        source = tar(tmp_path / "a.tar", member("a.jpg"))
        source.scan()
        source.file.unlink()
        assert not source.is_there()
        with pytest.raises(UnreadableImageError, match="no such file"):
            source.read(b"a.jpg")
        with pytest.raises(ImageherdError, match=r"There is no file .*a\.tar"):
            source.scan()
        with pytest.raises(UnreadableImageError, match="There is no file"):
            ArchiveSource(source.file, must_exist=False).read(b"a.jpg")

    def test_no_room_to_unpack_says_what_to_do(self, tmp_path, monkeypatch):
        source = tar(tmp_path / "a.tar", member("a.jpg"))
        source.file.write_bytes(gzip.compress(source.file.read_bytes()))
        monkeypatch.setattr(packing.tempfile, "NamedTemporaryFile", lambda *a, **k: FullDisk())
        with pytest.raises(ImageherdError, match=r"/tmp has no room for it\. Set TMPDIR"):
            source.scan()


class FullDisk(io.BytesIO):
    name = "/tmp/imageherd-x"

    def write(self, data):
        raise OSError(28, "No space left on device")


def test_what_was_unpacked_goes_with_the_source(tmp_path, monkeypatch):
    source = tar(tmp_path / "a.tar", member("a.jpg"))
    source.file.write_bytes(gzip.compress(source.file.read_bytes()))
    monkeypatch.setattr(packing.tempfile, "tempdir", str(tmp_path))
    other = source_from_uri(source.uri)
    for each in (source, source, other):
        each.scan()
    # A report reads while the pipeline's source is still there: unpacked once for both.
    assert len(list(tmp_path.glob("imageherd-*"))) == 1
    assert source.read(b"a.jpg") == b"pixels"
    del source, each
    assert other.read(b"a.jpg") == b"pixels"
    del other
    assert not list(tmp_path.glob("imageherd-*"))


@pytest.mark.parametrize("n", [2, 5, 9, 14])
@pytest.mark.parametrize("name", ["photos.tar", "photos.zip"])
def test_a_killed_run_is_taken_up_again(tmp_path, name, n):
    images = {f"{i % 3}/{i:02d}.png": picture(i) for i in range(14)}
    if name == "photos.tar":
        tar(tmp_path / name, *(member(key, data) for key, data in images.items()))
    else:
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for key, data in images.items():
                archive.writestr(key, data)
    calm = World(tmp_path / "calm", open_source(tmp_path / name))
    calm.embed(FakeBackbone(mixing=True))
    killed = World(tmp_path / "killed", open_source(tmp_path / name))
    with killed_at(n):
        killed.embed(FakeBackbone(mixing=True))
    assert killed.snapshot() != calm.snapshot()
    killed.source = source_from_uri(calm.source.uri)
    killed.embed(FakeBackbone(mixing=True))
    assert killed.snapshot() == calm.snapshot()
