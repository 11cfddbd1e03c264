import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from imageherd.heads.loop import LossNotFiniteError, generator
from imageherd.heads.turtle import (
    PRESETS,
    TURTLE,
    TaskEncoders,
    random_rotations,
    turtle_loss,
)
from imageherd.heads.turtle_classifiers import Classifiers, Space, classifier_gradients
from reference import tsp as reference_tsp
from reference import turtle as reference

QUICK = {"min_steps": 20, "device": "cpu", "random_state": 0}
PLAIN = {"scaling": "standard", "rotate": False}


@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs(300, 12, centers=5, cluster_std=2.0, random_state=3)
    return X.astype(np.float32) + 5, y


@pytest.fixture(scope="module")
def mixture():
    """Five groups, well apart, in 40 dimensions."""
    X, y = make_blobs(600, 40, centers=5, cluster_std=3.0, random_state=5)
    return X.astype(np.float32), y


@parametrize_with_checks(
    [TURTLE(**QUICK), TURTLE(**{**QUICK, "warm_start": True, "init": "random"})]
)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 3),
    st.integers(2, 7),
    st.sampled_from([0.0, 1.0, 10.0]),
    st.floats(0.1, 10),
)
def test_loss_against_reference(seed, S, K, balance, spread):
    logits = np.random.default_rng(seed).normal(0, spread, (2, S, 9, K))
    log_tau, log_q = (torch.from_numpy(x).log_softmax(-1) for x in logits)
    expected = reference.loss(*reference.softmax(logits), balance)
    assert turtle_loss(log_tau, log_q, balance).item() == pytest.approx(expected, abs=1e-6)


def test_encoders_against_reference():
    draws = torch.Generator().manual_seed(0)
    network = TaskEncoders([3, 4], 5)
    network.start(draws)
    for gain in network.gain:
        gain.data.uniform_(0.5, 3, generator=draws)
    X = torch.randn(8, 7, generator=draws)
    expected = [
        reference.encoder(
            X[:, columns].double().numpy(),
            network.direction[s].detach().double().numpy(),
            network.gain[s].detach().double().numpy().ravel(),
            network.bias[s].detach().double().numpy(),
        )
        for s, columns in enumerate((slice(0, 3), slice(3, 7)))
    ]
    each = network.each([Space.of(X[:, :3]), Space.of(X[:, 3:])]).exp()
    np.testing.assert_allclose(each.detach(), expected, atol=1e-6)
    np.testing.assert_allclose(network(X).exp().detach(), sum(expected) / 2, atol=1e-6)


def test_start_is_a_plain_linear_layer():
    network = TaskEncoders([6], 4)
    network.start(torch.Generator().manual_seed(0))
    torch.testing.assert_close(network.weights()[0], network.direction[0])
    assert 0.8 / 6**0.5 < network.direction[0].abs().max() < 1 / 6**0.5


def test_turned_encoders_say_the_same_of_turned_rows():
    draws = torch.Generator().manual_seed(0)
    network = TaskEncoders([3, 4], 5)
    network.start(draws)
    X = torch.randn(8, 7, generator=draws)
    expected = network(X)
    turns = random_rotations([3, 4], draws, torch.device("cpu"))
    for turn in turns:
        torch.testing.assert_close(turn @ turn.T, torch.eye(len(turn)))
    network.turn(turns)
    turned = torch.cat([X[:, :3] @ turns[0], X[:, 3:] @ turns[1]], 1)
    torch.testing.assert_close(network(turned), expected)
    assert not torch.allclose(network(X), expected, atol=1e-2)


def affine(dtype, b=30, d=6, K=4):
    draws = torch.Generator().manual_seed(1)
    x, weight, bias, tau = (
        torch.randn(shape, generator=draws, dtype=dtype) for shape in ((b, d), (K, d), (K,), (K, b))
    )
    return x, weight, bias, tau.softmax(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inner_gradient_is_what_autograd_finds(dtype):
    x, weight, bias, tau = affine(dtype)
    weight.requires_grad_()
    bias.requires_grad_()
    loss = torch.nn.functional.cross_entropy(x @ weight.T + bias, tau.T)
    expected = torch.autograd.grad(loss, (weight, bias))
    found = classifier_gradients(Space.of(x), weight.detach(), bias.detach(), tau)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_gradients_by_finite_differences():
    x, weight, bias, _ = affine(torch.float64)
    space = Space.of(x)
    weight.requires_grad_()
    bias.requires_grad_()
    assert torch.autograd.gradcheck(space.logits, (weight, bias))
    log_q = torch.randn(2, 30, 4, dtype=torch.float64).log_softmax(2)

    def loss(weight, bias):
        log_tau = space.logits(weight, bias).T.log_softmax(1)
        return turtle_loss(torch.stack([log_tau, (2 * log_tau).log_softmax(1)]), log_q, 3.0)

    assert torch.autograd.gradcheck(loss, (weight, bias))


@pytest.mark.parametrize("lr", [None, 3e-2])
def test_classifiers_learn_as_adam_does(lr):
    draws = torch.Generator().manual_seed(2)
    classifiers = Classifiers([6, 3], 4, lr, torch.device("cpu"))
    classifiers.restart(draws)
    starts = [
        (w.double().numpy().copy(), b.double().numpy().copy())
        for w, b in zip(classifiers.weight, classifiers.bias, strict=True)
    ]
    X = [torch.randn(20, d, generator=draws) for d in (6, 3)]
    tau = torch.randn(20, 4, generator=draws).softmax(1)
    found = classifiers.learn([Space.of(x) for x in X], tau, 10)
    for s, (x, (weight, bias)) in enumerate(zip(X, starts, strict=True)):
        rate = lr or 1 / x.shape[1]
        expected = reference.classifier(
            x.double().numpy(), tau.double().numpy(), weight, bias, rate, 10
        )
        np.testing.assert_allclose(found[s], expected, atol=2e-5)


def test_restart_forgets_adam():
    x = Space.of(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)))
    tau = torch.eye(2)[torch.arange(20) % 2]
    classifiers = Classifiers([3], 2, None, torch.device("cpu"))
    classifiers.restart(generator(0))
    first = classifiers.learn([x], tau, 5)
    assert not torch.equal(classifiers.learn([x], tau, 5), first)
    classifiers.restart(generator(0))
    assert torch.equal(classifiers.learn([x], tau, 5), first)


def test_an_outer_step_follows_the_equations(blobs):
    """One step from a known start: history's loss is the reference's, from its own classifier."""
    X, _ = blobs
    head = TURTLE(5, **{**QUICK, "min_steps": 1, "balance": 3.0, "init": "random", **PLAIN}).fit(X)
    Z = head.scaler_(torch.from_numpy(X)).double().numpy()
    seed = int(np.random.RandomState(0).randint(2**31 - 1))
    network = TaskEncoders([12], 5)
    network.start(generator(seed, stream=1))
    tau = network(torch.from_numpy(Z).float()).exp().detach().double().numpy()
    classifiers = Classifiers([12], 5, None, torch.device("cpu"))
    draws = generator(seed, stream=2)
    classifiers.restart(draws)
    weight, bias = (x[0].double().numpy() for x in (classifiers.weight, classifiers.bias))
    log_q = reference.classifier(Z, tau, weight, bias, 1 / 12, 10)
    expected = reference.loss(tau[None], np.exp(log_q)[None], 3.0)
    assert head.history_[0]["loss"] == pytest.approx(expected, abs=1e-4)
    moved = head.network_.direction[0] - network.direction[0]
    np.testing.assert_allclose(moved.detach().abs().max(), head.lr, rtol=1e-3)


def test_finds_a_well_separated_mixture(mixture):
    X, y = mixture
    head = TURTLE(5, random_state=0, device="cpu", min_steps=200)
    assert adjusted_rand_score(y, head.fit_predict(X)) >= 0.95


def test_two_spaces_share_their_labels(mixture):
    X, y = mixture
    noise = np.random.default_rng(0).normal(size=(len(X), 30)).astype(np.float32)
    both = np.hstack([X[:, :25], X[:, 25:] * 100, noise])
    params = {"random_state": 0, "device": "cpu", "min_steps": 200, **PLAIN}
    head = TURTLE(5, blocks=(25, 15, 30), **params)
    assert adjusted_rand_score(y, head.fit_predict(both)) >= 0.95
    assert [v.shape for v in head.network_.direction] == [(5, 25), (5, 15), (5, 30)]
    Z = head.scaler_(torch.from_numpy(both))
    each = head.network_.each([Space.of(z) for z in head.scaler_.split(Z)])
    np.testing.assert_allclose(head.predict_proba(both), each.exp().mean(0), atol=1e-5)


def test_unequal_sizes_are_kept_unless_pushed():
    X, y = make_blobs([400, 100, 60, 40], 16, cluster_std=2.0, random_state=2)
    plain = TURTLE(4, random_state=0, device="cpu", min_steps=200).fit(X)
    assert adjusted_rand_score(y, plain.labels_) >= 0.95
    params = {"random_state": 0, "device": "cpu", "min_steps": 200, "init": "random"}
    pushed = TURTLE(4, balance=10.0, **params).fit(X)
    entropies = [reference_tsp.entropy(head.predict_proba(X).mean(0)) for head in (plain, pushed)]
    assert entropies[0] < entropies[1]


def test_batch_is_all_rows_or_what_the_clusters_need():
    X = np.random.default_rng(0).normal(size=(2100, 4)).astype(np.float32)
    params = {**QUICK, "min_steps": 4}
    assert TURTLE(2, **params).fit(X).n_iter_ == 2
    assert TURTLE(106, **params).fit(X).n_iter_ == 4
    assert TURTLE(2, **params, batch_size=5000).fit(X).n_iter_ == 4
    assert TURTLE(2, **params, batch_size=300).fit(X).n_iter_ == 1
    assert TURTLE(2, **params, batch_size=300, epochs=3).fit(X).n_iter_ == 3


def test_history_has_the_usage_of_the_clusters(blobs):
    X, _ = blobs
    history = TURTLE(5, **QUICK).fit(X).history_
    assert len(history) == 20
    assert history[-1]["conditional_entropy"] < history[0]["conditional_entropy"]
    assert 0 < history[-1]["marginal_entropy"] <= np.log(5) + 1e-6
    assert history[-1]["loss"] < history[0]["loss"]


def test_same_seed_same_bytes_and_another_seed_not(blobs):
    X, _ = blobs
    first, second = (TURTLE(5, **QUICK).fit(X) for _ in range(2))
    assert torch.equal(first.network_.direction[0], second.network_.direction[0])
    assert first.history_ == second.history_
    third = TURTLE(5, **{**QUICK, "random_state": 1}).fit(X)
    assert not torch.equal(first.network_.direction[0], third.network_.direction[0])


@pytest.mark.parametrize("changes", [{}, {"warm_start": True}, {"batch_size": 100}])
def test_interrupted_and_resumed_ends_with_the_same_bytes(blobs, tmp_path, monkeypatch, changes):
    X, _ = blobs
    monkeypatch.setattr("imageherd.heads.loop.CHECKPOINT_SECONDS", 0.0)
    params = {**QUICK, **changes, "blocks": (8, 4)}
    whole = TURTLE(5, **params).fit(X)

    def interrupt(info):
        if info["epoch"] == 4:
            raise KeyboardInterrupt

    path = tmp_path / "run.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        TURTLE(5, **params).fit(X, callback=interrupt, checkpoint=path)
    epochs = []
    resumed = TURTLE(5, **params).fit(
        X, callback=lambda info: epochs.append(info["epoch"]), checkpoint=path
    )
    assert epochs[0] == 4
    assert whole.history_ == resumed.history_
    for name, value in whole.network_.state_dict().items():
        assert torch.equal(value, resumed.network_.state_dict()[name])


def test_saved_and_loaded(blobs, tmp_path):
    X, _ = blobs
    head = TURTLE(5, **QUICK, blocks=(8, 4), scaling="pca").fit(X)
    head.save(tmp_path)
    loaded = TURTLE.load(tmp_path, device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(X), head.predict_proba(X))
    assert loaded.history_ == head.history_
    assert loaded.blocks == (8, 4)


@pytest.mark.parametrize("rotate", [False, True])
def test_kmeans_start_survives_no_training(mixture, rotate):
    X, y = mixture
    params = {**QUICK, "min_steps": 1, "lr": 1e-12, "scaling": "standard", "rotate": rotate}
    head = TURTLE(5, **params).fit(X)
    assert adjusted_rand_score(y, head.labels_) >= 0.95
    np.testing.assert_allclose(head.network_.gain[0], 3**-0.5, rtol=1e-6)
    np.testing.assert_allclose(head.network_.direction[0].norm(dim=1), 40**0.5, rtol=1e-5)


def test_200_rows_with_defaults():
    X, y = make_blobs([80, 50, 40, 20, 10], 32, cluster_std=2.0, random_state=0)
    head = TURTLE(5, random_state=0, device="cpu").fit(X.astype(np.float32))
    assert head.n_iter_ == 500
    assert adjusted_rand_score(y, head.labels_) > 0.8


def test_warm_start_learns_from_where_it_was(blobs):
    X, _ = blobs
    cold, warm = (TURTLE(5, **QUICK, warm_start=w).fit(X) for w in (False, True))
    assert cold.history_[0] == warm.history_[0]
    assert warm.history_[-1]["loss"] < cold.history_[-1]["loss"]


def test_the_papers_row_runs(blobs):
    X, _ = blobs
    head = TURTLE(5, **{**PRESETS["paper"], **QUICK, "min_steps": 3}).fit(X)
    assert (head.balance, head.inner_lr, head.n_iter_) == (10.0, 1e-3, 3)


def test_few_rows_many_clusters_and_one_cluster():
    X = np.random.default_rng(0).normal(size=(11, 3))
    assert TURTLE(1, **QUICK).fit(X).labels_.tolist() == [0] * 11
    assert len(set(TURTLE(11, **{**QUICK, "min_steps": 1, **PLAIN}).fit(X).labels_)) == 11


def test_transform_is_x_itself(blobs):
    X, _ = blobs
    np.testing.assert_array_equal(TURTLE(5, **QUICK).fit(X).transform(X), X)


def test_divergence_says_what_to_do(blobs):
    X, _ = blobs
    with pytest.raises(LossNotFiniteError, match=r"lower lr \(now 3e\+38\)"):
        TURTLE(5, **{**QUICK, "lr": 3e38}).fit(X)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("balance", -1.0),
        ("init", "zeros"),
        ("inner_steps", 0),
        ("inner_lr", 0.0),
        ("lr", 0.0),
        ("batch_size", 0),
        ("epochs", 0),
        ("min_steps", -1),
        ("warm_start", "yes"),
        ("rotate", 1),
    ],
)
def test_bad_parameters_are_named(blobs, name, value):
    with pytest.raises((ValueError, TypeError), match=name):
        TURTLE(5, **{**QUICK, name: value}).fit(blobs[0])
