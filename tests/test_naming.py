from collections import defaultdict
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imageherd.naming import N_EVIDENCE, distribute, shares_and_lifts, vote_names

WORDS = ["cat", "dog", "T-shirt", "sweatshirt", "cat", "jeans", "hat"]


def plain_vote(classes, probabilities, labels, names):
    """Algorithm 2, image by image."""
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
    shares = {
        uid: {word: votes[word] / (sum(votes.values()) or 1) for word in order}
        for uid, votes in expected.items()
    }
    for uid, votes in expected.items():
        outcome = named[uid]
        ranked = sorted(order, key=lambda word: (-votes[word], order.index(word)))
        assert outcome.share == pytest.approx(shares[uid][outcome.winner])
        assert outcome.share >= shares[uid][ranked[0]] / 2 - 1e-9
        mean = np.mean([of_cluster[outcome.winner] for of_cluster in shares.values()])
        assert outcome.lift == pytest.approx(outcome.share / mean if mean else 0)
        others = [word for word in ranked if word != outcome.winner and votes[word] > 0]
        assert outcome.runner_up == (others[0] if others else None)
        assert outcome.runner_up_share == pytest.approx(shares[uid][others[0]] if others else 0.0)
        # Algorithm 2's own answer can be read off, whoever got it.
        if votes[ranked[0]] > 0:
            assert ranked[0] in (outcome.winner, outcome.runner_up)


@given(elections(), st.integers(0, 2**32 - 1))
def test_names_differ_and_do_not_depend_on_the_order_of_images(election, seed):
    rows = np.arange(len(election[2])) * 10
    named = vote_names(*election, WORDS, rows=rows)
    assert len({outcome.name for outcome in named.values()}) == len(named)
    assert all(outcome.name.startswith(outcome.winner) for outcome in named.values())
    order = np.random.default_rng(seed).permutation(len(rows))
    again = vote_names(*(part[order] for part in election), WORDS, rows=rows[order])
    assert again == named


@given(elections())
def test_evidence_is_who_gave_the_winner_most(election):
    classes, probabilities, labels = election
    for uid, outcome in vote_names(*election, WORDS, rows=np.arange(len(labels)) + 100).items():
        given_ = {
            row + 100: sum(
                float(p)
                for c, p in zip(classes[row], probabilities[row], strict=True)
                if WORDS[c] == outcome.winner
            )
            for row in np.flatnonzero(labels == uid)
        }
        voters = [row for row, weight in given_.items() if weight > 0]
        assert outcome.voters == len(voters)
        expected = sorted(voters, key=lambda row: (-given_[row], row))
        assert outcome.evidence == expected[:N_EVIDENCE]


VOTES = arrays(
    np.float64,
    st.tuples(st.integers(1, 5), st.integers(1, 4)),
    elements=st.integers(0, 8).map(float),
)


def beaten(votes, shares, found):
    """Clusters and texts that would both rather have each other than what they have."""
    _, lifts = shares_and_lifts(votes)
    holder = {text: c for c, text in enumerate(found) if text is not None}
    for c, row in enumerate(votes):
        ranked = sorted(range(len(row)), key=lambda t: (-row[t], t))
        close = [t for t in ranked if shares[c, t] >= 0.5 * shares[c, ranked[0]]]
        for text in close[: close.index(found[c])] if found[c] is not None else close:
            rival = holder.get(text)
            if rival is None or (-lifts[c, text], c) < (-lifts[rival, text], rival):
                yield c, text


@given(VOTES)
def test_the_distribution_is_the_stable_one_that_suits_the_clusters_best(votes):
    shares, _ = shares_and_lifts(votes)
    found = distribute(votes)
    texts = [text for text in found if text is not None]
    assert len(set(texts)) == len(texts)
    assert list(beaten(votes, shares, found)) == []

    def rank(c, text):
        return (
            np.inf
            if text is None
            else sorted(range(votes.shape[1]), key=lambda t: (-votes[c, t], t)).index(text)
        )

    choices = [*range(votes.shape[1]), *[None] * len(votes)]
    for other in set(permutations(choices, len(votes))) if len(votes) <= 3 else ():
        close = all(t is None or shares[c, t] >= shares[c].max() / 2 for c, t in enumerate(other))
        if close and not list(beaten(votes, shares, list(other))):
            assert all(rank(c, found[c]) <= rank(c, other[c]) for c in range(len(votes)))


def election_of(*clusters):
    """One image a cluster, which gives every word the votes listed."""
    probabilities = np.array(clusters, dtype=np.float64)
    classes = np.tile(np.arange(probabilities.shape[1]), (len(clusters), 1))
    return vote_names(classes, probabilities, np.arange(len(clusters)), ["a", "b", "c", "d"])


def test_without_dispute_the_name_is_algorithm_2s_however_common_the_text():
    named = election_of([0.5, 0.4, 0.1], [0.45, 0.05, 0.5])
    assert [outcome.name for outcome in named.values()] == ["a", "c"]
    assert named[0].lift == pytest.approx(0.5 / 0.475)


def test_a_disputed_text_goes_where_it_is_most_special_and_the_other_takes_a_close_second():
    named = election_of([0.5, 0.3, 0.2], [0.6, 0.3, 0.1])
    assert [(n.name, n.runner_up) for n in named.values()] == [("b", "a"), ("a", "b")]
    assert named[0].share == pytest.approx(0.3)


def test_a_second_with_less_than_half_the_votes_is_not_what_the_cluster_is():
    named = election_of([0.7, 0.1, 0.2], [0.6, 0.28, 0.12])
    assert [n.name for n in named.values()] == ["a", "a / b"]
    assert (named[1].winner, named[1].share) == ("a", pytest.approx(0.6))


def test_a_text_is_taken_from_who_asked_first_but_is_less_special():
    # 0 loses "a" to 1, asks for "b", which 2 wanted first of all but less.
    named = election_of([0.40, 0.39, 0.21, 0], [0.6, 0.2, 0.2, 0], [0.05, 0.30, 0.28, 0.29])
    assert [n.name for n in named.values()] == ["b", "a", "d"]


def test_clusters_without_a_second_text_get_numbers():
    classes, sure = np.full((3, 1), 6), np.ones((3, 1))
    named = vote_names(classes, sure, np.array([4, 7, 9]), WORDS)
    assert [outcome.name for outcome in named.values()] == ["hat", "hat 2", "hat 3"]


def test_a_text_that_reads_like_two_joined_is_not_given_twice():
    texts = ["x", "y", "x / y"]
    best = np.array([[0, 1, 2], [0, 1, 2], [2, 1, 0]])
    weights = np.array([[0.9, 0.0, 0.0], [0.8, 0.2, 0.0], [0.9, 0.1, 0.0]])
    named = vote_names(best, weights, np.array([0, 1, 2]), texts)
    assert [n.name for n in named.values()] == ["x", "x / y 2", "x / y"]


def test_classes_of_one_name_vote_as_one():
    classes = np.array([[0, 1, 4]])
    named = vote_names(classes, np.array([[0.3, 0.4, 0.2]]), np.array([0]), WORDS)
    assert (named[0].winner, named[0].runner_up) == ("cat", "dog")
    assert named[0].share == pytest.approx(0.5 / 0.9)
    assert named[0].lift == 1


def test_negative_cosines_are_votes_against_and_no_share():
    named = vote_names(
        np.array([[0, 1, 2]]), np.array([[-0.1, 0.3, 0.1]]), np.array([0]), ["a", "b", "c"]
    )
    assert (named[0].name, named[0].runner_up) == ("b", "c")
    assert named[0].share == pytest.approx(0.75)
    against = vote_names(np.array([[0, 1]]), np.array([[-0.2, -0.1]]), np.array([0]), ["a", "b"])
    assert (against[0].name, against[0].share, against[0].evidence) == ("b", 0.0, [])


def test_images_in_no_cluster_do_not_vote():
    assert vote_names(np.zeros((2, 5), int), np.ones((2, 5)), np.array([-1, -1]), WORDS) == {}


@pytest.mark.parametrize(
    ("classes", "probabilities", "labels", "says"),
    [
        (np.zeros((3, 5), int), np.ones((3, 4)), np.zeros(3, int), "one shape"),
        (np.zeros((3, 0), int), np.ones((3, 0)), np.zeros(3, int), "1 or more"),
        (np.zeros((3, 5), int), np.ones((3, 5)), np.zeros(2, int), "labels"),
        (np.full((3, 5), 7), np.ones((3, 5)), np.zeros(3, int), "7 texts"),
    ],
)
def test_what_does_not_fit_is_refused(classes, probabilities, labels, says):
    with pytest.raises(ValueError, match=says):
        vote_names(classes, probabilities, labels, WORDS)
