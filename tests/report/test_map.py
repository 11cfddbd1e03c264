"""The 2-D map: blobs stay apart, the same seed gives the same bytes, any n has a place."""

import numpy as np
import pytest

from imageherd.report.map import layout


def blobs(n, n_blobs=4, d=64, noise=0.4):
    rng = np.random.default_rng(1)
    labels = np.arange(n) % n_blobs
    X = rng.normal(size=(n_blobs, d))[labels] + noise * rng.normal(size=(n, d))
    return X.astype(np.float32), labels


def agreement(xy, labels, among=None):
    """Return the share of points whose 5 nearest on the map have the same label."""
    among = np.arange(len(xy)) if among is None else among
    distances = np.linalg.norm(xy[:, None] - xy[among][None], axis=2)
    distances[among, np.arange(len(among))] = np.inf
    nearest = among[np.argsort(distances, axis=1)[:, :5]]
    return (labels[nearest] == labels[:, None]).mean()


@pytest.mark.parametrize("n", [60, 400])
def test_blobs_stay_apart(n):
    X, labels = blobs(n)
    xy = layout(X)
    assert xy.shape == (n, 2)
    assert xy.dtype == np.float32
    assert agreement(xy, labels) > 0.97


def test_noise_is_no_blobs():
    # The measure above would be worthless if anything passed it.
    X, labels = blobs(400, noise=50)
    assert agreement(layout(X), labels) < 0.6


def test_same_seed_same_bytes_and_another_seed_another_map():
    X, _ = blobs(150)
    assert layout(X, random_state=3).tobytes() == layout(X, random_state=3).tobytes()
    assert layout(X, random_state=3).tobytes() != layout(X, random_state=4).tobytes()


def test_scaling_a_row_changes_nothing_as_rows_are_compared_by_cosine():
    X, labels = blobs(100)
    lengths = np.geomspace(0.01, 100, 100)[:, None].astype(np.float32)
    assert agreement(layout(X * lengths), labels) > 0.97


def test_rows_beyond_the_sample_land_beside_their_neighbours():
    X, labels = blobs(1_200)
    xy = layout(X, max_points=300)
    sampled = np.sort(np.random.default_rng(0).choice(1_200, 300, replace=False))
    assert agreement(xy, labels, among=sampled) > 0.97
    assert xy.tobytes() == layout(X, max_points=300).tobytes()


def test_a_placed_copy_lands_on_its_original():
    X, _ = blobs(200)
    sampled = np.sort(np.random.default_rng(0).choice(400, 200, replace=False))
    placed = np.setdiff1d(np.arange(400), sampled)
    both = np.empty((400, X.shape[1]), np.float32)
    both[sampled] = both[placed] = X
    xy = layout(both, max_points=200)
    np.testing.assert_allclose(xy[placed], xy[sampled], atol=0.1 * xy.std())


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 11, 12, 13, 31])
@pytest.mark.parametrize("d", [1, 2, 64])
def test_any_number_of_rows_has_finite_places(n, d):
    X = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)
    xy = layout(X)
    assert xy.shape == (n, 2)
    assert np.isfinite(xy).all()


@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
@pytest.mark.parametrize("n", [2, 40, 300])
def test_rows_that_are_all_the_same_are_spread_over_a_disc(n, value):
    xy = layout(np.full((n, 24), value, np.float32), max_points=200)
    assert np.isfinite(xy).all()
    assert len(np.unique(xy.round(5), axis=0)) >= min(n, 200)


def test_copies_among_other_rows_do_no_harm():
    X, labels = blobs(120)
    X[labels == 0] = X[0]
    xy = layout(X)
    assert np.isfinite(xy).all()
    assert agreement(xy, labels) > 0.97


def test_what_is_not_a_table_of_finite_numbers_is_refused():
    with pytest.raises(ValueError, match="2-D"):
        layout(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="not finite"):
        layout(np.array([[1, np.nan], [0, 1]], np.float32))


def test_nothing_is_printed(capfd):
    layout(blobs(100)[0])
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ""
