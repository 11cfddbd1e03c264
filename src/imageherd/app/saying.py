"""What the edits in the journal did, a sentence each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from imageherd.app import models
from imageherd.edits.journal import KINDS, Edit

MOST_ROWS = 1000
"""Rows of an entry that are sent along; of more only their number is."""
MOST_NAMES = 5
"""Names in a sentence."""

Known = dict[int, tuple[str, int]]
"""Name and size of clusters, by uid."""


def told(entry: Edit, said: dict[int, str]) -> models.Edit:
    """Return an entry as the API tells it.

    Lists of more than 1,000 rows are left out of its payload; `n_rows` tells how many there are in
    all, `sizes` how many in each part.

    Parameters
    ----------
    entry : Edit
        The entry.
    said : dict of int to str
        From `sentences`.
    """
    payload = dict(entry.payload)
    if "rows" in payload:
        payload["n_rows"] = len(payload["rows"])
    if "parts" in payload:
        payload["sizes"] = [len(part) for part in payload["parts"]]
        payload["n_rows"] = sum(payload["sizes"])
    if payload.get("n_rows", 0) > MOST_ROWS:
        payload = {name: value for name, value in payload.items() if name not in ("rows", "parts")}
    return models.Edit(
        seq=entry.seq,
        id=entry.id,
        time=entry.time,
        author=entry.author,
        kind=entry.kind,
        payload=payload,
        said=said[entry.seq],
    )


def sentences(
    entries: Iterable[Edit], known: Callable[[str], Known], noun: str = "image"
) -> dict[int, str]:
    """Say of each entry what it did, with the names that clusters had then.

    Parameters
    ----------
    entries : iterable of Edit
        All of a clustering, in order.
    known : callable
        Gives the clusters that a version began with; where nothing is known of a cluster it is
        called by its uid. A union is called by the larger of its parts as they began.
    noun : str, default="image"
        What an image is called.

    Returns
    -------
    dict of int to str
        By the entry's number.
    """
    said: dict[int, str] = {}
    versions: dict[str, _Names] = {}
    given: dict[int, str] = {}
    for entry in entries:
        if entry.version not in versions:
            versions[entry.version] = _Names(known(entry.version), given)
        said[entry.seq] = versions[entry.version].say(entry, noun, said)
    return said


class _Names:
    """The names of the clusters of a version, as edits change them.

    Those that a person has given, in any version, are in `given`, which all versions share.
    """

    def __init__(self, clusters: Known, given: dict[int, str]) -> None:
        self._names = {uid: given.get(uid, name) for uid, (name, _) in clusters.items()}
        self._given = given
        self._sizes = {uid: size for uid, (_, size) in clusters.items()}
        self._before: dict[int, tuple[Edit, str]] = {}

    def say(self, entry: Edit, noun: str, said: dict[int, str]) -> str:
        payload = entry.payload
        if entry.kind in KINDS:
            words = _WORDS[entry.kind](self, payload, noun)
            self._follow(entry)
            return words
        of = payload["of"]
        self._again(entry.kind, of)
        what = said.get(of, f"edit {of}")
        return f"{'Undid' if entry.kind == 'undo' else 'Did again'}: {what[:1].lower()}{what[1:]}"

    def name(self, uid: int) -> str:
        return f"“{self._names.get(uid, f'cluster {uid}')}”"

    def _again(self, kind: str, of: int) -> None:
        """Take the name that a renaming gave back, or give it again."""
        if of in self._before:
            entry, name = self._before[of]
            uid = entry.payload["uid"]
            self._names[uid] = name if kind == "undo" else entry.payload["name"]
            self._given[uid] = self._names[uid]

    def _follow(self, entry: Edit) -> None:
        payload = entry.payload
        if entry.kind == "rename":
            uid = payload["uid"]
            self._before[entry.seq] = entry, self._names.get(uid, f"cluster {uid}")
            self._names[uid] = self._given[uid] = payload["name"]
        elif entry.kind == "merge":
            largest = min(payload["uids"], key=lambda uid: (-self._sizes.get(uid, 0), uid))
            self._names[payload["to"]] = self._names.get(largest, f"cluster {largest}")
            self._sizes[payload["to"]] = sum(self._sizes.get(uid, 0) for uid in payload["uids"])
        elif entry.kind == "split":
            whole = self._names.get(payload["uid"], f"cluster {payload['uid']}")
            parts = zip(payload["uids"], payload["parts"], strict=True)
            for number, (uid, rows) in enumerate(parts, 1):
                self._names[uid], self._sizes[uid] = f"{whole} {number}", len(rows)


def _rename(names: _Names, payload: dict[str, Any], noun: str) -> str:
    return f"Renamed {names.name(payload['uid'])} to “{payload['name']}”"


def _move(names: _Names, payload: dict[str, Any], noun: str) -> str:
    where = "a new cluster" if payload["new"] else names.name(payload["to"])
    return f"Moved {_counted(len(payload['rows']), noun)} to {where}"


def _outlier(names: _Names, payload: dict[str, Any], noun: str) -> str:
    n = len(payload["rows"])
    return f"Said that {_counted(n, noun)} {'fits' if n == 1 else 'fit'} nowhere"


def _merge(names: _Names, payload: dict[str, Any], noun: str) -> str:
    found = [names.name(uid) for uid in payload["uids"][:MOST_NAMES]]
    more = len(payload["uids"]) - len(found)
    if more:
        return f"Merged {', '.join(found)} and {more:,} {'other' if more == 1 else 'others'}"
    return f"Merged {', '.join(found[:-1])} and {found[-1]}"


def _split(names: _Names, payload: dict[str, Any], noun: str) -> str:
    return f"Split {names.name(payload['uid'])} in {len(payload['parts'])}"


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


_WORDS = {"rename": _rename, "move": _move, "outlier": _outlier, "merge": _merge, "split": _split}
