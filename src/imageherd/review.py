"""Which images are most worth a person's look, and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imageherd.clustering import NOWHERE, Clustering
from imageherd.errors import ImageherdError

# What is rare need not be wrong: the farthest image counts less than one among strangers.
FAR_SHARE, FAR_WEIGHT = 0.02, 0.75


@dataclass(frozen=True)
class Doubt:
    """An image worth a look.

    Attributes
    ----------
    position : int
        Where in the clustering's arrays.
    score : float
        Greater is more doubtful; from 0 to 1.
    reason : str
        What speaks against its place, in words.
    """

    position: int
    score: float
    reason: str


def most_doubtful(
    clustering: Clustering, n: int, among: NDArray[np.bool_] | None = None
) -> list[Doubt]:
    """Return the `n` images most worth a look, the most doubtful first.

    The score is the greatest of four, and the reason is the one that gave it:

    - 1 for a near-copy that is in another cluster than the image fitted for it;
    - 1 - agreement, where most neighbours are in another cluster;
    - from 0 (as sure as the median, or surer) to 1 (the least sure of all) by its probability p,
      but no more than 2 (1 - p);
    - up to 0.75 for the fiftieth that lies farthest out, and for what fits nowhere.

    Equal ones go by the sum of the four, then by row. So that the list is not all of one kind, no
    cluster gives more than twice its even share while others have doubtful images left; and of
    near-copies in one cluster one is enough. What a person has placed is not in it.

    Parameters
    ----------
    clustering : Clustering
        With its `quality`.
    n : int
        How many, at least 1; fewer if fewer have any doubt.
    among : ndarray of bool, shape (n_images,), optional
        Which images may be in it.

    Raises
    ------
    ImageherdError
        If the clustering was made before quality was kept.
    """
    if clustering.quality is None:
        raise ImageherdError(
            f"Clustering {clustering.name!r} does not say how well each image sits in its place; "
            "make it anew with `imageherd cluster`."
        )
    doubts = doubts_of(clustering)
    score = doubts.max(0)
    allowed = (score > 0) & ~_repeats(clustering)
    if clustering.by_hand is not None:
        allowed &= ~clustering.by_hand
    if among is not None:
        allowed &= among
    order = np.lexsort((-doubts.sum(0), -score.round(6)))
    return [
        Doubt(int(i), float(score[i]), reason(clustering, int(i), int(doubts[:, i].argmax())))
        for i in _spread(order[allowed[order]], clustering.uids, n)
    ]


def doubts_of(clustering: Clustering) -> NDArray[np.float64]:
    """Return what speaks against the place of each image, 0 to 1, as told in `most_doubtful`.

    Parameters
    ----------
    clustering : Clustering
        With its `quality`.

    Returns
    -------
    ndarray of shape (4, n)
        Apart from its copy, among strangers, unsure, far out.
    """
    quality, uids = clustering.quality, clustering.uids
    assert quality is not None
    here = uids != NOWHERE
    at, known = _position_of_copied(clustering)
    apart = known & (uids != uids[at])
    strangers = np.where(quality.around != uids, 1 - quality.agreement.astype(np.float64), 0.0)
    p = clustering.probability.astype(np.float64)
    median = np.median(p[here]) if here.any() else 0.0
    least = p[here].min() if here.any() else 0.0
    unsure = np.clip((median - p) / (median - least), 0, 1) if median > least else np.zeros(len(p))
    outlier = np.nan_to_num(quality.outlier.astype(np.float64), nan=0.0)
    unsure = np.minimum(unsure, 2 * (1 - p))
    far = FAR_WEIGHT * np.clip(1 - (1 - outlier) / FAR_SHARE, 0, 1)
    far[~here] = FAR_WEIGHT
    # Between two clusters that a person has merged there is nothing to choose.
    unsure *= here & (clustering.second != uids)
    return np.stack([apart * 1.0, strangers * here, unsure, far])


def _position_of_copied(
    clustering: Clustering,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return where the image fitted for each is, and whether there is one."""
    assert clustering.quality is not None
    of, rows = clustering.quality.duplicate_of, clustering.rows
    at = np.searchsorted(rows, of).clip(max=len(rows) - 1)
    return at, (of >= 0) & (rows[at] == of)


def _repeats(clustering: Clustering) -> NDArray[np.bool_]:
    at, known = _position_of_copied(clustering)
    return np.asarray(known & (clustering.uids == clustering.uids[at]))


def _spread(order: NDArray[np.int64], uids: NDArray[np.int32], n: int) -> list[int]:
    n_clusters = len(np.unique(uids[order]))
    most = -(-2 * n // max(n_clusters, 1))
    taken: dict[int, int] = {}
    first: list[int] = []
    rest: list[int] = []
    for i, uid in zip(order.tolist(), uids[order].tolist(), strict=True):
        taken[uid] = taken.get(uid, 0) + 1
        (first if taken[uid] <= most else rest).append(i)
    chosen = {*first[:n], *rest[: max(0, n - len(first))]}
    return [i for i in order.tolist() if i in chosen]


def reason(clustering: Clustering, i: int, kind: int) -> str:
    """Say in words what speaks against the place of the image at position `i`.

    `kind` is which of the four that `doubts_of` returns.
    """

    def name(uid: int) -> str:
        text = names.get(uid, f"cluster {uid}")
        return text if list(names.values()).count(text) < 2 else f"{text} ({uid})"

    names = clustering.names()
    own = int(clustering.uids[i])
    if kind == 0:
        at, _ = _position_of_copied(clustering)
        other = int(clustering.uids[at[i]])
        return f"a near-copy of it {'is in ' + name(other) if other >= 0 else 'fits nowhere'}"
    if kind == 1:
        assert clustering.quality is not None
        other = int(clustering.quality.around[i])
        return f"its neighbors {'are in ' + name(other) if other >= 0 else 'fit nowhere'}"
    if kind == 2:
        return f"between {name(own)} and {name(int(clustering.second[i]))}"
    return "far from everything"
