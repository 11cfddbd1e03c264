"""Tf-idf against scikit-learn's own, and what a saved vocabulary says."""

import json

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from imageherd.errors import ImageherdError
from imageherd.features.tfidf import FILE, Tfidf

TEXTS = [
    "Oil prices rose, oil exporters said.",
    "the grain harvest was a record harvest",
    "oil and grain: trade in both fell",
    "trade talks with japan; trade war?",
    "!",
]


def test_it_is_what_scikit_learn_makes_of_the_same_texts():
    theirs = TfidfVectorizer(stop_words="english", sublinear_tf=True)
    expected = theirs.fit_transform(TEXTS).toarray()
    ours = Tfidf.fit(TEXTS)
    assert ours.terms == theirs.get_feature_names_out().tolist()
    found = ours.transform(TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), expected, atol=1e-7)


def test_by_hand():
    fitted = Tfidf.fit(["oil oil gas", "gas"])
    # idf: oil ln(3 / 2) + 1, gas ln(3 / 3) + 1; tf: 1 + ln 2 and 1.
    oil, gas = (1 + np.log(2)) * (np.log(1.5) + 1), 1.0
    expected = np.array([gas, oil]) / np.hypot(oil, gas)
    np.testing.assert_allclose(fitted.transform(["oil oil gas"]).toarray()[0], expected, rtol=1e-6)


def test_the_most_frequent_words_are_kept_and_equal_ones_in_alphabetical_order():
    texts = ["pear apple plum", "pear fig plum", "pear"]
    assert Tfidf.fit(texts, 3).terms == ["apple", "pear", "plum"]
    assert Tfidf.fit(texts[::-1], 3).terms == ["apple", "pear", "plum"]


def test_a_text_without_a_known_word_has_a_row_of_zeros():
    assert Tfidf.fit(TEXTS).transform(["", "unheard"]).nnz == 0


def test_saved_and_read_again_it_counts_the_same(tmp_path):
    fitted = Tfidf.fit(TEXTS)
    fitted.save(tmp_path)
    again = Tfidf.load(tmp_path)
    assert again.key == fitted.key
    np.testing.assert_array_equal(
        again.transform(TEXTS).toarray(), fitted.transform(TEXTS).toarray()
    )
    assert json.loads((tmp_path / FILE).read_text())["terms"] == fitted.terms


def test_the_key_tells_vocabularies_apart():
    assert Tfidf.fit(TEXTS).key != Tfidf.fit(TEXTS[:3]).key


@pytest.mark.parametrize("content", ["{}", "not json", '{"terms": ["a"], "idf": [1, 2]}'])
def test_a_damaged_vocabulary_says_what_to_do(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ImageherdError, match="embed --tfidf"):
        Tfidf.load(tmp_path)


def test_texts_without_words_and_too_few_features_are_refused():
    with pytest.raises(ImageherdError, match="no word"):
        Tfidf.fit(["the of and", "?"])
    with pytest.raises(ValueError, match="n_features=0"):
        Tfidf.fit(TEXTS, 0)
