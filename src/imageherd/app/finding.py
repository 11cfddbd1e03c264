"""Search by image, by text, and for more like some images."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, File, HTTPException, Query, Request, Response, UploadFile
from pydantic import BaseModel

from imageherd.app import models
from imageherd.app.clusterings import Limit, Name, shown, tagged
from imageherd.app.finder import Finder
from imageherd.app.opened import Here, Opened
from imageherd.app.view import View
from imageherd.images.decode import UnreadableImageError
from imageherd.project import read_project
from imageherd.search_space import Hits

router = APIRouter()

MOST_BYTES = 32 * 1024 * 1024
"""An uploaded image may be as large as this."""
N_HITS = 60
"""With an index, as many are found through it; for more than 64 all images are compared."""
MOST_ROWS = 200

NOT_AN_IMAGE: dict[int | str, dict[str, Any]] = {
    415: {"model": models.Problem, "description": "The file is no image that can be read."}
}


class Hit(models.Item):
    """An image that was found, how similar it is by cosine, and its cluster."""

    similarity: float
    uid: int
    cluster: str


class SearchAnswer(BaseModel):
    """What was found, nearest first; `by` is the backbone whose features were compared.

    `recall` is the share of the nearest that such a search finds; null where all were compared.
    """

    state: str
    by: str
    recall: float | None
    hits: list[Hit]


def finder(request: Request) -> Finder:
    """Return what the application searches with."""
    found: Finder = request.app.state.finder
    return found


Searching = Annotated[Finder, Depends(finder)]


@router.get("/clusterings/{c}/search")
def search(
    c: Name,
    here: Here,
    searching: Searching,
    response: Response,
    text: Annotated[str | None, Query(max_length=1000, description="What is to be seen.")] = None,
    row: Annotated[
        list[int] | None,
        Query(max_length=MOST_ROWS, description="What to find more like; once or several times."),
    ] = None,
    limit: Limit = N_HITS,
) -> SearchAnswer:
    """Find the images most like a text, or most like some of the images."""
    view = tagged(here.view(c), response)
    if (text is None) == (not row):
        raise HTTPException(422, "Give one thing to search for: text, or row.")
    if text is not None:
        return _answer(here, view, searching.like_text(here, view, text, limit))
    rows = list(dict.fromkeys(row or []))
    for each in rows:
        view.position(each)
    return _answer(here, view, searching.like_rows(here, view, rows, limit))


@router.post("/clusterings/{c}/search", responses=NOT_AN_IMAGE)
def search_by_image(
    c: Name,
    here: Here,
    searching: Searching,
    response: Response,
    image: Annotated[UploadFile, File(description="The file of an image, up to 32 MB.")],
    limit: Limit = N_HITS,
) -> SearchAnswer:
    """Find the images most like one that is sent along; it is not kept."""
    view = tagged(here.view(c), response)
    content = image.file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise HTTPException(413, f"The image is larger than {MOST_BYTES >> 20} MB.")
    try:
        hits = searching.like_image(here, view, content, limit)
    except UnreadableImageError as error:
        raise HTTPException(415, f"The file cannot be read as an image: {error.reason}.") from error
    return _answer(here, view, hits)


def _answer(here: Opened, view: View, hits: Hits) -> SearchAnswer:
    found = view.clustering
    at = np.searchsorted(found.rows, hits.rows)
    columns = zip(
        shown(here, view, at), hits.similarity.tolist(), found.uids[at].tolist(), strict=True
    )
    return SearchAnswer(
        state=view.state,
        by=read_project(here.herd.path)["backbones"].get(hits.key, hits.key),
        recall=hits.recall,
        hits=[
            Hit(**dict(item), similarity=similarity, uid=uid, cluster=view.names[uid])
            for item, similarity, uid in columns
        ],
    )
