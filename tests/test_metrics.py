import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import cohen_kappa_score

from imageherd import metrics
from imageherd.metrics import (
    ami,
    ari,
    clustering_accuracy,
    confusion,
    generalization_score,
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


def groups(n=240, d=12, K=4, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, K, n)
    return rng.normal(0, 4, (K, d))[y] + rng.normal(0, spread, (n, d)), y


@pytest.mark.parametrize(("d", "spread"), [(12, 3.0), (300, 25.0)])
def test_generalization_is_held_out_ridge_classification(d, spread):
    X, y = groups(d=d, spread=spread)
    X += 7
    part = metrics._spread(y.astype(np.int64), 5, np.random.default_rng(3))
    predicted = np.empty_like(y)
    for fold in range(5):
        shown = X[part != fold]
        alpha = 0.1 * ((shown - shown.mean(0)) ** 2).sum() / d
        classifier = RidgeClassifier(alpha=alpha).fit(shown, y[part != fold])
        predicted[part == fold] = classifier.predict(X[part == fold])
    found = generalization_score(X, y, random_state=3)
    assert found == pytest.approx((predicted == y).mean(), abs=1e-12)
    assert 0.3 < found < 1
    kappa = cohen_kappa_score(y, predicted)
    assert generalization_score(X, y, random_state=3, adjusted=True) == pytest.approx(kappa)


def test_generalization_of_groups_and_of_noise():
    X, y = groups()
    assert generalization_score(X, y) == 1
    noise = np.random.default_rng(1).integers(0, 4, len(y))
    assert generalization_score(X, noise) < 0.4
    assert abs(generalization_score(X, noise, adjusted=True)) < 0.15
    assert generalization_score(X, np.zeros(len(y))) == 1
    assert generalization_score(X, np.zeros(len(y)), adjusted=True) == 0


def test_generalization_is_the_mean_over_spaces():
    X, y = groups()
    noise = np.random.default_rng(1).normal(size=(len(y), 5))
    both = generalization_score(np.hstack([X, noise]), y, blocks=(12, 5))
    each = generalization_score(X, y), generalization_score(noise, y)
    assert both == pytest.approx(np.mean(each), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 6))
def test_generalization_knows_neither_names_nor_scale(seed, folds):
    X, y = groups(n=40, d=5, spread=4.0, seed=seed)
    names = np.array(["a", "b", "c", "d"])[y]
    before = generalization_score(X, y, folds=folds, random_state=seed)
    assert before == generalization_score(8 * X, names, folds=folds, random_state=seed)


def test_generalization_with_small_clusters_and_rows_left_out():
    X, y = groups()
    y[:3], y[3], y[4:30] = 7, 8, -1
    found = generalization_score(X, y)
    assert found == generalization_score(X[y >= 0], y[y >= 0])
    assert found <= 1 - 1 / (y >= 0).sum()
    assert found == generalization_score(X, y)


def test_generalization_on_a_sample():
    X, y = groups(spread=3.0)
    whole, part = (generalization_score(X, y, max_rows=rows) for rows in (None, 100))
    assert whole == generalization_score(X, y)
    assert part != whole
    assert part == generalization_score(X, y, max_rows=100)


def test_generalization_of_constant_features():
    y = np.arange(20) % 2
    assert generalization_score(np.ones((20, 3)), y, adjusted=True) <= 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": np.zeros(4)}, "X must be 2-D"),
        ({"X": np.full((4, 2), np.nan)}, "NaN"),
        ({"labels": [0, 1, 0]}, "labels has 3"),
        ({"folds": 1}, "folds=1"),
        ({"folds": 5}, "the 4 rows with a cluster"),
        ({"blocks": (1, 2)}, r"blocks=\(1, 2\)"),
        ({"blocks": (0, 2)}, r"blocks=\(0, 2\)"),
        ({"max_rows": 1}, "max_rows=1"),
    ],
)
def test_generalization_errors(change, message):
    given = {"X": np.eye(4, 2), "labels": [0, 1, 0, 1], "folds": 2}
    with pytest.raises(ValueError, match=message):
        generalization_score(**{**given, **change})
