"""What a source of images is, which kinds there are, and which of them something given is.

To add a kind: a class with what `Source` and `SourceClass` ask for, and a line in `KINDS`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from imageherd.errors import ImageherdError
from imageherd.images.names import display_path, has_image_name

MAX_FILE_BYTES = 1 << 30
"""An image file is read whole into memory; one larger than this is refused."""

_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Entry:
    """One image as the scan of its source saw it.

    Attributes
    ----------
    key : bytes
        Path below the source's root, "/" between the parts, as the file system or the archive has
        it: not necessarily UTF-8.
    size : int
        Bytes; 0 if it is not a file.
    mtime_ns : int
        When the contents last changed, in nanoseconds since 1970; 0 if it is not a file.
    reason : str, default=""
        Why it cannot be read, where that is known without reading it.
    position : int, default=0
        Where it lies in what is best read from front to back; images new to a herd get their rows
        in this order, and by key among equals.
    """

    key: bytes
    size: int
    mtime_ns: int
    reason: str = ""
    position: int = 0


class Source(Protocol):
    """Where images come from: a folder, an archive, a table.

    Attributes
    ----------
    uri : str
        What ``herd.json`` remembers it by: its scheme, a colon, and where it is (see `shown_uri`).
    name : str
        A short name, for titles: "photos.tar".
    description : str
        What it was taken for, in words: "a tar archive".
    """

    @property
    def uri(self) -> str: ...  # noqa: D102

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def description(self) -> str: ...  # noqa: D102

    def scan(self) -> Sequence[Entry]:
        """List the images as they are now, sorted by key, each key once.

        Raises ImageherdError if the source is gone, cannot be listed or holds no image; what has
        an image's name and cannot be one is listed with the reason.
        """
        ...

    def read(self, key: bytes) -> bytes:
        """Return the file of one image; raises UnreadableImageError. Many threads call it."""
        ...

    def path(self, key: bytes) -> Path | None:
        """Return the path of the file with this key; None where it is in no file of its own."""
        ...

    def shown(self, key: bytes) -> str:
        """Return where an image is, for people: "/data/photos.tar/animals/cat.jpg"."""
        ...

    def is_there(self) -> bool:
        """Whether the source is where it was, as far as can be told without listing it."""
        ...


@dataclass(frozen=True)
class Given:
    """What somebody gave as a source, looked at once for all kinds.

    Attributes
    ----------
    text : str
        As it was given.
    """

    text: str

    @cached_property
    def path(self) -> Path:
        """The absolute path; links in it are kept."""
        return Path(os.path.abspath(self.text))  # noqa: PTH100

    @cached_property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.path.is_dir()

    @cached_property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.path.is_file()

    @cached_property
    def head(self) -> bytes:
        """The first 4,096 bytes of the file; none if it is no file or cannot be read."""
        try:
            if self.is_file:
                with self.path.open("rb") as file:
                    return file.read(_HEAD_BYTES)
        except OSError:
            pass
        return b""


class SourceClass(Protocol):
    """What the class of a kind of source offers besides `Source`."""

    def __call__(self, given: str | Path, **chosen: str) -> Source:
        """Open a source; raises ImageherdError if it is not there or cannot be opened.

        Kinds with columns take an `image_column`.
        """
        ...

    def takes(self, given: Given) -> bool:
        """Whether this kind is meant: by the contents, by the name where these do not tell."""
        ...

    def from_uri(self, uri: str) -> Source:
        """Return the source with this URI, whether or not it is there now."""
        ...


class Kind(NamedTuple):
    """A kind of source: its URIs' scheme, where its class is in this package, what people say."""

    scheme: str
    where: str
    words: str


KINDS = (
    Kind("vectors", "vectors.vector_file:VectorFile", "vectors (.npy, .parquet)"),
    Kind("array", "arrays:ArraySource", "an array of images (.npy, .npz)"),
    Kind("table", "tables.table:TableSource", "a table (.parquet, .arrow, .csv)"),
    Kind("shards", "archives.shards:ShardsSource", "tar shards (train-{000..131}.tar)"),
    Kind("archive", "archives.archive:ArchiveSource", "an archive (.tar, .tar.gz, .zip)"),
    Kind("folder", "folder:FolderSource", "a folder"),
    Kind("texts", "texts:TextFile", "a text file (.txt)"),
)
"""Most particular first: the first kind that takes what is given opens it."""

_WITH_COLUMNS = ("array", "table")


def open_source(given: str | Path, *, image_column: str | None = None) -> Source:
    """Return the source of images that something given is.

    Parameters
    ----------
    given : str or Path
        A path, or what else one of `KINDS` takes.
    image_column : str, optional
        Which column of a table or array of a file holds the images; found by default.

    Raises
    ------
    ImageherdError
        If nothing is there, it is none of the kinds, or its kind refuses it.
    """
    found = Given(os.fspath(given))
    for kind in KINDS:
        if image_column is not None and kind.scheme not in _WITH_COLUMNS:
            continue
        source_class = _class_of(kind)
        if source_class.takes(found):
            chosen = {} if image_column is None else {"image_column": image_column}
            return source_class(given, **chosen)
    shown = display_path(os.fsencode(found.text))
    if image_column is not None and os.path.lexists(found.path):
        raise ImageherdError(f"{shown} is no table or array, so it has no column {image_column}.")
    if "://" in found.text:
        raise ImageherdError(
            f"{shown} is a URL. Download it, or give a CSV file that lists the URLs of images."
        )
    if not os.path.lexists(found.path):
        raise ImageherdError(f"{shown} does not exist; check the path.{_meant(found.path)}")
    if has_image_name(os.fsencode(found.path.name)):
        folder = display_path(os.fsencode(found.path.parent))
        raise ImageherdError(f"{shown} is a file; give the folder it is in: {folder}")
    kinds = ", ".join(kind.words for kind in sorted(KINDS, key=lambda k: k.scheme != "folder"))
    raise ImageherdError(f"{shown} cannot be read as a source of images; these can: {kinds}.")


def source_from_uri(uri: str) -> Source:
    """Return the source that a herd remembers by `uri`, whether or not it is there now.

    Raises
    ------
    ImageherdError
        If the scheme is not known: a newer imageherd wrote it.
    """
    # A scheme may tell which column was chosen: "table@photo:/data/train.parquet".
    scheme = uri.partition(":")[0].partition("@")[0]
    for kind in KINDS:
        if kind.scheme == scheme:
            return _class_of(kind).from_uri(uri)
    raise ImageherdError(
        f"{uri} is a kind of source that this imageherd does not know; update it to read the herd."
    )


def shown_uri(uri: str) -> str:
    """Return where the source with this URI is, as people write it: the URI less its scheme."""
    return uri.partition(":")[2]


def _class_of(kind: Kind) -> SourceClass:
    module, name = kind.where.split(":")
    return cast(SourceClass, getattr(import_module(f"{__package__}.{module}"), name))


def _meant(path: Path) -> str:
    """Say what beside the path is called nearly the same."""
    try:
        names = sorted(os.listdir(path.parent))  # noqa: PTH208
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.75)
    return f" Did you mean {display_path(os.fsencode(close[0]))}?" if close else ""
