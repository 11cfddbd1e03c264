import json

import numpy as np
import pytest

from imageherd.counting import Count, count_by_head, count_by_rules, count_clusters
from imageherd.counting_rules import RULES, Evidence, directions, lowest, until_0
from imageherd.counting_splits import graph_spectrum, one_heap, split_scores, unit_rows
from imageherd.heads.cpp import CPP
from imageherd.metrics import generalization_score

KS = tuple(range(2, 9))


def blobs(n_clusters, n=300, spread=0.3, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((n_clusters, 16))
    return centers[np.arange(n) % n_clusters] + spread * rng.standard_normal((n, 16))


@pytest.fixture(scope="module")
def evidence():
    return Evidence(directions(blobs(5), 0), KS)


@pytest.mark.parametrize(
    "rule",
    [
        "silhouette",
        "map-silhouette",
        "coding-length",
        "eigengap",
        "spectrum",
        "splits",
        "stability",
    ],
)
def test_five_separate_groups_are_five_to_every_rule_that_can_see_them(evidence, rule):
    heights = RULES[rule].read(RULES[rule].score(evidence))
    assert KS[int(heights.argmax())] == 5


@pytest.mark.parametrize("rule", ["spectrum", "splits"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_heap_is_not_split(rule, seed):
    X = np.random.default_rng(seed).standard_normal((300, 16)) * np.linspace(2, 0.5, 16) + 1
    curve = RULES[rule].score(Evidence(directions(X, 0), KS))
    assert KS[int(RULES[rule].read(curve).argmax())] <= 3


def test_the_eigengap_is_that_of_the_graph_written_out(evidence):
    similarity = evidence.Z @ evidence.Z.T
    np.fill_diagonal(similarity, -np.inf)
    near = np.zeros_like(similarity)
    k = max(5, len(similarity) // (3 * KS[-1]))
    np.put_along_axis(near, np.argsort(-similarity, axis=1)[:, :k], 1, axis=1)
    weights = near + near.T
    scale = np.diag(weights.sum(axis=1) ** -0.5)
    values = np.sort(np.linalg.eigvalsh(scale @ weights @ scale))[::-1]
    expected = [values[k - 1] - values[k] for k in KS]
    np.testing.assert_allclose(RULES["eigengap"].score(evidence), expected, atol=1e-9)


def test_the_coding_length_is_the_papers(evidence):
    n, dz = evidence.Z.shape
    expected = []
    for k in KS:
        total = 0.0
        for label in range(k):
            Zi = evidence.Z[evidence.partition(k) == label]
            m = len(Zi)
            _, log_det = np.linalg.slogdet(np.eye(dz) + dz / (m * 0.1) * Zi.T @ Zi)
            total += (m + dz) / 2 * log_det - m * np.log(m / n)
        expected.append(total / n)
    np.testing.assert_allclose(RULES["coding-length"].score(evidence), expected, rtol=1e-10)


def test_generalization_is_what_is_learnt_beyond_one_heap(evidence):
    i = KS.index(4)
    own, heap = (
        generalization_score(e.Z, e.partition(4), adjusted=True) for e in (evidence, evidence.null)
    )
    assert RULES["generalization"].score(evidence)[i] == pytest.approx(own - heap)


def test_one_heap_has_the_mean_and_the_covariance():
    Z = unit_rows(blobs(4, n=4000) + 1)
    # Scaled to unit length, so compared by direction: the mean's, and the widest axis.
    heap = one_heap(Z, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(heap, axis=1), 1)
    means = unit_rows(np.stack([Z.mean(axis=0), heap.mean(axis=0)]))
    assert means[0] @ means[1] > 0.99
    axes = [np.linalg.svd(X - X.mean(axis=0), full_matrices=False)[2][0] for X in (Z, heap)]
    assert abs(axes[0] @ axes[1]) > 0.95


def test_a_graph_in_pieces_has_an_eigenvalue_1_a_piece():
    far = np.kron(np.eye(3), np.ones((40, 1)))
    Z = unit_rows(far + 0.01 * np.random.default_rng(0).standard_normal(far.shape))
    np.testing.assert_allclose(graph_spectrum(Z, 5, 3).values, 1)


def test_splits_go_on_where_groups_lie_inside_groups():
    rng = np.random.default_rng(0)
    coarse = np.repeat(5 * rng.standard_normal((2, 16)), 2, axis=0)
    centers = coarse + rng.standard_normal((4, 16))
    X = centers[np.arange(400) % 4] + 0.2 * rng.standard_normal((400, 16))
    scores = split_scores(directions(X, 0), 8, 0)
    assert (scores[:3] > 0).all()
    assert scores[3] <= 0


def test_too_few_rows_to_split_end_the_splitting():
    scores = split_scores(unit_rows(blobs(2, n=20)), 5, 0)
    assert len(scores) == 4
    assert (scores < 0).all()


@pytest.mark.parametrize(
    ("scores", "at"),
    [([3, 1, -1, 2], 1), ([-1, 5, 5], 0), ([2, 1], 1), ([0], 0), ([1, 0, 1], 0)],
)
def test_a_curve_is_followed_until_it_first_reaches_0(scores, at):
    assert until_0(np.array(scores, float)).argmax() == at


def test_next_to_a_threshold_is_the_number_nearest_to_it():
    count = Count(3, (2, 3, 4, 5), (2.0, 1.0, -0.9, -3.0), "splits")
    assert count.reason == "3 clusters: splits 1.00 at 3, the last one above 0; next 4 with -0.90"
    nearest = Count(3, (2, 3, 4), (2.0, 1.0, -0.001), "splits")
    assert nearest.reason == "3 clusters: splits 1.00 at 3, the last one above 0; next 4 with 0.00"


def test_the_lowest_wins_where_less_is_better():
    assert lowest(np.array([3.0, 1.0, 2.0])).argmax() == 1


def test_peaks_are_runners_up_before_slopes():
    count = Count(4, (2, 3, 4, 5, 6, 7), (0.1, 0.5, 0.6, 0.55, 0.2, 0.3), "silhouette")
    assert count.runners_up == ((7, 0.3), (5, 0.55), (3, 0.5))
    assert count.reason == "4 clusters: silhouette 0.60 at 4, the highest; next 7 with 0.30"
    least = Count(3, (2, 3, 4), (9.0, 5.001, 5.002), "coding-length")
    assert least.runners_up[0] == (4, 5.002)
    assert least.reason == "3 clusters: coding-length 5.001 at 3, the lowest; next 4 with 5.002"


def test_a_count_goes_through_json():
    count = count_clusters(blobs(3), k_max=5)
    read = json.loads(json.dumps(count.as_dict()))
    assert read["n_clusters"] == 3
    assert tuple(read["ks"]) == count.ks
    assert read["reason"] == count.reason


def test_rules_together_say_what_each_says_alone():
    X = blobs(4, spread=0.8)
    together = count_by_rules(X, k_max=6, rules=["stability", "splits", "silhouette"])
    for rule, count in together.items():
        assert count == count_clusters(X, k_max=6, rule=rule)


def test_the_only_answer_has_no_runner_up():
    count = count_clusters(np.ones((5, 3)))
    assert count.runners_up == ()
    assert count.reason == "1 cluster, but this is no count: no two images differ"
    assert count.as_dict()["compared"] is False


def test_a_rule_that_is_none_is_refused():
    with pytest.raises(ValueError, match="rule='magic' is not one of silhouette"):
        count_clusters(blobs(3), rule="magic")


def test_a_fitted_cpp_counts_on_its_own_features():
    head = CPP(3, epochs=2, start_epochs=1, min_steps=2, random_state=0).fit(blobs(3))
    count = count_by_head(head, k_max=5)
    curve = head.coding_length_curve([2, 3, 4, 5])
    np.testing.assert_allclose(np.array(count.scores) * 300, curve.lengths)
    assert (count.rule, count.n_clusters) == ("coding-length", curve.minimum)
