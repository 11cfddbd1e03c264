"""Pushing a herd: its contents if they are absent, then the listing that makes them a herd."""

from __future__ import annotations

import getpass
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from imageherd.errors import ImageherdError
from imageherd.features.store import file_sha256
from imageherd.project import locked, read_project
from imageherd.remote.contents import (
    Content,
    Publication,
    Record,
    content_name,
    contents,
    keep_record,
    latest,
    read_records,
)
from imageherd.remote.store import Store, each


@dataclass(frozen=True)
class Pushed:
    """What a push came to.

    Attributes
    ----------
    number : int
        Of the push that the herd is the same as now: the place counts from 1.
    n_files, n_bytes : int
        Of the herd.
    n_sent, n_bytes_sent : int
        Contents that were not there yet.
    """

    number: int
    n_files: int
    n_bytes: int
    n_sent: int
    n_bytes_sent: int


def push(herd: str | Path, url: str) -> Pushed:
    """Put a herd on an object store, or what has changed in it since the last time.

    Killed at any moment, the next call goes on with what is missing, and whoever pulls meanwhile
    gets the push before. Left out are reports, thumbnails, checkpoints and the lists of search,
    which are made again when needed: nothing that is sent shows an image.

    Parameters
    ----------
    herd : str or Path
        The herd; nobody else may write it meanwhile.
    url : str
        Where to, as ``s3://bucket/photos.herd``: a place that holds nothing yet, or that this herd
        was pushed to or pulled from last.

    Returns
    -------
    Pushed

    Raises
    ------
    ImageherdError
        If the place holds another herd, or somebody else has pushed to it since; if it cannot be
        written; or if a file of the herd is damaged.

    Notes
    -----
    Time is that of the transfer of what is new, 8 files at a time; memory is small.
    """
    herd, store = Path(herd), Store(url)
    read_project(herd)
    with locked(herd), TemporaryDirectory(prefix="imageherd-push-") as scratch:
        there, number = latest(store)
        files, places = contents(herd, Path(scratch))
        of_all = (len(files), sum(one.size for one in files.values()))
        if there is not None and there.files == files:
            keep_record(herd, store.url, there.record())
            return Pushed(there.number, *of_all, 0, 0)
        record = read_records(herd).get(store.url)
        _check_ours(store, there, record)
        where = {one: path for path, one in files.items()}
        sizes = store.sizes("contents")
        # On a store that shows half a file, that of a killed push is shorter.
        missing = [one for one in where if sizes.get(content_name(one.sha256)) != one.size]

        def send(one: Content) -> None:
            path = places[where[one]]
            if file_sha256(path) != one.sha256:
                raise ImageherdError(
                    f"{herd / where[one]} is damaged: its bytes are not those that were written. "
                    "Delete this file and run embed: it makes the file anew."
                )
            store.put(path, content_name(one.sha256))

        each(send, missing, "Pushing")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        new = Publication(number, uuid4().hex, now, _me(), files)
        if not store.create(new.name, new.to_bytes()):
            _check_ours(store, latest(store)[0], record)
            raise ImageherdError(f"{store.url} is being pushed to by another; push again.")
        keep_record(herd, store.url, new.record())
    return Pushed(number, *of_all, len(missing), sum(one.size for one in missing))


def _check_ours(store: Store, there: Publication | None, ours: Record | None) -> None:
    if there is None:
        if not set(store.sizes()) <= _of_killed(store):
            raise ImageherdError(
                f"{store.url} holds something else than a herd; name a place of its own."
            )
        return
    if ours is None or there.id != ours.id:
        came = "does not come from it"
        if ours is not None and 0 < ours.number < there.number:
            came = f"comes from version {ours.number} of it"
        raise ImageherdError(
            f"{store.url} is at version {there.number}, pushed by {there.by} at {there.time}, and "
            f"this herd {came}. Pull that version into another folder to look at it, or push this "
            "herd to another place."
        )


def _of_killed(store: Store) -> set[str]:
    """Return what a first push that was killed has left."""
    return {*store.sizes("contents"), *store.sizes("published")}


def _me() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):  # a user without a name, as containers have
        return socket.gethostname()
