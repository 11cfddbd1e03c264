import numpy as np
import pytest
import sklearn.cluster
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from imageherd.baselines import HDBSCAN
from imageherd.heads.base import CollapseWarning
from imageherd.heads.scaling import apply_scaler


@parametrize_with_checks([HDBSCAN()])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def noisy():
    X, y = make_blobs([200, 120, 80], 6, center_box=(-15, 15), random_state=0)
    noise = np.random.default_rng(0).uniform(-40, 40, (40, 6))
    return np.r_[X, noise].astype(np.float32), np.r_[y, np.full(40, -1)]


def test_counts_and_leaves_out(noisy):
    X, y = noisy
    head = HDBSCAN().fit(X)
    assert head.n_clusters_ == 3
    assert adjusted_rand_score(y, head.labels_) > 0.95
    left_out = head.labels_ < 0
    assert np.mean(left_out[400:]) > 0.9
    assert np.mean(left_out[:400]) < 0.05
    assert head.n_voters_ == (~left_out).sum()


def test_is_scikit_learns(noisy):
    X, _ = noisy
    head = HDBSCAN(min_cluster_size=20, min_samples=8).fit(X)
    Z = apply_scaler(head.scaler_, X).numpy()
    theirs = sklearn.cluster.HDBSCAN(min_cluster_size=20, min_samples=8, copy=True).fit_predict(Z)
    np.testing.assert_array_equal(head.labels_, theirs)


def test_rows_left_out_are_predicted_like_any_other(noisy, tmp_path):
    X, _ = noisy
    head = HDBSCAN(scaling="none").fit(X)
    found = head.predict(X)
    inside = head.labels_ >= 0
    np.testing.assert_array_equal(found[inside], head.labels_[inside])
    means = np.stack([X[head.labels_ == c].mean(0) for c in range(3)])
    nearest = np.linalg.norm(X[:, None] - means[None], axis=2).argmin(1)
    assert np.mean(found[~inside] == nearest[~inside]) > 0.9
    assert head.predict_proba(X).shape == (440, 3)
    head.save(tmp_path)
    again = HDBSCAN.load(tmp_path)
    assert again.n_clusters_ == 3
    np.testing.assert_array_equal(again.predict_proba(X), head.predict_proba(X))


def test_nothing_dense_is_no_cluster(tmp_path):
    X = np.random.default_rng(0).uniform(size=(60, 3))
    with pytest.warns(CollapseWarning, match="found no cluster; to find some, lower min_cluster"):
        head = HDBSCAN(min_cluster_size=40).fit(X)
    assert head.n_clusters_ == 0
    assert (head.labels_ == -1).all()
    assert (head.predict(X) == -1).all()
    assert head.predict_proba(X).shape == (60, 0)
    head.save(tmp_path)
    assert (HDBSCAN.load(tmp_path).predict(X[:5]) == -1).all()


def test_three_gaussians_are_not_dozens_of_clusters():
    X, y = make_blobs([200, 120, 80], 6, center_box=(-15, 15), random_state=0)
    assert adjusted_rand_score(y, HDBSCAN().fit_predict(X)) > 0.95
    assert HDBSCAN(min_cluster_size=5).fit(X).n_clusters_ > 10


def test_default_size_grows_with_the_rows():
    X, _ = make_blobs([20, 400, 400, 6200], 2, center_box=(-60, 60), random_state=3)
    assert HDBSCAN().fit(X).n_clusters_ == 3
    assert HDBSCAN(min_cluster_size=15).fit(X).n_clusters_ > 3


@pytest.mark.parametrize(
    ("params", "message"),
    [({"min_cluster_size": 1}, "min_cluster_size == 1"), ({"min_samples": 0}, "min_samples == 0")],
)
def test_bad_parameters_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        HDBSCAN(**params).fit(np.eye(9))
