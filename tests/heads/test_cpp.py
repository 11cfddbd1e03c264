import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from tests.reference import cpp as reference

from imageherd.heads import sinkhorn
from imageherd.heads.cpp import CPP, PRESETS
from imageherd.heads.loop import LossNotFiniteError
from imageherd.heads.sinkhorn import (
    column_potentials,
    default_gamma,
    membership,
    whole_membership,
)

QUICK = {
    "hidden": 16,
    "n_features_out": 12,
    "epochs": 2,
    "start_epochs": 1,
    "min_steps": 6,
    "device": "cpu",
    "random_state": 0,
}


@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs(240, 8, centers=4, cluster_std=1.5, random_state=3)
    return X.astype(np.float32), y


@pytest.fixture(scope="module")
def fitted(blobs):
    return CPP(4, **QUICK).fit(blobs[0])


@pytest.mark.filterwarnings("ignore::imageherd.heads.base.CollapseWarning")
@parametrize_with_checks([CPP(**QUICK)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def unit_rows(seed, n, dz=6):
    C = np.random.default_rng(seed).normal(size=(n, dz))
    return C / np.linalg.norm(C, axis=1, keepdims=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 30), st.floats(0.05, 1.0))
def test_membership_is_sinkhorns_plan(seed, n, gamma):
    C = unit_rows(seed, n)
    codes = torch.from_numpy(C)
    Pi = membership(codes, codes, column_potentials(codes, gamma), gamma).numpy()
    np.testing.assert_allclose(Pi, n * reference.sinkhorn_plan(C, gamma), atol=1e-9)
    np.testing.assert_allclose(Pi.sum(1), 1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 10))
def test_balance_is_the_penalty_of_unbalanced_sinkhorn(seed, rho):
    C = unit_rows(seed, 15)
    found = column_potentials(torch.from_numpy(C), 0.2, rho / (rho + 0.2))
    expected = reference.unbalanced_potentials(C, 0.2, rho, rounds=2)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


def test_more_balance_gives_columns_more_equal_sums_and_small_clusters_their_share():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [150, 30, 20])
    C = np.eye(6)[y] + 0.2 * rng.normal(size=(200, 6))
    C = torch.from_numpy(C / np.linalg.norm(C, axis=1, keepdims=True))
    uneven, shares = [], []
    for balance in (0.0, 0.5, 1.0):
        Pi = membership(C, C, column_potentials(C, 0.3, balance), 0.3)
        uneven.append(Pi.sum(0).std().item())
        shares.append(Pi[:, y == 2].sum().item() / 200)
    assert uneven[0] > uneven[1] > uneven[2]
    assert uneven[2] < 0.25 * uneven[0]
    assert shares[0] < shares[1] < shares[2] == pytest.approx(0.1, abs=0.01)


def test_blocks_of_rows_do_not_show(monkeypatch):
    C = torch.from_numpy(unit_rows(0, 30))
    v = column_potentials(C, 0.2)
    monkeypatch.setattr(sinkhorn, "BLOCK_ROWS", 7)
    torch.testing.assert_close(column_potentials(C, 0.2), v)
    torch.testing.assert_close(whole_membership(C, v, 0.2), membership(C, C, v, 0.2))


def test_gradient_of_membership_leaves_the_potentials_alone():
    C = torch.from_numpy(unit_rows(0, 7)).requires_grad_()
    v = column_potentials(C, 0.2)
    assert not v.requires_grad
    assert torch.autograd.gradcheck(lambda C: membership(C, C, v, 0.2), (C,))


def test_default_gamma_gives_the_papers_values():
    for n_clusters, paper in ((10, 0.175), (20, 0.13), (100, 0.1)):
        assert default_gamma(n_clusters) == pytest.approx(paper, abs=0.005)
    assert default_gamma(1) == default_gamma(2) == 0.175
    assert default_gamma(10**6) == 0.1


def subspaces(n=1000, n_clusters=5, dim=3, d=30, noise=0.05, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_clusters
    bases = [np.linalg.qr(rng.normal(size=(d, dim)))[0] for _ in range(n_clusters)]
    X = np.stack([bases[c] @ rng.normal(size=dim) for c in y])
    return (X + noise * rng.normal(size=X.shape)).astype(np.float32), y


def test_union_of_subspaces_where_kmeans_fails():
    X, y = subspaces()
    kmeans = KMeans(5, n_init=10, random_state=0).fit_predict(X)
    assert adjusted_rand_score(y, kmeans) < 0.7
    head = CPP(5, random_state=0, device="cpu").fit(X)
    assert adjusted_rand_score(y, head.labels_) >= 0.95
    new, y_new = subspaces(1300)
    assert adjusted_rand_score(y_new[1000:], head.predict(new[1000:])) >= 0.9
    curve = head.coding_length_curve(range(1, 11))
    assert curve.elbow == 5


def test_unequal_blobs_with_defaults():
    X, y = make_blobs([80, 60, 40, 20], 16, cluster_std=2.0, random_state=0)
    head = CPP(4, random_state=0, device="cpu").fit(X.astype(np.float32))
    assert head.n_iter_ * (200 // 50) >= 120
    assert adjusted_rand_score(y, head.labels_) >= 0.95


def test_prediction_against_reference(blobs, fitted):
    X, _ = blobs
    network = fitted.network_
    part = {
        name: getattr(network, f"landmark_{name}").numpy()
        for name in ("codes", "potentials", "labels")
    }
    expected = reference.cluster_probabilities(
        fitted.codes_.astype(np.float64),
        part["codes"].astype(np.float64),
        part["potentials"].astype(np.float64),
        part["labels"],
        fitted.landmark_gamma,
        4,
    )
    np.testing.assert_allclose(fitted.predict_proba(X), expected, atol=1e-6)
    np.testing.assert_array_equal(fitted.labels_, expected.argmax(1))
    np.testing.assert_array_equal(fitted.labels_, fitted.predict(X))


def test_a_label_does_not_depend_on_its_batch(blobs, fitted):
    X, _ = blobs
    one_by_one = np.concatenate([fitted.predict_proba(X[i : i + 1]) for i in range(0, 240, 40)])
    np.testing.assert_array_equal(one_by_one, fitted.predict_proba(X)[::40])


def test_landmarks_label_all_rows(blobs):
    X, y = blobs
    head = CPP(4, **{**QUICK, "n_landmarks": 60, "min_steps": 60, "lr": 1e-3}).fit(X)
    assert head.n_landmarks_ == 60
    assert head.codes_.shape == (240, 12)
    assert adjusted_rand_score(y, head.labels_) > 0.9


def test_another_number_of_clusters_without_training(blobs, fitted):
    X, _ = blobs
    np.testing.assert_array_equal(fitted.labels_for(4), fitted.labels_)
    for n_clusters in (1, 2, 7):
        labels = fitted.labels_for(n_clusters)
        assert set(labels) <= set(range(n_clusters))
        np.testing.assert_array_equal(labels, fitted.labels_for(n_clusters, X))
        other = fitted.with_clusters(n_clusters)
        np.testing.assert_array_equal(labels, other.predict(X))
        assert other.predict_proba(X).shape == (240, n_clusters)
    assert len(set(fitted.labels_for(2))) == 2
    assert fitted.n_clusters == fitted.network_.n_clusters == 4
    np.testing.assert_array_equal(fitted.predict(X), fitted.labels_)
    with pytest.raises(ValueError, match="X=None"):
        fitted.with_clusters(3).labels_for(2)
    for wrong in (0, 241):
        with pytest.raises(ValueError, match="n_clusters"):
            fitted.labels_for(wrong)


def test_coding_length_curve(fitted):
    curve = fitted.coding_length_curve([6, 2, 4, 1, 2])
    assert curve.n_clusters.tolist() == [1, 2, 4, 6]
    assert curve.minimum == curve.n_clusters[curve.lengths.argmin()]
    Z = fitted.network_.landmark_features.numpy().astype(np.float64)
    whole = reference.coding_length(Z, np.zeros(len(Z)), fitted.eps2)
    assert curve.lengths[0] == pytest.approx(whole, rel=1e-6)
    labels = fitted.network_.landmark_labels.numpy()
    expected = reference.coding_length(Z, labels, fitted.eps2)
    assert curve.lengths[2] == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="empty"):
        fitted.coding_length_curve([])
    with pytest.raises(ValueError, match="n_clusters"):
        fitted.coding_length_curve([0, 2])


def test_round_trip(blobs, fitted, tmp_path):
    X, _ = blobs
    fitted.save(tmp_path / "four")
    loaded = CPP.load(tmp_path / "four", device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))
    np.testing.assert_array_equal(loaded.labels_for(3, X), fitted.labels_for(3))
    found, expected = (h.coding_length_curve([2, 3]).lengths for h in (loaded, fitted))
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="give X"):
        loaded.labels_for(3)
    fitted.with_clusters(7).save(tmp_path / "seven")
    seven = CPP.load(tmp_path / "seven", device="cpu")
    np.testing.assert_array_equal(seven.predict(X), fitted.labels_for(7))


def test_transform_gives_unit_rows(blobs, fitted):
    Z = fitted.transform(blobs[0])
    assert Z.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(Z, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(Z, fitted.network_.landmark_features, atol=1e-5)


def test_warm_start_spreads_z_and_hands_it_to_c(blobs):
    X, _ = blobs
    params = {**QUICK, "epochs": 4, "start_epochs": 2, "lr": 1e-3}
    rates = [(e["rate"], e["compression"]) for e in CPP(4, **params).fit(X).history_]
    assert rates[0][0] < rates[1][0]
    assert [cost > 0 for _, cost in rates] == [False, False, True, True]
    # Ended by the caller before C has been trained: then it is what Z is.
    head = CPP(4, **params).fit(X, callback=lambda info: info["epoch"] == 1)
    assert torch.equal(head.network_.to_codes.weight, head.network_.to_features.weight)
    ablation = CPP(4, **{**params, "warm_start": False}).fit(X)
    assert all(entry["compression"] > 0 for entry in ablation.history_)
    assert not torch.equal(ablation.network_.to_codes.weight, ablation.network_.to_features.weight)


def test_history_tells_how_the_last_batch_would_be_clustered(blobs):
    X, _ = blobs
    params = {**QUICK, "epochs": 3, "start_epochs": 1, "batch_size": 500, "lr": 1e-3}
    history = CPP(4, **{**params, "min_steps": 60}).fit(X).history_
    assert history[-1]["used_clusters"] == 4
    assert history[-1]["marginal_entropy"] == pytest.approx(np.log(4), abs=0.1)
    assert 0 < history[-1]["conditional_entropy"] < history[-1]["marginal_entropy"]


def test_penalty_makes_memberships_wider(blobs):
    X, _ = blobs
    params = {**QUICK, "min_steps": 40, "lr": 1e-3}
    narrow, wide = (
        CPP(4, **params, membership_penalty=p).fit(X).history_[-1]["membership_entropy"]
        for p in (0.0, 5.0)
    )
    assert narrow < wide


def test_same_seed_same_bytes_and_another_seed_not(blobs, fitted):
    X, _ = blobs
    again = CPP(4, **QUICK).fit(X)
    other = CPP(4, **{**QUICK, "random_state": 1}).fit(X)
    for name, value in fitted.network_.state_dict().items():
        assert torch.equal(value, again.network_.state_dict()[name]), name
    assert not torch.equal(fitted.network_.to_codes.weight, other.network_.to_codes.weight)
    state = torch.get_rng_state()
    CPP(4, **QUICK).fit(X)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_interrupted_and_resumed_ends_with_the_same_bytes(blobs, tmp_path, monkeypatch, stop):
    X, _ = blobs
    monkeypatch.setattr("imageherd.heads.loop.CHECKPOINT_SECONDS", 0.0)
    params = {**QUICK, "epochs": 5, "start_epochs": 2}
    whole = CPP(4, **params).fit(X)

    def interrupt(info):
        if info["epoch"] == stop:
            raise KeyboardInterrupt

    path = tmp_path / "run.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        CPP(4, **params).fit(X, callback=interrupt, checkpoint=path)
    resumed = CPP(4, **params).fit(X, checkpoint=path)
    assert torch.equal(whole.network_.to_codes.weight, resumed.network_.to_codes.weight)
    assert whole.history_ == resumed.history_
    np.testing.assert_array_equal(whole.labels_, resumed.labels_)


@pytest.mark.filterwarnings("ignore::imageherd.heads.base.CollapseWarning")
@pytest.mark.parametrize("n", [2, 3, 7, 8, 31, 50])
def test_few_rows(n):
    X = np.random.default_rng(0).normal(size=(n, 3))
    for n_clusters in {1, 2, min(n, 12)}:
        head = CPP(n_clusters, **QUICK).fit(X)
        assert head.labels_.shape == (n,)
        assert np.isfinite(head.predict_proba(X)).all()
    assert len(set(CPP(2, **QUICK).fit(X).labels_)) == 2


def test_constant_and_repeated_rows():
    X = np.repeat(np.random.default_rng(0).normal(size=(3, 5)), 20, axis=0)
    labels = CPP(3, **QUICK).fit(X).labels_
    assert adjusted_rand_score(np.repeat([0, 1, 2], 20), labels) == 1.0
    X[:, 2] = 7
    assert CPP(3, **QUICK).fit(X).labels_.shape == (60,)


def test_presets_are_settings(blobs):
    assert set(PRESETS) == {"cifar10", "cifar20", "cifar100", "imagenet", "coco", "laion"}
    for preset in PRESETS.values():
        CPP(4, **preset)._check_params()
    assert CPP(4, **{**QUICK, "gamma": 0.09}).fit(blobs[0]).gamma_ == 0.09


def test_divergence_says_what_to_do(blobs):
    with pytest.raises(LossNotFiniteError, match=r"lower lr \(now 1e\+38\)"):
        CPP(4, **{**QUICK, "lr": 1e38}).fit(blobs[0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden", 0),
        ("n_features_out", 3),
        ("n_landmarks", 3),
        ("eps2", 0.0),
        ("gamma", 0.0),
        ("landmark_gamma", -1.0),
        ("balance", 1.1),
        ("membership_penalty", -0.1),
        ("epochs", 0),
        ("start_epochs", -1),
        ("start_epochs", 2),
        ("min_steps", -1),
        ("batch_size", 0),
        ("lr", 0.0),
        ("momentum", -0.1),
        ("weight_decay", -1.0),
        ("code_weight_decay", -1.0),
    ],
)
def test_bad_parameters_are_named(blobs, name, value):
    with pytest.raises(ValueError, match=name):
        CPP(4, **{**QUICK, name: value}).fit(blobs[0])


def test_not_fitted():
    with pytest.raises(NotFittedError):
        CPP().labels_for(3)
    with pytest.raises(NotFittedError):
        CPP().coding_length_curve([2])
