"""What the API answers, and what it takes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


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
    probability: float
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
    labels: list[str]


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
