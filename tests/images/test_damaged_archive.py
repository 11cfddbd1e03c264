"""Archives that are cut off or damaged: what can be read is, and the rest is told."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import struct
import tarfile
import tracemalloc
import warnings
import zipfile

import pytest
from test_archive import member, reasons, tar, zipped

from imageherd.errors import ImageherdError
from imageherd.images.archives import members
from imageherd.images.archives.archive import ArchiveSource
from imageherd.images.decode import UnreadableImageError


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
