"""What every method does the same way, whatever it is: one test a promise, one run a method."""

import warnings

import numpy as np
import pandas
import pytest
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score

from imageherd.heads import HEADS, load_head
from imageherd.heads.base import CollapseWarning
from imageherd.heads.scaling import unit_blocks
from imageherd.neighbors import knn_graph

# Enough training to tell three blobs apart, no more.
QUICK = {
    "tsp": {"epochs": 2, "min_steps": 60, "n_heads": 2},
    "temi": {"min_steps": 100, "n_heads": 2},
    "cpp": {"hidden": 128, "n_features_out": 16, "epochs": 4, "min_steps": 120},
    "scp": {"epochs": 2, "min_steps": 30},
    "infonce": {"epochs": 2, "min_steps": 60},
    "lsdc": {"epochs": 2, "min_steps": 60},
    "turtle": {"min_steps": 60},
    "kmeans": {"n_init": 2},
}
METHODS = list(HEADS)
TOLD_A_NUMBER = [method for method in METHODS if not HEADS[method].counts_itself]
# Of a compact group, matching pursuit uses the nearest row and then whatever fits the rest.
NOT_FOR_BLOBS = ("ssc-omp",)


def make(method, n_clusters=3, **params):
    settings = {**QUICK.get(method, {}), "device": "cpu", "random_state": 0, **params}
    if not HEADS[method].counts_itself:
        settings["n_clusters"] = n_clusters
    return HEADS[method](**settings)


@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs(240, 8, centers=3, cluster_std=0.5, center_box=(-6, 6), random_state=1)
    return X.astype(np.float32), y


@pytest.fixture(scope="module", params=METHODS)
def fitted(request, blobs):
    return request.param, make(request.param).fit(blobs[0])


def test_three_blobs_are_told_apart(fitted, blobs):
    # SSC-OMP finds subspaces, not blobs: it must only not put all rows together.
    bar = 0 if fitted[0] in NOT_FOR_BLOBS else 0.95
    assert adjusted_rand_score(blobs[1], fitted[1].labels_) > bar


def test_labels_and_probabilities(fitted, blobs):
    head = fitted[1]
    P = head.predict_proba(blobs[0])
    assert head.labels_.dtype == np.int32
    assert P.dtype == np.float32
    assert P.shape == (240, head.n_clusters_)
    np.testing.assert_allclose(P.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(P.argmax(1), head.predict(blobs[0]))
    clustered = head.labels_ >= 0
    np.testing.assert_array_equal(head.predict(blobs[0])[clustered], head.labels_[clustered])


def test_a_row_alone_gets_what_it_gets_in_company(fitted, blobs):
    head = fitted[1]
    whole = head.predict_proba(blobs[0])
    for row in (0, 17, 239):
        np.testing.assert_array_equal(head.predict_proba(blobs[0][row : row + 1])[0], whole[row])


def test_transform_has_a_row_for_every_row(fitted, blobs):
    found = fitted[1].transform(blobs[0])
    assert found.ndim == 2
    assert len(found) == 240
    assert np.isfinite(found).all()


def test_same_seed_same_bytes(fitted, blobs):
    method, head = fitted
    again = make(method).fit(blobs[0])
    np.testing.assert_array_equal(head.predict_proba(blobs[0]), again.predict_proba(blobs[0]))


def test_saved_and_loaded(fitted, blobs, tmp_path):
    _, head = fitted
    head.save(tmp_path)
    again = load_head(tmp_path, device="cpu")
    assert type(again) is type(head)
    assert again.n_clusters_ == head.n_clusters_
    assert again.get_params() == head.get_params()
    np.testing.assert_array_equal(again.predict_proba(blobs[0]), head.predict_proba(blobs[0]))
    np.testing.assert_array_equal(again.transform(blobs[0]), head.transform(blobs[0]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "head.safetensors"]


def test_history_is_a_table(fitted):
    head = fitted[1]
    assert head.n_iter_ >= 1
    assert len(head.history_) >= 1
    columns = {frozenset(entry) for entry in head.history_}
    assert len(columns) == 1, "every epoch has the same columns"
    assert {"epoch", "loss"} <= set(head.history_[0])
    if len(head.history_) > 1:
        usage = {"marginal_entropy", "conditional_entropy", "used_clusters"}
        assert usage <= set(head.history_[0])
    assert all(np.isfinite(v) for entry in head.history_ for v in entry.values())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64])
def test_other_numbers(method, dtype, blobs):
    X, y = blobs
    X = (X * 8).astype(dtype)
    if method in NOT_FOR_BLOBS:
        y = make(method).fit_predict(X.astype(np.float32))
    assert adjusted_rand_score(y, make(method).fit_predict(X)) > 0.95


@pytest.mark.parametrize("method", METHODS)
def test_memory_map(method, blobs, tmp_path):
    np.save(tmp_path / "X.npy", blobs[0])
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    np.testing.assert_array_equal(make(method).fit_predict(X), make(method).fit_predict(blobs[0]))


def test_rows_that_are_not_finite_are_named(fitted, blobs):
    method, head = fitted
    X = blobs[0].copy()
    X[[3, 77], 1] = np.nan, np.inf
    for call in (make(method).fit, head.predict):
        with pytest.raises(ValueError, match=r"NaN or infinity in 2 of 240 rows \(3, 77\)"):
            call(X)


@pytest.mark.parametrize("method", TOLD_A_NUMBER)
def test_fewer_rows_than_clusters(method):
    head = make(method, n_clusters=10)
    with pytest.raises(ValueError, match="n_samples=3 should be >= n_clusters=10"):
        head.fit(np.eye(3))


@pytest.mark.parametrize("method", METHODS)
def test_one_sample(method):
    with pytest.raises(ValueError, match="1 sample"):
        make(method, n_clusters=1).fit(np.ones((1, 4)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "X",
    [
        pytest.param(np.ones((60, 5)), id="constant"),
        pytest.param(np.zeros((60, 5)), id="zeros"),
        pytest.param(np.repeat(np.eye(3, 5), 20, axis=0), id="copies"),
        pytest.param(np.linspace(-1, 1, 60)[:, None], id="one feature"),
        pytest.param(np.random.default_rng(0).normal(size=(3, 5)), id="as many rows as clusters"),
    ],
)
@pytest.mark.parametrize("scaling", ["none", "l2", "standard", "pca"])
def test_awkward_data(method, X, scaling):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        head = make(method, scaling=scaling).fit(X)
    assert head.labels_.shape == (len(X),)
    assert head.labels_.min() >= -1
    assert head.labels_.max() < head.n_clusters_
    assert np.isfinite(head.predict_proba(X)).all()


@pytest.mark.parametrize("method", METHODS)
def test_copies_of_three_points_are_three_clusters(method):
    X = np.repeat(np.eye(3, 5), 30, axis=0)
    assert adjusted_rand_score(np.repeat(range(3), 30), make(method).fit_predict(X)) == 1


@pytest.mark.parametrize("method", TOLD_A_NUMBER)
def test_collapse_is_said_with_what_to_change(method):
    head = make(method, n_clusters=4)
    with pytest.warns(CollapseWarning, match=r"used \d of 4 clusters; to use more, \w+"):
        head.fit(np.ones((80, 3)))


@pytest.mark.parametrize("method", METHODS)
def test_two_feature_spaces_count_alike_whatever_their_size(method, blobs, tmp_path):
    X, _ = blobs
    other = X[:, ::-1] + np.random.default_rng(0).normal(size=X.shape).astype(np.float32)
    both, one_large = np.hstack([X, other]), np.hstack([X, 1024 * other])
    head = make(method, scaling="l2", blocks=(8, 8)).fit(both)
    large = make(method, scaling="l2", blocks=(8, 8)).fit(one_large)
    np.testing.assert_array_equal(large.predict_proba(one_large), head.predict_proba(both))
    head.save(tmp_path)
    again = load_head(tmp_path, device="cpu")
    assert again.blocks == (8, 8)
    np.testing.assert_array_equal(again.predict_proba(both), head.predict_proba(both))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ((8, 9), r"blocks=\(8, 9\) add up to 17 columns; X has 16"),
        ((16, 0), "each of blocks == 0, must be >= 1"),
        (16, "blocks=16 must hold the columns of each space"),
    ],
)
def test_blocks_that_do_not_fit(method, blocks, message):
    with pytest.raises(ValueError, match=message):
        make(method, blocks=blocks).fit(np.random.default_rng(0).normal(size=(40, 16)))


def test_default_graph_is_on_the_mean_of_the_spaces_similarities():
    rng = np.random.default_rng(0)
    X = np.hstack([rng.normal(size=(50, 3)), 100 * rng.normal(size=(50, 4))])
    a, b = X[:, :3], X[:, 3:]
    cosines = [
        (Y @ Y.T) / np.linalg.norm(Y, axis=1)[:, None] / np.linalg.norm(Y, axis=1) for Y in (a, b)
    ]
    mean = (cosines[0] + cosines[1]) / 2
    np.fill_diagonal(mean, -np.inf)
    ids = knn_graph(unit_blocks(X, (3, 4)), 5).ids
    np.testing.assert_array_equal(ids, np.argsort(-mean, axis=1)[:, :5])


@pytest.mark.parametrize("method", METHODS)
def test_views_are_refused_or_used(method, blobs):
    X, _ = blobs
    views = np.stack([X, X + 0.1], axis=1)
    head = make(method)
    if head.uses_views:
        with pytest.raises(ValueError, match=r"views has shape \(240, 8\).*\(240, V, 8\)"):
            head.fit(X, views=X)
        with pytest.raises(ValueError, match="views contains NaN"):
            head.fit(X, views=np.full_like(views, np.nan))
        plain = make(method).fit(X).predict_proba(X)
        assert not np.array_equal(head.fit(X, views=views).predict_proba(X), plain)
    else:
        with pytest.raises(ValueError, match="does not train on views"):
            head.fit(X, views=views)


def test_names_of_columns_survive_saving(tmp_path):
    X = pandas.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=["a", "b", "c"])
    make("kmeans").fit(X).save(tmp_path)
    head = load_head(tmp_path)
    assert head.feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="feature names"):
        head.predict(X[["c", "b", "a"]])
