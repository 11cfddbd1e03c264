"""Placing new images in the clusters of a herd."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imageherd.clustering import (
    BLOCK,
    NOWHERE,
    Clustering,
    extended,
    probabilities_of,
    some_rows,
    top_two,
)
from imageherd.errors import ImageherdError
from imageherd.heads.base import Head
from imageherd.neighbors import Rows, knn_query
from imageherd.quality import Quality, farther_out, votes
from imageherd.versions import clustering_of, versions_of

N_NEIGHBORS = 10
SAMPLE = 2000


@dataclass(frozen=True)
class Assignment:
    """Where new images went.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Rows of the new images.
    uids : ndarray of int32, shape (n,)
        Their clusters; -1 is "fits nowhere".
    probability : ndarray of float32, shape (n,)
        The head's probability for that cluster, or for the best one where none fits.
    similarity : ndarray of float32, shape (n,)
        Mean cosine similarity to their 10 nearest clustered images.
    threshold : float
        Images less similar than this fit nowhere, but for copies.
    clustering : Clustering
        The clustering with the new images in it.
    """

    rows: NDArray[np.int64]
    uids: NDArray[np.int32]
    probability: NDArray[np.float32]
    similarity: NDArray[np.float32]
    threshold: float
    clustering: Clustering


def place(
    clustering: Clustering,
    head: Head,
    rows: NDArray[np.int64],
    X: NDArray[np.float32] | Rows,
    *,
    reject: float,
    device: str = "auto",
) -> Assignment:
    """Place the images that `clustering` does not have yet.

    An image fits nowhere if its mean similarity to its 10 nearest clustered images is below the
    `reject` quantile of the same figure among the clustered images themselves: with 0.01, if it
    lies farther out than 99 % of them. Of many, 2,000 stand for all. One with the very vector of an
    image in a cluster, as a copy has it, is its duplicate and never fits nowhere.

    Parameters
    ----------
    clustering : Clustering
        What there is.
    head : Head
        The head that made it.
    rows, X : ndarray, shapes (n,) and (n, d)
        All images of the herd and their features, old and new; X may be Rows.
    reject : float
        0 places everything.
    device : str, default="auto"
        Where similarities are computed: (n_new + 2,000) × n products.

    Raises
    ------
    ImageherdError
        If none of the clustered images is there any more.
    """
    new = ~np.isin(rows, clustering.rows)
    inside = np.isin(rows, clustering.rows[clustering.uids != NOWHERE])
    if not inside.any():
        raise ImageherdError(
            f"None of the images of clustering {clustering.name!r} is there any more, so nothing "
            "can be placed beside them; run `imageherd cluster`."
        )
    threshold = -1.0
    similarity = probability = np.empty(0, dtype=np.float32)
    uids = second = parts = np.empty(0, dtype=np.int32)
    merged, quality = clustering.parts, None
    if new.any():
        config, fresh = clustering.config, some_rows(X, np.flatnonzero(new))
        P = probabilities_of(head, fresh)
        uids, probability, second = top_two(P, config["uids"])
        parts = uids if merged is None else top_two(P, config["parts"])[0]
        known = some_rows(X, np.flatnonzero(inside))
        k = min(N_NEIGHBORS, len(known))
        nearest, similar = knn_query(known, fresh, k, device=device)
        similarity = similar.mean(1)
        equal = _equal(fresh, known, nearest)
        outlier = np.zeros(len(similarity), dtype=np.float32)
        if len(known) > 1:
            sample = np.linspace(0, len(known) - 1, min(len(known), SAMPLE)).astype(np.int64)
            k = min(N_NEIGHBORS + 1, len(known))
            # The nearest of all is the image itself, or a copy of it.
            own = knn_query(known, known[sample], k, device=device)[1][:, 1:].mean(1)
            outlier = farther_out(similarity, own)
            if reject > 0:
                threshold = float(np.quantile(own, reject))
            out = (similarity < threshold) & (equal < 0)
            uids = np.where(out, np.int32(NOWHERE), uids)
            parts = np.where(out, np.int32(NOWHERE), parts)
        at = np.searchsorted(clustering.rows, rows[inside])
        before, after = (clustering.uids, uids) if merged is None else (merged, parts)
        agreement, around = votes(before[at][nearest], after)
        stands = clustering.rows[at]
        if clustering.quality is not None:
            before_that = clustering.quality.duplicate_of[at]
            stands = np.where(before_that < 0, stands, before_that)
        duplicate_of = np.where(equal < 0, -1, stands[equal])
        quality = Quality(duplicate_of, agreement, around, outlier)
    placed = extended(
        *(clustering, rows[new], uids, probability, second),
        parts=None if merged is None else parts,
        quality=quality,
    )
    return Assignment(rows[new], uids, probability, similarity, threshold, placed)


def keep_placed(herd: Path, found: Assignment, head: Head) -> None:
    """Write what `place` found as the next version; the herd's lock must be held.

    Raises
    ------
    ImageherdError
        If there is another version by now than the one that images were placed in.
    """
    name, before = found.clustering.name, found.clustering.version
    if clustering_of(herd, name).version != before:
        raise ImageherdError(
            f"Clustering {name!r} was made anew while the images were being placed; run the same "
            "again."
        )
    versions_of(herd, name).write(found.clustering, head, [])


def _equal(
    X: NDArray[np.float32] | Rows, known: NDArray[np.float32] | Rows, nearest: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Position in `known` of the first of the nearest that is equal to each of X; -1 if none is."""
    found = np.full(len(X), -1)
    for start in range(0, len(X), BLOCK):
        for i, row in enumerate(X[start : start + BLOCK], start):
            near = nearest[i].astype(np.int64)
            same = near[(known[near] == row).all(1)]
            if len(same):
                found[i] = same[0]
    return found
