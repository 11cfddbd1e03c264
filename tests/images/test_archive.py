"""Archives with everything in them that archives have, and what is said of it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import shutil
import stat
import struct
import subprocess
import tarfile
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest

from feature_fakes import FakeBackbone, World, killed_at, picture
from imageherd.errors import ImageherdError
from imageherd.images import members, packing
from imageherd.images.archive import ArchiveSource
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


class TestDamage:
    @pytest.mark.parametrize("pack", [None, gzip.compress, bz2.compress])
    def test_of_a_truncated_tar_the_rest_is_read(self, tmp_path, pack):
        data = [os.urandom(700) for _ in range(5)]
        source = tar(tmp_path / "a.tar", *(member(f"{i}.jpg", d) for i, d in enumerate(data)))
        # Within the data of the fourth.
        cut = source.file.read_bytes()[: 3 * 1536 + 512 + 100]
        source.file.write_bytes(pack(cut) if pack else cut)
        with pytest.warns(UserWarning, match=r"a\.tar is cut off .* 4 images are found"):
            found = reasons(source)
        cut_off = "cut off: the archive ends within it"
        assert found == {b"0.jpg": "", b"1.jpg": "", b"2.jpg": "", b"3.jpg": cut_off}
        assert [source.read(b"%d.jpg" % i) for i in range(3)] == data[:3]

    @pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
    def test_a_stream_that_is_cut_off_is_read_up_to_there(self, tmp_path, pack):
        data = [os.urandom(500_000) for _ in range(5)]
        source = tar(tmp_path / "a.tar", *(member(f"{i}.jpg", d) for i, d in enumerate(data)))
        source.file.write_bytes(pack(source.file.read_bytes())[:-200_000])
        with pytest.warns(UserWarning, match="is cut off"):
            found = reasons(source)
        assert source.read(b"1.jpg") == data[1]
        assert found[b"0.jpg"] == found[b"1.jpg"] == ""
        assert found.get(b"4.jpg") != ""

    def test_behind_a_damaged_header_nothing_is_read(self, tmp_path):
        source = tar(tmp_path / "a.tar", *(member(f"{i}.jpg") for i in range(5)))
        data = bytearray(source.file.read_bytes())
        data[2 * 1024 + 3 : 2 * 1024 + 9] = b"\xffrust\0"
        source.file.write_bytes(data)
        with pytest.warns(UserWarning, match=r"is damaged at byte 2,048, .* 2 images"):
            assert list(reasons(source)) == [b"0.jpg", b"1.jpg"]

    @pytest.mark.parametrize("n", range(12))
    def test_any_damage_to_a_tar_is_survived(self, tmp_path, n):
        names = [f"{'long' * 40}{i}.jpg" for i in range(9)]
        source = tar(tmp_path / "a.tar", *map(member, names), format=tarfile.PAX_FORMAT)
        data = bytearray(source.file.read_bytes())
        rng = random.Random(n)
        for _ in range(20):
            data[rng.randrange(3000, len(data))] = rng.randrange(256)
        source.file.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for entry in source.entries():
                assert entry.reason or len(source.read(entry.key)) == entry.size

    def test_a_damaged_member_of_a_zip_says_so(self, tmp_path):
        source = zipped(tmp_path / "a.zip", "a.jpg", "b.jpg", method=zipfile.ZIP_DEFLATED)
        source.scan()
        data = bytearray(source.file.read_bytes())
        data[40] ^= 0xFF
        source = ArchiveSource(source.file)
        source.file.write_bytes(data)
        with pytest.raises(UnreadableImageError, match="its checksum in the archive is another"):
            source.read(b"a.jpg")
        assert source.read(b"b.jpg") == b"pixels" * 100
        data[:4] = b"none"
        source.file.write_bytes(b"x" + data[1:])
        with pytest.raises(UnreadableImageError, match="was changed after it was listed"):
            source.read(b"a.jpg")
        with pytest.raises(UnreadableImageError, match="not where the archive's list says"):
            ArchiveSource(source.file.rename(tmp_path / "b.zip")).read(b"a.jpg")

    def test_a_zip_does_not_unpack_to_more_than_it_says(self, tmp_path):
        source = zipped(tmp_path / "a.zip", method=zipfile.ZIP_DEFLATED)
        with zipfile.ZipFile(source.file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("bomb.jpg", bytes(50_000_000))
        data = bytearray(source.file.read_bytes())
        for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
            struct.pack_into("<I", data, data.index(signature) + at, 1000)
        source.file.write_bytes(data)
        source.scan()
        tracemalloc.start()
        with pytest.raises(UnreadableImageError, match="checksum"):
            source.read(b"bomb.jpg")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000

    def test_what_is_larger_than_is_read_is_not_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr(members, "MAX_FILE_BYTES", 1 << 20)
        source = tar(tmp_path / "a.tar", member("a.jpg", bytes((1 << 20) + 1)))
        assert reasons(source) == {b"a.jpg": "larger than 1 MiB"}


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


class Stream(io.BytesIO):
    """A file that cannot go back: what is written to it has its sizes behind it."""

    def seekable(self):
        return False

    def seek(self, *args):
        raise OSError

    def tell(self):
        raise OSError


class TestZipWithoutItsEnd:
    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    @pytest.mark.parametrize("streamed", [False, True])
    def test_what_comes_before_is_read(self, tmp_path, method, streamed):
        out = Stream() if streamed else io.BytesIO()
        data = [os.urandom(70_000 + i) for i in range(4)]
        with zipfile.ZipFile(out, "w", method) as archive:
            archive.writestr("folder/", b"")
            for i, each in enumerate(data):
                info = zipfile.ZipInfo(f"folder/{i}.jpg", (2024, 5, 6, 7, 8, 10))
                info.compress_type = method
                archive.writestr(info, each)
        whole = out.getvalue()
        file = tmp_path / "a.zip"
        file.write_bytes(whole)
        expected = ArchiveSource(file).scan()
        file.write_bytes(whole[:-30_000])
        source = ArchiveSource(file)
        with pytest.warns(UserWarning, match=r"the list of its files, at its end, is missing"):
            entries = source.scan()
        if streamed and method == zipfile.ZIP_STORED:
            (only,) = entries
            assert only.reason == "where it ends stood at the end of the archive"
            return
        assert entries[:3] == expected[:3]
        assert [entry.reason for entry in entries[3:]] == ["cut off: the archive ends within it"]
        assert [source.read(entry.key) for entry in entries[:3]] == data[:3]

    @pytest.mark.parametrize("at", [0, 3, 29, 60, 300, 1000])
    def test_wherever_it_is_cut(self, tmp_path, at):
        source = zipped(tmp_path / "a.zip", "a.jpg", "b.jpg", method=zipfile.ZIP_DEFLATED)
        whole = source.file.read_bytes()
        for cut in range(at, min(at + 30, len(whole) - 1)):
            source.file.write_bytes(whole[:cut])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    entries = source.entries()
                except ImageherdError:
                    continue
                for entry in entries:
                    assert entry.reason or source.read(entry.key) == b"pixels" * 100


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
