"""Copies, near-copies and bursts, against planted ones and a slow search of all pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imageherd import duplicates
from imageherd.duplicates import find_duplicates, graph_among, seconds_of
from imageherd.neighbors import knn_graph


def blobs(n, d=24, seed=0, n_blobs=4):
    rng = np.random.default_rng(seed)
    centers = 3 * rng.normal(size=(n_blobs, d))
    return (centers[np.arange(n) % n_blobs] + rng.normal(size=(n, d))).astype(np.float32)


def with_near_copies(X, of, noise, seed=1):
    rng = np.random.default_rng(seed)
    return np.concatenate([X, X[of] + noise * rng.normal(size=X[of].shape)]).astype(np.float32)


def unit(X):
    X = X.astype(np.float64)
    return X / np.linalg.norm(X, axis=1, keepdims=True)


@pytest.mark.parametrize("d", [3, 24, 300])
def test_what_chance_brings_together_is_no_copy(d):
    for seed in range(4):
        X = blobs(300, d, seed)
        assert (find_duplicates(X, knn_graph(X)) < 0).all()


def test_planted_near_copies_are_found_and_nothing_else():
    of = np.arange(0, 400, 20)
    X = with_near_copies(blobs(400), of, 0.05)
    found = find_duplicates(X, knn_graph(X))
    assert found[:400].tolist() == [-1] * 400
    assert found[400:].tolist() == of.tolist()


def test_equal_rows_are_copies_of_the_first_however_many():
    X = blobs(200)
    X[[5, 9, *range(60, 150)]] = X[2]
    for graph in (None, knn_graph(X)):
        found = find_duplicates(X, graph)
        assert np.flatnonzero(found >= 0).tolist() == [5, 9, *range(60, 150)]
        assert set(found[found >= 0]) == {2}
    assert (find_duplicates(np.ones((12, 3), dtype=np.float32), None)[1:] == 0).all()


def test_near_copies_by_the_dozen_beside_as_many_equal_rows_are_one_group():
    rng = np.random.default_rng(2)
    X = blobs(400)
    # Of few degrees of freedom, as what one picture becomes by saving it again.
    few = rng.normal(size=(2, X.shape[1]))
    family = X[0] + 0.1 * rng.normal(size=(60, 2)) @ few
    X = np.concatenate([X, family, np.repeat(X[:1], 30, axis=0)]).astype(np.float32)
    found = find_duplicates(X, knn_graph(X))
    members = [0, *range(400, 490)]
    assert (found[members] < 0).sum() <= 5
    assert (found[1:400] < 0).all()


def test_a_cluster_in_which_no_two_are_much_nearer_stays():
    rng = np.random.default_rng(2)
    X = blobs(400)
    X = np.concatenate([X, X[0] + 0.3 * rng.normal(size=(60, X.shape[1]))]).astype(np.float32)
    assert (find_duplicates(X, knn_graph(X)) < 0).all()


def test_a_near_copy_of_a_copy_stands_behind_the_first_of_them():
    X = with_near_copies(blobs(200), np.array([7]), 0.02)
    X[150] = X[7]
    found = find_duplicates(X, knn_graph(X))
    assert np.flatnonzero(found >= 0).tolist() == [150, 200]
    assert found[[150, 200]].tolist() == [7, 7]


def slowly(X, times):
    """Follow the docstring over all pairs, in plain Python where it can be."""
    n = len(X)
    U = unit(X)
    S = U @ U.T
    D = np.sqrt(np.maximum(2 - 2 * S, 0))
    k = min(40, max(10, n // 20))
    together = np.abs(times[:, None] - times) <= 3
    kth = [[np.sort(np.delete(D[i], i))[j - 1] for i in range(n)] for j in (k // 2, k)]
    m = np.log(k / (k // 2)) / np.log(np.median(np.divide(kth[1], kth[0])))
    t = min((0.01 / (n * (k - 1))) ** (1 / m), 0.6)
    pairs = max(sum(together[i, j] for i in range(n) for j in range(i)), 1)
    burst = max(t, min((0.01 * n / (pairs * k)) ** (1 / m), 0.7))
    reach = np.where(together, burst, t)
    scale = np.minimum(kth[1], np.median(kth[1]))
    stands, links = stars(n, D, S, reach, scale)
    while True:
        left = [i for i in range(n) if stands[i] < 0]
        scale = [max(scale[i], scale[stands[i]] if stands[i] >= 0 else 0) for i in range(n)]
        for i in left:
            farther = np.sort([D[i, j] for j in left if j != i])[k - 1]
            scale[i] = max(scale[i], min(farther, np.median(kth[1])))
        before = stands
        stands, links = stars(n, D, S, reach, scale)
        if (stands == before).all():
            return stands, links


def stars(n, D, S, reach, scale):
    links = {i: set() for i in range(n)}
    for i in range(n):
        for j in range(n):
            if j != i and D[i, j] <= reach[i, j] * min(scale[i], scale[j]):
                links[i].add(j)
    stands = np.full(n, -1)
    free = set(range(n))
    for i in sorted(
        links, key=lambda i: (-len(links[i]), -round(sum(S[i, j] for j in links[i]), 6), i)
    ):
        if i in free:
            members = links[i] & free - {i}
            stands[list(members)] = i
            free -= members | {i}
    return stands, links


@pytest.mark.parametrize("seed", range(3))
def test_against_all_pairs(seed):
    rng = np.random.default_rng(seed)
    of = rng.choice(150, 30)
    X = with_near_copies(blobs(150, 12, seed), of, 0.25, seed)
    times = np.where(rng.random(180) < 0.5, rng.integers(0, 400, 180) * 1.0, np.nan)
    times[150:165] = times[of[:15]] + rng.integers(0, 5, 15)
    expected, links = slowly(X, times)
    found = find_duplicates(X, knn_graph(X, 50), times)
    assert found.tolist() == expected.tolist()
    assert 5 < (found >= 0).sum() < 30
    assert all(found[i] in links[i] for i in np.flatnonzero(found >= 0))


def test_a_chain_of_small_steps_is_not_one_group():
    X = blobs(400)
    step = unit(X[1:2])[0] * 0.35
    chain = X[0] + np.arange(1, 21)[:, None] * step
    X = np.concatenate([X, chain]).astype(np.float32)
    found = find_duplicates(X, knn_graph(X))
    members = [0, *range(400, 420)]
    leaders = [i for i in members if found[i] < 0]
    assert (found[members] >= 0).sum() >= 5
    assert len(leaders) >= 3
    assert all(abs(i - found[i]) <= 5 for i in range(401, 420) if found[i] >= 400)


def test_a_burst_may_differ_more_but_not_if_the_clock_stood_still():
    of = np.arange(0, 400, 40)
    X = with_near_copies(blobs(400), of, 0.65)
    graph = knn_graph(X)
    assert (find_duplicates(X, graph) < 0).all()
    times = 100.0 * np.arange(410)
    times[400:] = times[of] + 3
    found = find_duplicates(X, graph, times)
    assert (found[400:] == of).sum() >= 8
    assert (found[:400] < 0).all()
    times[400:] = times[of] + 4
    assert (find_duplicates(X, graph, times) < 0).all()
    assert (find_duplicates(X, graph, np.zeros(410)) < 0).all()


def test_too_few_images_to_know_what_is_near():
    X = with_near_copies(blobs(8), np.array([0]), 0.01)
    assert (find_duplicates(X, knn_graph(X, 8)) < 0).all()


def test_the_order_of_the_images_makes_no_other_groups():
    X = with_near_copies(blobs(300), np.array([0, 0, 0, 20, 40, 40]), 0.1)
    order = np.random.default_rng(5).permutation(len(X))

    def groups(X, names):
        found = find_duplicates(X, knn_graph(X))
        stands = np.where(found < 0, np.arange(len(X)), found)
        return {frozenset(names[stands == s].tolist()) for s in np.unique(stands)}

    assert groups(X, np.arange(len(X))) == groups(X[order], order)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=40))
def test_all_of_a_star_are_linked_to_its_centre_and_no_two_centres_are(pairs):
    pairs = [(a, b) for a, b in pairs if a != b]
    a, b = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    links = {frozenset(p) for p in pairs}
    stands = duplicates._stars(12, a, b, np.ones(len(a)))
    for i, s in enumerate(stands.tolist()):
        assert s == i or frozenset((i, s)) in links
        assert stands[s] == s
    centres = set(stands.tolist())
    assert not any(link <= centres for link in links)


def test_the_graph_among_some_is_what_a_search_would_find():
    X = with_near_copies(blobs(300), np.arange(0, 300, 3), 0.02)
    X[30:45] = X[29]
    graph = knn_graph(X, 30)
    for kept in (np.arange(300), np.flatnonzero(np.arange(len(X)) % 7), np.arange(0, 400, 25)):
        for k in (5, 14, len(kept) - 1):
            expected = knn_graph(X[kept], k)
            found = graph_among(graph, X, kept, k)
            np.testing.assert_array_equal(found.ids, expected.ids)
            np.testing.assert_array_equal(found.similarities, expected.similarities)


def test_moments_become_seconds():
    found = seconds_of(
        ["2024-05-01T10:00:00", None, "2024-05-01T12:00:03+02:00", "2024-05-01T10:00:00+00:00", ""]
    )
    assert np.isnan(found[[1, 4]]).all()
    assert found[2] - found[0] == 3
    assert found[3] == found[0]
