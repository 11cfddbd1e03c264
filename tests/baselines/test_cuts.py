import numpy as np
import pytest
import torch
from sklearn.cluster import AgglomerativeClustering, KMeans, SpectralClustering
from sklearn.datasets import load_digits, make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from tests.reference import cpp as reference

from imageherd.baselines import Agglomerative, Spectral, SpectralPi
from imageherd.baselines.graph import knn_links
from imageherd.heads.scaling import apply_scaler
from imageherd.neighbors import knn_graph


@parametrize_with_checks([Spectral(random_state=0), SpectralPi(random_state=0), Agglomerative()])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:600].astype(np.float32), y[:600]


@pytest.mark.parametrize("method", [Spectral, SpectralPi, Agglomerative])
def test_well_separated(method):
    X, y = make_blobs([300, 200, 100, 50], 16, center_box=(-8, 8), random_state=0)
    head = method(4, random_state=0).fit(X)
    assert adjusted_rand_score(y, head.labels_) > 0.99
    new, where = make_blobs([30, 20, 10, 5], 16, center_box=(-8, 8), random_state=0)
    assert adjusted_rand_score(where, head.predict(new)) > 0.95


def test_links():
    found = knn_links(torch.tensor([[1, 2], [0, 2], [1, 0]])).toarray()
    np.testing.assert_array_equal(found, [[0, 1, 1], [1, 0, 1], [1, 1, 0]])


def test_spectral_cuts_where_scikit_learn_does(digits):
    X, y = digits
    ours = Spectral(10, n_neighbors=10, random_state=0).fit(X)
    ids = knn_graph(X, 10).ids
    links = np.zeros((600, 600))
    np.put_along_axis(links, ids.astype(np.int64), 1, axis=1)
    cut = SpectralClustering(
        10, affinity="precomputed", assign_labels="cluster_qr", random_state=0
    ).fit((links + links.T) / 2)
    theirs = adjusted_rand_score(y, cut.labels_)
    assert adjusted_rand_score(y, ours.labels_) > theirs - 0.03
    assert adjusted_rand_score(cut.labels_, ours.labels_) > 0.9


def test_spectral_finds_rings_where_centres_cannot():
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    ring, nothing = np.c_[np.cos(angles), np.sin(angles)], np.zeros((200, 2))
    X = np.r_[np.c_[ring, nothing], np.c_[nothing, ring]]
    y = np.repeat([0, 1], 200)
    assert adjusted_rand_score(y, Spectral(2, random_state=0).fit_predict(X)) == 1
    assert adjusted_rand_score(y, KMeans(2, n_init=10, random_state=0).fit_predict(X)) < 0.5


def test_spectral_uses_the_graph_it_is_given(digits):
    X, _ = digits
    graph = knn_graph(X, 30)
    own = Spectral(10, random_state=0).fit(X).labels_
    np.testing.assert_array_equal(Spectral(10, random_state=0).fit(X, neighbors=graph).labels_, own)


def test_pi_is_cut_where_the_reference_cuts_it(digits):
    X, _ = digits
    ours = SpectralPi(10, scaling="standard", gamma=0.08, random_state=0).fit(X)
    C = apply_scaler(ours.scaler_, X).double().numpy()
    C /= np.linalg.norm(C, axis=1, keepdims=True)
    plan = np.exp(C @ C.T / 0.08)
    for axis in (1, 0, 1, 0, 1):
        plan /= plan.sum(axis, keepdims=True)
    embedding = reference.spectral_embedding(plan, 10)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    theirs = KMeans(10, n_init=10, random_state=0).fit_predict(embedding)
    assert adjusted_rand_score(theirs, ours.labels_) > 0.95


def test_pi_of_two_spaces_is_pi_of_the_mean_cosine():
    X, y = make_blobs([60, 60, 60], 8, center_box=(-8, 8), random_state=2)
    other = np.random.default_rng(0).normal(size=(180, 40))
    alone = SpectralPi(3, random_state=0).fit(X)
    both = SpectralPi(3, blocks=(8, 40), random_state=0).fit(np.c_[X, 1e3 * other])
    assert adjusted_rand_score(alone.labels_, both.labels_) > 0.95
    swamped = SpectralPi(3, random_state=0).fit(np.c_[X, 1e3 * other])
    assert adjusted_rand_score(y, swamped.labels_) < 0.5


@pytest.mark.parametrize("linkage", ["ward", "average", "complete", "single"])
def test_agglomerative_is_scikit_learns(digits, linkage):
    X, _ = digits
    head = Agglomerative(10, linkage=linkage, scaling="pca", n_neighbors=10).fit(X)
    Z = apply_scaler(head.scaler_, X).numpy()
    ids = torch.from_numpy(knn_graph(X, 10).ids.astype(np.int64))
    theirs = AgglomerativeClustering(10, linkage=linkage, connectivity=knn_links(ids))
    np.testing.assert_array_equal(head.labels_, theirs.fit_predict(Z))


def test_a_graph_in_pieces_is_joined_in_silence(recwarn):
    X = np.repeat(np.eye(4), 30, axis=0) + np.random.default_rng(0).normal(0, 0.01, (120, 4))
    assert len(set(Agglomerative(2, n_neighbors=5).fit(X).labels_.tolist())) == 2
    assert not len(recwarn)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (Agglomerative(linkage="far"), "linkage='far'"),
        (SpectralPi(gamma=0.0), "gamma == 0.0"),
        (SpectralPi(n_landmarks=9), "n_landmarks == 9"),
    ],
)
def test_bad_parameters_are_named(head, message):
    with pytest.raises(ValueError, match=message):
        head.fit(np.eye(20))
