"""A clustering at one state of its edits, and what is asked of it over and over."""

from __future__ import annotations

import math
import threading
from functools import cache, cached_property

import numpy as np
from fastapi import HTTPException
from numpy.typing import NDArray

from imageherd.app import models
from imageherd.clustering import NOWHERE, Clustering
from imageherd.clustering import Cluster as Described
from imageherd.edits.journal import Edit
from imageherd.report.palette import MAX_COLOURS, palette
from imageherd.review import doubts_of, reason

N_STRIP = 6
ORDERS = ("typical", "doubtful", "row")


class View:
    """A clustering as edited, with its state.

    Parameters
    ----------
    state : str
        Such as "v0002.17".
    clustering : Clustering
        As edited.
    done, undone : list of Edit
        Those in effect, and those that can be redone, the next one last.
    before : View, optional
        An earlier one: what has not changed since is not worked out again.
    """

    def __init__(
        self,
        state: str,
        clustering: Clustering,
        done: list[Edit],
        undone: list[Edit],
        *,
        before: View | None = None,
    ) -> None:
        self.state, self.clustering = state, clustering
        self.done, self.undone = done, undone
        self.names = clustering.names()
        self.by_uid = {c.uid: c for c in clustering.clusters if c.size}
        self._lock = threading.Lock()
        self._orders: dict[tuple[int, str], NDArray[np.int64]] = {}
        self._cards: dict[int, models.Cluster] = {}
        self._places: dict[int, NDArray[np.int64]] = {}
        if before is not None:
            changed = self.changed_since(before)
            self._cards = {u: card for u, card in before._cards.items() if u not in changed}

    def changed_since(self, before: View) -> set[int]:
        """Return the uids that have other images or another name than in an earlier view."""
        now, then = self.clustering, before.clustering
        if now.version != then.version or len(now.rows) != len(then.rows):
            return before.by_uid.keys() | self.by_uid.keys()
        uids = (before.by_uid.keys() ^ self.by_uid.keys()) | (self.shaped ^ before.shaped)
        both = before.by_uid.keys() & self.by_uid.keys()
        uids |= {uid for uid in both if self.names[uid] != before.names[uid]}
        other = now.uids != then.uids
        if now.by_hand is not None or then.by_hand is not None:
            # Placed by hand where it was already, an image is sure all the same.
            other |= now.probability != then.probability
        found = np.concatenate([now.uids[other], then.uids[other]])
        return uids | (set(np.unique(found).tolist()) - {NOWHERE})

    def position(self, row: int) -> int:
        """Return where a row is in the clustering's arrays.

        Raises
        ------
        HTTPException
            404, if it is not an image of the clustering.
        """
        rows = self.clustering.rows
        at = int(np.searchsorted(rows, row))
        if at == len(rows) or rows[at] != row:
            raise HTTPException(404, f"Row {row} is not in clustering {self.clustering.name!r}.")
        return at

    def cluster(self, uid: int) -> Described:
        """Return a cluster; 404 if there is none of this uid."""
        if uid not in self.by_uid:
            raise HTTPException(404, f"Clustering {self.clustering.name!r} has no cluster {uid}.")
        return self.by_uid[uid]

    @cached_property
    def shaped(self) -> set[int]:
        """The uids that a person has named, made, or moved images to, by edits in effect."""
        return {uid for edit in self.done for uid in shaped_by(edit)}

    @cached_property
    def n_nowhere(self) -> int:
        """How many images fit nowhere."""
        return int((self.clustering.uids == NOWHERE).sum())

    @cached_property
    def _doubts(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int8]]:
        """How doubtful the place of each image is, by the first number and then the second; why."""
        found = self.clustering
        if found.quality is None:
            unsure = 1 - found.probability
            return unsure, unsure, np.full(len(unsure), -1, np.int8)
        doubts = doubts_of(found)
        worst, kind = doubts.max(0).round(6), doubts.argmax(0).astype(np.int8)
        if found.by_hand is not None:
            # A person has looked at them.
            worst[found.by_hand] = -1
        return worst.astype(np.float32), doubts.sum(0).astype(np.float32), kind

    def reason(self, at: int) -> str | None:
        """Say why the place of an image is doubtful, as the report does; None where it is not."""
        worst, _, kinds = self._doubts
        if kinds[at] < 0 or worst[at] <= 0 or self.clustering.uids[at] == NOWHERE:
            return None
        return reason(self.clustering, at, int(kinds[at]))

    def members(self, uid: int, order: str = "typical") -> NDArray[np.int64]:
        """Return the positions of a cluster's images, of what fits nowhere for -1.

        "typical": the medoids first, then the surest. "doubtful": the most doubtful first. "row":
        as they came. Worked out once a view: O(n + m log m) for m images.
        """
        with self._lock:
            if (uid, order) not in self._orders:
                self._orders[uid, order] = self._ordered(uid, order)
            return self._orders[uid, order]

    def _ordered(self, uid: int, order: str) -> NDArray[np.int64]:
        if uid != NOWHERE:
            self.cluster(uid)
        members = self._places.get(uid)
        if members is None:
            members = np.flatnonzero(self.clustering.uids == uid)
        if order == "row":
            return members
        if order == "doubtful":
            worst, total, _ = self._doubts
            return members[np.lexsort((-total[members], -worst[members]))]
        sure = members[np.argsort(-self.clustering.probability[members], kind="stable")]
        first = self._medoids(uid)
        return np.concatenate([first, sure[~np.isin(sure, first)]])

    def _medoids(self, uid: int) -> NDArray[np.int64]:
        rows = self.clustering.rows
        wanted = self.by_uid[uid].medoids if uid in self.by_uid else []
        at = np.searchsorted(rows, np.asarray(wanted, dtype=np.int64)).clip(max=len(rows) - 1)
        found: NDArray[np.int64] = at[(rows[at] == wanted) & (self.clustering.uids[at] == uid)]
        return found

    def cards(self) -> list[models.Cluster]:
        """Return all clusters as cards show them, largest first."""
        if not self._cards:
            self._places = _places(self.clustering.uids)
        return [self.card(uid) for uid in self.by_uid]

    def card(self, uid: int) -> models.Cluster:
        """Return a cluster as a card shows it."""
        if uid not in self._cards:
            self._cards[uid] = self._card(self.cluster(uid))
        return self._cards[uid]

    def _doubtful(self, uid: int, size: int) -> NDArray[np.int64]:
        """Return those that a card shows as doubtful: half of a small cluster at most."""
        first = self.members(uid, "doubtful")[: min(N_STRIP, size // 2)]
        return first[self._doubts[0][first] > 0]

    def _card(self, cluster: Described) -> models.Cluster:
        rows, typical = self.clustering.rows, self.members(cluster.uid)
        n_medoids = len(self._medoids(cluster.uid))
        doubtful = self._doubtful(cluster.uid, cluster.size)
        rest = typical[n_medoids : n_medoids + 2 * N_STRIP]
        light, dark = colours()[(cluster.uid - 1) % MAX_COLOURS]
        return models.Cluster(
            uid=cluster.uid,
            name=cluster.name,
            size=cluster.size,
            confidence=cluster.confidence if math.isfinite(cluster.confidence) else None,
            colour=light,
            colour_dark=dark,
            medoids=cluster.medoids,
            typical=rows[rest[~np.isin(rest, doubtful)][:N_STRIP]].tolist(),
            doubtful=rows[doubtful].tolist(),
            runner_up=cluster.runner_up,
            share=cluster.share,
            by_hand=cluster.uid in self.shaped,
        )


def shaped_by(edit: Edit) -> list[int]:
    """Return the uids that an edit names, makes or adds to."""
    payload = edit.payload
    if edit.kind == "rename":
        return [int(payload["uid"])]
    if edit.kind == "split":
        return [int(uid) for uid in payload["uids"]]
    return [int(payload["to"])] if "to" in payload else []


def _places(uids: NDArray[np.int32]) -> dict[int, NDArray[np.int64]]:
    """Return the positions of every cluster's images, ascending: one sort, not a pass for each."""
    order = np.argsort(uids, kind="stable")
    known, starts = np.unique(uids[order], return_index=True)
    return dict(zip(known.tolist(), np.split(order, starts[1:]), strict=True))


@cache
def colours() -> list[tuple[str, str]]:
    """Return the colours that clusters take by their uids, each for light and for dark pages."""
    return palette(MAX_COLOURS)
