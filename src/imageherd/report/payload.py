"""The report's contents as one JSON object, within the byte budget.

Images are numbered anew: those whose path is listed come first to last, cluster by cluster, so a
cluster's members are a range of numbers and no path or picture appears twice.
"""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import replace
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imageherd.report.data import Curve, ReportCluster, ReportData
from imageherd.report.palette import palette
from imageherd.report.thumbnails import (
    KEY_BYTES,
    MAX_FURTHER,
    MAX_FURTHER_EACH,
    PLANS,
    Thumbnail,
    choose_plan,
    embed,
    in_order_of_worth,
    spread,
)

NOWHERE = -1
MAX_PATH_BYTES = 7_000_000
MAX_PATH_LENGTH = 500
MAX_UNREADABLE_BYTES = 1_000_000
MAX_MAP_POINTS = 200_000
MAX_COPIES = 100_000
NO_NUMBER = 0xFFFFFFFF
CARD = ("medoids", "typical", "doubtful", "evidence")


def to_json(value: Any) -> bytes:
    r"""Encode as JSON that can stand inside a script element whatever it holds.

    "<", ">" and "&" are escaped, so no text can close the element or open a comment. Half of a
    surrogate pair, which no well-formed text holds and browsers have crashed on, is written out
    as "\udcff".
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return re.sub("[\ud800-\udfff]", lambda half: rf"\\u{ord(half[0]):04x}", text).encode()


def build(data: ReportData, max_bytes: int) -> bytes:
    """Build the JSON of a report.

    Parameters
    ----------
    data : ReportData
        What to show.
    max_bytes : int
        What the JSON may take; pictures get what paths, map and tables leave.
    """
    clusters = _clusters(data)
    members = [_members(cluster, data.probability) for cluster in clusters]
    wanted = [_pictures(c, own, len(clusters)) for c, own in zip(clusters, members, strict=True)]
    listed = _listed(wanted, members, data.paths)
    wanted = [pictures.among(images) for pictures, images in zip(wanted, listed, strict=True)]
    order = [image for images in listed for image in images]
    number = np.full(len(data.paths), NO_NUMBER, np.uint32)
    number[order] = np.arange(len(order))
    starts = np.cumsum([0, *map(len, listed)])
    contents: dict[str, Any] = {
        "title": data.title,
        "created": data.created,
        "settings": list(data.settings.items()),
        "counts": list(data.counts.items()),
        "palette": palette(len(clusters)),
        "paths": [_clipped(data.paths[image]) for image in order],
        "map": _map(data, clusters, number),
        "why": {"said": data.why, "curve": _curve(data.curve)},
        "joins": _joins(data, clusters),
        "copies": _copies(data, number),
        "noun": [data.noun, f"{data.noun}s"],
        "unreadable": _unreadable(data.unreadable),
        "n_unreadable": len(data.unreadable),
        "clusters": [
            {
                **_facts(cluster),
                **pictures.numbered(number),
                "reasons": [_clipped(cluster.reasons.get(i, "")) for i in pictures.doubtful],
                "start": int(starts[i]),
                "listed": len(listed[i]),
                "more": len(members[i]) - len(listed[i]),
            }
            for i, (cluster, pictures) in enumerate(zip(clusters, wanted, strict=True))
        ],
    }
    budget = max_bytes - len(to_json({**contents, "thumbnails": {}, "texts": {}}))
    thumbnails = _thumbnails(wanted, data.thumbnail, budget)
    contents["thumbnails"] = {int(number[i]): text for i, text in thumbnails.items() if text}
    left = budget - sum(len(text) + KEY_BYTES for text in thumbnails.values() if text)
    contents["texts"] = _texts(
        [i for i, text in thumbnails.items() if not text], data, number, left
    )
    tried = {int(number[i]) for i in thumbnails}
    for shown in contents["clusters"]:
        pairs = zip(shown["doubtful"], shown["reasons"], strict=True)
        shown["reasons"] = [reason for i, reason in pairs if i in tried]
        for kind in CARD:
            shown[kind] = [i for i in shown[kind] if i in tried]
    return to_json(contents)


class Pictures(NamedTuple):
    """The images of one cluster that may be shown as pictures, most wanted first in each list."""

    medoids: list[int]
    typical: list[int]
    doubtful: list[int]
    evidence: list[int]
    further: list[int]

    def among(self, images: list[int]) -> Pictures:
        """Return those that are among `images`."""
        known = set(images)
        return Pictures(*([i for i in kind if i in known] for kind in self))

    def numbered(self, number: NDArray[np.uint32]) -> dict[str, list[int]]:
        """Return what is shown of a cluster beside its members, by the report's numbers."""
        return {kind: number[getattr(self, kind)].tolist() for kind in CARD}


def _clusters(data: ReportData) -> list[ReportCluster]:
    """Return the clusters, with what fits nowhere as one more at the end."""
    clusters = [c for c in data.clusters if c.uid != NOWHERE]
    nowhere = np.flatnonzero(data.labels == NOWHERE).tolist()
    if nowhere:
        given = next((c for c in data.clusters if c.uid == NOWHERE), None)
        lost = ReportCluster(
            NOWHERE, "", None, None, len(nowhere), math.nan, nowhere[:3], nowhere[3:9], [], nowhere
        )
        clusters.append(replace(given or lost, name="Fits nowhere"))
    return clusters


def _members(cluster: ReportCluster, probability: NDArray[np.floating]) -> list[int]:
    """Return the members, surest first."""
    members = np.array(cluster.members, dtype=np.int64)
    surest = np.argsort(-np.nan_to_num(probability[members]), kind="stable")
    ordered: list[int] = members[surest].tolist()
    return ordered


def _pictures(cluster: ReportCluster, members: list[int], n_clusters: int) -> Pictures:
    each = min(MAX_FURTHER_EACH, max(MAX_FURTHER // n_clusters, 2))
    most = PLANS[0]
    return Pictures(
        (cluster.medoids or members)[: most.medoids],
        cluster.typical[: most.strip],
        cluster.doubtful[: most.strip],
        cluster.evidence[: most.strip],
        spread(members, each),
    )


def _listed(
    pictures: list[Pictures], members: list[list[int]], paths: list[str]
) -> list[list[int]]:
    """Return the members whose paths are listed: pictures first, the same number per cluster."""
    wanted = []
    for shown, own in zip(pictures, members, strict=True):
        first = [image for images in shown.among(own) for image in images]
        wanted.append(list(dict.fromkeys(first + own)))
    flat = [image for images in wanted for image in images]
    cost = np.array([len(to_json(_clipped(paths[i]))) + 1 for i in flat], dtype=np.int64)
    rank = np.concatenate([np.arange(len(images)) for images in wanted] or [np.arange(0)])
    low, high = 0, int(rank.max(initial=0)) + 1
    while low < high:
        middle = (low + high + 1) // 2
        if cost[rank < middle].sum() <= MAX_PATH_BYTES:
            low = middle
        else:
            high = middle - 1
    kept = [set(images[:low]) for images in wanted]
    # Back in order of confidence, which is how the member view reads.
    return [
        [image for image in own if image in keep] for own, keep in zip(members, kept, strict=True)
    ]


def _clipped(path: str) -> str:
    if len(path) <= MAX_PATH_LENGTH:
        return path
    half = MAX_PATH_LENGTH // 2
    return f"{path[:half]}…{path[-half:]}"


def _thumbnails(wanted: list[Pictures], thumbnail: Thumbnail, budget: int) -> dict[int, str | None]:
    flat = [image for pictures in wanted for images in pictures for image in images]
    plan = choose_plan(flat, len(wanted), thumbnail, budget)
    strips = [
        _taking_turns(pictures.typical[: plan.strip], pictures.doubtful[: plan.strip])
        for pictures in wanted
    ]
    medoids = [pictures.medoids[: plan.medoids] for pictures in wanted]
    further = [pictures.evidence[: plan.strip] + pictures.further for pictures in wanted]
    requests = in_order_of_worth(medoids, strips, further, plan)
    return embed(requests, thumbnail, budget)


def _texts(
    images: list[int], data: ReportData, number: NDArray[np.uint32], budget: int
) -> dict[int, str]:
    """Return what is said of the images that have no picture, as far as the budget goes."""
    found = {}
    for image in images:
        text = data.text(image) if data.text else None
        if text is None:
            continue
        budget -= len(to_json(text)) + KEY_BYTES
        if budget < 0:
            break
        found[int(number[image])] = text
    return found


def _taking_turns(first: list[int], second: list[int]) -> list[int]:
    pairs = zip_longest(first, second)
    return [image for pair in pairs for image in pair if image is not None]


def _facts(cluster: ReportCluster) -> dict[str, Any]:
    return {
        "uid": cluster.uid,
        "name": (cluster.name or "").strip(),
        "runner_up": cluster.runner_up,
        "share": _finite(cluster.share),
        "winner": cluster.winner,
        "runner_up_share": _finite(cluster.runner_up_share),
        "lift": _finite(cluster.lift),
        "voters": cluster.voters,
        "size": cluster.size,
        "confidence": _finite(cluster.confidence),
    }


def _finite(value: float | None) -> float | None:
    return round(float(value), 4) if value is not None and math.isfinite(value) else None


def _curve(curve: Curve | None) -> dict[str, Any] | None:
    if curve is None or len(curve.ks) < 2:
        return None
    return {**vars(curve), "scores": [float(f"{score:.4g}") for score in curve.scores]}


def _joins(data: ReportData, clusters: list[ReportCluster]) -> list[tuple[int, int]]:
    """Return the joins by the clusters' places in the report."""
    place = {cluster.uid: i for i, cluster in enumerate(clusters)}
    return [(place[left], place[right]) for left, right in data.joins]


def _copies(data: ReportData, number: NDArray[np.uint32]) -> list[tuple[int, int, int]]:
    """Return the repeated images that are listed: their number, the original's, 1 if the same."""
    if data.copy_of is None or data.same is None:
        return []
    copies = np.flatnonzero(data.copy_of >= 0)
    own, of = number[copies], number[data.copy_of[copies]]
    listed = (own != NO_NUMBER) & (of != NO_NUMBER)
    found = np.stack([own, of, data.same[copies]], axis=1)[listed]
    rows: list[tuple[int, int, int]] = found[np.argsort(found[:, 0])][:MAX_COPIES].tolist()
    return rows


def _unreadable(files: list[tuple[str, str]]) -> list[tuple[str, str]]:
    kept, left = [], MAX_UNREADABLE_BYTES
    for path, reason in files:
        row = (_clipped(path), _clipped(reason))
        left -= len(to_json(row))
        if left < 0:
            break
        kept.append(row)
    return kept


def _map(
    data: ReportData, clusters: list[ReportCluster], number: NDArray[np.uint32]
) -> dict[str, Any] | None:
    """Encode the map: base64 of little-endian arrays, positions as 16-bit steps."""
    if data.xy is None:
        return None
    uids = np.array([c.uid for c in clusters], dtype=np.int64)
    drawn = np.flatnonzero(np.isin(data.labels, uids))
    n = len(drawn)
    if n == 0:
        return None
    if n > MAX_MAP_POINTS:
        drawn = np.sort(np.random.default_rng(0).choice(drawn, MAX_MAP_POINTS, replace=False))
    xy = np.asarray(data.xy, dtype=np.float64)[drawn]
    low = xy.min(axis=0)
    extent = float((xy.max(axis=0) - low).max()) or 1.0
    steps = np.round((xy - low) / extent * 65_535)
    sorting = np.argsort(uids)
    cluster = sorting[np.searchsorted(uids[sorting], data.labels[drawn])]
    return {
        "x": _packed(steps[:, 0], "<u2"),
        "y": _packed(steps[:, 1], "<u2"),
        "cluster": _packed(cluster, "<u4"),
        "image": _packed(number[drawn], "<u4"),
        "drawn": len(drawn),
        "total": n,
    }


def _packed(values: NDArray[Any], dtype: str) -> str:
    return base64.b64encode(np.asarray(values).astype(dtype).tobytes()).decode()
