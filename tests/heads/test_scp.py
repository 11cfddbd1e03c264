import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from tests.reference import scp as reference

from imageherd.heads import load_head
from imageherd.heads.base import CollapseWarning
from imageherd.heads.loop import LossNotFiniteError
from imageherd.heads.scp import (
    PRESETS,
    SCP,
    ClusterHead,
    confidence,
    cross_entropy,
    draw_neighbors,
    draw_views,
    scp_loss,
    size_entropy,
)

QUICK = {
    "init": "random",
    "epochs": 1,
    "min_steps": 4,
    "batch_size": 32,
    "device": "cpu",
    "random_state": 0,
}
LONGER = {**QUICK, "min_steps": 60}


@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs(300, 12, centers=5, cluster_std=2.0, random_state=3)
    return X.astype(np.float32) + 5, y


@pytest.fixture(scope="module")
def views(blobs):
    X, _ = blobs
    noise = np.random.default_rng(0).normal(0, 1, (len(X), 3, X.shape[1]))
    return (X[:, None] + noise).astype(np.float32)


def same(a, b):
    first, second = a.network_.state_dict(), b.network_.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


@parametrize_with_checks([SCP(**{**QUICK, "min_steps": 3, "init": "kmeans"})])
def test_scikit_learn_contract(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        check(estimator)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 7), st.floats(0.1, 20))
def test_eqs_3_to_6_against_reference(seed, K, spread):
    rng = np.random.default_rng(seed)
    logits_a, logits_b = rng.normal(0, spread, (2, 9, K))
    log_ya, log_yb = (torch.from_numpy(x).log_softmax(-1) for x in (logits_a, logits_b))
    expected = reference.scp_terms(logits_a, logits_b)
    terms = (cross_entropy, confidence, size_entropy)
    assert [f(log_ya, log_yb).item() for f in terms] == pytest.approx(expected, abs=1e-6)
    found = scp_loss(log_ya, log_yb, 0.7, 1.3, 2.0).item()
    weighted = 0.7 * expected[0] + 1.3 * expected[1] - 2.0 * expected[2]
    assert found == pytest.approx(weighted, abs=1e-6)


def test_gradients_by_finite_differences():
    numbers = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 6, 4, generator=numbers, dtype=torch.float64, requires_grad=True)

    def loss(x):
        return scp_loss(x[0].log_softmax(1), x[1].log_softmax(1), 0.7, 1.3, 2.0)

    assert torch.autograd.gradcheck(loss, logits)


def test_an_empty_cluster_has_a_finite_gradient():
    logits = torch.tensor([[0.0, -200.0], [0.0, -300.0]], requires_grad=True)
    log_y = logits.log_softmax(1)
    scp_loss(log_y, log_y).backward()
    assert logits.grad.isfinite().all()


def test_sure_equal_clusters_are_the_lowest_loss_of_the_default():
    sure = torch.eye(4).repeat(5, 1).clamp_min(1e-30).log()
    assert scp_loss(sure, sure).item() == pytest.approx(-2 * np.log(4))


def test_the_network_against_reference():
    network = ClusterHead(7, 3)
    network.start(5)
    state = {name: value.double().numpy() for name, value in network.state_dict().items()}
    assert [w.shape for name, w in state.items() if "weight" in name] == [
        (1024, 7),
        (786, 1024),
        (512, 786),
        (1024, 512),
        (3, 1024),
    ]
    h = np.random.default_rng(0).normal(size=(6, 7))
    found = network.double()(torch.from_numpy(h)).detach().numpy()
    np.testing.assert_allclose(found, reference.cluster_head(state, h), atol=1e-12)


def test_gradients_of_the_network_by_finite_differences():
    network = ClusterHead(3, 2).double()
    network.start(1)
    h = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(network, h.requires_grad_())


def test_weights_start_in_torchs_range_and_leave_its_generator_alone():
    before = torch.get_rng_state()
    network = ClusterHead(50, 10)
    network.start(0)
    assert torch.equal(before, torch.get_rng_state())
    for layer in network.layers:
        bound = layer.in_features**-0.5
        assert 0.95 * bound < layer.weight.abs().max() <= bound


def test_two_different_views_of_each_row_are_drawn():
    n, V = 6, 4
    Z = torch.full((n, 1), -1.0)
    views = torch.arange(n * V, dtype=torch.float32).view(n, V, 1)
    rows = torch.tensor([5, 0, 3])
    numbers = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(200):
        first, second = draw_views(Z, views, rows, numbers).squeeze(1).long().chunk(2)
        assert torch.equal(first // V, rows)
        assert torch.equal(second // V, rows)
        assert (first != second).all()
        seen |= set(zip((first % V).tolist(), (second % V).tolist(), strict=True))
    assert len(seen) == V * (V - 1)


def test_of_one_view_the_row_is_the_other():
    Z, views = torch.tensor([[1.0], [2.0]]), torch.tensor([[[10.0]], [[20.0]]])
    found = draw_views(Z, views, torch.tensor([1, 0]), torch.Generator())
    assert found.tolist() == [[2], [1], [20], [10]]


def test_without_views_all_neighbors_are_drawn():
    Z = torch.arange(5.0)[:, None]
    neighbors = torch.tensor([[1, 2, 3]] * 5)
    numbers = torch.Generator().manual_seed(0)
    rows = torch.tensor([4] * 50)
    mine, theirs = draw_neighbors(Z, neighbors, rows, numbers).chunk(2)
    assert (mine == 4).all()
    assert sorted(set(theirs.flatten().tolist())) == [1, 2, 3]


def test_collapses_without_the_entropy_term_and_not_with_it(blobs):
    X, _ = blobs
    with pytest.warns(CollapseWarning, match=r"SCP used 1 of 5 clusters.*raise balance"):
        alone = SCP(5, balance=0.0, **LONGER).fit(X)
    with warnings.catch_warnings():
        # From a random start it may still stop short of all five; not at one.
        warnings.simplefilter("ignore", CollapseWarning)
        both = SCP(5, **LONGER).fit(X)
    assert len(np.unique(alone.labels_)) == 1
    assert alone.history_[-1]["marginal_entropy"] < 0.1
    assert both.history_[-1]["marginal_entropy"] > 0.7


def test_starts_at_kmeans_and_finds_the_blobs(blobs, views):
    X, y = blobs
    params = {**QUICK, "init": "kmeans"}
    head = SCP(5, **params).fit(X)
    assert adjusted_rand_score(y, head.labels_) > 0.95
    assert head.history_[0]["conditional_entropy"] < 0.5
    seen = SCP(5, **params).fit(X, views=views)
    assert adjusted_rand_score(y, seen.labels_) > 0.95
    assert not same(head, seen)


@pytest.mark.filterwarnings("ignore::imageherd.heads.base.CollapseWarning")
def test_a_stronger_push_makes_sizes_more_equal():
    X, _ = make_blobs([200, 40, 30], 8, cluster_std=5.0, random_state=4)
    weak, strong = (SCP(3, **LONGER, balance=balance).fit(X) for balance in (0.6, 4.0))
    assert strong.history_[-1]["marginal_entropy"] > weak.history_[-1]["marginal_entropy"] + 0.1
    assert np.bincount(strong.labels_).min() > 25


@pytest.mark.filterwarnings("ignore::imageherd.heads.base.CollapseWarning")
def test_same_seed_same_bytes_and_another_seed_not(blobs, views):
    X, _ = blobs
    for facts in ({}, {"views": views}):
        first, second = (SCP(5, **QUICK).fit(X, **facts) for _ in range(2))
        assert same(first, second)
        assert first.history_ == second.history_
        assert not same(first, SCP(5, **{**QUICK, "random_state": 1}).fit(X, **facts))


@pytest.mark.filterwarnings("ignore::imageherd.heads.base.CollapseWarning")
@pytest.mark.parametrize("with_views", [False, True])
def test_interrupted_and_resumed_ends_with_the_same_bytes(
    blobs, views, with_views, tmp_path, monkeypatch
):
    X, _ = blobs
    facts = {"views": views} if with_views else {}
    monkeypatch.setattr("imageherd.heads.loop.CHECKPOINT_SECONDS", 0.0)
    params = {**QUICK, "epochs": 4}
    whole = SCP(5, **params).fit(X, **facts)

    def interrupt(info):
        if info["epoch"] == 3:
            raise KeyboardInterrupt

    path = tmp_path / "run.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        SCP(5, **params).fit(X, callback=interrupt, checkpoint=path, **facts)
    epochs = []
    resumed = SCP(5, **params).fit(
        X, callback=lambda info: epochs.append(info["epoch"]), checkpoint=path, **facts
    )
    assert epochs == [3, 4]
    assert same(whole, resumed)
    assert whole.history_ == resumed.history_
    assert not path.exists()


@pytest.mark.filterwarnings("ignore::imageherd.heads.base.CollapseWarning")
def test_saved_and_loaded_says_the_same(blobs, tmp_path):
    X, _ = blobs
    head = SCP(5, **QUICK).fit(X)
    head.save(tmp_path)
    found = load_head(tmp_path, device="cpu")
    np.testing.assert_array_equal(found.predict_proba(X), head.predict_proba(X))
    assert found.history_ == head.history_


@pytest.mark.filterwarnings("ignore::imageherd.heads.base.CollapseWarning")
def test_transform_is_the_logits_with_unit_rows(blobs):
    X, _ = blobs
    head = SCP(5, **QUICK).fit(X)
    found = head.transform(X)
    logits = head.network_.double()(head.scaler_.double()(torch.from_numpy(X).double()))
    expected = torch.nn.functional.normalize(logits, dim=1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32


def test_blocks_are_scaled_on_their_own_and_taken_together(blobs):
    X, y = blobs
    params = {**QUICK, "init": "kmeans", "blocks": (12, 4), "scaling": "pca"}
    mixed = SCP(5, **params).fit(np.hstack([X, 1000 * X[:, :4]]))
    again = SCP(5, **params).fit(np.hstack([X, 10 * X[:, :4]]))
    assert adjusted_rand_score(y, mixed.labels_) > 0.8
    assert adjusted_rand_score(mixed.labels_, again.labels_) > 0.95


def test_200_rows_with_defaults():
    X, y = make_blobs([80, 50, 30, 20, 20], 32, cluster_std=2.0, random_state=0)
    head = SCP(5, random_state=0, device="cpu").fit(X.astype(np.float32))
    assert head.n_iter_ * 4 >= 300
    # The two smallest groups become one: their rows have hardly more mates than neighbours drawn.
    assert adjusted_rand_score(y, head.labels_) > 0.9


def test_presets_are_the_papers_rows():
    found = {name: row["balance"] for name, row in PRESETS.items()}
    assert found == {
        "paper": 1,
        "cifar10": 1,
        "stl10": 1,
        "imagenet10": 1,
        "cifar20": 2,
        "imagenet-dogs": 2,
        "cifar100": 3,
    }
    head = SCP(**PRESETS["cifar100"])
    assert (head.lr, head.batch_size, head.epochs, head.scaling) == (1e-3, 512, 30, "none")


def test_few_rows_many_clusters():
    X = np.random.default_rng(0).normal(size=(11, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        assert SCP(11, **QUICK).fit(X).labels_.shape == (11,)
    assert SCP(1, **QUICK).fit(X).labels_.tolist() == [0] * 11


def test_divergence_says_what_to_do(blobs):
    X, _ = blobs
    with pytest.raises(LossNotFiniteError, match=r"epoch \d of .*lower lr \(now 3e\+37\)"):
        SCP(5, **{**QUICK, "lr": 3e37}).fit(X)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("init", "zeros"),
        ("cross_entropy_weight", -1.0),
        ("confidence_weight", -1.0),
        ("balance", -1.0),
        ("lr", 0.0),
        ("epochs", 0),
        ("batch_size", 0),
        ("min_steps", -1),
        ("n_neighbors", 0),
    ],
)
def test_bad_parameters_are_named(blobs, name, value):
    with pytest.raises(ValueError, match=name):
        SCP(5, **{**QUICK, name: value}).fit(blobs[0])
