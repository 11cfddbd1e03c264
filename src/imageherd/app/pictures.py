"""The images themselves, as thumbnails and whole: those of the herd, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Query, Response

from imageherd.app.clusterings import Row
from imageherd.app.models import Problem
from imageherd.app.opened import Here, Opened
from imageherd.app.thumbnails import SIZES, thumbnail, whole
from imageherd.images.decode import UnreadableImageError
from imageherd.images.source import Source
from imageherd.images.texts import TextFile
from imageherd.images.vectors.vector_file import VectorFile

router = APIRouter()

Stands = Annotated[
    str | None,
    Query(description="`v` of the herd: the browser keeps the picture and asks no more."),
]
Known = Annotated[str | None, Header(alias="If-None-Match", description="An ETag had before.")]

ANSWERS: dict[int | str, dict[str, Any]] = {
    304: {"description": "What was had before still holds."},
    410: {"model": Problem, "description": "The image is gone, changed or damaged."},
}


def _pictures(*types: str) -> dict[str, Any]:
    content = {name: {"schema": {"type": "string", "format": "binary"}} for name in types}
    return {"response_class": Response, "responses": ANSWERS | {200: {"content": content}}}


@router.get("/pictures/{row}", **_pictures("image/jpeg"))
def small(
    row: Row,
    here: Here,
    size: Annotated[int, Query(json_schema_extra={"enum": list(SIZES)})] = SIZES[1],
    v: Stands = None,
    known: Known = None,
) -> Response:
    """Return a thumbnail: a JPEG, upright, `size` pixels long."""
    if size not in SIZES:
        raise HTTPException(422, f"size={size} is none of {', '.join(map(str, SIZES))}.")
    item, source = _image(here, row)
    return _answer(
        item,
        f"{size}",
        (v, known),
        lambda: (thumbnail(here.herd.path, item, source, size), "image/jpeg"),
    )


@router.get("/pictures/{row}/full", **_pictures("image/*"))
def full(row: Row, here: Here, v: Stands = None, known: Known = None) -> Response:
    """Return the image as it is; as a JPEG where a browser would not show it."""
    item, source = _image(here, row)
    return _answer(item, "full", (v, known), lambda: whole(item, source))


def _image(here: Opened, row: int) -> tuple[Mapping[str, Any], Source]:
    """Return a row of the items table and where it is; 404 if it is none or no image."""
    items = here.items
    if row >= len(items):
        raise HTTPException(404, f"The herd has no row {row}.")
    item = items.slice(row, 1).to_pylist()[0]
    source = here.sources[item["source"]]
    if isinstance(source, TextFile | VectorFile):
        what = "text" if isinstance(source, TextFile) else "vector"
        raise HTTPException(404, f"{item['path']} is a {what}: it has no picture.")
    return item, source


def _answer(
    item: Mapping[str, Any],
    which: str,
    asked: tuple[str | None, str | None],
    make: Callable[[], tuple[bytes, str]],
) -> Response:
    v, known = asked
    tag = f'"{(item["content_hash"] or "")[:16]}-{which}"'
    kept = "max-age=31536000, immutable" if v else "no-cache"
    headers = {"Cache-Control": f"private, {kept}", "ETag": tag}
    if known is not None and tag in known:
        return Response(status_code=304, headers=headers)
    try:
        data, media = make()
    except UnreadableImageError as error:
        # Kept by no one: an image that was gone for a while is shown when it is back.
        no = {"Cache-Control": "no-store"}
        raise HTTPException(410, f"{item['path']} cannot be shown: {error.reason}.", no) from error
    return Response(data, media_type=media, headers=headers)
