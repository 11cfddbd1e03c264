"""What edits make of a clustering: a pure function of the two, with no model and no features.

Payloads, all JSON; rows are those of the items table, and every new cluster's uid is in the entry
that made it, so that doing the same again gives the same:

- rename: ``uid``, ``name``
- move: ``rows``, ``to`` (a uid), and ``new``: whether the move makes that cluster
- outlier: ``rows``
- merge: ``uids`` (two or more), ``to`` (the uid of the union)
- split: ``uid``, ``parts`` (a list of rows each), ``uids`` (of the parts); `in_effect` adds
  ``placed``, the part of each row that came later
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imageherd.clustering import N_MEDOIDS, NOWHERE, Cluster, Clustering
from imageherd.edits.journal import Edit


class State:
    """Which image is in which cluster, while edits are applied one after the other.

    Parameters
    ----------
    base : Clustering
        As trained. It is left as it is.

    Attributes
    ----------
    uids : ndarray of int32, shape (n,)
        Cluster of each image; -1 is "fits nowhere".
    by_hand : ndarray of bool, shape (n,)
        Which images a person has moved or marked as outliers.
    clusters : dict of int to Cluster
        By uid, those that have images; sizes and confidences are those of the base.
    follows : dict of int to int
        The union that a merged cluster is in now, for every uid that was merged.
    n_edits : int
        How many have been applied.
    """

    def __init__(self, base: Clustering) -> None:
        self.base = base
        self.uids = base.uids.copy()
        placed = np.zeros(len(base.rows), dtype=bool) if base.by_hand is None else base.by_hand
        self.by_hand = placed.copy()
        self.clusters = {c.uid: c for c in base.clusters if c.size}
        self.follows: dict[int, int] = {}
        self.n_edits = 0
        counts = np.bincount(base.uids - NOWHERE).tolist()
        self._sizes = Counter({i + NOWHERE: n for i, n in enumerate(counts) if n})

    def apply(self, edit: Edit) -> None:
        """Apply one of the kinds `imageherd.edits.journal.KINDS`.

        O(n) for a merge or a split, O(m log n) for m rows moved. Rows that the base does not have
        are passed over.
        """
        payload, self.n_edits = edit.payload, self.n_edits + 1
        if edit.kind == "rename":
            cluster = self.clusters[payload["uid"]]
            self.clusters[cluster.uid] = replace(cluster, name=payload["name"])
        elif edit.kind == "move":
            self._move(self.at(payload["rows"]), payload["to"])
        elif edit.kind == "outlier":
            self._move(self.at(payload["rows"]), NOWHERE)
        elif edit.kind == "merge":
            self._merge(payload["uids"], payload["to"])
        elif edit.kind == "split":
            self._split(edit)

    def at(self, rows: Sequence[int]) -> NDArray[np.int64]:
        """Return the positions of those of the rows that are in the clustering."""
        wanted = np.asarray(rows, dtype=np.int64)
        at = np.searchsorted(self.base.rows, wanted).clip(max=len(self.base.rows) - 1)
        found: NDArray[np.int64] = at[self.base.rows[at] == wanted]
        return found

    def members(self, uid: int) -> NDArray[np.int64]:
        """Return the positions of a cluster's images, ascending."""
        return np.flatnonzero(self.uids == uid)

    def unplaced(self, edit: Edit) -> NDArray[np.int64]:
        """Return the positions of the images that a split, applied now, does not know of."""
        members = self.members(edit.payload["uid"])
        known = np.concatenate([self.at(part) for part in edit.payload["parts"]])
        known = np.concatenate([known, self.at(list(edit.payload.get("placed", {})))])
        return members[~np.isin(members, known)]

    def _move(self, at: NDArray[np.int64], uid: int) -> None:
        left, sizes = (a.tolist() for a in np.unique(self.uids[at], return_counts=True))
        self._sizes.subtract(dict(zip(left, sizes, strict=True)))
        self._sizes[uid] += len(at)
        self.uids[at], self.by_hand[at] = uid, True
        if uid != NOWHERE and uid not in self.clusters:
            self.clusters[uid] = _cluster(uid, f"cluster {uid}")
        for old in left:
            if old != uid and not self._sizes[old]:
                self.clusters.pop(old, None)

    def _merge(self, uids: list[int], to: int) -> None:
        counts = {uid: self._sizes.pop(uid, 0) for uid in uids}
        self._sizes[to] = sum(counts.values())
        largest = min(uids, key=lambda uid: (-counts[uid], uid))
        joined = [self.clusters.pop(uid) for uid in uids]
        joined.sort(key=lambda c: (-counts[c.uid], c.uid))
        name = next(c.name for c in joined if c.uid == largest)
        # Each one's best come first, so that all that was joined is seen.
        turns = [m for turn in range(N_MEDOIDS) for c in joined for m in c.medoids[turn : turn + 1]]
        # The parts of one cluster have its medoids in common.
        self.clusters[to] = _cluster(to, name, list(dict.fromkeys(turns)))
        self.uids[np.isin(self.uids, uids)] = to
        self.follows |= dict.fromkeys(uids, to)

    def _split(self, edit: Edit) -> None:
        uid, parts = edit.payload["uid"], edit.payload["parts"]
        whole, members = self.clusters.pop(uid), self.members(uid)
        largest = max(range(len(parts)), key=lambda part: (len(parts[part]), -part))
        part_of = np.full(len(self.uids), largest)
        for part, rows in enumerate(parts):
            part_of[self.at(rows)] = part
        for row, part in edit.payload.get("placed", {}).items():
            part_of[self.at([row])] = part
        self.uids[members] = np.array(edit.payload["uids"], dtype=np.int32)[part_of[members]]
        sizes = np.bincount(part_of[members], minlength=len(parts)).tolist()
        del self._sizes[uid]
        for i, (new, size) in enumerate(zip(edit.payload["uids"], sizes, strict=True), 1):
            self._sizes[new] = size
            self.clusters[new] = _cluster(new, f"{whole.name} {i}", whole.medoids)

    def clustering(self) -> Clustering:
        """Return the clustering as edited so far; O(n log n)."""
        base = self.base
        if not self.n_edits:
            return base
        follow = self._follow()
        probability = np.where(
            self.by_hand & (self.uids != NOWHERE), np.float32(1), base.probability
        )
        trained = _mapped(base.uids, follow)
        # What the head said is the second choice of an image that has been moved away from it.
        moved = self.by_hand & (trained != self.uids) & (trained != NOWHERE)
        second = np.where(moved, trained, _mapped(base.second, follow))
        quality = base.quality
        if quality is not None:
            own = quality.around == base.uids
            around = np.where(own, self.uids, _mapped(quality.around, follow))
            quality = replace(quality, around=around)
        columns = [follow.get(uid, uid) for uid in base.config["uids"]]
        return replace(
            base,
            uids=self.uids.copy(),
            probability=probability,
            second=second,
            clusters=self._described(probability),
            config=base.config | {"uids": columns, "n_edits": self.n_edits},
            parts=None,
            quality=quality,
            by_hand=self.by_hand.copy(),
            as_trained=base,
        )

    def _follow(self) -> dict[int, int]:
        found = {}
        for uid in self.follows:
            last = uid
            while last in self.follows:
                last = self.follows[last]
            found[uid] = last
        return found

    def _described(self, probability: NDArray[np.float32]) -> list[Cluster]:
        order = np.lexsort((-probability, self.uids))
        known, first, sizes = np.unique(self.uids[order], return_index=True, return_counts=True)
        found = []
        for uid, start, size in zip(known.tolist(), first.tolist(), sizes.tolist(), strict=True):
            if uid == NOWHERE:
                continue
            cluster, members = self.clusters.get(uid), order[start : start + size]
            cluster = cluster or _cluster(uid, f"cluster {uid}")
            old = self.at(cluster.medoids)
            old = old[self.uids[old] == uid]
            rest = members[: 2 * N_MEDOIDS]
            best = np.concatenate([old, rest[~np.isin(rest, old)]])[:N_MEDOIDS]
            found.append(
                replace(
                    cluster,
                    size=size,
                    confidence=float(probability[np.sort(members)].mean()),
                    medoids=self.base.rows[best].tolist(),
                )
            )
        return sorted(found, key=lambda c: (-c.size, c.uid))


def apply(base: Clustering, edits: Sequence[Edit]) -> Clustering:
    """Return what the edits make of a clustering; `base` itself where there are none.

    An image that a person has placed gets the probability 1, and as its second choice the cluster
    that the head had put it in; it is marked in `Clustering.by_hand`. One marked as outlier keeps
    the head's probability, and so do the images of clusters that were merged or split: what the
    head says of a union is at least that. Clusters without images are gone. Medoids stay those
    there were, as far as they are still in the cluster (of a union, each part's in turn); where
    they are fewer than 12 the most probable members follow. Agreement and outlier stay as they were
    found: they are about the groups that were trained. Takes O(n log n), and O(n) an edit.

    Parameters
    ----------
    base : Clustering
        As trained, perhaps with more images than it had when it was edited.
    edits : sequence of Edit
        In order, of the kinds `imageherd.edits.journal.KINDS`: as `in_effect` returns them.
    """
    state = State(base)
    for edit in edits:
        state.apply(edit)
    return state.clustering()


def _cluster(uid: int, name: str, medoids: Sequence[int] = ()) -> Cluster:
    return Cluster(uid, name, 0, 0.0, list(medoids))


def _mapped(uids: NDArray[np.int32], to: dict[int, int]) -> NDArray[np.int32]:
    """Replace the uids that `to` has."""
    if not to:
        return uids
    known, inverse = np.unique(uids, return_inverse=True)
    return np.array([to.get(uid, uid) for uid in known.tolist()], dtype=np.int32)[inverse]
