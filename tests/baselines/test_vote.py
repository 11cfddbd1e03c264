import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference import vote as reference

from imageherd.baselines import Spectral, SpectralPi, vote
from imageherd.baselines.vote import NeighborVote, agreed, inertia


def voters(n, d, n_clusters, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.integers(0, n_clusters, n)


def taught(rows, labels, n_clusters):
    network = NeighborVote(len(rows), n_clusters, rows.shape[1]).double()
    network.learn(torch.from_numpy(rows), torch.from_numpy(labels))
    return network


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 5), st.integers(1, 4))
def test_against_reference(seed, n, d, n_clusters):
    rows, labels = voters(n, d, n_clusters, seed)
    Z = np.concatenate([np.random.default_rng(seed + 1).normal(size=(7, d)), rows[:3]])
    network = taught(rows, labels, n_clusters)
    found = network(torch.from_numpy(Z)).exp().numpy()
    np.testing.assert_allclose(found, reference.shares(Z, rows, labels, n_clusters), atol=1e-6)


def test_blocks_of_voters_do_not_show(monkeypatch):
    rows, labels = voters(500, 6, 4)
    network = taught(rows, labels, 4)
    Z = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = network(Z)
    monkeypatch.setattr(vote, "VOTER_BLOCK", 64)
    np.testing.assert_allclose(network(Z), whole, rtol=1e-9)


@pytest.mark.parametrize("offset", [0.0, 3000.0])
def test_a_stored_row_keeps_its_cluster(offset):
    rows, labels = voters(400, 5, 7)
    rows = (rows + offset).astype(np.float32)
    network = NeighborVote(400, 7, 5)
    network.learn(torch.from_numpy(rows), torch.from_numpy(labels))
    for dtype in (torch.float32, torch.float64):
        logits = network.to(dtype)(torch.from_numpy(rows).to(dtype))
        np.testing.assert_array_equal(logits.argmax(1), labels)


def test_copies_outvote_each_other_by_number():
    rows = np.zeros((9, 2))
    rows[:3] = 5.0
    labels = np.array([0, 1, 1, 2, 2, 2, 2, 2, 2])
    shares = taught(rows, labels, 3)(torch.full((1, 2), 5.0, dtype=torch.float64)).exp()
    np.testing.assert_allclose(shares, [[1 / 3, 2 / 3, 0]], atol=1e-6)


def test_copies_agree_on_the_label_most_of_them_have():
    Z = np.array([[1, 2], [0, 0], [1, 2], [1, 2], [-0.0, 0], [5, 5]], dtype=np.float32)
    labels = np.array([3, 2, 1, 1, 0, -1], dtype=np.int32)
    found = agreed(Z, labels)
    assert found.tolist() == [1, 0, 1, 1, 0, -1]
    assert found.dtype == np.int32


def test_inertia_by_definition():
    Z, labels = voters(60, 4, 3)
    parts = [Z[labels == c] for c in range(3)]
    expected = sum(((part - part.mean(0)) ** 2).sum() for part in parts)
    found = inertia(torch.from_numpy(Z), torch.from_numpy(labels), 3)
    assert found == pytest.approx(expected, rel=1e-9)


def test_history_compares_with_kmeans():
    Z, _ = voters(200, 4, 3)
    head = Spectral(3, scaling="none", random_state=0).fit(Z)
    found = inertia(torch.from_numpy(Z), torch.from_numpy(head.labels_).long(), 3)
    assert head.history_ == [{"epoch": 1, "loss": pytest.approx(found, rel=1e-4)}]


def test_rows_that_are_no_landmarks_are_placed_by_the_vote():
    X, y = voters(300, 4, 2)
    X[y == 1] += 9
    head = SpectralPi(2, scaling="standard", n_landmarks=100, random_state=0).fit(X)
    assert head.n_voters_ == 100
    assert head.labels_.shape == (300,)
    np.testing.assert_array_equal(head.labels_, head.predict(X))
    assert len({*zip(y.tolist(), head.labels_.tolist(), strict=True)}) == 2
