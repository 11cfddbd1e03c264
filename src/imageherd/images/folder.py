"""A folder of image files: what is in it, in an order that no file system decides."""

from __future__ import annotations

import errno
import heapq
import os
import re
import stat
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from imageherd.errors import ImageherdError
from imageherd.images.decode import UnreadableImageError

EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".gif"),
    *(".tif", ".tiff", ".heic", ".heif", ".hif", ".avif"),
)
"""File names that are taken for images, in any mixture of capitals."""

MAX_FILE_BYTES = 1 << 30
"""A file is read whole into memory; one larger than this is refused."""

_EXTENSIONS = frozenset(os.fsencode(extension) for extension in EXTENSIONS)
# What Macs, Windows and Synology stations leave beside photographs: copies and thumbnails.
_SKIPPED = frozenset([b"__macosx", b"thumbs", b"@eadir", b"$recycle.bin"])
_REASONS = {
    errno.ENOENT: "no such file, or a link to nothing",
    errno.ELOOP: "a link that leads back to itself",
    errno.EACCES: "no permission to read",
    errno.EPERM: "no permission to read",
    errno.EISDIR: "a folder, not a file",
    errno.ENOTDIR: "no such file, or a link to nothing",
    errno.ENAMETOOLONG: "its name is too long",
}
_SCHEME = "folder:"
_ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2}|)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One image file as the scan saw it.

    Attributes
    ----------
    key : bytes
        Path below the folder's root, "/" between the parts, as the file system has it: not
        necessarily UTF-8.
    size : int
        Bytes; 0 if it is not a file.
    mtime_ns : int
        When the contents last changed, in nanoseconds since 1970; 0 if it is not a file.
    reason : str, default=""
        Why it cannot be read, where that is known without reading it.
    """

    key: bytes
    size: int
    mtime_ns: int
    reason: str = ""


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

    Raises
    ------
    ImageherdError
        If there is no such folder, it is a file, or it is a herd.
    """

    def __init__(self, root: str | Path, *, must_exist: bool = True) -> None:
        self.root = Path(os.path.abspath(root))  # noqa: PTH100
        self._shown = display_path(os.fsencode(self.root.as_posix()))
        self.uri = _SCHEME + self._shown
        if must_exist:
            self._check()

    @classmethod
    def from_uri(cls, uri: str) -> FolderSource:
        """Return the source with this `uri`, whether or not the folder is there now."""
        root = key_from_display(uri.removeprefix(_SCHEME))
        return cls(os.fsdecode(root), must_exist=False)

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
                    children = [child for child in listing if not _is_skipped(child.name)]
            except OSError as error:
                if not key:
                    raise ImageherdError(
                        f"{self._shown} cannot be listed: {_reason(error)}."
                    ) from error
                found[key] = Entry(key, 0, 0, f"a folder that cannot be listed: {_reason(error)}")
                continue
            for child in children:
                child_key = key + b"/" + child.name if key else child.name
                if _has_image_name(child.name):
                    found[child_key] = _entry(child_key, child)
                if _is_folder(child):
                    heapq.heappush(folders, (n_links + child.is_symlink(), child_key))
        if not found:
            raise ImageherdError(
                f"There is no image in {self._shown} or the folders in it. "
                f"These file names are taken for images: {', '.join(EXTENSIONS)}."
            )
        return [found[key] for key in sorted(found)]

    def path(self, key: bytes) -> Path:
        """Return the path of the file with this key."""
        return self.root / os.fsdecode(key)

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
            raise UnreadableImageError(_reason(error)) from error

    def _check(self) -> None:
        try:
            mode = self.root.stat().st_mode
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise ImageherdError(
                    f"There is no folder {self._shown}. Check the path."
                ) from error
            raise ImageherdError(f"{self._shown} cannot be opened: {_reason(error)}.") from error
        if not stat.S_ISDIR(mode):
            raise ImageherdError(f"{self._shown} is a file; give the folder that holds the images.")
        if _is_herd(os.fsencode(self.root.name)):
            raise ImageherdError(f"{self._shown} is a herd; give the folder that holds the images.")


def display_path(key: bytes) -> str:
    r"""Write a path as text from which `key_from_display` gets the same bytes.

    Valid UTF-8 stays as it is; bytes that are not, control characters and line separators are
    written ``\xNN``, a backslash is doubled.
    """
    text = key.decode("utf-8", "surrogateescape")
    return "".join(_shown_character(character) for character in text)


def key_from_display(text: str) -> bytes:
    r"""Get back the bytes of a path from its display form.

    Raises
    ------
    ImageherdError
        If a backslash is neither doubled nor the start of ``\xNN``.
    """

    def original(match: re.Match[str]) -> str:
        escape = match[1]
        if not escape:
            raise ImageherdError(
                f"{text!r} is no path as imageherd shows it: a backslash has to be written \\\\."
            )
        # Latin-1 puts one byte into one character; what is not escaped goes there byte by byte.
        return "\\" if escape == "\\" else chr(int(escape[1:], 16))

    as_latin = text.encode("utf-8", "surrogateescape").decode("latin-1")
    return _ESCAPE.sub(original, as_latin).encode("latin-1")


def _shown_character(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
        return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
    return character


def _entry(key: bytes, child: os.DirEntry[bytes]) -> Entry:
    try:
        status = child.stat()
    except OSError as error:
        return Entry(key, 0, 0, _reason(error))
    if not stat.S_ISREG(status.st_mode):
        return Entry(key, 0, 0, _reason_of(status))
    reason = _reason_of(status)
    if not reason and not os.access(child.path, os.R_OK):
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


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0) or error.strerror or type(error).__name__


def _is_folder(child: os.DirEntry[bytes]) -> bool:
    try:
        if not child.is_dir() or _is_herd(child.name):
            return False
        # A link's own name may hide that it leads to a herd.
        return not (child.is_symlink() and _is_herd(os.path.realpath(child.path)))
    except OSError:
        return False


def _is_herd(path: bytes) -> bool:
    return path.lower().endswith(b".herd")


def _is_skipped(name: bytes) -> bool:
    return name.startswith(b".") or name.lower() in _SKIPPED


def _has_image_name(name: bytes) -> bool:
    return os.path.splitext(name)[1].lower() in _EXTENSIONS  # noqa: PTH122


def _identity(folder: bytes) -> tuple[int, int]:
    status = os.stat(folder)  # noqa: PTH116
    return status.st_dev, status.st_ino


def _folders_above(root: Path) -> set[tuple[int, int]]:
    return {_identity(os.fsencode(folder)) for folder in root.resolve().parents}
