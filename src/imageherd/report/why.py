"""What the report says of how a clustering came about: why so many, why so, what is doubtful."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imageherd.clustering import NOWHERE, Clustering
from imageherd.counting_rules import RULES, standing
from imageherd.report.data import Curve
from imageherd.review import most_doubtful


def curve_of(counted: dict[str, Any] | None) -> Curve | None:
    """Return the curve that chose the number of clusters; None where it was given.

    Parameters
    ----------
    counted : dict or None
        What `imageherd.counting.Count.as_dict` returned; the first versions kept less.
    """
    if not counted or "n_clusters" not in counted:
        return None
    pairs = zip(counted.get("ks", []), counted.get("scores", []), strict=False)
    known = [(int(k), float(score)) for k, score in pairs if math.isfinite(score)]
    return Curve(
        chosen=int(counted["n_clusters"]),
        ks=[k for k, _ in known],
        scores=[score for _, score in known],
        runners_up=[int(k) for k, _ in counted.get("runners_up", [])],
        rule=counted.get("rule"),
    )


def sentences(config: dict[str, Any], n_copies: int, n_near: int, noun: str = "image") -> list[str]:
    """Say in a sentence each why so many clusters, why this method, and what repeats.

    Parameters
    ----------
    config : dict
        Of the clustering. What it does not tell is passed over in silence.
    n_copies, n_near : int
        Images that are copies and near-copies of others.
    noun : str, default="image"
        What an image is called, where it is none.
    """
    said = []
    curve = curve_of(config.get("counted"))
    if curve is not None:
        said.append(_why_so_many(curve))
        if "parts" in config:
            said.append(f"Clusters were merged since: {len(set(config['uids']))} are left.")
    reason = config.get("chosen", {}).get("reason")
    if reason:
        said.append(f"{reason}.")
    if n_copies or n_near:
        found = [
            f"{n:,} {one if n == 1 else many}"
            for n, one, many in ((n_copies, "copy", "copies"), (n_near, "near-copy", "near-copies"))
            if n
        ]
        are = "is" if n_copies + n_near == 1 else "are"
        said.append(
            f"There {are} {' and '.join(found)} of other {noun}s: one of each was fitted, all "
            "are in the clusters, marked."
        )
    return said


def _why_so_many(curve: Curve) -> str:
    score = dict(zip(curve.ks, curve.scores, strict=True))
    rule = curve.rule
    if rule not in RULES or curve.chosen not in score or len(score) < 2:
        return f"{curve.chosen} clusters were counted, not given."
    own, others = score[curve.chosen], [k for k in curve.runners_up if k in score]
    how = standing(rule, own)
    said = f"{curve.chosen} clusters, counted by the rule {rule}"
    if not others:
        return f"{said}: its score there is {_number(own)}, {how}."
    # As many digits as tell the two apart.
    other = score[others[0]]
    digits = next((d for d in (2, 3, 4) if round(own, d) != round(other, d)), 4)
    return (
        f"{said}: its score there is {_number(own, digits)}, {how}; {others[0]} comes next with "
        f"{_number(other, digits)}."
    )


def _number(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def joins(clustering: Clustering, shown: set[int]) -> list[tuple[int, int]]:
    """Return which clusters become one, step by step, until one is left.

    Parameters
    ----------
    clustering : Clustering
        With the dendrogram that `imageherd.merging` keeps among its settings.
    shown : set of int
        Uids of the clusters that have images still.

    Returns
    -------
    list of (int, int)
        A uid out of each of the two groups that the step joins, one step fewer than `shown`; empty
        where no dendrogram of these clusters is kept.
    """
    parts = clustering.uids if clustering.parts is None else clustering.parts
    fitted, first = np.unique(parts, return_index=True)
    # What was merged since is one already.
    now = dict(zip(fitted.tolist(), clustering.uids[first].tolist(), strict=True))
    tree = clustering.config.get("dendrogram")
    if not tree or not set(tree["uids"]) >= {u for u in now if u != NOWHERE}:
        return []
    groups = [uid if (uid := now.get(place)) in shown else None for place in tree["uids"]]
    becomes: dict[int, int] = {}
    steps = []
    for children in tree["children"]:
        left, right = (_leader(groups[child], becomes) for child in children)
        if left is not None and right is not None and left != right:
            steps.append((left, right))
            becomes[right] = left
        groups.append(right if left is None else left)
    return steps if len(steps) == len(shown) - 1 else []


def _leader(uid: int | None, becomes: dict[int, int]) -> int | None:
    while uid in becomes:
        uid = becomes[uid]
    return uid


def copies(
    clustering: Clustering, rows: NDArray[np.int64], X: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return which image each one repeats, and whether to the last bit of its features.

    Parameters
    ----------
    clustering : Clustering
        With or without its `quality`.
    rows, X : ndarray, shapes (n,) and (n, d)
        Rows and features of the images shown, all of the clustering.

    Returns
    -------
    of : ndarray of int64, shape (n,)
        Position among `rows` of the image that stands for it; -1 if none does, or it is gone.
    same : ndarray of bool, shape (n,)
        Whether the two have equal features: a copy, not a near-copy.
    """
    of, same = np.full(len(rows), -1), np.zeros(len(rows), dtype=bool)
    if clustering.quality is None or not len(rows):
        return of, same
    original = clustering.quality.duplicate_of[np.searchsorted(clustering.rows, rows)]
    at = np.searchsorted(rows, original).clip(max=len(rows) - 1)
    found = (original >= 0) & (rows[at] == original)
    of[found] = at[found]
    same[found] = (X[found] == X[at[found]]).all(1)
    return of, same


def doubts(
    clustering: Clustering, shown: NDArray[np.bool_], each: int
) -> dict[int, list[tuple[int, str]]]:
    """Return the most doubtful images of each cluster, and why they are.

    Parameters
    ----------
    clustering : Clustering
        With its `quality`; nothing is returned for one without.
    shown : ndarray of bool, shape (n,)
        Which of its images may be named.
    each : int
        How many of a cluster at most.

    Returns
    -------
    dict of int to list of (int, str)
        By uid, the most doubtful first: position in the clustering's arrays, and the reason.
    """
    found: dict[int, list[tuple[int, str]]] = {c.uid: [] for c in clustering.clusters}
    left = shown & (clustering.uids != NOWHERE)
    # A list of them all gives each cluster its share only on the whole: those that came off badly
    # are asked again.
    while clustering.quality is not None and left.any():
        wanted = each * len(np.unique(clustering.uids[left]))
        batch = most_doubtful(clustering, wanted, left)
        for doubt in batch:
            left[doubt.position] = False
            mine = found[int(clustering.uids[doubt.position])]
            if len(mine) < each:
                mine.append((doubt.position, doubt.reason))
        if len(batch) < wanted:
            break
        full = [uid for uid, mine in found.items() if len(mine) == each]
        left &= ~np.isin(clustering.uids, full)
    return found
