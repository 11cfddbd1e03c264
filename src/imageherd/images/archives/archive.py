"""The images of a tar or zip archive, read where they lie."""

from __future__ import annotations

import os
import threading
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

import pyarrow as pa

from imageherd.errors import ImageherdError
from imageherd.images.archives.members import Contents, Member
from imageherd.images.archives.packing import COMPRESSED, Unpacked, has_archive_name, packing_of
from imageherd.images.archives.side_files import table_of, told_beside
from imageherd.images.archives.tars import list_tar, read_tar
from imageherd.images.archives.zips import list_zip, read_zip
from imageherd.images.decode import UnreadableImageError
from imageherd.images.folder import reason_of_error
from imageherd.images.names import EXTENSIONS, display_path
from imageherd.images.source import Entry, Given
from imageherd.images.uris import parts_of, uri_of

_SCHEME = "archive"
_HEAD = 512


@dataclass(frozen=True, eq=False)
class _Opened:
    """An archive as it was when it was listed."""

    contents: Contents
    read: Callable[[BinaryIO, Member], bytes]
    data: Path
    size: int
    mtime_ns: int
    # Its file goes when nobody has it any more.
    scratch: Unpacked | None


_lock = threading.Lock()
# A report looks into archives that the pipeline has listed: all share one list while it is in use.
_in_use: WeakValueDictionary[tuple[Path, int, int], _Opened] = WeakValueDictionary()


class ArchiveSource:
    """The images of a tar or zip archive.

    Nothing is unpacked: `scan` notes where each image lies, and `read` goes there. Only a tar that
    is compressed as a whole cannot be entered in the middle: it is unpacked, once a run, into a
    temporary file (in ``$TMPDIR``), which goes when no source uses it any more.

    Parameters
    ----------
    path : str or Path
        The archive: tar (V7, ustar, GNU, pax; plain or by gzip, bzip2 or xz) or zip, told by its
        contents, not by its name.
    must_exist : bool, default=True
        False puts the check off until `scan`.

    Attributes
    ----------
    file : Path
        Its absolute path.
    uri : str
        "archive:" and the display form of `file`.
    name : str
        The file's name.

    Raises
    ------
    ImageherdError
        If there is no such file or it may not be read.
    """

    def __init__(self, path: str | Path, *, must_exist: bool = True) -> None:
        self.file = Path(os.path.abspath(path))  # noqa: PTH100
        self._shown = display_path(os.fsencode(self.file.as_posix()))
        self.uri = uri_of(_SCHEME, self.file)
        self.name = self.file.name
        self._opened: _Opened | None = None
        if must_exist:
            self._check()

    @staticmethod
    def takes(given: Given) -> bool:
        """Whether it is an archive: by its contents, else by its name."""
        return given.is_file and (
            packing_of(given.path, given.head) != "" or has_archive_name(given.path.name)
        )

    @classmethod
    def from_uri(cls, uri: str) -> ArchiveSource:
        """Return the source with this `uri`, whether or not the archive is there now."""
        return cls(parts_of(uri)[0], must_exist=False)

    @property
    def description(self) -> str:
        """What it was taken for; one that is compressed as a whole says what that means."""
        packing = self._packing()
        if packing in COMPRESSED:
            return (
                f"a tar archive compressed by {packing} (unpacked into a temporary file at each "
                "run; a plain .tar is read in place)"
            )
        return f"a {packing or 'tar'} archive"

    def scan(self) -> list[Entry]:
        """List the images, sorted by key.

        What has an image's name is an image; hidden files, herds and what systems leave behind are
        passed over, as in a folder. Links, pipes, encrypted images, absolute names and such as lead
        out of the archive are listed with the reason. Of several members of one name the last
        counts. A member without a time has that of the archive.

        Returns
        -------
        list of Entry
            Each key once. Time as of `list_tar` and `list_zip`.

        Raises
        ------
        ImageherdError
            If the file is gone, is no archive, or holds no image.

        Warns
        -----
        UserWarning
            If the archive is cut off or damaged; what can be read of it is listed.
        """
        entries = self.entries()
        if not entries:
            raise ImageherdError(
                f"There is no image in {self._shown}. "
                f"These file names are taken for images: {', '.join(EXTENSIONS)}."
            )
        return entries

    def entries(self) -> list[Entry]:
        """List the images as `scan` does; none is no mistake."""
        self._opened = self._open()
        contents = self._opened.contents
        if contents.remark:
            warnings.warn(
                f"{self._shown} {contents.remark}. {len(contents.members):,} images are found.",
                stacklevel=1,
            )
        return [contents.members[key].entry for key in sorted(contents.members)]

    def read(self, key: bytes) -> bytes:
        """Read the image with this key; many threads may, each by a file handle of its own.

        Raises
        ------
        UnreadableImageError
            If it is not there, was listed with a reason, is damaged, or the archive was changed
            since it was listed.
        """
        try:
            opened = self._listed()
            member = opened.contents.members.get(key)
            if member is None:
                raise UnreadableImageError("no longer in the archive")
            if member.entry.reason:
                raise UnreadableImageError(member.entry.reason)
            with opened.data.open("rb", buffering=0) as file:
                status = os.fstat(file.fileno())
                if (status.st_size, status.st_mtime_ns) != (opened.size, opened.mtime_ns):
                    raise UnreadableImageError("its archive was changed after it was listed")
                return opened.read(file, member)
        except OSError as error:
            raise UnreadableImageError(reason_of_error(error)) from error
        except ImageherdError as error:
            raise UnreadableImageError(f"its archive cannot be read: {error}") from error

    def columns(self) -> pa.Table:
        """Return what lies beside the images, as in a shard of WebDataset: see `side_files`."""
        return table_of(self.told())

    def told(self) -> list[tuple[bytes, dict[str, Any]]]:
        """Return what lies beside the images by key, for those that have something beside them.

        Raises
        ------
        ImageherdError
            As `scan`.
        """
        opened = self._listed()
        with opened.data.open("rb") as file:
            return list(told_beside(file, opened.contents, opened.read))

    def path(self, key: bytes) -> None:
        """Return None: no image has a file of its own."""

    def shown(self, key: bytes) -> str:
        """Return the archive's path and the key below it."""
        return f"{self._shown}/{display_path(key)}"

    def is_there(self) -> bool:
        """Whether the file is there."""
        return self.file.is_file()

    def _check(self) -> None:
        try:
            with self.file.open("rb"):
                return
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ImageherdError(f"There is no file {self._shown}. Check the path.") from error
        except OSError as error:
            raise ImageherdError(
                f"{self._shown} cannot be opened: {reason_of_error(error)}."
            ) from error

    def _packing(self) -> str:
        try:
            with self.file.open("rb") as file:
                return packing_of(self.file, file.read(_HEAD))
        except OSError:
            return ""

    def _listed(self) -> _Opened:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> _Opened:
        self._check()
        status = self.file.stat()
        state = (self.file, status.st_size, status.st_mtime_ns)
        with _lock:
            opened = _in_use.get(state)
            if opened is None:
                opened = _in_use[state] = self._list()
            return opened

    def _list(self) -> _Opened:
        packing = self._packing()
        if packing == "" and not zipfile.is_zipfile(self.file):
            raise ImageherdError(
                f"{self._shown} is no archive, whatever its name says: its contents are not those "
                "of a tar or zip. Was it downloaded to the end?"
            )
        scratch = Unpacked(self.file, packing) if packing in COMPRESSED else None
        data = self.file if scratch is None else scratch.tar
        listed_by, read = (list_zip, read_zip) if packing in ("zip", "") else (list_tar, read_tar)
        with data.open("rb") as file:
            status = os.fstat(file.fileno())
            try:
                contents = listed_by(file)
            except ImageherdError as error:
                raise ImageherdError(f"{self._shown} {error}") from error
        return _Opened(contents, read, data, status.st_size, status.st_mtime_ns, scratch)
