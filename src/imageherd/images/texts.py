"""A file of texts, one a line, perhaps with a label and a tab before each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from imageherd.errors import ImageherdError
from imageherd.images.decode import UnreadableImageError
from imageherd.images.names import display_path, has_image_name
from imageherd.images.source import Entry, Given
from imageherd.images.tables.columns import KEY
from imageherd.images.uris import parts_of, uri_of

_SCHEME = "texts"
NOT_UTF8 = "not UTF-8"
NO_TEXT = "no text after the label"
_MAX_LABEL_BYTES = 100
_BOM = b"\xef\xbb\xbf"
# As much of a file as tells a text from anything else.
_HEAD_BYTES = 4096


@dataclass(frozen=True)
class _Lines:
    """Where each line's text is in the file, blank lines left out.

    Attributes
    ----------
    number : list of int
        Of the line, from 1.
    start, end : list of int
        Bytes of its text, without label and line end.
    reason : list of str
        Why it cannot be read.
    labels : list of str or None
        Of each line; None where the lines carry none.
    """

    number: list[int]
    start: list[int]
    end: list[int]
    reason: list[str]
    labels: list[str] | None


class TextFile:
    """The lines of a text file, as a source of items that have no picture.

    UTF-8, one text a line; blank lines are passed over. Where every line has a tab after a short
    beginning, of at most 100 bytes, these beginnings are labels, not part of the texts:
    ``label<TAB>text``. Memory: about 200 bytes a line once scanned.

    Parameters
    ----------
    path : str or Path
        The file.
    must_exist : bool, default=True
        False puts the check off until the texts are asked for.

    Attributes
    ----------
    root : Path
        Its absolute path.
    uri : str
        "texts:" and the display form of that.
    name : str
        The file's name.

    Raises
    ------
    ImageherdError
        If there is no such file, or it begins as no text in UTF-8 does.
    """

    def __init__(self, path: str | Path, *, must_exist: bool = True) -> None:
        self.root = Path(os.path.abspath(path))  # noqa: PTH100
        self._shown = display_path(os.fsencode(self.root.as_posix()))
        self.uri = uri_of(_SCHEME, self.root)
        self.name = self.root.name
        if must_exist and not self.root.is_file():
            is_folder = self.root.is_dir()
            raise ImageherdError(
                f"{self._shown} is a folder; give a file with one text a line."
                if is_folder
                else f"There is no file {self._shown}. Check the path."
            )
        if must_exist:
            self._check_head()

    @classmethod
    def from_uri(cls, uri: str) -> TextFile:
        """Return the source with this `uri`, whether or not the file is there now."""
        return cls(parts_of(uri)[0], must_exist=False)

    @classmethod
    def takes(cls, given: Given) -> bool:
        """Whether a file is called .txt and does not begin with the path of an image."""
        first = given.head.strip().partition(b"\n")[0].strip()
        return given.is_file and given.path.suffix.lower() == ".txt" and not has_image_name(first)

    def _check_head(self) -> None:
        try:
            with self.root.open("rb") as file:
                head = file.read(_HEAD_BYTES)
        except OSError as error:
            raise self._unreadable(error) from error
        if b"\0" in head:
            raise ImageherdError(
                f"{self._shown} is no text in UTF-8: it has zero bytes. If it is text, save it as "
                "UTF-8."
            )

    def _unreadable(self, error: OSError) -> ImageherdError:
        return ImageherdError(f"{self._shown} cannot be read: {error.strerror or error}.")

    @cached_property
    def _lines(self) -> _Lines:
        try:
            with self.root.open("rb") as file:
                return _lines_of(file.read())
        except OSError as error:
            raise self._unreadable(error) from error

    @property
    def description(self) -> str:
        """What it was taken for."""
        labels = self._lines.labels
        if labels is None:
            return "a file with one text a line"
        n = len(set(labels))
        kinds = f"one of {n:,} labels" if n > 1 else f"the label {labels[0]!r}"
        return f"a file with one text a line, each after {kinds} and a tab"

    def columns(self) -> pa.Table:
        """Return key, label (where the lines carry one) and the beginning of each text."""
        keys = [_key(number) for number in self._lines.number]
        labels = {} if self._lines.labels is None else {"label": self._lines.labels}
        return pa.table({KEY: pa.array(keys, pa.binary()), **labels, "text": self._excerpts(keys)})

    def _excerpts(self, keys: list[bytes]) -> list[str | None]:
        found: list[str | None] = []
        for key in keys:
            try:
                found.append(excerpt(self.text(key)))
            except UnreadableImageError:
                found.append(None)
        return found

    def scan(self) -> list[Entry]:
        """List the lines; their keys are their numbers, from 1, in seven digits or more.

        Raises
        ------
        ImageherdError
            If the file cannot be read or holds no text.
        """
        lines = self._lines
        if not lines.number:
            raise ImageherdError(f"{self._shown} holds no text; give a file with one text a line.")
        mtime_ns = self.root.stat().st_mtime_ns
        columns = (lines.number, lines.start, lines.end, lines.reason)
        found = (
            Entry(_key(number), end - start, mtime_ns, reason, position=number)
            for number, start, end, reason in zip(*columns, strict=True)
        )
        return sorted(found, key=lambda entry: entry.key)

    @cached_property
    def _place(self) -> dict[bytes, tuple[int, int]]:
        lines = self._lines
        places = zip(lines.start, lines.end, strict=True)
        return dict(zip(map(_key, lines.number), places, strict=True))

    def read(self, key: bytes) -> bytes:
        """Return the text of a line, in UTF-8, without its label.

        Raises
        ------
        UnreadableImageError
            If it is gone, or no text.
        """
        try:
            start, end = self._place[key]
            with self.root.open("rb") as file:
                file.seek(start)
                text = file.read(end - start)
            text.decode()
        except (KeyError, ImageherdError) as error:
            raise UnreadableImageError("no such line") from error
        except UnicodeDecodeError as error:
            raise UnreadableImageError(NOT_UTF8) from error
        except OSError as error:
            raise UnreadableImageError(f"the file cannot be read: {error.strerror}") from error
        return text

    def text(self, key: bytes) -> str:
        """Return the text of a line; raises UnreadableImageError as `read`."""
        return self.read(key).decode()

    def path(self, key: bytes) -> None:
        """Return None: a line is in no file of its own."""

    def shown(self, key: bytes) -> str:
        """Return where a line is, for people: "/data/texts.txt:42"."""
        return f"{self._shown}:{int(key)}"

    def is_there(self) -> bool:
        """Whether the file is where it was."""
        return self.root.is_file()


def excerpt(text: str, length: int = 200) -> str:
    """Return the beginning of a text in one line, cut between words where it can be."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    head, blank, _ = line[: length + 1].rpartition(" ")
    return (head if blank and len(head) > length // 2 else line[:length]) + " …"


def _key(number: int) -> bytes:
    return b"%07d" % number


def _lines_of(content: bytes) -> _Lines:
    at = len(_BOM) if content.startswith(_BOM) else 0
    lines = []
    for number, line in enumerate(content[at:].split(b"\n"), start=1):
        if line.strip():
            lines.append((number, at, line))
        at += len(line) + 1
    labels = _labels([line for _, _, line in lines])
    found = _Lines([], [], [], [], labels)
    for number, at, line in lines:
        begin = line.index(b"\t") + 1 if labels else 0
        text = line[begin:].strip()
        start = at + begin + line[begin:].index(text)
        found.number.append(number)
        found.start.append(start)
        found.end.append(start + len(text))
        found.reason.append(_reason(text))
    return found


def _labels(lines: list[bytes]) -> list[str] | None:
    """Return the label of each line, None if not all have one."""
    labels = []
    for line in lines:
        label, tab, _ = line.partition(b"\t")
        if not tab or not 0 < len(label.strip()) <= _MAX_LABEL_BYTES:
            return None
        labels.append(label.strip().decode("utf-8", "replace"))
    return labels or None


def _reason(text: bytes) -> str:
    if not text:
        return NO_TEXT
    try:
        text.decode()
    except UnicodeDecodeError:
        return NOT_UTF8
    return ""
