"""How one cluster could be made two or more: a proposal, to be looked at before it is an edit."""

from __future__ import annotations

import numpy as np
from fastapi import HTTPException
from numpy.typing import NDArray

from imageherd.app import models
from imageherd.app.opened import Opened
from imageherd.app.suggesting import SAMPLE as VOTERS
from imageherd.app.suggesting import names_of_parts, some_of
from imageherd.app.view import View
from imageherd.baselines.kmeans import SphericalKMeans
from imageherd.clustering import BLOCK
from imageherd.counting import count_clusters
from imageherd.derived import Features

SAMPLE = 20_000
"""Images that the parts are found on."""
MOST_PARTS = 20
N_MEDOIDS = 6


def split(here: Opened, view: View, uid: int, n: int | str) -> tuple[str, list[models.Part]]:
    """Propose how to split a cluster; the same images always give the same parts.

    Spherical k-means (the best of 3 k-means++ starts, seed 0) on the features that the clustering
    was made on; of more than 20,000 images on as many, drawn at random, and the others go to the
    nearest centre. With "auto" `imageherd.counting.count_clusters` counts the parts, by its default
    rule on 2,000 of the images: 2 to 20 of them. Images that are gone, which have no features any
    more, go with the largest part. O(m d n) for m images, whose features are read once, in blocks.

    Parameters
    ----------
    here : Opened
        The herd.
    view : View
        The clustering.
    uid : int
        Of the cluster.
    n : int or "auto"
        How many parts, 2 to 20; fewer come out where fewer images differ.

    Returns
    -------
    how : str
        How they were found, in a sentence.
    parts : list of Part
        Largest first; of each the rows nearest to its centre first.

    Raises
    ------
    HTTPException
        400, if the cluster has too few images, or they do not differ.
    """
    name, members = view.names[uid], view.members(uid, "row")
    rows = view.clustering.rows[members]
    data = here.features(view.clustering.config["features"])
    there = np.isin(rows, data.rows, assume_unique=True)
    known = rows[there]
    if len(known) < 2:
        raise HTTPException(400, f"Cluster “{name}” has too few images to be split.")
    sample = data.store.read(known[some_of(np.arange(len(known)), SAMPLE)])
    n_different = len({row.tobytes() for row in sample})
    if n_different < 2:
        raise HTTPException(400, f"The images of cluster “{name}” do not differ.")
    how = "as many as were asked for"
    if n == "auto":
        counted = count_clusters(sample, k_max=min(MOST_PARTS, len(sample)))
        n, how = max(2, counted.n_clusters), "as many as were counted"
    elif len(known) < int(n):
        raise HTTPException(
            400, f"Cluster “{name}” has {len(known)} images: they cannot be {n} parts."
        )
    labels, distance = _nearest(data, known, sample, min(int(n), n_different))
    sizes = np.bincount(labels)
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] > 0]
    place = np.zeros(len(sizes), np.int64)
    place[order] = np.arange(len(order))
    labels = place[labels]
    voters = some_of(np.arange(len(known)), VOTERS)
    named = names_of_parts(here, data, known[voters], labels[voters].astype(np.int32))
    inside = np.lexsort((known, distance.round(6), labels))
    parts = []
    for i, mine in enumerate(np.split(inside, np.cumsum(sizes[order])[:-1])):
        own = known[mine].tolist()
        parts.append(_part(own, f"{name} {i + 1}", named.get(i)))
    gone = rows[~there].tolist()
    parts[0].rows += gone
    parts[0].size += len(gone)
    some = f", found on {len(sample):,} images" if len(sample) < len(known) else ""
    return f"{len(parts)} parts by k-means on the features: {how}{some}.", parts


def _nearest(
    data: Features, rows: NDArray[np.int64], sample: NDArray[np.float32], n: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest of n centres for each row, and how far it is."""
    head = SphericalKMeans(n, n_init=3, random_state=0, device="cpu").fit(sample)
    labels, distance = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
    for start in range(0, len(rows), BLOCK):
        at = slice(start, start + BLOCK)
        far = head.transform(data.store.read(rows[at]))
        labels[at], distance[at] = far.argmin(1), far.min(1)
    return labels, distance


def _part(rows: list[int], name: str, suggestion: str | None) -> models.Part:
    return models.Part(
        rows=rows, size=len(rows), medoids=rows[:N_MEDOIDS], name=name, suggestion=suggestion
    )
