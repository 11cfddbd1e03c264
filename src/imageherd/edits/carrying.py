"""What becomes of a person's edits when another version of the clustering is written.

A version that only adds images, or names, has the edits of the one before. One that was made anew,
or merged, starts without them: they are about groups that are no more. Names given stay. One whose
head has learned them needs them no more.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imageherd.assignment import Assignment, keep_placed
from imageherd.clustering import BLOCK, Clustering, direction_sums
from imageherd.derived import Features
from imageherd.edits.editing import edited, entries_of
from imageherd.edits.journal import PLACED, RESERVED, Edit, Journal, in_effect
from imageherd.edits.replay import State, apply
from imageherd.heads.base import Head
from imageherd.neighbors import Rows
from imageherd.versions import Versions, edits_of, extending


def before_another(
    versions: Versions, n: int, learned: Sequence[int] = (), *, placed_stay: bool = False
) -> Clustering | None:
    """Return the current version as edited, for one that takes its place; None if there is none.

    Up to `n` uids from its ``config["next_uid"]`` on are set aside, so that no edit takes them
    before the new version is written.

    Parameters
    ----------
    versions : Versions
        Of one clustering.
    n : int
        How many uids the new version may take.
    learned : sequence of int
        Numbers of the edits that the new version's head has learned.
    placed_stay : bool, default=False
        Whether images that the current version says a person placed are so in the new one too.

    Warns
    -----
    UserWarning
        If there are edits, or images placed by a person, that the new version will not have.
    """
    base, journal = versions.current(), Journal(versions.folder)
    if base is None:
        return None
    with journal.writing() as book:
        first = max(base.config["next_uid"], book.next_uid())
        book.add(RESERVED, {"uids": [first, n]}, version=edits_of(base), next_uid=first + n)
    base = replace(base, config=base.config | {"next_uid": first})
    edits = in_effect(entries_of(base, journal.read()))
    moving = sum(edit.kind != "rename" and edit.seq not in learned for edit in edits)
    placed = 0 if placed_stay or base.by_hand is None else int(base.by_hand.sum())
    lost = [f"the {_many(moving, 'edit')} by hand of {base.version}"] if moving else []
    lost += [f"the {_many(placed, 'image')} placed by hand in {base.version}"] if placed else []
    if lost:
        warnings.warn(
            f"The new version of clustering {base.name!r} starts without {' and '.join(lost)}, "
            "kept in the journal; names that you gave stay.",
            stacklevel=3,
        )
    return apply(base, edits)


def keep_new(herd: Path, found: Assignment, head: Head, data: Features) -> Assignment:
    """Write what was placed, if anything was, as the next version with the edits of the one before.

    The herd's lock must be held. An image goes where the head puts it, and from there where the
    edits lead: into the union of clusters that were merged, and of a cluster that was split into
    the part with the most similar mean direction. Which part that is, is entered in the journal.

    Parameters
    ----------
    herd : Path
        The herd.
    found : Assignment
        From `imageherd.assignment.place`, with the clustering as trained.
    head : Head
        The head that made it.
    data : Features
        Of all images of the herd.

    Returns
    -------
    Assignment
        With the uids and the clustering as edited.
    """
    if len(found.rows) == 0:
        return as_edited(herd, found)
    base = extending(found.clustering, found.clustering)
    versions = Versions(herd / "clusterings" / base.name)
    journal = Journal(versions.folder)
    places = parts_of_new(base, in_effect(entries_of(base, journal.read())), data)
    if places:
        # First: rows that the clustering does not have yet are passed over.
        with journal.writing() as book:
            for place in places:
                book.add(PLACED, place, version=edits_of(base))
    keep_placed(herd, replace(found, clustering=base), head)
    return as_edited(herd, found)


def as_edited(herd: Path, found: Assignment) -> Assignment:
    """Return where images went according to the clustering as edited."""
    clustering = edited(herd, found.clustering.name)
    at = np.searchsorted(clustering.rows, found.rows)
    return replace(found, uids=clustering.uids[at], clustering=clustering)


def parts_of_new(base: Clustering, edits: list[Edit], data: Features) -> list[dict[str, Any]]:
    """Return for each split the images it does not know, and which part each is most like.

    Parameters
    ----------
    base : Clustering
        As trained, the new images included.
    edits : list of Edit
        Those in effect.
    data : Features
        Of all images. Those of a split cluster are read, in blocks, twice.

    Returns
    -------
    list of dict
        Payloads of the kind `PLACED`: ``split`` (the entry's number), ``rows``, ``parts``.
    """
    state, found = State(base), list[dict[str, Any]]()
    there = np.isin(base.rows, data.rows)
    for edit in edits:
        new = state.unplaced(edit) if edit.kind == "split" else np.empty(0, dtype=np.int64)
        new = new[there[new]]
        if len(new):
            labels = np.full(len(base.rows), -1)
            for part, rows in enumerate(edit.payload["parts"]):
                labels[state.at(rows)] = part
            known = np.flatnonzero((labels >= 0) & there)
            sums = direction_sums(
                _vectors(data, base.rows[known]), labels[known], len(edit.payload["parts"])
            )
            nearest = _most_alike(_vectors(data, base.rows[new]), sums)
            place = dict(zip(base.rows[new].tolist(), nearest, strict=True))
            found.append({"split": edit.seq, "rows": list(place), "parts": nearest})
            placed = edit.payload.get("placed", {}) | place
            edit = replace(edit, payload=edit.payload | {"placed": placed})
        state.apply(edit)
    return found


def _most_alike(X: Rows, sums: NDArray[np.float64]) -> list[int]:
    """Return which of the sums of directions each row of X is most similar to; the first if two."""
    means = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-300)
    found: list[int] = []
    for start in range(0, len(X), BLOCK):
        block = np.asarray(X[start : start + BLOCK], dtype=np.float64)
        found += np.round(block @ means.T, 9).argmax(1).tolist()
    return found


def _vectors(data: Features, rows: NDArray[np.int64]) -> Rows:
    return Rows(lambda at: data.store.read(rows[at]), (len(rows), data.store.dim))


def _many(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
