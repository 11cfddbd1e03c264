"""Pulling a herd: fetch what this machine lacks, then put it in place, ``herd.json`` last."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from imageherd.edits import exchange
from imageherd.edits.journal import Journal
from imageherd.errors import ImageherdError
from imageherd.features.disk import writing_to
from imageherd.features.store import file_sha256
from imageherd.project import FILE, is_herd, locked
from imageherd.remote.contents import (
    EDITS,
    INCOMING,
    Content,
    Files,
    Publication,
    Record,
    content_name,
    contents,
    keep_record,
    latest,
    read_records,
    without_derived,
)
from imageherd.remote.store import Store, each


@dataclass(frozen=True)
class Pulled:
    """What a pull came to.

    Attributes
    ----------
    number : int
        Of the push that the herd is the same as now.
    by, time : str
        Who pushed it, and when.
    n_files, n_bytes : int
        Of the herd.
    n_fetched, n_bytes_fetched : int
        Contents that this machine lacked.
    """

    number: int
    by: str
    time: str
    n_files: int
    n_bytes: int
    n_fetched: int
    n_bytes_fetched: int


def pull(url: str, herd: str | Path) -> Pulled:
    """Fetch a herd from an object store, or what has changed there since the last time.

    Killed at any moment, the next call goes on with what is missing. While things are fetched the
    herd is what it was; while they are put in place, a matter of renaming files, it cannot be
    opened. Every file is checked against its hash.

    Parameters
    ----------
    url : str
        Where from, as ``s3://bucket/photos.herd``.
    herd : str or Path
        A folder that is not there yet or is empty, or a herd that was pulled from there or pushed
        to it, and has not been changed since.

    Returns
    -------
    Pulled

    Raises
    ------
    ImageherdError
        If there is no herd at the URL; if the folder holds something else, or a herd with changes
        that are not there; if a file there is damaged; or if the disk is full.
    """
    herd, store = Path(herd), Store(url)
    there = latest(store)[0]
    if there is None or FILE not in there.files:
        raise ImageherdError(f"{store.url} holds no herd; see whether the URL is right.")
    _check_place(herd, store.url)
    with locked(herd), writing_to(herd), TemporaryDirectory(prefix="imageherd-pull-") as scratch:
        record = read_records(herd).get(store.url)
        if record is None:
            keep_record(herd, store.url, Record(0, "", {}))
        whole = is_herd(herd)
        mine, places = contents(herd, Path(scratch), read_all=not whole)
        before = record.files if record else {}
        if whole:
            _check_unchanged(herd, mine, before, there)
        lacking = {path: one for path, one in there.files.items() if mine.get(path) != one}
        incoming = herd / INCOMING
        incoming.mkdir(exist_ok=True)
        # A version of a clustering often has the head of the one before.
        here = {one: places[path] for path, one in mine.items()}
        absent = {one for one in lacking.values() if not (incoming / one.sha256).exists()}
        for one in absent & set(here):
            _take(one, incoming, partial(shutil.copyfile, here[one]))
        wanted = sorted(one for one in absent if not (incoming / one.sha256).exists())
        each(lambda one: _fetch(store, one, incoming), wanted, "Pulling")
        # What a pull has left that was killed is of a push that may be the last no more.
        gone = [path for path in before | ({} if whole else mine) if path not in there.files]
        if lacking or gone:
            _switch(herd, there.files, lacking, gone)
        keep_record(herd, store.url, there.record())
        shutil.rmtree(incoming)
    return Pulled(
        *(there.number, there.by, there.time),
        *(len(there.files), sum(one.size for one in there.files.values())),
        *(len(wanted), sum(one.size for one in wanted)),
    )


def _check_place(herd: Path, url: str) -> None:
    if herd.is_dir() and any(path.name != ".lock" for path in herd.iterdir()):
        if is_herd(herd) and url not in read_records(herd):
            raise ImageherdError(
                f"{herd} is a herd that does not come from {url}; pull into another folder."
            )
        if url not in read_records(herd):
            raise ImageherdError(f"{herd} holds something else; pull into a new folder.")


def _check_unchanged(herd: Path, mine: Files, before: Files, there: Publication) -> None:
    """Let no change of this machine be lost; a file may be as it was or as it is to be."""
    ours, known = without_derived(mine), without_derived(before)
    theirs = without_derived(there.files)
    changed = sorted(
        path
        for path in {*ours, *known, *theirs}
        if ours.get(path) not in (known.get(path), theirs.get(path))
    )
    if changed:
        more = f" and {len(changed) - 1} files more" if changed[1:] else ""
        raise ImageherdError(
            f"{herd} was changed since it was pulled or pushed ({changed[0]}{more}). Push it "
            "first, or pull into another folder."
        )


def _fetch(store: Store, one: Content, incoming: Path) -> None:
    name = content_name(one.sha256)
    try:
        whole = _take(one, incoming, lambda part: store.get(name, part))
    except FileNotFoundError as error:
        raise ImageherdError(f"{store.url} lacks {name}; push the herd again.") from error
    if not whole:
        raise ImageherdError(
            f"{store.url}/{name} is damaged: delete it there, and push the herd again from where "
            "it is whole."
        )


def _take(one: Content, incoming: Path, write: Callable[[Path], object]) -> bool:
    """Let a content be written among what was fetched; returns whether it is that content."""
    part = incoming / f".{one.sha256}.part"
    write(part)
    if file_sha256(part) != one.sha256:
        return False
    part.replace(incoming / one.sha256)
    return True


def _switch(herd: Path, files: Files, lacking: Files, gone: list[str]) -> None:
    """Put in place what was fetched; without ``herd.json``, which comes last, it is no herd."""
    incoming, last = herd / INCOMING, herd / FILE
    # First: where somebody has edited meanwhile, the herd stays what it is.
    for path in (path for path in lacking if _is_journal(path)):
        data = (incoming / lacking[path].sha256).read_bytes()
        exchange.load(Journal((herd / path).parent), data)
    if FILE in lacking:
        last.unlink(missing_ok=True)
    else:
        last.replace(incoming / files[FILE].sha256)
    for path in gone:
        file = herd / path
        for one in exchange.files_of(file.parent) if _is_journal(path) else [file]:
            one.unlink(missing_ok=True)
        with suppress(OSError):
            file.parent.rmdir()
    times = Counter([files[FILE].sha256, *(one.sha256 for one in lacking.values())])
    for path in (path for path in lacking if path != FILE and not _is_journal(path)):
        target, sha256 = herd / path, lacking[path].sha256
        target.parent.mkdir(parents=True, exist_ok=True)
        times[sha256] -= 1
        (shutil.copyfile if times[sha256] else shutil.move)(incoming / sha256, target)
    (incoming / files[FILE].sha256).replace(last)


def _is_journal(path: str) -> bool:
    return path.endswith(f"/{EDITS}")
