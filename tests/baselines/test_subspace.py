import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.linear_model import ElasticNet, orthogonal_mp
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from imageherd.baselines import SSCOMP, EnSC, KMeans, subspace
from imageherd.baselines.subspace import code_affinity, elastic_net_codes, omp_codes

# Three groups of points in the plane: any two rows write every third one, whatever its group, so
# the codes of orthogonal matching pursuit say nothing. Its subspaces need room.
IN_THE_PLANE = {"check_clustering": "two rows of the plane write any other"}


@parametrize_with_checks(
    [EnSC(random_state=0), SSCOMP(random_state=0)],
    expected_failed_checks=lambda head: IN_THE_PLANE if isinstance(head, SSCOMP) else {},
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def planted(*, n_each=80, n_subspaces=5, dimension=6, d=24, noise=0.02, seed=0):
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(n_subspaces):
        basis, _ = np.linalg.qr(rng.normal(size=(d, dimension)))
        parts.append(rng.normal(size=(n_each, dimension)) @ basis.T)
    X = np.concatenate(parts)
    y = np.repeat(np.arange(n_subspaces), n_each)
    order = rng.permutation(len(X))
    return (X + noise * rng.normal(size=X.shape)).astype(np.float32)[order], y[order]


def unit(X):
    return X / np.linalg.norm(X, axis=1, keepdims=True)


@pytest.mark.parametrize("method", [EnSC, SSCOMP])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_union_of_subspaces(method, seed):
    X, y = planted(seed=seed)
    assert adjusted_rand_score(y, KMeans(5, random_state=0).fit_predict(X)) < 0.7
    head = method(5, random_state=0).fit(X[:-50])
    assert adjusted_rand_score(y[:-50], head.labels_) > 0.95


def test_ensc_tells_mixtures_apart():
    rng = np.random.default_rng(0)
    y = np.repeat(range(4), 60)
    X = unit(rng.normal(size=(4, 20)))[y] + 0.05 * rng.normal(size=(240, 20))
    assert adjusted_rand_score(y, EnSC(4, random_state=0).fit_predict(X)) > 0.95


@pytest.mark.parametrize(("gamma", "tau"), [(10.0, 0.95), (4.0, 1.0), (50.0, 0.7)])
def test_elastic_net_over_candidates_is_the_one_over_all(gamma, tau, monkeypatch):
    monkeypatch.setattr(subspace, "N_CANDIDATES", 8)
    monkeypatch.setattr(subspace, "TOLERANCE", 1e-9)
    U = unit(planted(n_each=40)[0])
    codes = elastic_net_codes(U, gamma, tau).toarray()
    assert not codes.diagonal().any()
    for i in (0, 50, 199):
        others = np.delete(U, i, axis=0).astype(np.float64)
        weight = np.abs(others @ U[i]).max() / (gamma * tau)
        net = ElasticNet(
            alpha=weight / U.shape[1], l1_ratio=tau, fit_intercept=False, tol=1e-9, max_iter=10**5
        ).fit(others.T, U[i])

        def objective(c, others=others, x=U[i], weight=weight):
            penalty = tau * np.abs(c).sum() + (1 - tau) / 2 * (c**2).sum()
            return ((x - c @ others) ** 2).sum() / 2 + weight * penalty

        mine = np.delete(codes[i], i)
        assert objective(mine) <= objective(net.coef_) * (1 + 1e-3)
        np.testing.assert_allclose(mine, net.coef_, atol=5e-3)


def test_gamma_one_is_where_codes_begin():
    U = unit(planted(n_each=20)[0])
    assert elastic_net_codes(U, 1.0 - 1e-4, 0.9).nnz == 0
    assert (np.diff(elastic_net_codes(U, 1.2, 0.9).indptr) >= 1).all()


@pytest.mark.parametrize("n_nonzero", [1, 3, 6])
def test_omp_against_scikit_learn(n_nonzero, monkeypatch):
    monkeypatch.setattr(subspace, "BLOCK", 64)
    U = unit(planted()[0])
    codes = omp_codes(torch.from_numpy(U), n_nonzero, 0.0).toarray()
    assert not codes.diagonal().any()
    for i in (0, 63, 64, 399):
        others = np.delete(U, i, axis=0).astype(np.float64)
        theirs = orthogonal_mp(others.T, U[i].astype(np.float64), n_nonzero_coefs=n_nonzero)
        np.testing.assert_allclose(np.delete(codes[i], i), theirs, atol=1e-5)


def test_omp_stops_when_the_code_is_good_enough():
    U = torch.from_numpy(unit(planted()[0]))
    loose, tight = omp_codes(U, 8, 0.05), omp_codes(U, 8, 1e-9)
    left = ((U.numpy() - loose @ U.numpy()) ** 2).sum(1)
    used = np.diff(loose.indptr)
    assert (left[used < 8] <= 0.05 + 1e-6).all()
    assert loose.nnz < tight.nnz == 8 * len(U)
    # One atom fewer would not have done.
    fewer = omp_codes(U, int(used.min()), 0.0)
    before = ((U.numpy() - fewer @ U.numpy()) ** 2).sum(1)
    assert (before[used > used.min()] > 0.05).all()


def test_copies_and_zeros_have_codes_too():
    U = np.repeat(np.eye(3, 5, dtype=np.float32), 4, axis=0)
    U[-1] = 0
    for codes in (omp_codes(torch.from_numpy(U), 3, 1e-6), elastic_net_codes(U, 10.0, 0.95)):
        links = codes.toarray() != 0
        assert np.isfinite(codes.data).all()
        assert not links[-1].any()
        assert links[:-1].any(1).all()
        same = np.repeat(range(3), 4)
        assert (same[:, None] == same[None])[links].all()


def test_affinity_gives_rows_an_equal_say():
    codes = sparse.csr_array(np.array([[0.0, 4.0, -2.0], [0.1, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    found = code_affinity(codes).toarray()
    np.testing.assert_allclose(found, [[0, 2, 0.5], [2, 0, 0], [0.5, 0, 0]])


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (EnSC(gamma=1.0), "gamma == 1.0"),
        (EnSC(tau=0.0), "tau == 0.0"),
        (EnSC(tau=1.1), "tau == 1.1"),
        (SSCOMP(n_nonzero=0), "n_nonzero == 0"),
        (SSCOMP(tolerance=-1.0), "tolerance == -1.0"),
    ],
)
def test_bad_parameters_are_named(head, message):
    with pytest.raises(ValueError, match=message):
        head.fit(np.eye(20))
