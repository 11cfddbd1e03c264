"""What a herd consists of, file by file, and what is known of the place it came from."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from imageherd.edits import exchange
from imageherd.edits.journal import Journal
from imageherd.errors import ImageherdError
from imageherd.features.store import MANIFEST, file_sha256, next_path, read_manifest
from imageherd.files import read_json, write_json
from imageherd.project import REMOTES
from imageherd.remote.store import Store

FORMAT = 1
EDITS = "edits.jsonl"
"""A clustering's journal, in a store: one JSON object an entry. An SQLite file's bytes change while
its entries do not."""
INCOMING = "incoming"
"""Holds what a pull has fetched and not yet put in its place."""

# Of use to this machine alone, and made again when needed.
_LEFT_OUT = ("checkpoints", "search", "thumbnails", INCOMING)
# With pictures, or without where a machine has none: of the report, the map alone is all's.
_PAGES = re.compile(r"report/(?!map-[^/]+\.npy$)")
# Made from the rest by looking at a herd: no change of it.
_DERIVED = ("neighbors", "report")
# Seconds; what is written at once is whole in far less.
_PAUSES = (0.0, 0.1, 0.4, 1.0)
_PUBLISHED = re.compile(r"published/(\d{8})\.json")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Content(NamedTuple):
    """What a file holds: its SHA-256 and its size in bytes."""

    sha256: str
    size: int


Files = dict[str, Content]
"""A herd's files by their paths in it, with "/" between the parts."""


@dataclass(frozen=True)
class Publication:
    """A herd as it was pushed.

    Attributes
    ----------
    number : int
        Pushes are counted from 1.
    id : str
        Random, to know it again.
    time : str
        When, in UTC.
    by : str
        Who, and on which machine.
    files : dict of str to Content
        All of it.
    format : int
        1.
    """

    number: int
    id: str
    time: str
    by: str
    files: Files
    format: int = FORMAT

    def record(self) -> Record:
        """Return what a herd that is the same is to remember."""
        return Record(self.number, self.id, self.files)

    @property
    def name(self) -> str:
        """Its file in the store."""
        return f"published/{self.number:08d}.json"

    def to_bytes(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1).encode()


def content_name(sha256: str) -> str:
    """Return where a content lies in the store."""
    return f"contents/{sha256}"


def latest(store: Store) -> tuple[Publication | None, int]:
    """Return the last push there, None if there is none, and the number of the next one.

    On a store that shows half a file, one that is being written is waited for. That of a killed
    push counts for nothing but its number.

    Raises
    ------
    ImageherdError
        If it was written by a newer imageherd, or names files outside the herd.
    """
    names = map(_PUBLISHED.fullmatch, store.sizes("published"))
    numbers = sorted((int(match[1]) for match in names if match), reverse=True)
    for number in numbers:
        for pause in _PAUSES if number == numbers[0] else (0.0,):
            time.sleep(pause)
            with suppress(ValueError):
                found = json.loads(store.read(f"published/{number:08d}.json") or b"")
                return _publication(found, store.url), numbers[0] + 1
    return None, (numbers[0] if numbers else 0) + 1


def contents(herd: Path, scratch: Path, *, read_all: bool = False) -> tuple[Files, dict[str, Path]]:
    """Return what a herd consists of, and where each file's bytes are; its lock must be held.

    Parameters
    ----------
    herd : Path
        The herd.
    scratch : Path
        An empty folder, for journals as a store keeps them.
    read_all : bool, default=False
        Take no manifest at its word, where it may be of another push than the shards. By default
        what it lists is not read, which of 10 million images saves minutes.
    """
    files: Files = {}
    places: dict[str, Path] = {}
    hashes = {} if read_all else _listed(herd)
    for folder, folders, names in os.walk(herd, followlinks=True):
        at = Path(folder)
        folders[:] = sorted(
            f for f in folders if f[0] != "." and (at != herd or f not in _LEFT_OUT)
        )
        journal = exchange.files_of(at)
        for path in (at / name for name in sorted(names)):
            inside = path.relative_to(herd).as_posix()
            if path.name[0] == "." or inside == REMOTES or path in journal[1:]:
                continue
            if _PAGES.match(inside):
                continue
            if path == journal[0]:
                inside = f"{at.relative_to(herd).as_posix()}/{EDITS}"
                path = scratch / f"{len(files)}.jsonl"
                path.write_bytes(exchange.dump(Journal(at)))
            files[inside] = Content(hashes.get(path) or file_sha256(path), path.stat().st_size)
            places[inside] = path
    return files, places


def without_derived(files: Mapping[str, Content]) -> Files:
    """Return the files whose change is a change of the herd."""
    return {path: one for path, one in files.items() if path.split("/")[0] not in _DERIVED}


@dataclass
class Record:
    """What a herd remembers of a place: the push that it was the same as, last.

    Attributes
    ----------
    number : int
        Of the push; 0 while the first pull is under way.
    id : str
        The push's own; "" while the first pull is under way.
    files : dict of str to Content
        What it held.
    """

    number: int
    id: str
    files: Files


def read_records(herd: Path) -> dict[str, Record]:
    """Return what a herd remembers, by URL."""
    path = herd / REMOTES
    try:
        remotes = read_json(path)["remotes"] if path.is_file() else {}
        return {
            url: Record(one["number"], one["id"], _files(one["files"]))
            for url, one in remotes.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImageherdError(
            f"{path}, which says where the herd was pulled from, is damaged ({error}); delete it, "
            "and push to another place or pull into another folder."
        ) from error


def keep_record(herd: Path, url: str, record: Record) -> None:
    """Remember that the herd is as a push at `url`; the lock must be held."""
    records = read_records(herd) | {url: record}
    remotes = {where: asdict(record) for where, record in records.items()}
    write_json(herd / REMOTES, {"format": FORMAT, "remotes": remotes})


def _publication(found: dict[str, Any], url: str) -> Publication:
    """Check what a store says: what is pulled from it lands in the herd's folder, nowhere else."""
    try:
        if found["format"] > FORMAT:
            raise ImageherdError(
                f"{url} was pushed by a newer imageherd (format {found['format']}, this one reads "
                f"up to {FORMAT}); update imageherd."
            )
        return Publication(**found | {"files": _files(found["files"])})
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise ImageherdError(f"{url} holds a listing that is no herd's ({error}).") from error


def _files(found: Mapping[str, Any]) -> Files:
    files = {path: Content(str(one[0]), int(one[1])) for path, one in found.items()}
    for path, content in files.items():
        parts = PurePosixPath(path).parts
        hidden = any(part[0] in "./" for part in parts)
        if not parts or hidden or re.search(r"[\\:\x00]", path) or path.split("/") != list(parts):
            raise ValueError(f"the path {path!r}")
        if not _SHA256.fullmatch(content.sha256):
            raise ValueError(f"the SHA-256 of {path!r}")
    return files


def _listed(herd: Path) -> dict[Path, str]:
    """Return the hashes of shards that manifests list."""
    hashes = {}
    for path in herd.glob(f"features/**/{MANIFEST}"):
        for shard in read_manifest(path.parent)["shards"]:
            for entry in (shard, shard.get("top5", shard)):
                file = path.parent / entry["file"]
                if not next_path(file).exists():
                    hashes[file] = str(entry["sha256"])
    return hashes
