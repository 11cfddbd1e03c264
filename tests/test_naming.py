from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imageherd.naming import vote_names

WORDS = ["cat", "dog", "T-shirt", "sweatshirt", "cat", "jeans", "hat"]


def plain_vote(classes, probabilities, labels, names):
    """The rule of the docstring, image by image."""
    votes = {}
    for row, uid in enumerate(labels):
        if uid < 0:
            continue
        of_cluster = votes.setdefault(int(uid), defaultdict(float))
        for index, probability in zip(classes[row], probabilities[row], strict=True):
            of_cluster[names[index]] += float(probability)
    return votes


@st.composite
def elections(draw):
    n = draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes = np.stack([rng.permutation(len(WORDS))[:5] for _ in range(n)]).astype(np.int16)
    # Eighths add up without rounding, so that ties are exact and order cannot matter.
    probabilities = (rng.integers(0, 9, size=(n, 5)) / 8).astype(np.float32)
    labels = rng.integers(-1, draw(st.integers(1, 8)), size=n).astype(np.int32)
    return classes, probabilities, labels


@given(elections())
def test_the_vote_is_that_of_a_plain_loop(election):
    named = vote_names(*election, WORDS)
    expected = plain_vote(*election, WORDS)
    assert list(named) == sorted(expected)
    order = list(dict.fromkeys(WORDS))
    for uid, votes in expected.items():
        ranked = sorted(order, key=lambda word: (-votes[word], order.index(word)))
        total = sum(votes.values())
        outcome = named[uid]
        assert outcome.winner == ranked[0]
        assert outcome.share == pytest.approx(votes[ranked[0]] / total if total else 0.0)
        if votes[ranked[1]] > 0:
            assert outcome.runner_up == ranked[1]
            assert outcome.runner_up_share == pytest.approx(votes[ranked[1]] / total)
        else:
            assert (outcome.runner_up, outcome.runner_up_share) == (None, 0.0)


@given(elections(), st.integers(0, 2**32 - 1))
def test_names_differ_and_do_not_depend_on_the_order_of_images(election, seed):
    named = vote_names(*election, WORDS)
    assert len({outcome.name for outcome in named.values()}) == len(named)
    assert all(outcome.name.startswith(outcome.winner) for outcome in named.values())
    order = np.random.default_rng(seed).permutation(len(election[2]))
    assert vote_names(*(part[order] for part in election), WORDS) == named


def test_the_stronger_cluster_keeps_the_plain_name():
    classes = np.array([[2, 3], [2, 3], [2, 5], [2, 3]])
    probabilities = np.array([[0.5, 0.4], [0.9, 0.05], [0.6, 0.3], [0.5, 0.45]])
    named = vote_names(classes, probabilities, np.array([0, 1, 2, 3]), WORDS)
    assert [named[uid].name for uid in range(4)] == [
        "T-shirt / sweatshirt",
        "T-shirt",
        "T-shirt / jeans",
        "T-shirt / sweatshirt 2",
    ]
    assert {outcome.winner for outcome in named.values()} == {"T-shirt"}


def test_clusters_without_a_runner_up_get_numbers():
    classes, sure = np.full((3, 1), 6), np.ones((3, 1))
    named = vote_names(classes, sure, np.array([4, 7, 9]), WORDS)
    assert [outcome.name for outcome in named.values()] == ["hat", "hat 2", "hat 3"]


def test_classes_of_one_name_vote_as_one():
    classes = np.array([[0, 1, 4]])
    named = vote_names(classes, np.array([[0.3, 0.4, 0.2]]), np.array([0]), WORDS)
    assert (named[0].winner, named[0].runner_up) == ("cat", "dog")
    assert named[0].share == pytest.approx(0.5 / 0.9)


def test_images_in_no_cluster_do_not_vote():
    assert vote_names(np.zeros((2, 5), int), np.ones((2, 5)), np.array([-1, -1]), WORDS) == {}


@pytest.mark.parametrize(
    ("classes", "probabilities", "labels", "says"),
    [
        (np.zeros((3, 5), int), np.ones((3, 4)), np.zeros(3, int), "one shape"),
        (np.zeros((3, 5), int), np.ones((3, 5)), np.zeros(2, int), "labels"),
        (np.full((3, 5), 7), np.ones((3, 5)), np.zeros(3, int), "7 named"),
    ],
)
def test_what_does_not_fit_is_refused(classes, probabilities, labels, says):
    with pytest.raises(ValueError, match=says):
        vote_names(classes, probabilities, labels, WORDS)
