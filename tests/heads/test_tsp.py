import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from tests.reference import tsp as reference

from imageherd.heads.loop import LossNotFiniteError
from imageherd.heads.tsp import (
    PRESETS,
    TSP,
    LinearHeads,
    centers_to_weights,
    entropy,
    match_heads,
    neighbor_probabilities,
    pmi_loss,
    tsp_loss,
)
from imageherd.neighbors import NeighborGraph, knn_graph

QUICK = {"epochs": 2, "min_steps": 30, "n_heads": 2, "device": "cpu", "random_state": 0}


@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs(300, 12, centers=5, cluster_std=3.0, random_state=3)
    return X.astype(np.float32) + 5, y


@parametrize_with_checks([TSP(**QUICK), TSP(**{**QUICK, **PRESETS["paper"], "epochs": 2})])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def neighbor_ids(X, k):
    return torch.from_numpy(knn_graph(X, k).ids.astype(np.int64))


@pytest.mark.parametrize("k", [1, 2, 3, 20])
def test_eq4_against_reference(blobs, k):
    X, _ = blobs
    ids = neighbor_ids(X, k)
    found = neighbor_probabilities(torch.from_numpy(X).double(), ids)
    expected = reference.neighbor_probabilities(X, ids.numpy())
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_eq4_blocks_do_not_show():
    X = torch.randn(2500, 4, generator=torch.Generator().manual_seed(0))
    ids = torch.randint(2500, (2500, 6), generator=torch.Generator().manual_seed(1))
    whole = neighbor_probabilities(X, ids)
    np.testing.assert_allclose(whole, reference.neighbor_probabilities(X, ids.numpy()), atol=1e-5)


def test_eq4_with_copies_of_one_point():
    X = torch.tensor([[1.0, 2.0]] * 4 + [[5.0, 5.0]])
    ids = torch.tensor([[1, 2, 3, 4], [0, 2, 3, 4], [0, 1, 3, 4], [0, 1, 2, 4], [0, 1, 2, 3]])
    found = neighbor_probabilities(X, ids)
    np.testing.assert_allclose(found[0], [1 / 3, 1 / 3, 1 / 3, 0], atol=1e-7)
    np.testing.assert_allclose(found[4], [0.25] * 4, atol=1e-7)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.5, 3.0]),
    st.integers(2, 7),
    st.floats(0.1, 20),
)
def test_losses_against_reference(seed, balance, K, spread):
    rng = np.random.default_rng(seed)
    logits_i, logits_j = rng.normal(0, spread, (2, 3, 8, K))
    log_pi, log_pj = (torch.from_numpy(x).log_softmax(-1) for x in (logits_i, logits_j))
    plain = tsp_loss(log_pi, log_pj, balance)
    informed = pmi_loss(log_pi, log_pj, balance)
    for h in range(3):
        expected = reference.tsp_loss(logits_i[h], logits_j[h], balance)
        assert plain[h].item() == pytest.approx(expected, abs=1e-6)
        expected = reference.pmi_loss(logits_i[h], logits_j[h], balance)
        assert informed[h].item() == pytest.approx(expected, abs=1e-6)


def test_gradients_by_finite_differences():
    numbers = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, generator=numbers, dtype=torch.float64, requires_grad=True)
    other = torch.randn(2, 3, 4, generator=numbers, dtype=torch.float64, requires_grad=True)

    def plain(a, b):
        return tsp_loss(a.log_softmax(2), b.log_softmax(2), 3.0)

    def informed(a, b):
        return pmi_loss(a.log_softmax(2), b.log_softmax(2), 0.7)

    assert torch.autograd.gradcheck(plain, (logits, other))
    assert torch.autograd.gradcheck(informed, (logits, other))


def test_pmi_loss_of_certain_groups_is_minus_the_entropy_of_their_sizes():
    labels = torch.tensor([0] * 7 + [1] * 3)
    log_p = torch.nn.functional.one_hot(labels, 2).double().clamp_min(1e-30).log()[None]
    sizes = torch.tensor([0.7, 0.3], dtype=torch.float64)
    assert pmi_loss(log_p, log_p, 0.0).item() == pytest.approx(-entropy(sizes).item())


def test_default_keeps_unequal_sizes_and_kills_no_cluster():
    X, y = make_blobs([400, 100, 60, 40], 16, cluster_std=2.0, random_state=2)
    head = TSP(4, **{**QUICK, "min_steps": 400, "lr": 3e-3}).fit(X.astype(np.float32))
    assert sorted(np.bincount(head.labels_, minlength=4)) == pytest.approx(
        [40, 60, 100, 400], abs=8
    )
    assert adjusted_rand_score(y, head.labels_) > 0.95


def test_default_batch_grows_with_the_clusters():
    X = np.random.default_rng(0).normal(size=(1700, 4)).astype(np.float32)
    params = {**QUICK, "epochs": 1, "min_steps": 5}
    assert TSP(2, **params).fit(X).n_iter_ == 1
    assert TSP(50, **params).fit(X).n_iter_ == 2


def test_appendix_a():
    centers = torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    found = centers_to_weights(centers)
    np.testing.assert_allclose(found, [[0.3, 0.4, 0, 0], [0, 0, 0, 0]], atol=1e-7)


def test_heads_start_from_kmeans_and_none_is_undone_by_no_training(blobs):
    X, _ = blobs
    one = TSP(5, **{**QUICK, "n_heads": 1, "lr": 1e-12}).fit(X)
    norms = one.network_.weight.norm(dim=2)
    np.testing.assert_allclose(norms, X.shape[1] ** -0.5, rtol=1e-5)


def test_finds_the_blobs(blobs):
    X, y = blobs
    for params in ({}, PRESETS["paper"]):
        head = TSP(5, random_state=0, **{**params, "lr": 1e-2, "epochs": 5, "min_steps": 100})
        assert adjusted_rand_score(y, head.fit_predict(X)) > 0.9, params


def test_random_start_is_another_start(blobs):
    X, _ = blobs
    params = {**QUICK, "init": "random", "lr": 1e-12}
    weight = TSP(5, **params).fit(X).network_.weight
    assert not torch.equal(weight[0], weight[1])
    assert 0.9 * 12**-0.5 < weight.abs().max() <= 12**-0.5 + 1e-6


def test_same_seed_same_bytes_and_another_seed_not(blobs):
    X, _ = blobs
    first, second = (TSP(5, **QUICK).fit(X) for _ in range(2))
    assert torch.equal(first.network_.weight, second.network_.weight)
    assert torch.equal(first.network_.bias, second.network_.bias)
    third = TSP(5, **{**QUICK, "random_state": 1}).fit(X)
    assert not torch.equal(first.network_.weight, third.network_.weight)


@pytest.mark.parametrize("seed", [0, 7])
def test_stronger_push_makes_sizes_more_equal(seed):
    rng = np.random.default_rng(seed)
    X = np.vstack([rng.normal(m, 1, (n, 8)) for m, n in ((0, 250), (2, 40), (-2, 30))])
    found = []
    for balance in (0.0, 1.0, 5.0):
        params = {
            "objective": "tsp",
            "lr": 1e-2,
            "scaling": "standard",
            "min_steps": 100,
            "n_heads": 1,
        }
        head = TSP(3, **{**QUICK, **params, "balance": balance, "random_state": seed}).fit(X)
        mean = torch.from_numpy(head.predict_proba(X).mean(0))
        found.append(entropy(mean).item())
    assert found[0] < found[1] < found[2]


def test_interrupted_and_resumed_ends_with_the_same_bytes(blobs, tmp_path, monkeypatch):
    X, _ = blobs
    monkeypatch.setattr("imageherd.heads.loop.CHECKPOINT_SECONDS", 0.0)
    params = {**QUICK, "epochs": 6}
    whole = TSP(5, **params).fit(X)

    def interrupt(info):
        if info["epoch"] == 4:
            raise KeyboardInterrupt

    path = tmp_path / "run.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        TSP(5, **params).fit(X, callback=interrupt, checkpoint=path)
    assert path.exists()
    epochs = []
    resumed = TSP(5, **params).fit(
        X, callback=lambda info: epochs.append(info["epoch"]), checkpoint=path
    )
    assert epochs[0] == 4
    assert torch.equal(whole.network_.weight, resumed.network_.weight)
    assert torch.equal(whole.network_.bias, resumed.network_.bias)
    assert whole.history_ == resumed.history_
    assert not path.exists()


def test_200_rows_with_defaults():
    X, y = make_blobs([80, 50, 40, 20, 10], 32, cluster_std=2.0, random_state=0)
    head = TSP(5, random_state=0, device="cpu").fit(X.astype(np.float32))
    steps = head.n_iter_ * (200 // 50)
    assert steps >= 1000
    assert adjusted_rand_score(y, head.labels_) > 0.8


def test_few_rows_many_clusters():
    X = np.random.default_rng(0).normal(size=(11, 3))
    head = TSP(11, **QUICK).fit(X)
    assert head.labels_.shape == (11,)
    assert TSP(1, **QUICK).fit(X).labels_.tolist() == [0] * 11


def test_divergence_says_what_to_do(blobs):
    X, _ = blobs
    with pytest.raises(LossNotFiniteError, match=r"epoch 1 of .*lower lr \(now 3e\+37\)"):
        TSP(5, **{**QUICK, "lr": 3e37}).fit(X)


def test_neighbors_are_sliced_and_checked(blobs):
    X, _ = blobs
    graph = knn_graph(X, 40)
    own = TSP(5, **QUICK).fit(X)
    given = TSP(5, **QUICK).fit(X, neighbors=graph)
    assert torch.equal(own.network_.weight, given.network_.weight)
    with pytest.raises(ValueError, match="20 neighbours are needed"):
        TSP(5, **QUICK).fit(X, neighbors=graph.slice(10))
    with pytest.raises(ValueError, match="300 rows"):
        TSP(5, **QUICK).fit(X, neighbors=NeighborGraph(graph.ids[:99], graph.similarities[:99]))


def test_transform_is_x_itself(blobs):
    X, _ = blobs
    np.testing.assert_array_equal(TSP(5, **QUICK).fit(X).transform(X), X)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("objective", "PMI"),
        ("init", "zeros"),
        ("balance", -1.0),
        ("lr", 0.0),
        ("n_heads", 0),
        ("epochs", 0),
        ("batch_size", 0),
        ("min_steps", -1),
        ("n_neighbors", 0),
    ],
)
def test_bad_parameters_are_named(blobs, name, value):
    with pytest.raises(ValueError, match=name):
        TSP(5, **{**QUICK, name: value}).fit(blobs[0])


def test_matching_undoes_a_renumbering():
    numbers = torch.Generator().manual_seed(0)
    Z = torch.randn(500, 6, generator=numbers)
    network = LinearHeads(3, 4, 6)
    weight = torch.randn(4, 6, generator=numbers) * 3
    orders = [torch.randperm(4, generator=numbers) for _ in range(3)]
    network.weight.data.copy_(torch.stack([weight[order] for order in orders]))
    assert match_heads(network, Z) == 1.0
    assert torch.equal(network.weight[0], network.weight[1])
    assert torch.equal(network.weight[0], network.weight[2])
    assert sorted(network.weight.data[0, :, 0].tolist()) == sorted(weight[:, 0].tolist())


def test_heads_are_averaged(blobs):
    X, _ = blobs
    head = TSP(5, **QUICK).fit(X)
    Z = head.scaler_(torch.from_numpy(X))
    mean = head.network_.each(Z).exp().mean(0)
    np.testing.assert_allclose(head.predict_proba(X), mean, atol=1e-6)
    assert 0.5 < head.agreement_ <= 1
