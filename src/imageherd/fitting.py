"""From features to a version of a clustering: fit a head, describe and name what it found."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imageherd.choosing import decide, stand_in
from imageherd.clustering import (
    BLOCK,
    MOST_PROBABLE,
    NOWHERE,
    Clustering,
    describe,
    probabilities_of,
    with_names,
)
from imageherd.counting import Count
from imageherd.derived import N_NEIGHBORS, Features, naming_of, rows_digest, voted_names
from imageherd.device import resolve_device
from imageherd.duplicates import find_duplicates, graph_among, seconds_of
from imageherd.edits.carrying import before_another
from imageherd.edits.learning import Lesson
from imageherd.errors import ImageherdError
from imageherd.features.views import view_sets
from imageherd.heads import HEADS
from imageherd.heads.base import Head
from imageherd.heads.make import make_head
from imageherd.heads.processes import check_sharing
from imageherd.merging import with_dendrogram
from imageherd.neighbors import NeighborGraph, Rows
from imageherd.quality import judge, set_aside
from imageherd.sampling import draw, of_all, strangers
from imageherd.versions import Versions

# Beyond, neighbours are too dear for a method that has no use for them.
MOST_WITHOUT_NEED = 1_000_000

# Made for views; LSD-C was studied here without, on neighbours.
BY_VIEWS = "scp"


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
        If a method that counts itself is told a number.
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
    settings["counted"] = found.as_dict()
    return found.n_clusters


def fit(
    herd: Path,
    versions: Versions,
    data: Features,
    items: pa.Table,
    neighbors: Callable[..., NeighborGraph],
    count: Callable[[Features], Count],
    *,
    method: str,
    n_clusters: int | str,
    keep_duplicates: bool,
    reject: float,
    train_on: int | None = None,
    start: Head | None = None,
    lesson: Lesson | None = None,
    params: dict[str, Any],
) -> Clustering:
    """Fit a head and write what it finds as the next version; the herd's lock must be held.

    Of copies, near-copies and bursts one image is fitted; then every image is put where the head
    sees it. Copies with the same features, and all copies of an image that the method leaves out,
    go where that image is. Without copies the result is what it would be with `keep_duplicates`.
    Images that are all alike are one cluster, and all fitted: a head wants more than one.

    With `train_on` all this is of a sample. Where the others belong is what the head says of them,
    block by block; nothing else is said of their places.

    Parameters
    ----------
    herd : Path
        The herd; a checkpoint is kept in it while the head trains.
    versions : Versions
        Where the result goes; its current version gives uids to the clusters found again.
    data : Features
        What to cluster.
    items : pyarrow.Table
        The herd's items.
    neighbors : callable
        `Herd.neighbors`. Called for every method, once, but not for more than a million images
        and a method that needs no graph: then only copies with the same features are found, and
        nothing is said of the images' places.
    count : callable
        Counts the clusters of features, where their number is "auto".
    method, n_clusters, keep_duplicates, reject, train_on
        As in `Herd.cluster`.
    start : Head, optional
        The head of the current version, to go on from; see `imageherd.heads.base.Head.fit`.
    lesson : Lesson, optional
        What it is to learn from the edits of that version. The images that a person has placed are
        fitted in any case, and stay where they were placed.
    params : dict
        Parameters of the head, random_state and device included. Besides these "views", for
        methods that train on augmented views (scp, lsdc): True trains on those kept beside the
        features, False on none; left out, SCP takes them where every image has some. And "devices",
        as in `imageherd.heads.base.Head.fit`.

    Raises
    ------
    ImageherdError
        If a parameter is wrong, or given to a method to be chosen, more clusters are wanted than
        there are different images to fit, or the head leaves every image out.
    """
    if not 0 <= reject < 1:
        raise ImageherdError(f"reject={reject} is out of range; give a number in [0, 1).")
    always = None if lesson is None else lesson.rows
    sample, drawn = draw(data, train_on, params["random_state"], always)
    n, wanted_views, devices = len(sample.rows), params.get("views"), params.get("devices", 1)
    params = {name: value for name, value in params.items() if name not in ("views", "devices")}
    k = 2 if n_clusters == "auto" else int(n_clusters)
    asked = make_head(stand_in(method, params), k, n, **params)
    check_sharing(asked, resolve_device(params["device"]), devices)
    settings: dict[str, Any] = {"features": data.key}
    settings |= {"keep_duplicates": keep_duplicates, "reject": reject, **naming_of(data)}
    warm = _warm(versions, start, lesson)
    settings |= warm | ({} if sample is data else {"train_on": n})

    @cache
    def distinct() -> tuple[NeighborGraph | None, NDArray[np.int64], Features]:
        graph = None
        wanted = getattr(asked, "n_neighbors", 0)
        if wanted or reject or n <= MOST_WITHOUT_NEED:
            graph = neighbors(sample, k=max(N_NEIGHBORS, wanted), device=params["device"])
            if graph.recall is not None:
                settings["neighbors"] = {"k": graph.k, "recall": graph.recall}
        if keep_duplicates:
            return graph, np.full(n, -1), sample
        times = seconds_of(items["taken_at"].take(pa.array(sample.rows)).to_pylist())
        copy_of = find_duplicates(sample.X, graph, times, device=params["device"])
        if (copy_of < 0).all():
            return graph, copy_of, sample
        return graph, copy_of, Features(sample.rows[copy_of < 0], data.key, data.store)

    k = decide_count(method, n_clusters, lambda: count(distinct()[2]), settings)
    graph, copy_of, different = distinct()
    fitted = sample if k == 1 else different
    if k > len(fitted.rows):
        raise ImageherdError(
            f"n_clusters={k} does not suit {len(fitted.rows)} different images, the others being "
            "copies or near-copies of them; give fewer, or keep duplicates."
        )
    trials = _trials(herd, method, k, params, data, fitted)
    method, params = decide(method, params, fitted.X, k, settings, trials)
    head = make_head(method, max(k, 2), len(fitted.rows), **params)
    head = head.set_params(n_clusters=1) if k == 1 else head
    views = views_for(method, fitted, wanted_views)
    seen = {} if views is None else {"views": views.shape[1]}
    settings |= {"method": method, "params": head.get_params(), **seen}
    kept = np.arange(n) if fitted is sample else np.flatnonzero(copy_of < 0)
    place = np.searchsorted(kept, np.where(copy_of < 0, np.arange(n), copy_of))
    known = None if lesson is None else lesson.constraints(sample.rows, place)
    run = herd / "checkpoints" / _checkpoint(method, settings["params"] | seen | warm, data, fitted)
    run.parent.mkdir(exist_ok=True)
    among = _graph_for(head, graph, kept, sample, params["device"])
    facts: dict[str, Any] = {"neighbors": among, "views": views, "checkpoint": run}
    head.fit(fitted.X, **facts, start=start, constraints=known, devices=devices)
    labels = head.labels_ if fitted is sample else _labels_of_all(head, sample.X, copy_of)
    rejecting = graph if reject else None
    labels = _checked(method, labels, rejecting, reject)
    copies = np.where(copy_of < 0, -1, sample.rows[copy_of])
    if sample is not data:
        far = strangers(rejecting, sample, data, drawn, reject, params["device"])
        labels, copies = of_all(labels, copies, drawn, far)
        graph = None
    labels = labels if lesson is None else lesson.held(labels, data.rows)
    P = probabilities_of(head, data.vectors)
    found = keep(herd, versions, data, head, P, labels, settings, graph, copies, lesson)
    trials.unlink(missing_ok=True)
    return found


def keep(
    herd: Path,
    versions: Versions,
    data: Features,
    head: Head,
    P: NDArray[np.float32] | Rows,
    labels: NDArray[np.integer[Any]],
    settings: dict[str, Any],
    graph: NeighborGraph | None,
    copies: NDArray[np.int64],
    lesson: Lesson | None = None,
) -> Clustering:
    """Describe, judge and name what a head found, and write it as the next version.

    Parameters
    ----------
    herd, versions, data
        As in `fit`.
    head : Head
        Fitted.
    P : ndarray of float32 or Rows, shape (n, n_clusters)
        Its probabilities.
    labels : ndarray of int, shape (n,)
        The column each image is in, as in `imageherd.clustering.top_two`.
    settings : dict
        To be kept beside the result.
    graph : NeighborGraph or None
        Of the images; without one nothing is said of their places.
    copies : ndarray of int64, shape (n,)
        The row of the image that each is a copy of, -1 for none.
    lesson : Lesson, optional
        What the head has learned from the edits of the version before.
    """
    learned = () if lesson is None else lesson.edits
    known = {} if lesson is None else lesson.places(data.rows)
    stay = lesson is not None
    previous = before_another(versions, P.shape[1], learned, placed_stay=stay)
    X, known = data.vectors, known | {"previous": previous}
    about = {"name": versions.folder.name, "config": settings, **known}
    found = describe(data.rows, X, P, labels, **about)
    found = replace(found, quality=judge(found.uids, graph, copies))
    found = with_dendrogram(found, X)
    found = with_names(found, voted_names(herd, data, found.uids))
    found = versions.write(found, head, head.history_)
    return found if lesson is None else lesson.hand_on_names(found, versions)


def views_for(
    method: str, data: Features, wanted: bool | None = None
) -> NDArray[np.float32] | None:
    """Return the views (n, V, d) that a method is to train on, None for none.

    Parameters
    ----------
    method : str
        One of `imageherd.heads.HEADS`.
    data : Features
        What it is fitted on.
    wanted : bool, optional
        As "views" of `fit`.

    Raises
    ------
    ImageherdError
        If views are wanted that are not there, or of a method that has no use for them.
    """
    if wanted is False or (wanted is None and method != BY_VIEWS):
        return None
    if not HEADS[method].uses_views:
        users = ", ".join(name for name, head in HEADS.items() if head.uses_views)
        raise ImageherdError(f"{method} does not train on views; these do: {users}.")
    if data.views is None and (wanted or view_sets(data.store.folder)):
        lacking = "not every image has views; to make them: imageherd embed SOURCE --views 4"
        if wanted:
            raise ImageherdError(f"{method} cannot train on views: {lacking}.")
        warnings.warn(f"{method} trains without views: {lacking}.", stacklevel=3)
    return data.views


def _warm(versions: Versions, start: Head | None, lesson: Lesson | None) -> dict[str, Any]:
    """Say in the settings which version was gone on from, and what was learned of it."""
    current = versions.current() if start is not None else None
    learned = {} if lesson is None else {"learned": lesson.about()}
    return learned if current is None else learned | {"warm_start": current.version}


def _checked(
    method: str, labels: NDArray[np.int32], graph: NeighborGraph | None, reject: float
) -> NDArray[np.int32]:
    """Set aside what lies farthest out, where there is a graph to tell; something must be left."""
    if graph is not None:
        labels = np.where(set_aside(graph, reject), np.int32(NOWHERE), labels)
    if (labels == NOWHERE).all():
        raise ImageherdError(
            f"{method} found no cluster: every image fits nowhere. Try other parameters, or "
            "another method."
        )
    return labels


def _trials(
    herd: Path, method: str, k: int, params: dict[str, Any], data: Features, fitted: Features
) -> Path:
    """Name the file of the trials that a choice is made from, as a checkpoint is named."""
    run = _checkpoint(f"choosing-{method}", params | {"n_clusters": k}, data, fitted)
    return herd / "checkpoints" / f"{run}.json"


def _checkpoint(method: str, params: dict[str, Any], data: Features, fitted: Features) -> str:
    """Name the checkpoint: by all rows, which tell what is left over, and by those fitted."""
    run: tuple[Any, ...] = (sorted(params.items()), data.key)
    if fitted is not data:
        run = (*run, rows_digest(fitted.rows))
    digest = hashlib.sha256(repr(run).encode()).hexdigest()[:12]
    return f"{method}-{rows_digest(data.rows)}-{digest}"


def _graph_for(
    head: Head,
    graph: NeighborGraph | None,
    kept: NDArray[np.int64],
    data: Features,
    device: str,
) -> NeighborGraph | None:
    wanted = getattr(head, "n_neighbors", 0)
    # Over several blocks a head finds neighbors of its own.
    if graph is None or not wanted or head.blocks:
        return None
    if len(kept) == len(data.rows):
        return graph
    return graph_among(graph, data.X, kept, min(wanted, len(kept) - 1), device=device)


def _labels_of_all(
    head: Head, X: NDArray[np.float32], copy_of: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Return the column of every image, fitted or not, as far as the head need not be asked."""
    copies = np.flatnonzero(copy_of >= 0)
    labels = np.full(len(X), MOST_PROBABLE, dtype=np.int32)
    labels[copy_of < 0] = head.labels_
    for start in range(0, len(copies), BLOCK):
        some = copies[start : start + BLOCK]
        of = copy_of[some]
        same = (labels[of] < 0) | (X[some] == X[of]).all(1)
        labels[some[same]] = labels[of[same]]
    return labels
