"""The map: where every image lies, in a random order, and what can colour it.

Places come once; after an edit only the clusters' uids are asked for again. Arrays are sent as they
are in memory, little-endian: a million points are 8 MB, their uids 4 MB.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel

from imageherd.app.clusterings import Name
from imageherd.app.labelling import NONE
from imageherd.app.laying import Laid, Maps, Underway
from imageherd.app.models import Problem
from imageherd.app.opened import Here
from imageherd.app.view import View, colours

router = APIRouter()

Of = Annotated[str, Query(description="A column of labels, or folder: one of `kinds`.")]
Known = Annotated[str | None, Header(alias="If-None-Match", description="An ETag had before.")]

ARRAY: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        200: {"content": {"application/octet-stream": {"schema": {"type": "string"}}}},
        304: {"description": "What was had before still holds."},
        409: {"model": Problem, "description": "The map is still being computed."},
    },
}


class Bounds(BaseModel):
    """Between which places all points lie; y points upwards."""

    left: float
    right: float
    bottom: float
    top: float


class MapAnswer(BaseModel):
    """The map, or how far its computation is: `seconds` so far, of `expected` in all, roughly.

    `n` points stand for as many of the `n_rows` images of the clustering; those that are gone are
    not on it. Any first part of the points is a fair sample.
    """

    state: str
    status: Literal["computing", "ready"]
    n: int
    n_rows: int
    seed: int
    bounds: Bounds
    seconds: float
    expected: float


class Label(BaseModel):
    """A label, how many points have it, and its colour on light and on dark pages."""

    name: str
    size: int
    colour: str
    colour_dark: str


class LabelsAnswer(BaseModel):
    """Which kinds of labels there are, and those asked for, in the order of their codes."""

    kinds: list[str]
    names: list[Label]


def maps(request: Request) -> Maps:
    """Return the maps that the application has laid out."""
    found: Maps = request.app.state.maps
    return found


Laying = Annotated[Maps, Depends(maps)]


@router.get("/clusterings/{c}/map")
def map_of(c: Name, here: Here, laying: Laying, response: Response) -> MapAnswer:
    """Return what the map is; the first who asks has it computed, where it is not kept yet."""
    view = here.view(c)
    response.headers["ETag"] = f'"{view.state}"'
    found = laying.get(here, view)
    about: dict[str, Any] = {"state": view.state, "n_rows": len(view.clustering.rows), "seed": 0}
    if isinstance(found, Underway):
        return MapAnswer(
            **about,
            status="computing",
            n=found.n,
            bounds=Bounds(left=-1, right=1, bottom=-1, top=1),
            seconds=found.seconds,
            expected=found.expected,
        )
    response.headers["ETag"] = f'"{view.state}-{found.tag}"'
    left, bottom, right, top = found.bounds
    return MapAnswer(
        **about,
        status="ready",
        n=len(found.rows),
        bounds=Bounds(left=left, right=right, bottom=bottom, top=top),
        seconds=0,
        expected=0,
    )


@router.get("/clusterings/{c}/map/points", **ARRAY)
def points(c: Name, here: Here, laying: Laying, known: Known = None) -> Response:
    """Return the places: float32, x and y in turn, the longer side from -1 to 1."""
    found = _ready(laying, here, here.view(c))
    return _array(found.points, found.tag, known)


@router.get("/clusterings/{c}/map/rows", **ARRAY)
def rows(c: Name, here: Here, laying: Laying, known: Known = None) -> Response:
    """Return the row of each point: int32."""
    found = _ready(laying, here, here.view(c))
    return _array(found.rows.astype("<i4"), found.tag, known)


@router.get("/clusterings/{c}/map/uids", **ARRAY)
def uids(c: Name, here: Here, laying: Laying, known: Known = None) -> Response:
    """Return the cluster of each point: int32, -1 for what fits nowhere."""
    view = here.view(c)
    found = _ready(laying, here, view)
    return _array(view.clustering.uids[found.at].astype("<i4"), _tag(view, found), known)


@router.get("/clusterings/{c}/map/confidence", **ARRAY)
def confidence(c: Name, here: Here, laying: Laying, known: Known = None) -> Response:
    """Return the probability that each point is where it belongs: float32."""
    view = here.view(c)
    found = _ready(laying, here, view)
    return _array(view.clustering.probability[found.at].astype("<f4"), _tag(view, found), known)


@router.get("/clusterings/{c}/map/labels")
def labels(c: Name, here: Here, laying: Laying, of: Of | None = None) -> LabelsAnswer:
    """Return which kinds of labels there are; with `of`, the labels, the most frequent first."""
    found = _ready(laying, here, here.view(c)).labels
    names, codes = found.codes(of) if of is not None else ([], np.zeros(0, np.int32))
    sizes = np.bincount(codes[codes != NONE], minlength=len(names)).tolist()
    shades = colours()
    return LabelsAnswer(
        kinds=found.kinds(),
        names=[
            Label(name=name, size=size, colour=light, colour_dark=dark)
            for i, (name, size) in enumerate(zip(names, sizes, strict=True))
            for light, dark in [shades[i % len(shades)]]
        ],
    )


@router.get("/clusterings/{c}/map/labels/codes", **ARRAY)
def codes(c: Name, here: Here, laying: Laying, of: Of, known: Known = None) -> Response:
    """Return the label of each point: int32, the place of its name in `map/labels`, -1 for none."""
    found = _ready(laying, here, here.view(c))
    values = found.labels.codes(of)[1]
    return _array(values, hashlib.sha256(values.tobytes()).hexdigest()[:12], known)


def _ready(laying: Maps, here: Here, view: View) -> Laid:
    found = laying.get(here, view)
    if isinstance(found, Underway):
        raise HTTPException(409, "The map is still being computed; ask for map until it is ready.")
    return found


def _tag(view: View, found: Laid) -> str:
    return f"{view.state}-{found.tag}"


def _array(values: NDArray[Any], tag: str, known: str | None) -> Response:
    # Kept by the browser, and asked for again each time: mostly it is still the same.
    headers = {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache"}
    if known is not None and f'"{tag}"' in known:
        return Response(status_code=304, headers=headers)
    return Response(values.tobytes(), media_type="application/octet-stream", headers=headers)
