import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import cpp as reference

from imageherd.heads import coding
from imageherd.heads.coding import coding_length, coding_rate, compression, elbow


def batch(seed, B, dz, columns=None, spread=3.0):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(B, dz))
    Z /= np.linalg.norm(Z, axis=1, keepdims=True)
    Pi = np.exp(spread * rng.normal(size=(B, columns or B)))
    return Z, Pi / Pi.sum(1, keepdims=True)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 12),
    st.integers(1, 40),
    st.integers(1, 9),
    st.sampled_from([0.01, 0.1, 1.0]),
)
def test_rates_against_reference(seed, B, dz, columns, eps2):
    Z, Pi = batch(seed, B, dz, columns)
    rate = coding_rate(torch.from_numpy(Z), eps2).item()
    assert rate == pytest.approx(reference.coding_rate(Z, eps2), rel=1e-9, abs=1e-9)
    found = compression(torch.from_numpy(Z), torch.from_numpy(Pi), eps2).item()
    assert found == pytest.approx(reference.compression(Z, Pi, eps2), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("stack", [2**25, 20 * 20 * 3])
@pytest.mark.parametrize("dz", [5, 20])
def test_gradients_by_finite_differences(dz, stack, monkeypatch):
    monkeypatch.setattr(coding, "_STACK", stack)
    Z, Pi = (torch.from_numpy(x).requires_grad_() for x in batch(0, 8, dz))
    assert torch.autograd.gradcheck(lambda Z, Pi: compression(Z, Pi, 0.1), (Z, Pi))
    assert torch.autograd.gradcheck(lambda Z: 3 * compression(Z, Pi.detach(), 0.5), (Z,))
    assert torch.autograd.gradcheck(lambda Pi: compression(Z.detach(), Pi, 0.1), (Pi,))
    assert torch.autograd.gradcheck(lambda Z: coding_rate(Z, 0.1), (Z,))


def dense(Z, Pi, eps2):
    """The equation as it stands, with autograd."""
    B, dz = Z.shape
    mass = Pi.sum(0)
    grams = torch.einsum("bi,bj,bk->jik", Z, Pi, Z) * (dz / (mass * eps2))[:, None, None]
    matrices = torch.eye(dz, dtype=Z.dtype) + grams
    return (mass * torch.linalg.slogdet(matrices).logabsdet).sum() / (2 * B)


def test_float32_and_its_gradients_equal_the_dense_form():
    Z, Pi = (torch.from_numpy(x).float().requires_grad_() for x in batch(1, 96, 50))
    ours, plain = compression(Z, Pi, 0.1), dense(Z, Pi, 0.1)
    assert ours.item() == pytest.approx(plain.item(), abs=1e-4)
    pairs = zip(
        torch.autograd.grad(ours, (Z, Pi)), torch.autograd.grad(plain, (Z, Pi)), strict=True
    )
    for found, expected in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_chunks_do_not_show(monkeypatch):
    Z, Pi = (torch.from_numpy(x).requires_grad_() for x in batch(2, 30, 18))
    whole = torch.autograd.grad(compression(Z, Pi, 0.1), (Z, Pi))
    monkeypatch.setattr(coding, "_STACK", 1)
    for a, b in zip(torch.autograd.grad(compression(Z, Pi, 0.1), (Z, Pi)), whole, strict=True):
        torch.testing.assert_close(a, b)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_laws_of_the_rates(seed):
    rng = np.random.default_rng(seed)
    Z, Pi = (torch.from_numpy(x) for x in batch(seed, 10, 6))
    rows, columns = rng.permutation(10), rng.permutation(10)
    rotation = torch.from_numpy(np.linalg.qr(rng.normal(size=(6, 6)))[0])
    found = compression(Z, Pi, 0.1)
    # Neither the order of rows, nor that of clusters, nor the directions in Z count.
    assert compression(Z[rows], Pi[rows][:, columns], 0.1).item() == pytest.approx(found.item())
    assert compression(Z @ rotation, Pi, 0.1).item() == pytest.approx(found.item())
    # All rows in one cluster: nothing is gained over the whole; concavity: never lost.
    rate = coding_rate(Z, 0.1).item()
    assert compression(Z, torch.full((10, 10), 0.1).double(), 0.1).item() == pytest.approx(rate)
    assert found.item() <= rate + 1e-9


def test_not_a_number_is_seen_in_the_loss_not_raised():
    Z = torch.full((6, 4), torch.nan, requires_grad=True)
    loss = compression(Z, torch.full((6, 6), 1 / 6), 0.1) + coding_rate(Z, 0.1)
    loss.backward()
    assert torch.isnan(loss)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(2, 9))
def test_coding_length_against_reference(seed, n_clusters, dz):
    rng = np.random.default_rng(seed)
    Z, _ = batch(seed, 20, dz)
    labels = rng.integers(0, n_clusters, 20)
    expected = reference.coding_length(Z, labels, 0.1)
    assert coding_length(Z, labels, 0.1) == pytest.approx(expected, rel=1e-9)


def test_coding_length_of_one_cluster_is_that_of_all():
    Z, _ = batch(0, 20, 4)
    expected = 24 * reference.coding_rate(Z, 0.1)
    assert coding_length(Z, np.zeros(20, dtype=np.int32), 0.1) == pytest.approx(expected)


def test_elbow():
    counts = np.arange(1, 11)
    assert counts[elbow(counts, np.maximum(10.0 - 3 * counts, 1.0))] == 3
    assert counts[elbow(counts, np.array([9, 5, 4.9, 4.8, 4.7, 4.6, 4.5, 4.4, 4.3, 4.2]))] == 2
    # A rising or straight curve bends nowhere: its lowest point.
    assert elbow(counts, counts.astype(float)) == 0
    assert elbow(counts, -counts.astype(float)) == 9
    assert elbow(np.array([4]), np.array([1.0])) == 0
