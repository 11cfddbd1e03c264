import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from imageherd import consensus
from imageherd.metrics import ari, clustering_accuracy


@st.composite
def several(draw, smallest=-1):
    n, m = draw(st.integers(1, 25)), draw(st.integers(1, 5))
    rows = st.lists(st.integers(smallest, 4), min_size=n, max_size=n)
    return np.array([draw(rows) for _ in range(m)])


def agreeing_pairs(votes):
    return sum(int(((a == b) & (a >= 0)).sum()) for i, a in enumerate(votes) for b in votes[:i])


@settings(max_examples=150, deadline=None)
@given(several(), st.randoms(use_true_random=False))
def test_neither_names_nor_order_of_the_labelings_matter(labelings, random):
    before = consensus(list(labelings))
    renamed = []
    for labels in labelings:
        names = [f"c{i}" for i in range(5)]
        random.shuffle(names)
        numbers = random.sample(range(100), 5)
        renamed.append(
            [numbers[c] if c >= 0 else -1 for c in labels]
            if (labels < 0).any()
            else [names[c] for c in labels]
        )
    random.shuffle(renamed)
    after = consensus(renamed)
    np.testing.assert_array_equal(before.labels, after.labels)
    np.testing.assert_array_equal(before.agreement, after.agreement)


@settings(deadline=None)
@given(several(), st.randoms(use_true_random=False))
def test_agreement_is_a_share_of_the_votes_cast(labelings, random):
    labels, agreement = consensus(list(labelings))
    cast = (labelings >= 0).sum(axis=0)
    np.testing.assert_array_equal(labels >= 0, cast > 0)
    np.testing.assert_allclose(agreement * cast, np.round(agreement * cast), atol=1e-9)
    assert (agreement[cast > 0] >= 1 / cast[cast > 0] - 1e-12).all()
    assert (agreement <= 1).all()
    sizes = np.bincount(labels[labels >= 0])
    assert (np.diff(sizes) <= 0).all()
    assert (sizes > 0).all()


@settings(deadline=None)
@given(several(), st.integers(1, 4))
def test_what_all_agree_on_is_the_result(labelings, m):
    labels = labelings[0]
    assume((labels >= 0).any())
    found = consensus([labels] * m)
    kept = labels >= 0
    assert ari(labels[kept], found.labels[kept]) == 1
    np.testing.assert_array_equal(found.agreement, kept.astype(float))


@settings(max_examples=60, deadline=None)
@given(several(smallest=0))
def test_two_labelings_agree_where_the_best_match_says(labelings):
    assume(len(labelings) >= 2)
    a, b = labelings[:2]
    found = consensus([a, b])
    assert (found.agreement == 1).mean() == pytest.approx(clustering_accuracy(a, b))
    assert set(found.agreement) <= {0.5, 1.0}


@settings(max_examples=60, deadline=None)
@given(several(smallest=0))
def test_no_single_labeling_can_be_matched_better(labelings):
    """The votes behind the result are a fixed point: recover them, then match each anew."""
    from imageherd.ensemble import _by_agreement, _canonical, _settle

    codes = _canonical(list(labelings))
    votes = _settle(codes, _by_agreement(codes))
    total = agreeing_pairs(votes)
    for h, own in enumerate(codes):
        others = np.delete(votes, h, axis=0)
        overlaps = np.zeros((5, votes.max() + 1), dtype=int)
        for other in others:
            np.add.at(overlaps, (own, other), 1)
        rows, columns = linear_sum_assignment(overlaps, maximize=True)
        assert total >= agreeing_pairs(others) + overlaps[rows, columns].sum()
        pairs = {(c, v) for c, v in zip(own, votes[h], strict=True)}
        assert len(pairs) == len({c for c, _ in pairs}) == len({v for _, v in pairs})


def test_noise_is_voted_down():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 6, 500)
    labelings = []
    for _ in range(9):
        labels = np.where(rng.random(500) < 0.35, rng.integers(0, 6, 500), truth)
        labelings.append(rng.permutation(6)[labels])
    found = consensus(labelings)
    assert max(clustering_accuracy(truth, each) for each in labelings) < 0.8
    assert clustering_accuracy(truth, found.labels) >= 0.98
    assert found.agreement.mean() == pytest.approx(0.65 + 0.35 / 6, abs=0.02)
    assert found.labels.dtype == np.int32


def test_a_cluster_that_most_labelings_have_is_kept_though_the_first_lacks_it():
    fine = np.repeat([0, 1, 2], [40, 30, 20])
    coarse = np.minimum(fine, 1)
    assert len(set(consensus([coarse, fine, fine]).labels)) == 3
    found = consensus([coarse, coarse, fine])
    assert len(set(found.labels)) == 2
    np.testing.assert_allclose(found.agreement[fine == 2], 2 / 3)


def test_no_vote_is_no_dissent():
    a = np.array([0, 0, 0, 1, 1, 1, -1])
    b = np.array([5, 5, -1, 7, 7, 7, -1])
    found = consensus([a, b])
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1, -1] or found.labels.tolist() == [
        1,
        1,
        1,
        0,
        0,
        0,
        -1,
    ]
    assert found.agreement.tolist() == [1, 1, 1, 1, 1, 1, 0]
    assert consensus([[-1, -1], [-1, -1]]).labels.tolist() == [-1, -1]


def test_the_labeling_that_agrees_most_has_the_casting_vote():
    a = np.repeat([0, 1], [6, 6])
    b = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1])
    c = np.array([0, 0, 0, 0, 0, 2, 1, 1, 1, 1, 1, 1])
    found = consensus([a, b, c])
    assert found.agreement[5] == pytest.approx(1 / 3)
    assert ari(found.labels, [a, b, c][_most_agreeing([a, b, c])]) == 1


def _most_agreeing(labelings):
    sums = [sum(clustering_accuracy(x, y) for y in labelings) for x in labelings]
    return int(np.argmax(sums))


@pytest.mark.parametrize(
    ("labelings", "message"),
    [
        ([], "labelings is empty"),
        ([[0, 1], [0, 1, 2]], r"labelings\[1\] has 3 points, labelings\[0\] has 2"),
        ([[[0, 1]]], r"labelings\[0\] must be 1-D"),
        ([[]], r"labelings\[0\] must be 1-D, not empty"),
    ],
)
def test_errors_say_which_labeling(labelings, message):
    with pytest.raises(ValueError, match=message):
        consensus(labelings)
