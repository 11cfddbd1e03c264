"""What the report shows, gathered from a clustering, the items and the features."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import ImageOps

from imageherd.clustering import NOWHERE, Cluster, Clustering, by_centrality
from imageherd.features.items import UNREADABLE
from imageherd.images.decode import UnreadableImageError, decode
from imageherd.images.names import display_path
from imageherd.images.source import Source
from imageherd.images.texts import TextFile, excerpt
from imageherd.images.vectors.vector_file import VectorFile
from imageherd.report.data import ReportCluster, ReportData
from imageherd.report.why import copies, curve_of, doubts, joins, sentences
from imageherd.sources import noun_of

N_MEDOIDS = 4
N_STRIP = 12
LONGEST = 1.5


def gather(
    clustering: Clustering,
    rows: NDArray[np.int64],
    X: NDArray[np.float32],
    xy: NDArray[np.float32],
    items: pa.Table,
    sources: list[Source],
) -> ReportData:
    """Gather what the report of `clustering` shows.

    Parameters
    ----------
    clustering : Clustering
        What to show; images that are gone since are left out.
    rows, X, xy : ndarray, shapes (n,), (n, d) and (n, 2)
        The herd's features and their map.
    items : pyarrow.Table
        The herd's items.
    sources : list of Source
        Where the images are.
    """
    _, at, here = np.intersect1d(rows, clustering.rows, return_indices=True)
    if len(at) < len(rows):
        rows, X, xy = rows[at], X[at], xy[at]
    uids, probability = clustering.uids[here], clustering.probability[here]
    shown = items.take(pa.array(rows))
    unreadable = items.filter(pc.equal(items["status"], UNREADABLE))
    known: dict[int, Cluster | None] = {c.uid: c for c in clustering.clusters}
    if (uids == NOWHERE).any():
        known[NOWHERE] = None
    order = sorted(known)
    centrality = by_centrality(X, np.searchsorted(order, uids), len(order))
    copy_of, same = copies(clustering, rows, X)
    doubtful = doubts(clustering, np.isin(clustering.rows, rows), N_STRIP)
    # From positions among the clustering's images to positions among those still there.
    place = dict(zip(here.tolist(), range(len(here)), strict=True))
    clusters = []
    for uid, members in zip(order, centrality, strict=True):
        if len(members) == 0:
            continue
        # What is shown first should not be one picture twice.
        repeated = copy_of[members] >= 0
        members = np.concatenate([members[~repeated], members[repeated]])
        reasons = None
        if clustering.quality is not None:
            reasons = {place[i]: reason for i, reason in doubtful.get(uid, [])}
        found = _cluster(uid, known[uid], members, probability, reasons)
        found.evidence = _positions(rows, getattr(known[uid], "evidence", None) or [])
        clusters.append(found)
    clusters.sort(key=lambda c: (-c.size, c.uid))
    found_uids = {c.uid for c in clusters if c.uid != NOWHERE}
    n_copies, n_near = int(same.sum()), int((copy_of >= 0).sum() - same.sum())
    noun = noun_of(sources[i].uri for i in pc.unique(shown["source"]).to_pylist())
    counts = {
        noun if len(uids) == 1 else f"{noun}s": len(uids),
        "cluster" if len(found_uids) == 1 else "clusters": len(found_uids),
        "unreadable": len(unreadable),
        "fits nowhere": int((uids == NOWHERE).sum()),
    }
    if n_copies or n_near:
        counts |= {"copies": n_copies, "near-copies": n_near}
    return ReportData(
        title=", ".join(sources[i].name for i in pc.unique(shown["source"]).to_pylist()),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        settings=_settings(clustering),
        counts=counts,
        clusters=clusters,
        paths=shown["path"].to_pylist(),
        unreadable=list(
            zip(unreadable["path"].to_pylist(), unreadable["reason"].to_pylist(), strict=True)
        ),
        labels=uids,
        probability=probability,
        xy=xy,
        thumbnail=thumbnailer(shown, sources),
        text=texter(shown, sources),
        noun=noun,
        why=sentences(clustering.config, n_copies, n_near, noun),
        curve=curve_of(clustering.config.get("counted")),
        joins=joins(clustering, found_uids),
        copy_of=copy_of,
        same=same,
    )


def _cluster(
    uid: int,
    cluster: Cluster | None,
    members: NDArray[np.int64],
    probability: NDArray[np.float32],
    reasons: dict[int, str] | None,
) -> ReportCluster:
    """Say what is shown of a cluster; without `reasons` the least sure count as doubtful."""
    medoids, rest = members[:N_MEDOIDS], members[N_MEDOIDS:]
    typical, doubtful = strips(rest, probability[rest])
    if cluster is None:
        # Of what fits nowhere none is more doubtful than the others.
        typical, doubtful = rest[:N_STRIP], rest[:0]
    elif reasons is not None:
        doubtful = np.array(list(reasons), dtype=np.int64)
        doubtful = doubtful[np.isin(doubtful, rest)]
        typical = rest[~np.isin(rest, doubtful)][:N_STRIP]
    return ReportCluster(
        uid=uid,
        name=cluster.name if cluster else "fits nowhere",
        runner_up=cluster.runner_up if cluster else None,
        share=cluster.share if cluster else None,
        size=len(members),
        confidence=float(probability[members].mean()),
        medoids=medoids.tolist(),
        typical=typical.tolist(),
        doubtful=doubtful.tolist(),
        members=members.tolist(),
        winner=cluster.winner if cluster else None,
        runner_up_share=cluster.runner_up_share if cluster else None,
        lift=cluster.lift if cluster else None,
        voters=cluster.voters if cluster else None,
        reasons=reasons or {},
    )


def _positions(rows: NDArray[np.int64], wanted: list[int]) -> list[int]:
    """Return where those of the wanted rows are that are there, in their order."""
    at = np.searchsorted(rows, wanted).clip(max=len(rows) - 1)
    return [int(i) for i, row in zip(at, wanted, strict=True) if rows[i] == row]


def strips(
    members: NDArray[np.int64], probability: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Share the members that are no medoids between the two strips; none is in both.

    Parameters
    ----------
    members : ndarray of int64, shape (n,)
        Most central first.
    probability : ndarray of float32, shape (n,)
        How sure the clustering is of each.

    Returns
    -------
    typical, doubtful : ndarray of int64
        The most central ones, and the least sure half, 12 of each at most.
    """
    least_sure = np.argsort(probability, kind="stable")[: min(N_STRIP, len(members) // 2)]
    return np.delete(members, least_sure)[:N_STRIP], members[least_sure]


def _settings(clustering: Clustering) -> dict[str, str]:
    config = clustering.config
    how = "counted" if "counted" in config else "given"
    if "parts" in config:
        how = f"merged from {len(config['parts'])}"
    naming, n_edits = config.get("naming"), config.get("n_edits")
    return {
        "method": config["method"],
        "number of clusters": f"{len(set(config['uids']))} ({how})",
        "features": config["features"],
        "seed": str(config["params"].get("random_state")),
        "clustering": f"{clustering.name} {clustering.version}",
        **({"edits by hand": str(n_edits)} if n_edits else {}),
    } | ({"names": f"from {naming['texts']}, by {naming['by']}"} if naming else {})


def thumbnailer(items: pa.Table, sources: list[Source]) -> Callable[[int, int], bytes | None]:
    """Return the function that makes thumbnails: long side `px`, nothing longer than 3:2.

    Parameters
    ----------
    items : pyarrow.Table
        With the columns key and source.
    sources : list of Source
        Where the images are.

    Returns
    -------
    callable
        ``thumbnail(index, px)``, as in `ReportData`; `index` is a row of `items`.
    """
    keys, indices = items["key"].to_pylist(), items["source"].to_pylist()

    def thumbnail(index: int, px: int) -> bytes | None:
        if isinstance(source := sources[indices[index]], TextFile | VectorFile):
            return None
        try:
            data = source.read(keys[index])
            image = decode(data, min_side=px).image
        except UnreadableImageError:
            return None
        scale = px / min(max(image.size), LONGEST * min(image.size))
        width, height = (min(round(side * scale), px) for side in image.size)
        out = io.BytesIO()
        ImageOps.fit(image, (width, height)).save(out, "JPEG", quality=80)
        return out.getvalue()

    return thumbnail


def texter(items: pa.Table, sources: list[Source]) -> Callable[[int], str | None]:
    """Return the function that says in words what has no picture.

    Parameters
    ----------
    items : pyarrow.Table
        With the columns key and source.
    sources : list of Source
        Where the items are.

    Returns
    -------
    callable
        ``text(index)``: the beginning of a text, the number of a vector, after its file's name if
        there are several; None for an image, and for a text that can no longer be read.
    """
    keys, indices = items["key"].to_pylist(), items["source"].to_pylist()
    several = len(set(indices)) > 1

    def text(index: int) -> str | None:
        source, key = sources[indices[index]], keys[index]
        if isinstance(source, VectorFile):
            return f"{source.name} {display_path(key)}" if several else display_path(key)
        if not isinstance(source, TextFile):
            return None
        try:
            return excerpt(source.text(key))
        except UnreadableImageError:
            return None

    return text
