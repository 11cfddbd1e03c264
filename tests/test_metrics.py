import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imageherd import metrics
from imageherd.metrics import (
    ami,
    ari,
    clustering_accuracy,
    confusion,
    mean_entropies,
    neighbor_consistency,
    nmi,
    scores,
)
from imageherd.neighbors import NeighborGraph, knn_graph
from reference import metrics as reference

labelings = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 5), min_size=n, max_size=n),
        st.lists(st.integers(-1, 4), min_size=n, max_size=n),
    )
)


@given(labelings)
@settings(max_examples=60, deadline=None)
def test_accuracy_is_the_best_over_all_permutations(pair):
    assert clustering_accuracy(*pair) == pytest.approx(
        reference.accuracy_by_permutations(*pair), abs=1e-12
    )


@given(labelings)
@settings(deadline=None)
def test_nmi_and_ari_agree_with_their_definitions(pair):
    assert nmi(*pair) == pytest.approx(reference.nmi(*pair), abs=1e-9)
    if len(pair[0]) > 1:
        assert ari(*pair) == pytest.approx(reference.ari(*pair), abs=1e-9)


@given(labelings)
@settings(deadline=None)
def test_ami_agrees_with_its_definition(pair):
    # Where even the best is what chance gives, 0 / 0, each program has its own convention.
    mean = (reference.entropy(pair[0]) + reference.entropy(pair[1])) / 2
    assume(mean - reference.expected_mutual_information(*pair) > 1e-6)
    assert ami(*pair) == pytest.approx(reference.ami(*pair), abs=1e-8)


@given(labelings, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_neither_names_nor_order_nor_type_of_labels_matter(pair, random):
    before = scores(*pair)
    order = list(range(len(pair[0])))
    random.shuffle(order)
    names = [f"group {i}" for i in range(10)]
    random.shuffle(names)
    true = [names[pair[0][i]] for i in order]
    predicted = np.array([17 - 3 * pair[1][i] for i in order])
    assert scores(true, predicted) == pytest.approx(before, abs=1e-9)


@given(labelings)
@settings(deadline=None)
def test_scores_keep_their_bounds_and_are_symmetric(pair):
    found = scores(*pair)
    largest_class = max(np.unique(pair[0], return_counts=True)[1])
    n_clusters = len(set(pair[1]))
    assert largest_class / len(pair[0]) / n_clusters <= found["ACC"] <= 1
    assert -1e-12 <= found["NMI"] <= 1 + 1e-12
    assert max(found["ARI"], found["AMI"]) <= 1 + 1e-9
    assert scores(*reversed(pair)) == pytest.approx(found, abs=1e-9)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=30))
@settings(deadline=None)
def test_a_renamed_copy_is_perfect(labels):
    assert scores(labels, [f"c{-i}" for i in labels]) == pytest.approx(
        {"ACC": 1, "NMI": 1, "ARI": 1, "AMI": 1}
    )


def test_known_values():
    true, predicted = [0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2, 2]
    assert clustering_accuracy(true, predicted) == pytest.approx(4 / 6)
    assert ari(true, predicted) == pytest.approx(8 / 33)
    assert nmi(true, predicted) == pytest.approx(2 * (2 / 3) * math.log(2) / math.log(6))


def test_confusion_puts_matched_clusters_in_the_order_of_the_classes():
    true = ["cat"] * 4 + ["dog"] * 5 + ["elk"] * 3
    predicted = [7, 7, 7, 3, 3, 3, 3, 9, 9, 5, 5, 9]
    matrix, classes, clusters = confusion(true, predicted)
    assert classes.tolist() == ["cat", "dog", "elk"]
    assert clusters.tolist() == [7, 3, 5, 9]
    np.testing.assert_array_equal(matrix, [[3, 1, 0, 0], [0, 3, 0, 2], [0, 0, 2, 1]])


@given(labelings)
@settings(deadline=None)
def test_confusion_counts_every_point_and_its_diagonal_is_the_accuracy(pair):
    matrix, classes, clusters = confusion(*pair)
    true, predicted = map(np.array, pair)
    expected = [[((true == c) & (predicted == k)).sum() for k in clusters] for c in classes]
    np.testing.assert_array_equal(matrix, expected)
    assert sorted(clusters) == sorted(set(pair[1]))
    if len(classes) <= len(clusters):
        assert np.trace(matrix) / len(true) == pytest.approx(clustering_accuracy(*pair))


def test_fewer_clusters_than_classes_keep_the_order_of_their_classes():
    matrix, _, clusters = confusion(["a", "b", "b", "c", "c", "c"], [4, 4, 4, 2, 2, 2])
    assert clusters.tolist() == [4, 2]
    np.testing.assert_array_equal(matrix, [[1, 0], [2, 0], [0, 3]])


@pytest.mark.parametrize("score", [clustering_accuracy, nmi, ari, ami, confusion, scores])
@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (([0, 1], [0, 1, 1]), "labels_true has 2 points, labels_pred has 3"),
        (([], []), "labels_true must be 1-D and not empty"),
        (([0], []), "labels_pred must be 1-D and not empty"),
        (([[0, 1]], [0, 1]), "1-D"),
    ],
)
def test_labels_that_do_not_fit_are_refused(score, pair, message):
    with pytest.raises(ValueError, match=message):
        score(*pair)


def consistency_by_full_sort(X, labels, k):
    shares = []
    for i in range(len(X)):
        others = [j for j in range(len(X)) if j != i]
        others.sort(key=lambda j: -float(X[i] @ X[j]))
        shares.append(np.mean([labels[j] == labels[i] for j in others[:k]]))
    return np.mean(shares)


@pytest.mark.parametrize("k", [1, 20, 79])
@pytest.mark.parametrize("block_elements", [1, 1000, 2**24])
def test_consistency_agrees_with_a_full_sort_by_inner_product(monkeypatch, k, block_elements):
    monkeypatch.setattr(metrics, "_BLOCK_ELEMENTS", block_elements)
    rng = np.random.default_rng(0)
    # Rows of different lengths: by cosine the answer would be another.
    X = rng.standard_normal((80, 6)) * rng.uniform(0.2, 5, (80, 1))
    labels = rng.integers(0, 3, 80)
    found = neighbor_consistency(X, labels, k)
    assert found == pytest.approx(consistency_by_full_sort(X, labels, k), abs=1e-12)


def test_consistency_of_a_graph_counts_its_neighbours():
    rng = np.random.default_rng(0)
    X, labels = rng.standard_normal((50, 5)), np.array(["a", "b"])[rng.integers(0, 2, 50)]
    graph = knn_graph(X, 12)
    expected = np.mean([labels[j] == labels[i] for i in range(50) for j in graph.ids[i, :7]])
    assert neighbor_consistency(graph, labels, 7) == pytest.approx(expected)
    with pytest.raises(ValueError, match="at most 12"):
        neighbor_consistency(graph, labels)


def test_points_tied_for_the_last_place_share_it():
    X = np.array([[1.0], [1.0], [1.0], [1.0]])
    # Of the three others, all equally near, one has the label of each of the first two.
    assert neighbor_consistency(X, [0, 0, 1, 2], 1) == pytest.approx((1 / 3 + 1 / 3) / 4)


def test_consistency_refuses_what_does_not_fit():
    X = np.eye(5)
    with pytest.raises(ValueError, match="X has 5 points, labels has 4"):
        neighbor_consistency(X, [0] * 4, 2)
    with pytest.raises(ValueError, match="k=5 must be at least 1 and below the number of points"):
        neighbor_consistency(X, [0] * 5, 5)
    with pytest.raises(ValueError, match="2-D"):
        neighbor_consistency(np.zeros(5), [0] * 5, 2)
    with pytest.raises(ValueError, match="NaN"):
        neighbor_consistency(X * np.nan, [0] * 5, 2)
    graph = NeighborGraph(np.array([[1], [0]], np.int32), np.ones((2, 1), np.float32))
    with pytest.raises(ValueError, match="The graph has 2 points, labels has 3"):
        neighbor_consistency(graph, [0, 0, 0], 1)


def test_entropies_of_known_distributions():
    even, sure = np.full((6, 4), 0.25), np.eye(4)[[0, 1, 2, 3]]
    assert mean_entropies(even) == pytest.approx((math.log(4), math.log(4)))
    assert mean_entropies(sure) == pytest.approx((math.log(4), 0))
    assert mean_entropies(sure[[0, 0]]) == pytest.approx((0, 0))


@given(arrays(np.float64, (7, 4), elements=st.floats(0, 1)))
def test_entropies_agree_with_their_definition(P):
    P = (P + 1e-6) / (P + 1e-6).sum(axis=1, keepdims=True)
    of_mean, mean = mean_entropies(P.astype(np.float32))
    assert of_mean == pytest.approx(-sum(m * math.log(m) for m in P.mean(axis=0)), abs=1e-5)
    assert mean == pytest.approx(-sum(p * math.log(p) for p in P.flat) / 7, abs=1e-5)
    assert mean <= of_mean + 1e-9


@pytest.mark.parametrize(
    "P", [[[0.5, 0.6]], [[1.5, -0.5]], [[np.nan, 1]], [0.5, 0.5], np.zeros((0, 2))]
)
def test_what_is_no_distribution_is_refused(P):
    with pytest.raises(ValueError, match="P must"):
        mean_entropies(P)
