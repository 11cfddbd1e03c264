"""What the API answers, and what it takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Problem(BaseModel):
    """Why a request was refused, in a sentence."""

    detail: str


class Second(BaseModel):
    """The cluster that an image would be in otherwise."""

    uid: int
    name: str


class Item(BaseModel):
    """One image, text or vector. `text` is what to show where there is no picture."""

    row: int
    name: str
    probability: float | None
    second: Second | None
    by_hand: bool
    status: Literal["pending", "ok", "unreadable", "deleted"]
    text: str | None


class Detail(Item):
    """One image and where it is; `reason` is why its place is doubtful, where it is."""

    state: str
    uid: int
    cluster: str
    width: int | None
    height: int | None
    source: str
    reason: str | None


class Cluster(BaseModel):
    """One cluster as a card shows it; pictures are given by their rows."""

    uid: int
    name: str
    size: int
    confidence: float | None
    colour: str
    colour_dark: str
    medoids: list[int]
    typical: list[int]
    doubtful: list[int]
    runner_up: str | None
    share: float | None
    by_hand: bool


class Edit(BaseModel):
    """One entry of the journal; `said` is what it did, in plain words."""

    seq: int
    id: str
    time: str
    author: str
    kind: str
    payload: dict[str, Any]
    said: str


class Searchable(BaseModel):
    """What the herd's features can be searched by."""

    image: bool
    text: bool


class Summary(BaseModel):
    """A clustering in the list of them."""

    name: str
    method: str
    n_clusters: int
    n_images: int
    state: str
    created: str


class HerdAnswer(BaseModel):
    """The herd. `v` stands for it in the addresses of pictures, which browsers keep."""

    name: str
    v: str
    n_items: int
    noun: str
    searchable: Searchable
    clusterings: list[Summary]


class Nowhere(BaseModel):
    """How many images fit nowhere."""

    size: int


class ClusteringAnswer(BaseModel):
    """A clustering as edited."""

    name: str
    state: str
    version: str
    method: str
    n_images: int
    n_clusters: int
    n_edits: int
    clusters: list[Cluster]
    nowhere: Nowhere
    undo: Edit | None
    redo: Edit | None


class Members(BaseModel):
    """Some of a cluster's images; `next` is the offset of the following ones."""

    state: str
    uid: int
    name: str
    size: int
    items: list[Item]
    next: int | None


class Items(BaseModel):
    """The images asked for, in that order."""

    state: str
    items: list[Item]


class Conflict(Problem):
    """Someone else has edited meanwhile: the state now, and what they did since."""

    state: str
    since: list[Edit]


class Changed(BaseModel):
    """An edit made: `changed` is what to show now, null for clusters that are no more.

    It tells all that is different from the state `before`; who knows an older one asks for all.
    """

    edit: Edit
    before: str
    state: str
    undo: Edit | None
    redo: Edit | None
    n_clusters: int
    nowhere: Nowhere
    changed: dict[int, Cluster | None]


class Log(BaseModel):
    """Some of what was ever entered, newest first; `next` is the offset of what is older."""

    state: str
    edits: list[Edit]
    next: int | None


class Suggestions(BaseModel):
    """Names that a cluster could have, the likeliest first."""

    state: str
    names: list[str]


class Part(BaseModel):
    """A part of a cluster: what it would be called, and what it could be called."""

    rows: list[int]
    size: int
    medoids: list[int]
    name: str
    suggestion: str | None


class SplitAnswer(BaseModel):
    """How a cluster could be split, largest part first; `how` says how it was found."""

    state: str
    uid: int
    how: str
    parts: list[Part]


Whole = Annotated[int, Field(strict=True, ge=0, le=2**53)]
Uid = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]
Rows = Annotated[list[Whole], Field(min_length=1)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Rename(_Asked):
    """Give a cluster a name."""

    kind: Literal["rename"]
    uid: Uid
    name: Annotated[str, Field(min_length=1)]


class Move(_Asked):
    """Move images to a cluster, or to a new one of their own."""

    kind: Literal["move"]
    rows: Rows
    to: Uid | None = None


class Outlier(_Asked):
    """Say of images that they fit nowhere."""

    kind: Literal["outlier"]
    rows: Rows


class Merge(_Asked):
    """Make two or more clusters one."""

    kind: Literal["merge"]
    uids: Annotated[list[Uid], Field(min_length=2)]


class Split(_Asked):
    """Make two or more clusters of one; each image of it is in one part."""

    kind: Literal["split"]
    uid: Uid
    parts: Annotated[list[Rows], Field(min_length=2)]


Change = Annotated[Rename | Move | Outlier | Merge | Split, Field(discriminator="kind")]
"""What can be asked for."""
