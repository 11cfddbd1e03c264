"""Two clusterings of one herd, side by side: which images changed groups."""

from __future__ import annotations

import threading
from typing import Annotated
from weakref import WeakKeyDictionary

import numpy as np
from fastapi import APIRouter, Query, Response
from numpy.typing import NDArray
from pydantic import BaseModel

from imageherd.app import models
from imageherd.app.changes import Comparison, compare
from imageherd.app.clusterings import Limit, Name, Offset, shown
from imageherd.app.opened import Here, Opened
from imageherd.app.view import View, colours
from imageherd.clustering import NOWHERE, Clustering
from imageherd.report.palette import MAX_COLOURS

router = APIRouter()

GREY = ("#8a8d93", "#8a8d93")
N_PICTURES = 4

Other = Annotated[
    str,
    Query(alias="with", description="The other clustering; the same one: as it was trained."),
]
Chosen = Annotated[int | None, Query(ge=NOWHERE, lt=2**31)]


class Group(BaseModel):
    """One cluster of either side; `match` is the uid of its counterpart on the other.

    `medoids` are rows of images that stand for it, `left` how many images of it the counterpart
    does not have. What fits nowhere is a group too, of uid -1.
    """

    uid: int
    name: str
    size: int
    colour: str
    colour_dark: str
    medoids: list[int]
    match: int | None
    left: int


class Side(BaseModel):
    """One of the two clusterings; sizes count the images that both of them have."""

    name: str
    state: str
    method: str
    clusters: list[Group]


class Pair(BaseModel):
    """How many images are in cluster `a` of the one and cluster `b` of the other."""

    a: int
    b: int
    size: int


class Flow(Pair):
    """Images that are in clusters which are no counterparts; `rows` are a few of them."""

    rows: list[int]


class Agreement(BaseModel):
    """Rand index and mutual information, each adjusted for chance: 1 is the same groups."""

    ari: float
    ami: float


class ComparisonAnswer(BaseModel):
    """Two clusterings side by side; `as_trained`: the second is the first before its edits.

    `matched` pairs clusters so that as few images as can be have changed groups: `n_changed`.
    `pairs` are the flows between clusters that are not matched, largest first, `n_pairs` in all.
    """

    state: str
    a: Side
    b: Side
    as_trained: bool
    n_both: int
    n_changed: int
    agreement: Agreement | None
    matched: list[Pair]
    pairs: list[Flow]
    n_pairs: int


class Changed(models.Item):
    """An image, its cluster here and its cluster in the other clustering."""

    uid: int
    cluster: str
    other_uid: int
    other_cluster: str


class ChangedAnswer(BaseModel):
    """Some of the images asked for, the surest first; `next` is the offset of the following."""

    state: str
    size: int
    items: list[Changed]
    next: int | None


_lock = threading.Lock()
_made: WeakKeyDictionary[View, tuple[tuple[str, bool], str, Clustering, Comparison]]
_made = WeakKeyDictionary()


def _compared(here: Opened, c: str, other: str) -> tuple[View, Clustering, str, Comparison]:
    """Return a clustering, the other one, what their states are, and how they compare.

    Kept for as long as neither is edited.
    """
    view = here.view(c)
    if other == c:
        b, state = view.clustering.as_trained or view.clustering, view.clustering.version
    else:
        theirs = here.view(other)
        b, state = theirs.clustering, theirs.state
    with _lock:
        kept = _made.get(view)
        if kept is None or kept[:2] != ((other, other == c), state):
            kept = _made[view] = ((other, other == c), state, b, compare(view.clustering, b))
    return view, kept[2], f"{view.state} {kept[1]}", kept[3]


@router.get("/clusterings/{c}/compare")
def comparison(
    c: Name, other: Other, here: Here, response: Response, limit: Limit = 500
) -> ComparisonAnswer:
    """Compare a clustering with another one, both as edited."""
    view, b, state, found = _compared(here, c, other)
    response.headers["ETag"] = f'"{state}"'
    matched, flows = found.pairs(matched=True), found.pairs(matched=False)
    sizes_a, sizes_b = found.counts.sum(axis=1), found.counts.sum(axis=0)
    scores, rows = found.agreement, view.clustering.rows
    return ComparisonAnswer(
        state=state,
        a=_side(view.clustering, view.state, found.uids_a, sizes_a, matched),
        b=_side(b, state.split()[1], found.uids_b, sizes_b, (matched[1], matched[0], matched[2])),
        as_trained=other == c,
        n_both=len(found.at),
        n_changed=found.n_changed,
        agreement=Agreement(ari=scores[0], ami=scores[1]) if scores else None,
        matched=[Pair(a=a, b=b, size=size) for a, b, size in zip(*matched, strict=True)],
        pairs=[
            Flow(a=a, b=b, size=size, rows=rows[found.at[found.shared(a, b)[:N_PICTURES]]].tolist())
            for a, b, size in zip(*(column[:limit] for column in flows), strict=True)
        ],
        n_pairs=len(flows[0]),
    )


def _side(
    clustering: Clustering,
    state: str,
    uids: NDArray[np.int64],
    sizes: NDArray[np.int64],
    matched: tuple[list[int], ...],
) -> Side:
    names, medoids = clustering.names(), {c.uid: c.medoids for c in clustering.clusters}
    # What fits nowhere has none: any of it will do.
    medoids[NOWHERE] = clustering.rows[
        np.flatnonzero(clustering.uids == NOWHERE)[:N_PICTURES]
    ].tolist()
    partner = {mine: (theirs, shared) for mine, theirs, shared in zip(*matched, strict=True)}
    groups = []
    for uid, size in zip(uids.tolist(), sizes.tolist(), strict=True):
        light, dark = GREY if uid == NOWHERE else colours()[(uid - 1) % MAX_COLOURS]
        match, n_same = partner.get(uid, (None, 0))
        groups.append(
            Group(
                uid=uid,
                name=names[uid],
                size=size,
                colour=light,
                colour_dark=dark,
                medoids=medoids.get(uid, [])[:N_PICTURES],
                match=match,
                left=size - n_same,
            )
        )
    groups.sort(key=lambda group: (-group.size, group.uid))
    method = clustering.config["method"]
    return Side(name=clustering.name, state=state, method=method, clusters=groups)


@router.get("/clusterings/{c}/compare/rows")
def changed_rows(
    c: Name,
    other: Other,
    here: Here,
    response: Response,
    a: Chosen = None,
    b: Chosen = None,
    offset: Offset = 0,
    limit: Limit = 200,
) -> ChangedAnswer:
    """Return the images in cluster `a` here and `b` there; without both, those that changed.

    With only one of them given: its images that its counterpart does not have.
    """
    view, theirs, state, found = _compared(here, c, other)
    response.headers["ETag"] = f'"{state}"'
    chosen = found.changed(a, b) if a is None or b is None else found.shared(a, b)
    page, end = chosen[offset : offset + limit], offset + limit
    names = theirs.names()
    items = [
        Changed(
            **dict(item),
            uid=uid,
            cluster=view.names[uid],
            other_uid=other_uid,
            other_cluster=names[other_uid],
        )
        for item, uid, other_uid in zip(
            shown(here, view, found.at[page]),
            found.uids_a[found.row[page]].tolist(),
            found.uids_b[found.column[page]].tolist(),
            strict=True,
        )
    ]
    return ChangedAnswer(
        state=state, size=len(chosen), items=items, next=end if end < len(chosen) else None
    )
