"""From features to a version of a clustering: fit a head, describe and name what it found."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imageherd.clustering import Clustering, describe, with_names
from imageherd.counting import Count
from imageherd.derived import Features, rows_digest, voted_names
from imageherd.errors import ImageherdError
from imageherd.heads import HEADS
from imageherd.heads.base import Head
from imageherd.merging import with_dendrogram
from imageherd.neighbors import NeighborGraph
from imageherd.versions import Versions


def decide_count(
    method: str, n_clusters: int | str, count: Callable[[], Count], settings: dict[str, Any]
) -> int:
    """Return how many clusters to ask a method for.

    Parameters
    ----------
    method : str
        One of `imageherd.heads.HEADS`.
    n_clusters : int or "auto"
        What the user wants.
    count : callable
        Counts; called only where its answer is used, which `settings` then says.
    settings : dict
        What will be kept beside the result.

    Raises
    ------
    ImageherdError
        If there is but one cluster, or a method that counts itself is told a number.
    """
    if method in HEADS and HEADS[method].counts_itself:
        if n_clusters != "auto":
            raise ImageherdError(
                f"{method} counts its clusters itself and takes no number; leave n_clusters out, "
                "or choose another method."
            )
        return 2
    if n_clusters != "auto":
        return int(n_clusters)
    found = count()
    if found.n_clusters < 2:
        raise ImageherdError("All images look alike: one cluster.")
    settings["counted"] = found.as_dict()
    return found.n_clusters


def fit(
    herd: Path,
    versions: Versions,
    data: Features,
    head: Head,
    graph: NeighborGraph | None,
    settings: dict[str, Any],
) -> Clustering:
    """Fit a head and write what it finds as the next version; the herd's lock must be held.

    Parameters
    ----------
    herd : Path
        The herd; a checkpoint is kept in it while the head trains.
    versions : Versions
        Where the result goes; its current version gives uids to the clusters found again.
    data : Features
        What to cluster.
    head : Head
        Not fitted yet.
    graph : NeighborGraph, optional
        The k-NN graph of `data`, for a head that wants it.
    settings : dict
        What to keep beside the result; the head's parameters are added.

    Raises
    ------
    ImageherdError
        If the head leaves every image out.
    """
    settings = {**settings, "params": head.get_params()}
    run = repr((sorted(settings["params"].items()), data.key))
    digest = hashlib.sha256(run.encode()).hexdigest()[:12]
    checkpoint = f"{settings['method']}-{rows_digest(data.rows)}-{digest}"
    head.fit(data.X, neighbors=graph, checkpoint=herd / "checkpoints" / checkpoint)
    if (head.labels_ < 0).all():
        raise ImageherdError(
            f"{settings['method']} found no cluster: every image fits nowhere. Try other "
            "parameters, or another method."
        )
    found = describe(
        data.rows,
        data.X,
        head.predict_proba(data.X),
        head.labels_,
        name=versions.folder.name,
        config=settings,
        previous=versions.current(),
    )
    found = with_dendrogram(found, data.X)
    found = with_names(found, voted_names(herd, data, found.uids))
    return versions.write(found, head, head.history_)
