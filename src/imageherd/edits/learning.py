"""What a person's edits teach the head that made the clusters: labels, and pairs of images.

All of it is read off two states, as trained and as edited; the way from one to the other, undone
or not, does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imageherd.clustering import NOWHERE, Clustering
from imageherd.edits.editing import entries_of
from imageherd.edits.journal import Edit, Journal, in_effect
from imageherd.edits.replay import apply
from imageherd.errors import ImageherdError
from imageherd.heads import HEADS
from imageherd.heads.constraints import Constraints
from imageherd.versions import Versions, clustering_of, versions_of

Pairs = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Lesson:
    """What the edits of one version of a clustering teach.

    Attributes
    ----------
    version : str
        That version.
    edits : tuple of int
        Numbers of the edits in effect, in order, but for renamings.
    columns : list of int
        The cluster, by uid, of each column of the head that is to learn: those of the version that
        still have images, then those that a person made. A union is one column.
    parents : ndarray of float64, shape (n_columns, n_columns of the version's head)
        What each column begins as: the mean of the columns that its images were in.
    rows, uids : ndarray of int64 and int32, shape (m,)
        The images that a person has placed, ascending, and where; -1 for "fits nowhere".
    typical : ndarray of int64, shape (t, 2)
        Row and uid of the 12 or fewer medoids of every cluster as edited, which tell what column is
        whose; none where a person made no cluster. They are asked for, not held.
    must, cannot : ndarray of int64, shape (a, 2) and (b, 2)
        Pairs of rows: of images that merging brought together, each with another; of images that
        splitting set apart, each with another; and of each image marked as an outlier with the
        medoids of the cluster it was in.
    names : dict of int to str
        Names that clusters which a person made have from one that a person named.
    """

    version: str
    edits: tuple[int, ...]
    columns: list[int]
    parents: NDArray[np.float64]
    rows: NDArray[np.int64]
    uids: NDArray[np.int32]
    typical: NDArray[np.int64]
    must: Pairs
    cannot: Pairs
    names: dict[int, str]

    def constraints(self, rows: NDArray[np.int64], place: NDArray[np.int64]) -> Constraints:
        """Return the lesson in the words of a head.

        An image that is a copy of another teaches through that one, unless a person has placed that
        one too. What is about an image that is not fitted is left out.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            Rows of images, ascending.
        place : ndarray of int64, shape (n,)
            Where each is, or the image it is a copy of, among the images fitted.
        """
        placed = np.column_stack([self.rows, self.uids])[self.uids != NOWHERE]
        fixed, typical = (self._labels(kind, rows, place) for kind in (placed, self.typical))
        typical = typical[~np.isin(typical[:, 0], fixed[:, 0])]
        return Constraints(
            fixed, typical, *(_among(kind, rows, place) for kind in (self.must, self.cannot))
        )

    def held(self, labels: NDArray[np.int32], rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the column of each image, those that a person has placed where they placed them.

        Parameters
        ----------
        labels : ndarray of int32, shape (n,)
            Columns, as in `imageherd.clustering.top_two`.
        rows : ndarray of int64, shape (n,)
            Rows of the images.
        """
        there, at = positions(rows, self.rows)
        found = labels.copy()
        found[at] = self._columns(self.uids[there])
        return found

    def _labels(
        self, known: NDArray[np.int64], rows: NDArray[np.int64], place: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        there, at = positions(rows, known[:, 0])
        # An image's own label comes before those of its copies; of these the first counts.
        fitted = np.unique(place, return_index=True)[1]
        order = np.argsort(~np.isin(at, fitted), kind="stable")
        first = order[np.unique(place[at[order]], return_index=True)[1]]
        return np.column_stack([place[at], self._columns(known[there, 1])])[first]

    def _columns(self, uids: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        column = {uid: c for c, uid in enumerate(self.columns)} | {NOWHERE: NOWHERE}
        return np.array([column[uid] for uid in uids.tolist()], dtype=np.int64)

    def places(self, rows: NDArray[np.int64]) -> dict[str, Any]:
        """Return what `imageherd.clustering.describe` is to know of the columns and the images."""
        by_hand = np.isin(rows, self.rows)
        return {"uids": self.columns, "by_hand": by_hand if by_hand.any() else None}

    def about(self) -> dict[str, Any]:
        """Return what a version that has learned it says of it."""
        state = f"{self.version}.{self.edits[-1]}"
        found = {"version": self.version, "state": state, "n_edits": len(self.edits)}
        return found | {"n_images": len(self.rows)}

    def hand_on_names(self, found: Clustering, versions: Versions) -> Clustering:
        """Keep the `names` for the version just written, and return it with them."""
        for uid, name in self.names.items():
            versions.give_name(uid, name)
        clusters = [replace(c, name=self.names.get(c.uid, c.name)) for c in found.clusters]
        return replace(found, clusters=clusters)


def lesson_of(herd: Path, name: str, *, random_state: int = 0) -> Lesson:
    """Return what the edits of a clustering's current version teach.

    Parameters
    ----------
    herd : Path
        The herd.
    name : str
        Which clustering.
    random_state : int, default=0
        Draws whom the images that were brought together, or set apart, are compared with.

    Raises
    ------
    ImageherdError
        If there are no edits but renamings, the method cannot learn from edits, or all images are
        in one cluster.
    """
    versions, base = versions_of(herd, name), clustering_of(herd, name)
    method = base.config["method"]
    able = [name for name, head in HEADS.items() if head.takes_constraints]
    if method not in able:
        raise ImageherdError(
            f"{method}, which gave clustering {name!r}, cannot learn from edits; these methods "
            f"can: {', '.join(able)}. The edits stay as they are."
        )
    edits = in_effect(entries_of(base, Journal(versions.folder).read()))
    if all(edit.kind == "rename" for edit in edits):
        raise ImageherdError(
            f"Version {base.version} of clustering {name!r} has no edits to learn from; move "
            "images, merge or split clusters first."
        )
    return lesson(base, edits, versions.given_names(), random_state=random_state)


def lesson(
    base: Clustering, edits: list[Edit], given: dict[int, str], *, random_state: int = 0
) -> Lesson:
    """Return what edits of a clustering teach: O(n) for each cluster, and O(n log n).

    Parameters
    ----------
    base : Clustering
        As trained.
    edits : list of Edit
        Those in effect.
    given : dict of int to str
        The names that a person gave, by uid.
    random_state : int, default=0
        As in `lesson_of`.

    Raises
    ------
    ImageherdError
        If all images are in one cluster.
    """
    now = apply(base, edits)
    assert now.by_hand is not None
    fitted, live = base.config["uids"], {c.uid for c in now.clusters}
    before = [uid for uid in dict.fromkeys(fitted) if uid in live]
    made = sorted(live - set(before))
    columns = before + made
    if len(columns) < 2:
        raise ImageherdError(
            f"Clustering {base.name!r} has {len(columns)} cluster left, and there is nothing to "
            "learn where all images are in one; undo a merge first."
        )
    by_hand, rng = now.by_hand, np.random.default_rng(random_state)
    rows, sources = base.rows[by_hand], {uid: _sources(base, now, uid) for uid in columns}
    clusters = {c.uid: c for c in now.clusters}
    medoids = {c.uid: c.medoids for c in base.clusters}
    cards = [(row, c.uid) for c in now.clusters for row in c.medoids] if made else []
    free = np.flatnonzero(~by_hand & (now.uids != NOWHERE) & (base.uids != NOWHERE))
    must = free[across(now.uids[free], base.uids[free], rng)]
    cannot = free[across(base.uids[free], now.uids[free], rng)]
    out = np.flatnonzero(by_hand & (now.uids == NOWHERE) & (base.uids != NOWHERE))
    near = [(i, row) for i in out for row in medoids[int(base.uids[i])]]
    away = [(base.rows[i], row) for i, row in near if row != base.rows[i]]
    return Lesson(
        version=base.version,
        edits=tuple(edit.seq for edit in edits if edit.kind != "rename"),
        columns=columns,
        parents=_parents(columns, sources, fitted),
        rows=rows,
        uids=now.uids[by_hand],
        typical=np.array(cards, dtype=np.int64).reshape(-1, 2),
        must=base.rows[must],
        cannot=np.concatenate([base.rows[cannot], np.array(away, np.int64).reshape(-1, 2)]),
        names={
            uid: clusters[uid].name
            for uid in made
            if uid not in given and any(source in given for source in sources[uid])
        },
    )


def across(
    groups: NDArray[np.int32], parts: NDArray[np.int32], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Pair every member of a group of several parts with a random one of another of its parts.

    Parameters
    ----------
    groups, parts : ndarray of int, shape (n,)
        Group, and part of it, of each image.
    rng : numpy.random.Generator
        Draws.

    Returns
    -------
    ndarray of int64, shape (n_pairs, 2)
        Positions. O(n log n).
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    order = np.lexsort((parts, groups))
    for members in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        _, first, of, sizes = np.unique(
            parts[members], return_index=True, return_inverse=True, return_counts=True
        )
        if len(sizes) > 1:
            drawn = rng.integers(len(members) - sizes[of])
            # Its own part is left out: what lies behind moves up.
            drawn += np.where(drawn >= first[of], sizes[of], 0)
            found.append(np.column_stack([members, members[drawn]]))
    return np.concatenate(found)


def positions(
    rows: NDArray[np.int64], wanted: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which of the wanted rows are among `rows` (ascending), and where these are."""
    at = np.searchsorted(rows, wanted).clip(max=len(rows) - 1)
    there: NDArray[np.bool_] = rows[at] == wanted
    found: NDArray[np.int64] = at[there]
    return there, found


def _among(pairs: Pairs, rows: NDArray[np.int64], place: NDArray[np.int64]) -> Pairs:
    """Return the places of pairs of rows, without those that are one image, or not there."""
    pairs = pairs[np.isin(pairs, rows).all(1)]
    places: Pairs = place[np.searchsorted(rows, pairs)]
    found: Pairs = places[places[:, 0] != places[:, 1]]
    return found


def _sources(base: Clustering, now: Clustering, uid: int) -> list[int]:
    """Return the clusters that a cluster's images were in, those that a person placed aside."""
    assert now.by_hand is not None
    mine = now.uids == uid
    kept = mine & ~now.by_hand
    sources: list[int] = np.unique(base.uids[kept if kept.any() else mine]).tolist()
    return sources


def _parents(
    columns: list[int], sources: dict[int, list[int]], fitted: list[int]
) -> NDArray[np.float64]:
    found = np.array([np.isin(fitted, sources[uid]) for uid in columns], dtype=np.float64)
    # What comes from nowhere is like none: it begins between all of them.
    found[found.sum(1) == 0] = 1
    found /= found.sum(1, keepdims=True)
    return found
