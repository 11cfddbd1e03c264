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

from imageherd.clustering import NOWHERE, Clustering, by_centrality
from imageherd.features.items import UNREADABLE
from imageherd.images.decode import UnreadableImageError, decode
from imageherd.images.folder import FolderSource
from imageherd.report.data import ReportCluster, ReportData

N_MEDOIDS = 4
N_STRIP = 12
LONGEST = 1.5


def gather(
    clustering: Clustering,
    rows: NDArray[np.int64],
    X: NDArray[np.float32],
    xy: NDArray[np.float32],
    items: pa.Table,
    sources: list[FolderSource],
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
    sources : list of FolderSource
        Where the images are.
    """
    _, at, here = np.intersect1d(rows, clustering.rows, return_indices=True)
    X = X[at]
    uids, probability = clustering.uids[here], clustering.probability[here]
    shown = items.take(pa.array(rows[at]))
    unreadable = items.filter(pc.equal(items["status"], UNREADABLE))
    names = {c.uid: c for c in clustering.clusters}
    clusters = []
    uid_list = [c.uid for c in clustering.clusters] + [NOWHERE] * bool((uids == NOWHERE).any())
    labels = np.searchsorted(np.sort(uid_list), uids)
    centrality = by_centrality(X, labels, len(uid_list))
    for uid, members in zip(sorted(uid_list), centrality, strict=True):
        if len(members) == 0:
            continue
        cluster = names.get(uid)
        medoids, rest = members[:N_MEDOIDS], members[N_MEDOIDS:]
        typical, doubtful = strips(rest, probability[rest])
        if cluster is None:
            # Of what fits nowhere none is more doubtful than the others.
            typical, doubtful = rest[:N_STRIP], rest[:0]
        clusters.append(
            ReportCluster(
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
            )
        )
    clusters.sort(key=lambda c: (-c.size, c.uid))
    n_clusters = sum(c.uid != NOWHERE for c in clusters)
    return ReportData(
        title=", ".join(sources[i].root.name for i in pc.unique(shown["source"]).to_pylist()),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        settings=_settings(clustering),
        counts={
            "images": len(uids),
            "cluster" if n_clusters == 1 else "clusters": n_clusters,
            "unreadable": len(unreadable),
            "fits nowhere": int((uids == NOWHERE).sum()),
        },
        clusters=clusters,
        paths=shown["path"].to_pylist(),
        unreadable=list(
            zip(unreadable["path"].to_pylist(), unreadable["reason"].to_pylist(), strict=True)
        ),
        labels=uids,
        probability=probability,
        xy=xy[at],
        thumbnail=_thumbnailer(shown, sources),
    )


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
    return {
        "method": config["method"],
        "number of clusters": f"{len(set(config['uids']))} ({how})",
        "features": config["features"],
        "seed": str(config["params"].get("random_state")),
        "clustering": f"{clustering.name} {clustering.version}",
    }


def _thumbnailer(
    items: pa.Table, sources: list[FolderSource]
) -> Callable[[int, int], bytes | None]:
    """Return the function that makes thumbnails: long side `px`, nothing longer than 3:2."""
    keys, indices = items["key"].to_pylist(), items["source"].to_pylist()

    def thumbnail(index: int, px: int) -> bytes | None:
        try:
            data = sources[indices[index]].read(keys[index])
            image = decode(data, min_side=px).image
        except UnreadableImageError:
            return None
        scale = px / min(max(image.size), LONGEST * min(image.size))
        width, height = (min(round(side * scale), px) for side in image.size)
        out = io.BytesIO()
        ImageOps.fit(image, (width, height)).save(out, "JPEG", quality=80)
        return out.getvalue()

    return thumbnail
