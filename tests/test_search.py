"""Searching a herd, and the index for large ones, against brute force in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imageherd.errors import ImageherdError
from imageherd.search_index import nearest


def brute(X, query, n):
    """The n nearest by cosine: positions and similarities, ties by position."""
    X, query = np.asarray(X, np.float64), np.asarray(query, np.float64)
    lengths = np.linalg.norm(X, axis=1) * np.linalg.norm(query)
    similarity = np.divide(X @ query, lengths, out=np.zeros(len(X)), where=lengths > 0)
    order = np.lexsort((np.arange(len(X)), -similarity.astype(np.float32)))[:n]
    return order, similarity.astype(np.float32)[order]


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 70),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e25]),
    dtype=st.sampled_from([np.float32, np.float16]),
)
@settings(max_examples=25, deadline=None)
def test_nearest_is_brute_force(seed, n, scale, dtype):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(3000, 12)).astype(dtype)
    if dtype == np.float32:
        X *= np.float32(scale)
    # Copies across blocks, and a vector of zeros.
    X[1500:1540], X[2999], X[7] = X[3], X[4], 0
    queries = np.concatenate([X[[3, 4]], rng.normal(size=(1, 12))])
    at, similarity = nearest(lambda rows: X[rows], len(X), queries, n)
    for i, query in enumerate(queries):
        expected = brute(X, query, n)
        assert np.array_equal(at[i], expected[0])
        assert similarity[i] == pytest.approx(expected[1], abs=1e-7)


def test_a_herd_is_searched_by_item(herd):
    data = herd.features()
    hits = herd.search(item=5, n=10)
    at, similarity = brute(data.X, data.X[5], 11)
    assert at[0] == 5
    assert np.array_equal(hits.rows, data.rows[at[1:]])
    assert hits.similarity == pytest.approx(similarity[1:], abs=1e-7)
    assert (hits.item, hits.recall, hits.key) == (5, None, data.key)
    path = herd.items()["path"][5].as_py()
    assert np.array_equal(herd.search(item=path, n=10).rows, hits.rows)
    assert len(herd.search(item=5).rows) == 47


def test_an_image_of_the_herd_finds_itself(herd, photos):
    file = photos / herd.items()["path"][8].as_py()
    hits = herd.search(image=file, n=3)
    assert hits.rows[0] == 8
    assert hits.similarity[0] == 1
    assert np.array_equal(hits.rows[1:], herd.search(item=8, n=2).rows)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "Give one thing to search for"),
        ({"item": 1, "text": "hat"}, "Give one thing to search for"),
        ({"item": 1, "by": "heads"}, "by='heads' is not known; choose features or head"),
        ({"item": 1, "n": 0}, "n=0 is too few"),
        ({"item": -1}, "Row -1 is no image with features"),
        ({"item": 99}, "Row 99 is no image with features"),
        ({"item": "no.jpg"}, "No image of the herd has the path 'no.jpg'.*such as 'left/0.jpg'"),
        ({"item": "left/empty.jpg"}, "No image of the herd has the path"),
        ({"image": "no.jpg"}, "There is no image file no.jpg"),
        ({"text": "hat"}, "features of a CLIP or SigLIP model only.*are of efficientnet-lite0"),
        ({"text": "hat", "by": "head"}, "no input for a head"),
        ({"item": 1, "by": "head"}, "made by kmeans, which has no features of its own"),
        ({"item": 1, "by": "head", "name": "x"}, "has no clustering 'x'"),
    ],
)
def test_what_cannot_be_searched_is_said(herd, options, expected):
    with pytest.raises(ImageherdError, match=expected):
        herd.search(**options)
