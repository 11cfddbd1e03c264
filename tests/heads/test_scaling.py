import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler, normalize

from imageherd.heads.scaling import BLOCK_ROWS, apply_scaler, fit_scaler


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(2300, 12)) @ rng.normal(size=(12, 12)) + 7).astype(np.float32)


def test_none_is_x_itself_without_a_copy(X):
    Z = apply_scaler(fit_scaler(X, "none"), X)
    assert Z.data_ptr() == X.ctypes.data


def test_none_copies_what_it_may_not_hold_on_to(X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    Z = apply_scaler(fit_scaler(mapped, "none"), mapped)
    np.testing.assert_array_equal(Z, X)
    assert apply_scaler(fit_scaler(X, "none"), X.astype(np.float64)).dtype == torch.float32


def test_l2_is_unit_rows_times_root_d(X):
    Z = apply_scaler(fit_scaler(X, "l2"), X)
    np.testing.assert_allclose(Z, normalize(X) * 12**0.5, atol=1e-5)


def test_l2_leaves_a_row_of_zeros_alone():
    X = np.zeros((3, 4), dtype=np.float32)
    np.testing.assert_array_equal(apply_scaler(fit_scaler(X, "l2"), X), X)


def test_standard_is_scikit_learns(X):
    Z = apply_scaler(fit_scaler(X, "standard"), X)
    expected = StandardScaler().fit_transform(X.astype(np.float64))
    np.testing.assert_allclose(Z, expected, atol=1e-5)


def test_standard_makes_a_constant_column_zero(X):
    X = X.copy()
    X[:, 3] = 123.456
    Z = apply_scaler(fit_scaler(X, "standard"), X)
    assert not Z[:, 3].any()
    assert torch.isfinite(Z).all()


@pytest.mark.parametrize("kept", [0.5, 0.9, 1.0])
def test_pca_is_scikit_learns_but_for_one_factor(X, kept):
    scaler = fit_scaler(X, "pca", pca_variance=kept)
    Z = apply_scaler(scaler, X).numpy()
    pca = PCA(svd_solver="full").fit(X.astype(np.float64))
    wanted = int(np.searchsorted(np.cumsum(pca.explained_variance_ratio_), kept - 1e-12)) + 1
    assert scaler.n_outputs == min(wanted, 12)
    assert Z.var(0).mean() == pytest.approx(1, abs=1e-4)
    expected = pca.transform(X.astype(np.float64))[:, : scaler.n_outputs]
    factor = np.linalg.norm(expected) / np.linalg.norm(Z)
    np.testing.assert_allclose(np.abs(Z) * factor, np.abs(expected), atol=1e-3 * factor)


@pytest.mark.parametrize("kind", ["none", "l2", "standard", "pca"])
def test_a_row_scales_the_same_alone(X, kind):
    scaler = fit_scaler(X, kind)
    whole = apply_scaler(scaler, X)
    for row in (0, BLOCK_ROWS - 1, BLOCK_ROWS, len(X) - 1):
        assert torch.equal(apply_scaler(scaler, X[row : row + 1].copy())[0], whole[row])


def test_unknown_kind(X):
    with pytest.raises(ValueError, match=r"scaling='zca'.*none, l2, standard, pca"):
        fit_scaler(X, "zca")
