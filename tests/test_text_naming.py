"""Names of clusters of texts, by hand and against a plain computation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imageherd.text_naming import text_names

WORDS = ["barrel", "oil", "said", "trade", "wheat"]


class Store:
    """Rows of an array, handed out two at a time like a feature set's."""

    def __init__(self, X):
        self.X = np.asarray(X, np.float32)

    def blocks(self, rows):
        for start in range(0, len(rows), 2):
            yield rows[start : start + 2], self.X[rows[start : start + 2]]


def names_of(X, uids, words=WORDS):
    return text_names(Store(X), np.arange(len(X)), np.asarray(uids, np.int32), words)


def test_words_that_are_everywhere_name_nothing_and_the_rest_come_by_weight():
    X = [
        [0.2, 0.5, 0.9, 0.0, 0.0],
        [0.4, 0.6, 0.9, 0.0, 0.0],
        [0.0, 0.0, 0.9, 0.3, 0.8],
        [0.0, 0.1, 0.9, 0.0, 0.9],
        [9.0, 9.0, 9.0, 9.0, 9.0],
    ]
    found = names_of(X, [3, 3, 8, 8, -1])
    assert list(found) == [3, 8]
    oil, wheat = found[3], found[8]
    assert oil.name.split(", ")[:2] == ["oil", "barrel"]
    assert wheat.name.split(", ")[:2] == ["wheat", "trade"]
    # 1.1 of 3.5 here, 0.1 of 3.9 there.
    here, there = 1.1 / 3.5, 0.1 / 3.9
    assert oil.share == pytest.approx(here)
    assert oil.lift == pytest.approx(here / ((here + there) / 2))
    assert (oil.winner, oil.voters, oil.evidence) == ("oil", 2, [1, 0])
    assert (wheat.voters, wheat.evidence) == (2, [3, 2])


@given(st.integers(1, 25), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_first_word_has_the_largest_part_of_the_divergence_and_names_differ(n, k, seed):
    rng = np.random.default_rng(seed)
    # Sixteenths add up exactly, in any order.
    X = rng.integers(0, 5, size=(n, len(WORDS))) / 16
    X[:, 0] += 1 / 16
    uids = rng.integers(0, k, size=n)
    found = names_of(X, uids)
    known = np.unique(uids)
    shares = np.stack([X[uids == c].sum(0) / X[uids == c].sum() for c in known])
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(shares > 0, shares * np.log(shares / shares.mean(0)), 0)
    for c, uid in enumerate(known.tolist()):
        first = WORDS.index(found[uid].winner)
        assert parts[c, first] == pytest.approx(parts[c].max(), abs=1e-6)
        assert found[uid].share == pytest.approx(shares[c, first])
        assert found[uid].voters == ((uids == uid) & (X[:, first] > 0)).sum()
    assert len({name.name for name in found.values()}) == len(known)


def test_clusters_alike_in_all_words_still_have_names_of_their_own():
    X = np.tile([0.1, 0.5, 0.0, 0.0, 0.4], (6, 1))
    found = [name.name for name in names_of(X, [1, 1, 2, 2, 3, 3]).values()]
    assert found == ["oil, wheat, barrel", "cluster 2", "cluster 3"]


def test_nothing_clustered_has_no_names():
    assert names_of(np.ones((3, 5)), [-1, -1, -1]) == {}
