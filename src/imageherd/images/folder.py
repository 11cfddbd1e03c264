"""A folder of image files: what is in it, in an order that no file system decides."""

from __future__ import annotations

import errno
import heapq
import os
import stat
from pathlib import Path

from imageherd.errors import ImageherdError
from imageherd.images.archives.packing import has_archive_name
from imageherd.images.decode import UnreadableImageError
from imageherd.images.names import (
    EXTENSIONS,
    display_path,
    has_image_name,
    is_herd_name,
    is_skipped,
)
from imageherd.images.source import MAX_FILE_BYTES, Entry, Given
from imageherd.images.uris import parts_of, uri_of

_REASONS = {
    errno.ENOENT: "no such file, or a link to nothing",
    errno.ELOOP: "a link that leads back to itself",
    errno.EACCES: "no permission to read",
    errno.EPERM: "no permission to read",
    errno.EISDIR: "a folder, not a file",
    errno.ENOTDIR: "no such file, or a link to nothing",
    errno.ENAMETOOLONG: "its name is too long",
}
_SCHEME = "folder"


class FolderSource:
    """The images of a folder and the folders in it.

    Parameters
    ----------
    root : str or Path
        The folder.
    must_exist : bool, default=True
        False puts the check off until `scan`; reading a file that is gone is an error of its own.

    Attributes
    ----------
    root : Path
        The folder's absolute path; links in it are kept.
    uri : str
        "folder:" and the display form of `root` (see `display_path`).
    name, description : str
        The folder's own name; "a folder".

    Raises
    ------
    ImageherdError
        If there is no such folder, it is a file, or it is a herd.
    """

    description = "a folder"

    def __init__(self, root: str | Path, *, must_exist: bool = True) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100
        self._shown = display_path(os.fsencode(self.root.as_posix()))
        self.uri = uri_of(_SCHEME, self.root)
        self.name = self.root.name
        if must_exist:
            self._check()

    @staticmethod
    def takes(given: Given) -> bool:
        """Whether it is a folder."""
        return given.is_folder

    @classmethod
    def from_uri(cls, uri: str) -> FolderSource:
        """Return the source with this `uri`, whether or not the folder is there now."""
        return cls(parts_of(uri)[0], must_exist=False)

    def scan(self) -> list[Entry]:
        """List the images, sorted by key.

        A name with one of `EXTENSIONS` is an image. Everything else is ignored, and so are names
        that begin with a dot, herds (``*.herd``) and the folders of thumbnails and copies that some
        systems leave behind. Links to files and folders are followed, but every real folder is
        listed once, under the path that passes through the fewest links (the first in byte order
        among equals), and a link to a folder above the root is not followed.

        What has an image's name but cannot be one (a folder, a pipe, an empty file, a link to
        nothing or to itself, a file without permission) is listed with its reason; a folder called
        "x.jpg" is listed so and searched all the same. A folder that may not be listed has an entry
        of its own.

        Returns
        -------
        list of Entry
            Sorted by key, each key once. One system call or two an image.

        Raises
        ------
        ImageherdError
            If the folder is gone, cannot be listed or holds no image.
        """
        self._check()
        root = os.fsencode(self.root)
        found: dict[bytes, Entry] = {}
        visited = _folders_above(self.root)
        folders: list[tuple[int, bytes]] = [(0, b"")]
        while folders:
            n_links, key = heapq.heappop(folders)
            folder = os.path.join(root, key)  # noqa: PTH118
            try:
                identity = _identity(folder)
                if identity in visited:
                    continue
                visited.add(identity)
                with os.scandir(folder) as listing:
                    children = [child for child in listing if not is_skipped(child.name)]
            except OSError as error:
                if not key:
                    raise ImageherdError(
                        f"{self._shown} cannot be listed: {reason_of_error(error)}."
                    ) from error
                found[key] = Entry(
                    key, 0, 0, f"a folder that cannot be listed: {reason_of_error(error)}"
                )
                continue
            for child in children:
                child_key = key + b"/" + child.name if key else child.name
                if has_image_name(child.name):
                    found[child_key] = entry_of(child_key, child)
                if _is_folder(child):
                    heapq.heappush(folders, (n_links + child.is_symlink(), child_key))
        if not found:
            raise ImageherdError(
                f"There is no image in {self._shown} or the folders in it{self._archives()}. "
                f"These file names are taken for images: {', '.join(EXTENSIONS)}."
            )
        return [found[key] for key in sorted(found)]

    def path(self, key: bytes) -> Path:
        """Return the path of the file with this key."""
        return self.root / os.fsdecode(key)

    def shown(self, key: bytes) -> str:
        """Return the display form of that path."""
        return display_path(os.fsencode(self.path(key).as_posix()))

    def is_there(self) -> bool:
        """Whether the folder is there."""
        return self.root.is_dir()

    def read(self, key: bytes) -> bytes:
        """Read the file with this key.

        Raises
        ------
        UnreadableImageError
            If it is gone, is no regular file (a pipe would block forever), may not be read, or is
            larger than `MAX_FILE_BYTES`.
        """
        path = self.path(key)
        try:
            reason = _reason_of(path.stat())
            if reason:
                raise UnreadableImageError(reason)
            return path.read_bytes()
        except OSError as error:
            raise UnreadableImageError(reason_of_error(error)) from error

    def _archives(self) -> str:
        """Name an archive that is there: it may be what was meant."""
        names = sorted(path.name for path in self.root.iterdir() if has_archive_name(path.name))
        if not names:
            return ""
        return f", but {display_path(os.fsencode(names[0]))}: give an archive by its own path"

    def _check(self) -> None:
        try:
            mode = self.root.stat().st_mode
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise ImageherdError(
                    f"There is no folder {self._shown}. Check the path."
                ) from error
            raise ImageherdError(
                f"{self._shown} cannot be opened: {reason_of_error(error)}."
            ) from error
        if not stat.S_ISDIR(mode):
            raise ImageherdError(f"{self._shown} is a file; give the folder that holds the images.")
        if is_herd_name(os.fsencode(self.root.name)):
            raise ImageherdError(f"{self._shown} is a herd; give the folder that holds the images.")


def entry_of(key: bytes, file: os.DirEntry[bytes] | Path) -> Entry:
    """Return the entry of an image file, with the reason if it cannot be one."""
    try:
        status = file.stat()
    except OSError as error:
        return Entry(key, 0, 0, reason_of_error(error))
    if not stat.S_ISREG(status.st_mode):
        return Entry(key, 0, 0, _reason_of(status))
    reason = _reason_of(status)
    if not reason and not os.access(os.fspath(file), os.R_OK):
        reason = _REASONS[errno.EACCES]
    return Entry(key, status.st_size, status.st_mtime_ns, reason)


def _reason_of(status: os.stat_result) -> str:
    if stat.S_ISDIR(status.st_mode):
        return _REASONS[errno.EISDIR]
    if not stat.S_ISREG(status.st_mode):
        return "a pipe, socket or device, not a file"
    if status.st_size == 0:
        return "empty file"
    if status.st_size > MAX_FILE_BYTES:
        return f"larger than {MAX_FILE_BYTES >> 20:,} MiB"
    return ""


def reason_of_error(error: OSError) -> str:
    """Say what the system had against opening or reading a file, in a few words."""
    return _REASONS.get(error.errno or 0) or error.strerror or type(error).__name__


def _is_folder(child: os.DirEntry[bytes]) -> bool:
    try:
        if not child.is_dir() or is_herd_name(child.name):
            return False
        # A link's own name may hide that it leads to a herd.
        return not (child.is_symlink() and is_herd_name(os.path.realpath(child.path)))
    except OSError:
        return False


def _identity(folder: bytes) -> tuple[int, int]:
    status = os.stat(folder)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _folders_above(root: Path) -> set[tuple[int, int]]:
    return {_identity(os.fsencode(folder)) for folder in root.resolve().parents}
