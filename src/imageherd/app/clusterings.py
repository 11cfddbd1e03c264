"""The herd, its clusterings, their clusters and images."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Path, Query, Response
from numpy.typing import NDArray

from imageherd.app import models
from imageherd.app.opened import Here, Opened
from imageherd.app.saying import told
from imageherd.app.view import View
from imageherd.clustering import NOWHERE
from imageherd.errors import ImageherdError
from imageherd.makers import refuse_images
from imageherd.project import read_project
from imageherd.report.gather import texter
from imageherd.search import key_for_texts
from imageherd.sources import noun_of

router = APIRouter()

Name = Annotated[str, Path(description="Name of the clustering.")]
Uid = Annotated[
    int, Path(description="Uid of the cluster; -1 is what fits nowhere.", ge=-1, le=2**31 - 1)
]
Row = Annotated[int, Path(description="Row of the items table.", ge=0, le=2**53)]
Offset = Annotated[int, Query(ge=0, le=2**53)]
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.get("/herd")
def herd(here: Here) -> models.HerdAnswer:
    """Return what the herd is and which clusterings it has."""
    project = read_project(here.herd.path)
    stamp = f"{here.herd.path.absolute()} {project['created']}"
    return models.HerdAnswer(
        name=here.herd.path.name,
        v=hashlib.sha256(stamp.encode("utf-8", "surrogateescape")).hexdigest()[:12],
        n_items=len(here.items),
        noun=noun_of(project["sources"]),
        searchable=_searchable(here),
        clusterings=[_summary(here, name) for name in here.names()],
    )


def _searchable(here: Opened) -> models.Searchable:
    project = read_project(here.herd.path)
    image = text = True
    try:
        refuse_images(project["backbones"].get(project["features"], ""))
    except ImageherdError:
        image = False
    try:
        key_for_texts(here.herd.path)
    except ImageherdError:
        text = False
    return models.Searchable(image=image, text=text)


def _summary(here: Opened, name: str) -> models.Summary:
    found = here.facts(name)
    return models.Summary(
        name=name,
        method=found.method,
        n_clusters=found.n_clusters,
        n_images=found.n_images,
        state=found.state,
        created=datetime.fromtimestamp(found.made, UTC).isoformat(timespec="seconds"),
    )


@router.get("/clusterings/{c}")
def clustering(c: Name, here: Here, response: Response) -> models.ClusteringAnswer:
    """Return a clustering as edited, its clusters largest first."""
    view = tagged(here.view(c), response)
    found, cards = view.clustering, view.cards()
    undo, redo = steps(view, here.sayings(c))
    return models.ClusteringAnswer(
        name=c,
        state=view.state,
        version=found.version,
        method=found.config["method"],
        n_images=len(found.rows),
        n_clusters=len(cards),
        n_edits=len(view.done),
        clusters=cards,
        nowhere=models.Nowhere(size=view.n_nowhere),
        undo=undo,
        redo=redo,
    )


@router.get("/clusterings/{c}/clusters/{uid}/members")
def members(
    c: Name,
    uid: Uid,
    here: Here,
    response: Response,
    order: Literal["typical", "doubtful", "row"] = "typical",
    offset: Offset = 0,
    limit: Limit = 200,
) -> models.Members:
    """Return some of a cluster's images."""
    view = tagged(here.view(c), response)
    if uid != NOWHERE:
        view.cluster(uid)
    found = view.members(uid, order)
    end = offset + limit
    return models.Members(
        state=view.state,
        uid=uid,
        name=view.names[uid],
        size=len(found),
        items=shown(here, view, found[offset:end]),
        next=end if end < len(found) else None,
    )


@router.get("/clusterings/{c}/items")
def items(
    c: Name,
    here: Here,
    response: Response,
    rows: Annotated[
        str, Query(pattern="^[0-9]{1,15}(,[0-9]{1,15})*$", max_length=16_000, description="3,17,4")
    ],
) -> models.Items:
    """Return up to 1,000 images by their rows, in that order."""
    view = tagged(here.view(c), response)
    at = [view.position(int(row)) for row in rows.split(",")]
    return models.Items(state=view.state, items=shown(here, view, at))


@router.get("/clusterings/{c}/items/{row}")
def item(c: Name, row: Row, here: Here, response: Response) -> models.Detail:
    """Return one image, where it is, and why its place is doubtful, if it is."""
    view = tagged(here.view(c), response)
    at = view.position(row)
    about = here.items_at([row]).to_pylist()[0]
    uid = int(view.clustering.uids[at])
    return models.Detail(
        **shown(here, view, [at])[0].model_dump(),
        state=view.state,
        uid=uid,
        cluster=view.names[uid],
        width=about["width"],
        height=about["height"],
        source=here.sources[about["source"]].name,
        reason=view.reason(at),
    )


def steps(view: View, said: dict[int, str]) -> tuple[models.Edit | None, models.Edit | None]:
    """Return the edit that undo would take back, and the one that redo would make again."""
    undo, redo = (told(edits[-1], said) if edits else None for edits in (view.done, view.undone))
    return undo, redo


def tagged(view: View, response: Response) -> View:
    """Set the ETag of an answer; returns the view."""
    response.headers["ETag"] = f'"{view.state}"'
    return view


def shown(here: Opened, view: View, at: NDArray[np.int64] | Sequence[int]) -> list[models.Item]:
    """Return images of a clustering, given by their positions, as the API tells of them."""
    at = np.asarray(at, dtype=np.int64)
    if not len(at):
        return []
    found = view.clustering
    items = here.items_at(found.rows[at])
    text = texter(items, here.sources)
    by_hand = np.zeros(len(at), bool) if found.by_hand is None else found.by_hand[at]
    columns = (
        found.rows[at].tolist(),
        items["path"].to_pylist(),
        found.probability[at].tolist(),
        found.uids[at].tolist(),
        found.second[at].tolist(),
        by_hand.tolist(),
        items["status"].to_pylist(),
    )
    return [
        models.Item(
            row=row,
            name=name,
            probability=probability if math.isfinite(probability) else None,
            second=_second(view, uid, second),
            by_hand=placed,
            status=status,
            text=text(i),
        )
        for i, (row, name, probability, uid, second, placed, status) in enumerate(
            zip(*columns, strict=True)
        )
    ]


def _second(view: View, uid: int, second: int) -> models.Second | None:
    if second in (uid, NOWHERE) or second not in view.by_uid:
        return None
    return models.Second(uid=second, name=view.names[second])
