import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import lsdc as reference

from imageherd.heads import lsdc_losses
from imageherd.heads.loop import generator
from imageherd.heads.lsdc import LSDC


def features(seed, n=17, d=5):
    return np.random.default_rng(seed).normal(size=(n, d))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 20))
def test_knn_labels_against_reference(seed, k):
    f = features(seed)
    found = lsdc_losses.knn_labels(torch.from_numpy(f), k)
    np.testing.assert_array_equal(found, reference.knn_labels(f, k))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.5, 3), st.floats(0.001, 0.3))
def test_sne_labels_against_reference(seed, temperature, threshold):
    f = features(seed)
    found = lsdc_losses.sne_labels(torch.from_numpy(f), temperature, threshold)
    np.testing.assert_array_equal(found, reference.sne_labels(f, temperature, threshold))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(-0.5, 0.9), st.floats(0.5, 20))
def test_cosine_and_l2_labels_against_reference(seed, cosine, distance):
    f = features(seed)
    found = lsdc_losses.cosine_labels(torch.from_numpy(f), cosine)
    np.testing.assert_array_equal(found, reference.cosine_labels(f, cosine))
    found = lsdc_losses.l2_labels(torch.from_numpy(f), distance)
    np.testing.assert_array_equal(found, reference.l2_labels(f, distance))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 1))
def test_without_a_threshold_the_closest_share_is_connected(seed, share):
    f = features(seed)
    distances = [[reference.squared(f, i, j) for j in range(len(f))] for i in range(len(f))]
    for labels, similarity in (
        (lsdc_losses.sne_labels, reference.sne_similarities(f, None)),
        (lsdc_losses.cosine_labels, reference.cosines(f)),
        (lsdc_losses.l2_labels, -np.array(distances)),
    ):
        found = labels(torch.from_numpy(f), share=share)
        np.testing.assert_array_equal(found, reference.closest(similarity, share))


@pytest.mark.parametrize("labeling", ["knn", "sne", "cosine", "l2"])
def test_labels_of_copies_and_of_far_points_are_whole(labeling):
    for f in (torch.ones(6, 3), torch.zeros(6, 3), torch.randn(6, 3) * 1e4):
        A = LSDC(3, labeling=labeling, k=2)._connections(f)
        assert torch.equal(A, A.T)
        assert set(A.unique().tolist()) <= {0.0, 1.0}
        assert torch.equal(A.diagonal(), torch.ones(6))


def test_the_default_k_and_the_released_count():
    f = torch.from_numpy(features(0, n=100))
    assert torch.equal(LSDC(10)._connections(f), lsdc_losses.knn_labels(f, 6))
    assert torch.equal(LSDC(500)._connections(f), lsdc_losses.knn_labels(f, 1))
    assert torch.equal(LSDC(10, k=20)._connections(f), lsdc_losses.knn_labels(f, 20))
    released = LSDC(10, k=20, released_count=True)._connections(f)
    assert torch.equal(released, lsdc_losses.knn_labels(f, 18))
    distances = torch.cdist(f, f)
    near = distances < distances.kthvalue(20, dim=1, keepdim=True).values
    assert torch.equal(released.bool(), near | near.T)


# Losses


def probabilities(rng, n, K, spread):
    logits = rng.normal(0, spread, (n, K))
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.5, 1.0]), st.floats(0.1, 30))
def test_losses_against_reference(seed, balance, spread):
    rng = np.random.default_rng(seed)
    p, p_view = probabilities(rng, 9, 4, spread), probabilities(rng, 9, 4, spread)
    A, order = reference.knn_labels(features(seed, n=9), 2), rng.permutation(9)
    mixed = lsdc_losses.mixed_targets(torch.from_numpy(A), torch.from_numpy(order), 0.7)
    expected = reference.mixed_targets(A, order, 0.7)
    np.testing.assert_allclose(mixed, expected, atol=1e-12)
    tensors = torch.from_numpy(p), torch.from_numpy(p_view)
    found = lsdc_losses.clustering_loss(*tensors, mixed, balance)
    wanted = reference.clustering_loss(p, p_view, expected, balance)
    assert found.item() == pytest.approx(wanted, abs=1e-6)
    found = lsdc_losses.consistency_loss(*tensors)
    assert found.item() == pytest.approx(reference.consistency_loss(p, p_view), abs=1e-9)


@pytest.mark.parametrize("t", [0, 1, 49.5, 100, 220])
def test_ramp_up_against_reference(t):
    assert lsdc_losses.ramp_up(t, 100, 5) == pytest.approx(reference.ramp_up(t, 100, 5), abs=1e-12)
    assert lsdc_losses.ramp_up(t, 0, 5) == 5


def test_gradients_by_finite_differences():
    numbers = torch.Generator().manual_seed(0)
    first, second = (
        torch.randn(5, 3, generator=numbers, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    A = torch.rand(5, 5, generator=numbers, dtype=torch.float64)

    def loss(a, b):
        p, p_view = a.softmax(1), b.softmax(1)
        together = lsdc_losses.clustering_loss(p, p_view, A, 0.6)
        return together + lsdc_losses.consistency_loss(p, p_view)

    assert torch.autograd.gradcheck(loss, (first, second))


def test_certain_probabilities_leave_loss_and_gradient_finite():
    logits = (torch.eye(3).repeat(4, 1) * 200).requires_grad_()
    p = logits.softmax(1)
    loss = lsdc_losses.clustering_loss(p, p.roll(1, 0), torch.ones(12, 12))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_second_views():
    Z = torch.arange(12.0).view(6, 2)
    neighbors = torch.tensor([[1, 2], [0, 2], [0, 1], [4, 5], [3, 5], [3, 4]])
    rows = torch.tensor([3, 0, 3]).repeat(50)
    found = lsdc_losses.second_views(Z, neighbors, None, generator(0))(rows)
    assert {tuple(row) for row in found[rows == 3].tolist()} == {(8.0, 9.0), (10.0, 11.0)}
    views = torch.stack([Z + 100, Z + 200, Z + 300], dim=1)
    found = lsdc_losses.second_views(Z, neighbors, views, generator(0))(rows)
    assert set((found - Z[rows]).flatten().tolist()) == {100.0, 200.0, 300.0}
    found = lsdc_losses.second_views(Z, None, None, generator(0))(rows)
    assert torch.equal(found, Z[rows])


def test_mixing_weights_are_beta_distributed():
    draws = generator(0)
    found = [lsdc_losses.beta(0.3, draws) for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)
    # Var Beta(a, a) = 1 / (4 (2 a + 1)).
    assert np.var(found) == pytest.approx(1 / 6.4, abs=0.01)


# The network
