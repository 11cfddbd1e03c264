import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imageherd.clustering import by_centrality, describe, extended, top_two
from imageherd.errors import ImageherdError
from imageherd.uids import match_uids


def clustering(labels, rows=None, previous=None, n_clusters=None):
    labels = np.asarray(labels)
    rows = np.arange(len(labels)) if rows is None else np.asarray(rows)
    n_clusters = n_clusters or labels.max() + 1
    probabilities = np.full((len(labels), n_clusters), 0.1, dtype=np.float32)
    probabilities[np.arange(len(labels)), labels] = 0.8
    X = np.random.default_rng(0).normal(size=(len(labels), 4)).astype(np.float32)
    return describe(rows, X, probabilities, name="default", config={}, previous=previous)


def test_centrality_is_the_mean_similarity_to_all_members():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 5)).astype(np.float32)
    X[7] = 0
    labels = rng.integers(0, 3, size=60)
    X64 = X.astype(np.float64)
    unit = X64 / np.maximum(np.linalg.norm(X64, axis=1, keepdims=True), 1e-300)
    similarity = unit @ unit.T
    for c, members in enumerate(by_centrality(X, labels, 4)):
        inside = np.flatnonzero(labels == c)
        if c == 3:
            assert len(members) == 0
            continue
        expected = inside[np.argsort(-similarity[np.ix_(inside, inside)].sum(1), kind="stable")]
        assert members.tolist() == expected.tolist()


def test_top_two_names_winner_and_second():
    P = np.array([[0.1, 0.6, 0.3], [0.5, 0.0, 0.5]], dtype=np.float32)
    uids, probability, second = top_two(P, [7, 8, 9])
    assert uids.tolist() == [8, 7]
    assert second.tolist() == [9, 9]
    np.testing.assert_allclose(probability, [0.6, 0.5])


def test_top_two_is_a_stable_sort_across_blocks(monkeypatch):
    monkeypatch.setattr("imageherd.clustering.BLOCK", 3)
    P = np.random.default_rng(0).integers(0, 3, size=(10, 4)).astype(np.float32) / 4
    order = np.argsort(-P, axis=1, kind="stable")
    uids, probability, second = top_two(P, [1, 2, 3, 4])
    assert uids.tolist() == (order[:, 0] + 1).tolist()
    assert second.tolist() == (order[:, 1] + 1).tolist()
    np.testing.assert_array_equal(probability, P.max(1))
    assert top_two(P[:, :1], [5])[2].tolist() == [5] * 10


def test_images_a_method_leaves_out_fit_nowhere():
    labels = np.array([-1, 1, 1, -1, 1, 0, 0, 2])
    P = np.full((8, 3), 0.2, dtype=np.float32)
    P[np.arange(8), labels] = 0.6
    # A label counts, even where another column is more probable.
    P[7] = [0.7, 0.1, 0.2]
    X = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    found = describe(np.arange(8) * 10, X, P, labels, name="default", config={})
    assert found.uids.tolist() == [-1, 1, 1, -1, 1, 2, 2, 3]
    assert [(c.uid, c.size) for c in found.clusters] == [(1, 3), (2, 2), (3, 1)]
    assert sorted(found.clusters[0].medoids) == [10, 20, 40]
    assert found.config["uids"] == [2, 1, 3]
    np.testing.assert_allclose(found.probability, [0.6] * 7 + [0.2])
    assert found.second[7] == 2
    refit = describe(np.arange(8) * 10, X, P, labels, name="d", config={}, previous=found)
    assert refit.uids.tolist() == found.uids.tolist()


def test_first_uids_go_by_size_and_empty_columns_give_no_cluster():
    found = clustering([2, 2, 2, 0, 0, 3], n_clusters=5)
    assert [(c.uid, c.size) for c in found.clusters] == [(1, 3), (2, 2), (3, 1)]
    assert found.uids.tolist() == [1, 1, 1, 2, 2, 3]
    assert len(found.config["uids"]) == 5
    assert found.config["next_uid"] == 6


def test_a_refit_keeps_uids_whatever_the_columns_are_called():
    first = clustering([0] * 10 + [1] * 6 + [2] * 4)
    refit = clustering([1] * 9 + [2] * 7 + [0] * 4, previous=first)
    assert refit.uids.tolist() == [1] * 9 + [2] * 7 + [3] * 4
    assert refit.config["next_uid"] == first.config["next_uid"]


def test_a_cluster_that_is_gone_leaves_its_uid_unused():
    first = clustering([0] * 10 + [1] * 10)
    refit = clustering([0] * 10 + [1] * 5 + [2] * 5, previous=first)
    assert set(refit.uids[:10]) == {1}
    # Both halves of the old cluster 2 share exactly half of it: neither is it.
    assert set(refit.uids[10:]) == {3, 4}


def test_a_cluster_that_keeps_most_images_keeps_its_uid_whoever_has_the_rest():
    first = clustering([0] * 100 + [1] * 32)
    assert first.config["uids"] == [1, 2]
    # 68 images stay together, 32 come from elsewhere, 32 go: each of the two remainders fits the
    # other side by a third, two of which add up to more than the 68 / 132 of the pair that counts.
    refit = clustering([0] * 68 + [1] * 32 + [0] * 32, previous=first)
    assert refit.uids.tolist() == [1] * 68 + [3] * 32 + [1] * 32


def test_only_images_that_both_have_count():
    first = clustering([0] * 4 + [1] * 4)
    labels = np.array([1] * 4 + [0] * 4 + [0] * 50)
    rows = np.arange(58)
    uids = match_uids(labels, rows, 2, first)
    assert uids == [2, 1]


@given(st.lists(st.integers(0, 4), min_size=5, max_size=60), st.randoms())
def test_relabelling_the_same_partition_changes_no_uid(labels, random):
    first = clustering(labels, n_clusters=5)
    names = list(range(5))
    random.shuffle(names)
    again = clustering([names[c] for c in labels], n_clusters=5, previous=first)
    assert again.uids.tolist() == first.uids.tolist()


def test_extending_keeps_row_order_and_counts():
    first = clustering([0, 0, 1], rows=[2, 5, 9])
    uid = int(first.uids[0])
    new = extended(
        first,
        np.array([3, 11]),
        np.array([uid, -1], dtype=np.int32),
        np.array([0.5, 0.2], dtype=np.float32),
        np.array([uid, uid], dtype=np.int32),
    )
    assert new.rows.tolist() == [2, 3, 5, 9, 11]
    assert new.uids.tolist() == [uid, uid, uid, int(first.uids[2]), -1]
    assert {c.uid: c.size for c in new.clusters}[uid] == 3
    assert new.clusters[0].medoids == first.clusters[0].medoids


def test_extending_keeps_the_largest_first():
    first = clustering([0, 0, 1], rows=[2, 5, 9])
    small = int(first.uids[2])
    two = np.full(2, small, dtype=np.int32)
    new = extended(first, np.array([11, 12]), two, np.full(2, 0.5, dtype=np.float32), two)
    assert [(c.uid, c.size) for c in new.clusters] == [(small, 3), (int(first.uids[0]), 2)]


def test_the_first_images_of_an_empty_cluster_make_it_one_of_the_list():
    first = clustering([0, 0, 1], n_clusters=3)
    probability = np.array([0.6, 0.9], np.float32)
    third, second = np.array([3, 3], np.int32), np.array([1, 1], np.int32)
    new = extended(first, np.array([11, 12]), third, probability, second)
    found = new.cluster(3)
    assert (found.name, found.size, found.medoids) == ("cluster 3", 2, [12, 11])
    assert found.confidence == pytest.approx(0.75)


def test_an_unknown_uid_is_named():
    with pytest.raises(ImageherdError, match=r"no cluster 9; its clusters are 1, 2"):
        clustering([0, 1]).cluster(9)
