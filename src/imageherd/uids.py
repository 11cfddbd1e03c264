"""Which clusters are those of the version before: the permanent numbers of a refit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from imageherd.clustering import Clustering


def match_uids(
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    n_clusters: int,
    previous: Clustering | None,
    *,
    warm: bool = False,
) -> list[int]:
    """Give each new cluster a uid: an old cluster's if they share most images, else a fresh one.

    Two clusters are the same if the shared images are more than half of those in either of them
    (Jaccard index over 1/2), which lets at most one old cluster match a new one. Images that only
    one of the clusterings has do not count. After a warm start, where a cluster goes on from an old
    one, less will do: each is the other's best match, and the shared images are more than half of
    the two clusters' mean size (Jaccard index over 1/3). What has been merged goes on as the
    clusters that were fitted.
    """
    if previous is None:
        return list(range(1, n_clusters + 1))
    merged = warm and previous.parts is not None
    before = previous.parts if merged else previous.uids
    assert before is not None
    _, new_at, old_at = np.intersect1d(rows, previous.rows, return_indices=True)
    old_uids = np.unique(before[before >= 0]).astype(np.int64)
    placed = before[old_at] >= 0
    overlap = np.zeros((n_clusters, len(old_uids)))
    columns = np.searchsorted(old_uids, before[old_at][placed])
    np.add.at(overlap, (labels[new_at][placed], columns), 1)
    union = overlap.sum(1, keepdims=True) + overlap.sum(0, keepdims=True) - overlap
    jaccard = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    same = jaccard > 0.5
    if warm and jaccard.size:
        best = jaccard == jaccard.max(1, keepdims=True)
        best &= jaccard == jaccard.max(0, keepdims=True)
        # Of equal matches none is the best.
        best &= (best.sum(1, keepdims=True) == 1) & (best.sum(0, keepdims=True) == 1)
        same = best & (jaccard > 1 / 3)
    kept = {int(i): int(old_uids[j]) for i, j in np.argwhere(same)}
    fresh = previous.config["next_uid"]
    uids = []
    for c in range(n_clusters):
        if c in kept:
            uids.append(kept[c])
        else:
            uids.append(fresh)
            fresh += 1
    return uids
