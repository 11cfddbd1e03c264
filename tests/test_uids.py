"""Numbers of clusters kept by overlap."""

import numpy as np

from imageherd.clustering import Cluster, Clustering
from imageherd.uids import match_uids


def before(*sizes):
    uids = np.repeat(np.arange(1, len(sizes) + 1), sizes).astype(np.int32)
    clusters = [Cluster(i + 1, "", size, 1.0, []) for i, size in enumerate(sizes)]
    return Clustering(
        *("default", "v0001", np.arange(len(uids)), uids, np.ones(len(uids)), uids, clusters),
        config={"next_uid": len(sizes) + 1},
    )


def matched(old, *parts, warm):
    """Of new clusters given by how many images they have of each old one."""
    ends = np.cumsum([c.size for c in old.clusters])
    at = ends - [c.size for c in old.clusters]
    labels = np.empty(len(old.rows), dtype=np.int64)
    for column, counts in enumerate(parts):
        for uid, count in enumerate(counts):
            labels[at[uid] : at[uid] + count] = column
            at[uid] += count
    assert (at == ends).all()
    return match_uids(labels, old.rows, len(parts), old, warm=warm)


def test_half_of_the_mean_size_is_enough_after_a_warm_start():
    old = before(100, 100, 100)
    # 60 of 100 stay and 40 come: 60 / 140 shared, under a half but over a third.
    moved = ([60, 40, 0], [0, 60, 40], [40, 0, 60])
    assert matched(old, *moved, warm=True) == [1, 2, 3]
    assert matched(old, *moved, warm=False) == [4, 5, 6]
    # 45 of 100 stay: 45 / 155 is under a third.
    assert matched(old, [45, 30, 30], [55, 0, 70], [0, 70, 0], warm=True) == [4, 3, 2]


def test_of_two_halves_neither_is_the_old_one():
    assert matched(before(80, 10), [40, 0], [40, 0], [0, 10], warm=True) == [3, 4, 2]
    assert matched(before(80, 10), [41, 0], [39, 0], [0, 10], warm=True) == [1, 3, 2]


def test_two_that_become_one_leave_it_the_number_of_the_larger():
    assert matched(before(60, 40), [60, 40], warm=True) == [1]
    assert matched(before(50, 50), [50, 50], warm=True) == [3]


def test_what_would_do_without_a_warm_start_does_with_one():
    rng = np.random.default_rng(0)
    n_kept = 0
    for _ in range(200):
        old = before(*rng.integers(1, 30, size=4))
        shares = 0.7 * np.eye(4)[rng.permutation(4)] + 0.075
        counts = [rng.multinomial(c.size, p) for c, p in zip(old.clusters, shares, strict=True)]
        cold = matched(old, *np.transpose(counts), warm=False)
        warm = matched(old, *np.transpose(counts), warm=True)
        kept = [(c, w) for c, w in zip(cold, warm, strict=True) if c <= 4]
        assert all(c == w for c, w in kept)
        n_kept += len(kept)
    assert n_kept > 100
