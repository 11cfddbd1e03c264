"""Texts to vectors: how often each of the most frequent words is used, the rare ones counting more.

What LSD-C and those before it feed on for Reuters: tf-idf of the 2,000 most frequent words.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from imageherd.backbones.base import identity_key
from imageherd.errors import ImageherdError
from imageherd.files import read_json, write_json

TFIDF = "tfidf"
FILE = "tfidf.json"
N_FEATURES = 2000
SETTINGS = {
    "tf": "1 + ln",
    "idf": "ln((1 + n) / (1 + df)) + 1",
    "norm": "l2",
    "words": "two or more letters, digits or underscores, lower-cased",
    "stop_words": "english",
}


class Tfidf:
    """A fitted vocabulary and how much each of its words counts.

    A text's vector has (1 + ln tf) · idf for a word that is tf times in it, scaled to length 1;
    idf = ln((1 + n) / (1 + df)) + 1 of n texts, df of which have the word. Words are runs of two
    or more letters, digits or underscores, lower-cased; scikit-learn's 318 English stop words are
    left out. Texts of other languages work, with their own stop words among the features.

    Parameters
    ----------
    terms : sequence of str
        The words, sorted; feature j counts ``terms[j]``.
    idf : ndarray of float64, shape (d,)
        Of each word.

    Attributes
    ----------
    name : str
        "tfidf".
    dim : int
        Words, d.
    identity, key
        As of a backbone: settings and a hash of words and idf.
    """

    name = TFIDF

    def __init__(self, terms: Sequence[str], idf: NDArray[np.float64]) -> None:
        self.terms = list(terms)
        self.idf = np.asarray(idf, dtype=np.float64)
        if self.idf.shape != (len(self.terms),):
            raise ValueError(f"idf has shape {self.idf.shape}, not ({len(self.terms)},)")
        self.dim = len(self.terms)

    @classmethod
    def fit(cls, texts: Sequence[str], n_features: int = N_FEATURES) -> Tfidf:
        """Learn the words of `texts`: the most frequent ones, equal ones in alphabetical order.

        Parameters
        ----------
        texts : sequence of str
            All at once in memory, and about 12 bytes for each different word of each text.
        n_features : int, default=2000
            Words at most.

        Raises
        ------
        ImageherdError
            If there is no word in them.
        ValueError
            If `n_features` is below 1.
        """
        from sklearn.feature_extraction.text import CountVectorizer

        if n_features < 1:
            raise ValueError(f"n_features={n_features} must be at least 1")
        counter = CountVectorizer(stop_words="english")
        try:
            counts = counter.fit_transform(texts)
        except ValueError as error:
            raise ImageherdError(
                "There is no word in the texts: words have two letters at least, and those such as "
                "'the' and 'of' do not count."
            ) from error
        terms = counter.get_feature_names_out()
        total = np.asarray(counts.sum(axis=0)).ravel()
        chosen = np.sort(np.lexsort((np.arange(len(terms)), -total))[:n_features])
        df = np.bincount(counts.indices, minlength=len(terms))[chosen]
        return cls(terms[chosen].tolist(), np.log((1 + len(texts)) / (1 + df)) + 1)

    def transform(self, texts: Sequence[str]) -> csr_array:
        """Return the vectors of some texts, sparse, float32 of shape (n, d).

        A text without a known word has a row of zeros.
        """
        from sklearn.feature_extraction.text import CountVectorizer

        counts = CountVectorizer(vocabulary=self.terms).transform(texts)
        weights = (1 + np.log(counts.data)) * self.idf[counts.indices]
        rows = np.repeat(np.arange(len(texts)), np.diff(counts.indptr))
        length = np.sqrt(np.bincount(rows, weights**2, minlength=len(texts)))
        data = (weights / length[rows]).astype(np.float32)
        return csr_array((data, counts.indices, counts.indptr), shape=counts.shape)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that the vectors depend on, as plain JSON values."""
        learned = json.dumps([self.terms, self.idf.tolist()], ensure_ascii=True)
        return {
            "model": self.name,
            "output": TFIDF,
            **SETTINGS,
            "vocabulary_sha256": hashlib.sha256(learned.encode()).hexdigest(),
        }

    @cached_property
    def key(self) -> str:
        """Name of the feature set."""
        return identity_key(self.identity)

    def save(self, folder: Path) -> None:
        """Write words and idf into the feature set's folder, as JSON anyone can read."""
        idf = self.idf.tolist()
        write_json(folder / FILE, {"format": 1, **SETTINGS, "terms": self.terms, "idf": idf})

    @classmethod
    def load(cls, folder: Path) -> Tfidf:
        """Read what `save` wrote.

        Raises
        ------
        ImageherdError
            If it is not there or is damaged.
        """
        try:
            kept = read_json(folder / FILE)
            found = cls(kept["terms"], np.array(kept["idf"], dtype=np.float64))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ImageherdError(
                f"{folder / FILE}, the words that the texts' features count, cannot be read "
                f"({error}). Run embed --tfidf again."
            ) from error
        return found
