"""Which files a scan finds, under which keys, in which order, and what it says of the rest."""

from __future__ import annotations

import errno
import os
import random
import socket
import sys
from pathlib import Path

import pytest

from imageherd.errors import ImageherdError
from imageherd.images import folder as folder_module
from imageherd.images.decode import UnreadableImageError
from imageherd.images.folder import FolderSource
from imageherd.images.names import EXTENSIONS, display_path, key_from_display
from imageherd.images.source import Entry

NEEDS_POSIX = pytest.mark.skipif(os.name != "posix", reason="POSIX file names and pipes")


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"pixels")


def keys(root: Path) -> list[bytes]:
    return [entry.key for entry in FolderSource(root).scan()]


def reasons(root: Path) -> dict[bytes, str]:
    return {entry.key: entry.reason for entry in FolderSource(root).scan() if entry.reason}


class TestSource:
    def test_root_and_uri_are_absolute(self, tmp_path, monkeypatch):
        put(tmp_path, "photos/a.jpg")
        monkeypatch.chdir(tmp_path)
        source = FolderSource("photos/../photos")
        assert source.root == tmp_path / "photos"
        assert source.uri == f"folder:{tmp_path.as_posix()}/photos"

    @NEEDS_POSIX
    def test_from_uri_gets_any_folder_back(self, tmp_path):
        root = tmp_path / os.fsdecode(b"a\\b \xff\n\xc3\xa4")
        put(root, "a.jpg")
        source = FolderSource(root)
        source.uri.encode("utf-8")
        assert FolderSource.from_uri(source.uri).root == source.root == root
        assert FolderSource.from_uri(source.uri).scan() == source.scan()

    def test_from_uri_of_a_folder_that_is_gone(self, tmp_path):
        source = FolderSource.from_uri(f"folder:{tmp_path}/gone")
        with pytest.raises(UnreadableImageError, match="no such file"):
            source.read(b"a.jpg")
        with pytest.raises(ImageherdError, match=r"no folder .*gone"):
            source.scan()

    def test_entry_tells_size_and_time(self, tmp_path):
        put(tmp_path, "a.jpg")
        os.utime(tmp_path / "a.jpg", ns=(5, 1_700_000_000_123_456_789))
        (entry,) = FolderSource(tmp_path).scan()
        # File systems keep times to 100 ns at worst.
        assert abs(entry.mtime_ns - 1_700_000_000_123_456_789) < 100
        assert entry == Entry(b"a.jpg", 6, entry.mtime_ns, "")

    def test_read_and_path(self, tmp_path):
        put(tmp_path, "sub/a.jpg")
        source = FolderSource(tmp_path)
        assert source.read(b"sub/a.jpg") == b"pixels"
        assert source.path(b"sub/a.jpg") == tmp_path / "sub" / "a.jpg"


class TestWhatIsFound:
    def test_every_extension_in_any_case(self, tmp_path):
        names = [f"a{e}" for e in EXTENSIONS] + [f"b{e.upper()}" for e in EXTENSIONS]
        put(tmp_path, *names, "c.JpG")
        assert keys(tmp_path) == sorted(name.encode() for name in [*names, "c.JpG"])

    def test_other_files_are_ignored(self, tmp_path):
        others = ["labels.csv", "README.md", "jpg", "a.jpg.txt", "a.mp4", "Thumbs.db", "a.svg"]
        put(tmp_path, "a.jpg", *others)
        assert keys(tmp_path) == [b"a.jpg"]

    def test_hidden_and_left_behind(self, tmp_path):
        put(tmp_path, "seen/a.jpg", ".jpg", ".hidden.jpg", "._a.jpg", ".cache/a.jpg")
        put(tmp_path, "__MACOSX/a.jpg", "sub/__MACOSX/a.jpg", "Thumbs/a.jpg", "@eaDir/a.jpg")
        assert keys(tmp_path) == [b"seen/a.jpg"]

    def test_a_hidden_folder_may_be_asked_for(self, tmp_path):
        put(tmp_path, ".photos/a.jpg")
        assert keys(tmp_path / ".photos") == [b"a.jpg"]

    def test_herds_are_left_alone(self, tmp_path):
        put(tmp_path, "a.jpg", "photos.herd/a.jpg", "sub/B.HERD/deep/a.jpg")
        put(tmp_path.with_name("plain"), "a.jpg")
        (tmp_path / "link").symlink_to(tmp_path / "photos.herd")
        (tmp_path / "link.herd").symlink_to(tmp_path.with_name("plain"))
        assert keys(tmp_path) == [b"a.jpg"]
        with pytest.raises(ImageherdError, match="is a herd"):
            FolderSource(tmp_path / "photos.herd")

    def test_order_is_by_bytes_of_the_whole_key(self, tmp_path):
        put(tmp_path, "b/a.jpg", "b.jpg", "b-1.jpg", "B.jpg", "ä.jpg", "a/z.jpg", "10.jpg", "9.jpg")
        expected = [b"10.jpg", b"9.jpg", b"B.jpg", b"a/z.jpg", b"b-1.jpg", b"b.jpg", b"b/a.jpg"]
        assert keys(tmp_path) == [*expected, "ä.jpg".encode()]

    def test_order_of_creation_does_not_matter(self, tmp_path):
        names = [f"{folder}{i:02d}.jpg" for folder in ("", "a/", "b/c/") for i in range(20)]
        found = []
        for seed in range(3):
            random.Random(seed).shuffle(names)
            put(tmp_path / str(seed), *names)
            found.append(keys(tmp_path / str(seed)))
        assert found[0] == found[1] == found[2]
        assert len(found[0]) == 60

    def test_order_of_listing_does_not_matter(self, tmp_path, monkeypatch):
        put(tmp_path, *(f"{folder}/{i}.jpg" for folder in "abc" for i in range(5)))
        for name in ("z", "y"):
            (tmp_path / name).symlink_to(tmp_path / "outside")
        put(tmp_path / "outside", "o.jpg")
        before = keys(tmp_path)
        scandir = os.scandir

        class Reversed:
            def __init__(self, path):
                self.inner = scandir(path)

            def __enter__(self):
                return sorted(self.inner, key=lambda child: child.name, reverse=True)

            def __exit__(self, *_):
                self.inner.close()

        monkeypatch.setattr(folder_module.os, "scandir", Reversed)
        assert keys(tmp_path) == before

    def test_deep_folders(self, tmp_path):
        # Deeper than Python's recursion limit would allow a recursive walk to go in 300 frames.
        limit = sys.getrecursionlimit()
        put(tmp_path, "/".join(["d"] * 400) + "/a.jpg")
        sys.setrecursionlimit(300)
        try:
            found = keys(tmp_path)
        finally:
            sys.setrecursionlimit(limit)
        assert found == [b"/".join([b"d"] * 400) + b"/a.jpg"]

    @NEEDS_POSIX
    def test_names_in_any_script_and_no_encoding(self, tmp_path):
        names = ["Ärger", "写真", "صورة", "🐑‍", "e\u0301", "é", "a\nb", "tab\t", " ", "a\\b", "-n"]
        raw = [name.encode() + b".jpg" for name in names] + [b"\xff\xfe.jpg", b"caf\xe9/\x80.jpg"]
        for name in raw:
            put(tmp_path, os.fsdecode(name))
        source = FolderSource(tmp_path)
        entries = source.scan()
        assert [entry.key for entry in entries] == sorted(raw)
        for entry in entries:
            assert source.read(entry.key) == b"pixels"
            assert key_from_display(display_path(entry.key)) == entry.key


class TestLinks:
    def test_linked_files_and_folders_are_followed(self, tmp_path):
        put(tmp_path / "elsewhere", "a.jpg", "b.jpg")
        root = tmp_path / "photos"
        put(root, "own.jpg")
        (root / "link.jpg").symlink_to(tmp_path / "elsewhere" / "a.jpg")
        (root / "album").symlink_to(tmp_path / "elsewhere")
        assert keys(root) == [b"album/a.jpg", b"album/b.jpg", b"link.jpg", b"own.jpg"]
        assert FolderSource(root).read(b"link.jpg") == b"pixels"

    def test_loops_end(self, tmp_path):
        root = tmp_path / "photos"
        put(root, "a/a.jpg", "b/b.jpg")
        put(tmp_path, "outside.jpg")
        (root / "a" / "to_b").symlink_to(root / "b")
        (root / "b" / "to_a").symlink_to("../a")
        (root / "a" / "self").symlink_to(".")
        (root / "a" / "root").symlink_to(root)
        (root / "a" / "above").symlink_to(tmp_path)
        (root / "a" / "everything").symlink_to("/")
        assert keys(root) == [b"a/a.jpg", b"b/b.jpg"]

    def test_a_real_folder_wins_over_links_to_it(self, tmp_path):
        put(tmp_path, "z/real/a.jpg")
        (tmp_path / "a").symlink_to(tmp_path / "z" / "real")
        (tmp_path / "b").symlink_to(tmp_path / "z")
        assert keys(tmp_path) == [b"z/real/a.jpg"]

    def test_of_two_links_the_first_name_wins(self, tmp_path):
        put(tmp_path / "elsewhere", "x/a.jpg")
        root = tmp_path / "photos"
        root.mkdir()
        for name in ("c", "a", "b"):
            (root / name).symlink_to(tmp_path / "elsewhere")
        assert keys(root) == [b"a/x/a.jpg"]

    def test_the_root_may_be_a_link(self, tmp_path):
        put(tmp_path / "real", "a.jpg")
        (tmp_path / "link").symlink_to("real")
        source = FolderSource(tmp_path / "link")
        assert source.root == tmp_path / "link"
        assert [entry.key for entry in source.scan()] == [b"a.jpg"]

    def test_dangling_and_looping(self, tmp_path):
        put(tmp_path, "good.jpg")
        (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
        (tmp_path / "self.jpg").symlink_to("self.jpg")
        (tmp_path / "one.png").symlink_to("two.png")
        (tmp_path / "two.png").symlink_to("one.png")
        (tmp_path / "through.jpg").symlink_to("good.jpg/a.jpg")
        (tmp_path / "folder").symlink_to("nowhere")
        loop = "a link that leads back to itself"
        gone = "no such file, or a link to nothing"
        assert reasons(tmp_path) == {
            b"gone.jpg": gone,
            b"one.png": loop,
            b"self.jpg": loop,
            b"through.jpg": gone,
            b"two.png": loop,
        }
        assert len(keys(tmp_path)) == 6
        for key, reason in reasons(tmp_path).items():
            with pytest.raises(UnreadableImageError, match=reason):
                FolderSource(tmp_path).read(key)


class TestUnreadable:
    def test_empty_file(self, tmp_path):
        (tmp_path / "a.jpg").touch()
        (entry,) = FolderSource(tmp_path).scan()
        assert (entry.size, entry.reason) == (0, "empty file")
        assert entry.mtime_ns > 0
        with pytest.raises(UnreadableImageError, match="empty file"):
            FolderSource(tmp_path).read(b"a.jpg")

    def test_a_folder_called_jpg_is_listed_and_searched(self, tmp_path):
        put(tmp_path, "x.jpg/inside.jpg", "y.png/notes.txt")
        entries = FolderSource(tmp_path).scan()
        assert [entry.key for entry in entries] == [b"x.jpg", b"x.jpg/inside.jpg", b"y.png"]
        assert entries[0] == Entry(b"x.jpg", 0, 0, "a folder, not a file")
        assert entries[1].reason == ""
        with pytest.raises(UnreadableImageError, match="a folder"):
            FolderSource(tmp_path).read(b"x.jpg")

    @NEEDS_POSIX
    @pytest.mark.timeout(20)
    def test_pipes_sockets_and_devices_do_not_block(self, tmp_path, monkeypatch):
        os.mkfifo(tmp_path / "pipe.jpg")
        (tmp_path / "device.jpg").symlink_to("/dev/zero")
        # A socket's path may not be longer than a hundred bytes.
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket.jpg")
            found = reasons(tmp_path)
        assert set(found) == {b"pipe.jpg", b"device.jpg", b"socket.jpg"}
        assert set(found.values()) == {"a pipe, socket or device, not a file"}
        for key in found:
            with pytest.raises(UnreadableImageError, match="not a file"):
                FolderSource(tmp_path).read(key)

    def test_too_large(self, tmp_path, monkeypatch):
        monkeypatch.setattr(folder_module, "MAX_FILE_BYTES", 1 << 20)
        with (tmp_path / "a.tif").open("wb") as file:
            file.truncate((1 << 20) + 1)
        assert reasons(tmp_path) == {b"a.tif": "larger than 1 MiB"}
        with pytest.raises(UnreadableImageError, match="larger"):
            FolderSource(tmp_path).read(b"a.tif")

    def test_no_permission_to_read(self, tmp_path, monkeypatch):
        # Whoever runs the tests may be root, who may read everything.
        put(tmp_path, "a.jpg", "b.jpg")
        access = os.access
        monkeypatch.setattr(
            folder_module.os, "access", lambda p, m: not p.endswith(b"a.jpg") and access(p, m)
        )
        assert reasons(tmp_path) == {b"a.jpg": "no permission to read"}

    @pytest.mark.parametrize(
        ("number", "reason"),
        [
            (errno.EACCES, "no permission to read"),
            (errno.ENOENT, "no such file"),
            (errno.EIO, os.strerror(errno.EIO)),
            (errno.ESTALE, os.strerror(errno.ESTALE)),
        ],
    )
    def test_reading_fails(self, tmp_path, monkeypatch, number, reason):
        put(tmp_path, "a.jpg")

        def fail(self):
            raise OSError(number, os.strerror(number), str(self))

        monkeypatch.setattr(Path, "read_bytes", fail)
        with pytest.raises(UnreadableImageError, match=reason) as caught:
            FolderSource(tmp_path).read(b"a.jpg")
        assert str(tmp_path) not in caught.value.reason

    def test_a_folder_that_cannot_be_listed_is_a_row(self, tmp_path, monkeypatch):
        put(tmp_path, "a.jpg", "closed/b.jpg", "closed.jpg/c.jpg")
        scandir = os.scandir

        def refuse(path):
            if b"closed" in path:
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return scandir(path)

        monkeypatch.setattr(folder_module.os, "scandir", refuse)
        assert keys(tmp_path) == [b"a.jpg", b"closed", b"closed.jpg"]
        assert set(reasons(tmp_path).values()) == {
            "a folder that cannot be listed: no permission to read"
        }
        with pytest.raises(ImageherdError, match="cannot be listed: no permission"):
            FolderSource(tmp_path / "closed").scan()

    def test_a_file_that_vanishes_after_the_scan(self, tmp_path):
        put(tmp_path, "a.jpg")
        source = FolderSource(tmp_path)
        (entry,) = source.scan()
        (tmp_path / "a.jpg").unlink()
        with pytest.raises(UnreadableImageError, match="no such file"):
            source.read(entry.key)


class TestErrors:
    @pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: put(p, "a.txt", "s/b.mp4")])
    def test_no_image_says_so_and_what_counts(self, tmp_path, make):
        make(tmp_path / "photos")
        with pytest.raises(ImageherdError) as caught:
            FolderSource(tmp_path / "photos").scan()
        message = str(caught.value)
        assert str(tmp_path / "photos") in message
        assert "no image" in message
        assert all(extension in message for extension in EXTENSIONS)

    def test_no_such_folder(self, tmp_path):
        with pytest.raises(ImageherdError, match=r"There is no folder .*/nowhere"):
            FolderSource(tmp_path / "nowhere")

    def test_a_file(self, tmp_path):
        put(tmp_path, "a.jpg")
        with pytest.raises(ImageherdError, match=r"a\.jpg is a file"):
            FolderSource(tmp_path / "a.jpg")
        with pytest.raises(ImageherdError, match="There is no folder"):
            FolderSource(tmp_path / "a.jpg" / "b")

    def test_a_folder_that_may_not_be_entered(self, tmp_path, monkeypatch):
        def refuse(self):
            raise PermissionError(errno.EACCES, "Permission denied", str(self))

        monkeypatch.setattr(Path, "stat", refuse)
        with pytest.raises(ImageherdError, match="cannot be opened: no permission"):
            FolderSource(tmp_path)
