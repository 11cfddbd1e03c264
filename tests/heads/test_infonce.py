import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from tests.reference import infonce as reference

from imageherd.heads import load_head
from imageherd.heads.base import CollapseWarning
from imageherd.heads.infonce import PRESETS, InfoNCE, cluster_sharing, infonce_loss, walk
from imageherd.heads.loop import LossNotFiniteError

QUICK = {"epochs": 2, "min_steps": 30, "device": "cpu", "random_state": 0}


@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs(300, 12, centers=5, cluster_std=2.0, random_state=3)
    return X.astype(np.float32) + 5, y


def same(a, b):
    first, second = a.network_, b.network_
    return torch.equal(first.weight, second.weight) and torch.equal(first.bias, second.bias)


@parametrize_with_checks([InfoNCE(**QUICK)])
def test_scikit_learn_contract(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        check(estimator)


def batch(seed, N=10, K=4, m=3, spread=2.0):
    """Logits of a batch, and three of its rows with neighbours in it, as columns and dense."""
    rng = np.random.default_rng(seed)
    anchors = rng.choice(N, 3, replace=False)
    columns = np.stack([rng.choice(N, m, replace=False) for _ in anchors])
    p = rng.random((3, m))
    p[0, 0] = 0.0
    p /= p.sum(1, keepdims=True)
    dense = np.zeros((3, N))
    np.put_along_axis(dense, columns, p, axis=1)
    return rng.normal(0, spread, (N, K)), anchors, columns, p, dense


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.4, 0.9]),
    st.sampled_from([0.0, 1.0, 2.5]),
    st.integers(1, 6),
    st.floats(0.1, 10),
)
def test_loss_against_reference(seed, alpha, balance, K, spread):
    logits, anchors, columns, p, dense = batch(seed, K=K, spread=spread)
    pi = torch.from_numpy(logits).softmax(1)
    found = infonce_loss(
        pi[anchors], pi, torch.from_numpy(columns), torch.from_numpy(p), alpha, balance
    )
    expected = reference.infonce_loss(pi.numpy(), anchors, dense, alpha, balance)
    assert found.item() == pytest.approx(expected, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.floats(0.1, 30))
def test_q_is_a_distribution_and_as_the_reference(seed, K, spread):
    logits = np.random.default_rng(seed).normal(0, spread, (9, K))
    pi = torch.from_numpy(logits).softmax(1)
    q = cluster_sharing(pi, pi)
    np.testing.assert_allclose(q.sum(1), 1, atol=1e-9)
    np.testing.assert_allclose(q, reference.cluster_sharing(pi.numpy()), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 0.99))
def test_the_papers_loss_is_a_divergence(seed, alpha):
    logits, anchors, columns, p, _ = batch(seed)
    pi = torch.from_numpy(logits).softmax(1)
    args = (torch.from_numpy(columns), torch.from_numpy(p), alpha, 1.0)
    assert infonce_loss(pi[anchors], pi, *args).item() >= -1e-9


@pytest.mark.parametrize("balance", [0.0, 1.0, 3.0])
def test_for_sure_assignments_the_push_is_balance_times_the_entropy_of_the_sizes(balance):
    sizes = torch.tensor([2, 3, 5])
    labels = torch.repeat_interleave(torch.arange(3), sizes)
    pi = torch.nn.functional.one_hot(labels, 3).double()
    # Every row's one neighbour is the next in its cluster.
    columns = torch.tensor([[1], [0], [3], [4], [2], [6], [7], [8], [9], [5]])
    found = infonce_loss(pi, pi, columns, torch.ones(10, 1, dtype=torch.float64), 0.0, balance)
    share = sizes.double() / 10
    entropy = -(share * share.log()).sum().item()
    assert found.item() == pytest.approx(np.log(10) - balance * entropy)


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_gradients_by_finite_differences(alpha):
    logits, anchors, columns, p, _ = batch(0)
    columns, p = torch.from_numpy(columns), torch.from_numpy(p)

    def loss(x):
        pi = x.softmax(1)
        return infonce_loss(pi[anchors], pi, columns, p, alpha, 1.7)

    assert torch.autograd.gradcheck(loss, torch.from_numpy(logits).requires_grad_())


def test_an_empty_cluster_has_a_finite_gradient():
    logits = torch.tensor([[0.0, -200.0], [0.0, -300.0]], requires_grad=True)
    pi = logits.softmax(1)
    infonce_loss(pi, pi, torch.tensor([[1], [0]]), torch.ones(2, 1), 0.0, 2.0).backward()
    assert logits.grad.isfinite().all()


def test_no_walk_is_the_neighbors_themselves():
    neighbors = torch.tensor([[1, 2], [2, 0], [0, 1]])
    ids, p = walk(neighbors, 0)
    assert torch.equal(ids, neighbors)
    assert (p == 0.5).all()


@pytest.mark.parametrize("walk_steps", [1, 2])
def test_walks_against_powers_of_the_graph(walk_steps):
    rng = np.random.default_rng(0)
    n = 1030
    neighbors = np.stack([rng.choice(np.delete(np.arange(n), i), 3, False) for i in range(n)])
    ids, p = walk(torch.from_numpy(neighbors), walk_steps)
    expected = reference.walk(neighbors, walk_steps)
    kept = 3 * (1 + walk_steps)
    assert ids.shape == (n, kept)
    for i in (0, 5, 1023, 1024, 1029):
        most = np.sort(expected[i])[::-1][:kept]
        np.testing.assert_allclose(p[i], most / most.sum(), atol=1e-6)
        np.testing.assert_allclose(expected[i, ids[i]], most, atol=1e-12)


def test_walks_in_a_small_group_are_filled_up_with_the_row_itself():
    ids, p = walk(torch.tensor([[1, 2], [0, 2], [0, 1], [4, 5], [3, 5], [3, 4]]), 1)
    assert sorted(ids[3].tolist()) == [3, 3, 4, 5]
    np.testing.assert_allclose(p[3], [0.5, 0.5, 0, 0], atol=1e-7)


@pytest.mark.parametrize("walk_steps", [0, 1])
def test_finds_the_blobs(blobs, walk_steps):
    X, y = blobs
    params = {**QUICK, "walk_steps": walk_steps, "min_steps": 300}
    head = InfoNCE(5, **params).fit(X)
    assert adjusted_rand_score(y, head.labels_) > 0.95
    assert head.history_[-1]["used_clusters"] == 5
    assert head.history_[-1]["loss"] < 0.8 * head.history_[0]["loss"]


def test_starts_at_the_centers_or_at_random(blobs):
    X, _ = blobs
    start = InfoNCE(5, **{**QUICK, "lr": 1e-12}).fit(X).network_
    np.testing.assert_allclose(start.weight.norm(dim=1), 12**-0.5, rtol=1e-5)
    assert start.bias.abs().max() < 1e-9
    start = InfoNCE(5, **{**QUICK, "init": "random", "lr": 1e-12}).fit(X).network_
    assert 0.9 * 12**-0.5 < start.weight.abs().max() <= 12**-0.5 + 1e-6


def test_a_stronger_push_makes_sizes_more_equal():
    X, _ = make_blobs([250, 40, 30], 8, cluster_std=4.0, random_state=4)
    heads = {
        balance: InfoNCE(3, **{**QUICK, "min_steps": 150, "lr": 1e-2}, balance=balance).fit(X)
        for balance in (0.0, 1.0, 4.0)
    }
    entropies = [head.history_[-1]["marginal_entropy"] for head in heads.values()]
    assert entropies == sorted(entropies)
    assert sorted(np.bincount(heads[1.0].labels_)) == pytest.approx([30, 40, 250], abs=3)
    assert np.bincount(heads[4.0].labels_).min() > 80


def test_without_the_push_what_has_no_clusters_collapses():
    X = np.random.default_rng(0).normal(size=(320, 8))
    params = {**QUICK, "min_steps": 300, "lr": 1e-2}
    with pytest.warns(CollapseWarning, match=r"InfoNCE used \d of 3 .*raise balance"):
        head = InfoNCE(3, balance=0.0, **params).fit(X)
    assert head.history_[-1]["marginal_entropy"] < 0.4
    assert InfoNCE(3, **params).fit(X).history_[-1]["marginal_entropy"] > 1.0


def test_same_seed_same_bytes_and_another_seed_not(blobs):
    X, _ = blobs
    first, second = (InfoNCE(5, **QUICK).fit(X) for _ in range(2))
    assert same(first, second)
    assert first.history_ == second.history_
    assert not same(first, InfoNCE(5, **{**QUICK, "random_state": 1}).fit(X))


def test_interrupted_and_resumed_ends_with_the_same_bytes(blobs, tmp_path, monkeypatch):
    X, _ = blobs
    monkeypatch.setattr("imageherd.heads.loop.CHECKPOINT_SECONDS", 0.0)
    params = {**QUICK, "epochs": 6}
    whole = InfoNCE(5, **params).fit(X)

    def interrupt(info):
        if info["epoch"] == 4:
            raise KeyboardInterrupt

    path = tmp_path / "run.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        InfoNCE(5, **params).fit(X, callback=interrupt, checkpoint=path)
    epochs = []
    resumed = InfoNCE(5, **params).fit(
        X, callback=lambda info: epochs.append(info["epoch"]), checkpoint=path
    )
    assert epochs[0] == 4
    assert same(whole, resumed)
    assert whole.history_ == resumed.history_
    assert not path.exists()


def test_the_learning_rate_is_halved_twice(blobs, monkeypatch):
    X, _ = blobs
    rates = []
    step = torch.optim.Adam.step

    def watched(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    InfoNCE(5, **{**QUICK, "epochs": 6, "min_steps": 0}).fit(X)
    assert rates == [1e-3] * 8 + [5e-4] * 8 + [2.5e-4] * 8


def test_saved_and_loaded_says_the_same(blobs, tmp_path):
    X, _ = blobs
    head = InfoNCE(5, **QUICK).fit(X)
    head.save(tmp_path)
    found = load_head(tmp_path, device="cpu")
    np.testing.assert_array_equal(found.predict_proba(X), head.predict_proba(X))
    assert found.history_ == head.history_


def test_transform_is_x_itself(blobs):
    X, _ = blobs
    np.testing.assert_array_equal(InfoNCE(5, **QUICK).fit(X).transform(X), X)


def test_blocks_are_scaled_on_their_own(blobs):
    X, y = blobs
    params = {**QUICK, "min_steps": 300, "scaling": "pca", "blocks": (12, 4)}
    mixed = InfoNCE(5, **params).fit(np.hstack([X, 1000 * X[:, :4]]))
    again = InfoNCE(5, **params).fit(np.hstack([X, 10 * X[:, :4]]))
    assert adjusted_rand_score(y, mixed.labels_) > 0.8
    assert adjusted_rand_score(mixed.labels_, again.labels_) > 0.95


def test_200_rows_with_defaults():
    X, y = make_blobs([80, 50, 40, 20, 10], 32, cluster_std=2.0, random_state=0)
    head = InfoNCE(5, random_state=0, device="cpu").fit(X.astype(np.float32))
    assert head.n_iter_ * 4 >= 1000
    assert adjusted_rand_score(y, head.labels_) > 0.95


def test_the_papers_row(blobs):
    X, _ = blobs
    head = InfoNCE(5, device="cpu", random_state=0, **PRESETS["paper"])
    assert (head.lr, head.batch_size, head.epochs, head.balance) == (1e-3, 4096, 30, 1)
    assert head.fit(X).n_iter_ == 30


def test_few_rows_many_clusters():
    X = np.random.default_rng(0).normal(size=(11, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        assert InfoNCE(11, **QUICK).fit(X).labels_.shape == (11,)
    assert InfoNCE(1, **QUICK).fit(X).labels_.tolist() == [0] * 11


def test_divergence_says_what_to_do(blobs):
    X, _ = blobs
    with pytest.raises(LossNotFiniteError, match=r"epoch \d of .*lower lr \(now 3e\+37\)"):
        InfoNCE(5, **{**QUICK, "lr": 3e37}).fit(X)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("init", "zeros"),
        ("walk_steps", -1),
        ("uniform_mass", 1.0),
        ("uniform_mass", -0.1),
        ("balance", -1.0),
        ("lr", 0.0),
        ("epochs", 0),
        ("batch_size", 1),
        ("min_steps", -1),
        ("n_neighbors", 0),
    ],
)
def test_bad_parameters_are_named(blobs, name, value):
    with pytest.raises(ValueError, match=name):
        InfoNCE(5, **{**QUICK, name: value}).fit(blobs[0])
