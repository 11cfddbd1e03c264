"""Placing new images in the clusters of a herd."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imageherd.clustering import NOWHERE, Clustering, extended, top_two
from imageherd.heads.base import Head
from imageherd.neighbors import knn_graph, knn_query

N_NEIGHBORS = 10


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
        Images less similar than this fit nowhere.
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
    X: NDArray[np.float32],
    *,
    reject: float,
    device: str = "auto",
) -> Assignment:
    """Place the images that `clustering` does not have yet.

    An image fits nowhere if its mean similarity to its 10 nearest clustered images is below the
    `reject` quantile of the same figure among the clustered images themselves: with 0.01, if it
    lies farther out than 99 % of them.

    Parameters
    ----------
    clustering : Clustering
        What there is.
    head : Head
        The head that made it.
    rows, X : ndarray, shapes (n,) and (n, d)
        All images of the herd and their features, old and new.
    reject : float
        0 places everything.
    device : str, default="auto"
        Where similarities are computed: n_new × n products, and n² / 2 for the threshold.
    """
    new = ~np.isin(rows, clustering.rows)
    inside = np.isin(rows, clustering.rows[clustering.uids != NOWHERE])
    k = min(N_NEIGHBORS, int(inside.sum()) - 1)
    threshold = -1.0
    similarity = probability = np.empty(0, dtype=np.float32)
    uids = second = np.empty(0, dtype=np.int32)
    if new.any():
        columns = clustering.config["uids"]
        uids, probability, second = top_two(head.predict_proba(X[new]), columns)
        similarity = knn_query(X[inside], X[new], k, device=device)[1].mean(1)
        if reject > 0:
            own = knn_graph(X[inside], k, device=device).similarities.mean(1)
            threshold = float(np.quantile(own, reject))
            uids = np.where(similarity < threshold, np.int32(NOWHERE), uids)
    placed = extended(clustering, rows[new], uids, probability, second)
    return Assignment(rows[new], uids, probability, similarity, threshold, placed)
