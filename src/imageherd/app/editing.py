"""Edits: making, undoing, the log of them, word of others', and help with names and splits."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import Field

from imageherd.app import models
from imageherd.app.clusterings import Limit, Name, Offset, Uid, steps, tagged
from imageherd.app.opened import Here, Opened
from imageherd.app.saying import told
from imageherd.app.splitting import split
from imageherd.app.suggesting import names_for
from imageherd.app.view import View
from imageherd.edits.editing import Edits
from imageherd.edits.journal import Edit, EditConflictError
from imageherd.errors import ImageherdError

router = APIRouter()

LOOK = 0.5
"""Seconds between looks at what others have edited."""
HEARTBEAT = 15.0

Expected = Annotated[
    str | None,
    Header(
        alias="If-Match",
        pattern=r'^(\*|(W/)?"?v[0-9]{4,9}\.[0-9]{1,18}"?)$',
        description='The state that it was decided on, such as "v0002.17".',
    ),
]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="Of the edit: asked for twice with one key, it is made once.",
    ),
]
CONFLICT: dict[int | str, dict[str, Any]] = {409: {"model": models.Conflict}}


@router.post("/clusterings/{c}/edits", status_code=201, responses=CONFLICT)
def edit(
    c: Name,
    here: Here,
    change: Annotated[models.Change, Body()],
    response: Response,
    expected: Expected = None,
    key: Key = None,
) -> models.Changed:
    """Edit the clustering; what is answered is on disk, and outlives a kill at any moment."""

    def how(edits: Edits) -> Edit:
        asked: dict[str, Any] = {"id": key, "expected": _state(expected)}
        if isinstance(change, models.Rename):
            return edits.rename(change.uid, change.name, **asked)
        if isinstance(change, models.Move):
            return edits.move(change.rows, change.to, **asked)
        if isinstance(change, models.Outlier):
            return edits.outlier(change.rows, **asked)
        if isinstance(change, models.Merge):
            return edits.merge(change.uids, **asked)
        return edits.split(change.uid, change.parts, **asked)

    try:
        return _changed(here, c, response, how)
    except EditConflictError:
        raise
    except ImageherdError:
        _check_there(change, here.view(c))
        raise


def _check_there(change: models.Change, view: View) -> None:
    """Raise 404 if the clustering does not have what an edit is about."""
    if isinstance(change, models.Rename | models.Split):
        view.cluster(change.uid)
    elif isinstance(change, models.Merge):
        for uid in change.uids:
            view.cluster(uid)
    elif isinstance(change, models.Move) and change.to is not None:
        view.cluster(change.to)
    if isinstance(change, models.Move | models.Outlier):
        for row in change.rows:
            view.position(row)


@router.post("/clusterings/{c}/undo", status_code=201, responses=CONFLICT)
def undo(
    c: Name, here: Here, response: Response, expected: Expected = None, key: Key = None
) -> models.Changed:
    """Take back the last edit in effect, whoever made it."""
    how: dict[str, Any] = {"id": key, "expected": _state(expected)}
    return _changed(here, c, response, lambda edits: edits.undo(**how))


@router.post("/clusterings/{c}/redo", status_code=201, responses=CONFLICT)
def redo(
    c: Name, here: Here, response: Response, expected: Expected = None, key: Key = None
) -> models.Changed:
    """Make again what was undone last."""
    how: dict[str, Any] = {"id": key, "expected": _state(expected)}
    return _changed(here, c, response, lambda edits: edits.redo(**how))


def _state(header: str | None) -> str | None:
    """Return the state that an If-Match header names; None where any will do."""
    state = (header or "*").strip().removeprefix("W/").strip('"')
    return None if state == "*" else state


def _changed(
    here: Opened, name: str, response: Response, how: Callable[[Edits], Edit]
) -> models.Changed:
    entry, before, view = here.change(name, how)
    tagged(view, response)
    said = here.sayings(name)
    undo, redo = steps(view, said)
    changed = sorted(view.changed_since(before))
    return models.Changed(
        edit=told(entry, said),
        before=before.state,
        state=view.state,
        undo=undo,
        redo=redo,
        n_clusters=len(view.by_uid),
        nowhere=models.Nowhere(size=view.n_nowhere),
        changed={uid: view.card(uid) if uid in view.by_uid else None for uid in changed},
    )


@router.get("/clusterings/{c}/edits")
def log(
    c: Name, here: Here, response: Response, offset: Offset = 0, limit: Limit = 200
) -> models.Log:
    """Return what was ever entered for the clustering, its older versions included."""
    view = tagged(here.view(c), response)
    entries, said = here.edits(c).log()[::-1], here.sayings(c)
    end = offset + limit
    return models.Log(
        state=view.state,
        edits=[told(entry, said) for entry in entries[offset:end] if entry.seq in said],
        next=end if end < len(entries) else None,
    )


@router.get(
    "/clusterings/{c}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(c: Name, here: Here, request: Request) -> StreamingResponse:
    """Tell the state, and then whenever it changes, whoever changes it: server-sent events."""
    first = await run_in_threadpool(here.state, c)
    closing: Callable[[], bool] = request.app.state.closing
    return StreamingResponse(_states(here, c, first, closing), media_type="text/event-stream")


async def _states(
    here: Opened, name: str, state: str, closing: Callable[[], bool]
) -> AsyncIterator[str]:
    told, spoken = "", time.monotonic()
    while not closing():
        now = time.monotonic()
        if state != told:
            told, spoken = state, now
            yield f"data: {json.dumps({'state': state})}\n\n"
        elif now - spoken >= HEARTBEAT:
            spoken = now
            yield ": still here\n\n"
        await asyncio.sleep(LOOK)
        try:
            state = await run_in_threadpool(here.state, name)
        except HTTPException:
            # The clustering is no more.
            return


@router.get("/clusterings/{c}/clusters/{uid}/suggestions")
def suggestions(c: Name, uid: Uid, here: Here, response: Response) -> models.Suggestions:
    """Return names that the cluster could have; none, where nothing speaks for any."""
    view = tagged(here.view(c), response)
    view.cluster(uid)
    return models.Suggestions(state=view.state, names=names_for(here, view, uid))


@router.get("/clusterings/{c}/clusters/{uid}/split")
def split_preview(
    c: Name,
    uid: Uid,
    here: Here,
    response: Response,
    n: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=2, le=20)],
        Query(description="How many parts; auto counts them."),
    ] = 2,
) -> models.SplitAnswer:
    """Return how the cluster could be split; nothing is changed."""
    view = tagged(here.view(c), response)
    view.cluster(uid)
    how, parts = split(here, view, uid, n)
    return models.SplitAnswer(state=view.state, uid=uid, how=how, parts=parts)
