import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from imageherd.heads import lsdc_losses
from imageherd.heads.autoencoder import mask
from imageherd.heads.base import CollapseWarning
from imageherd.heads.loop import LossNotFiniteError, generator
from imageherd.heads.lsdc import LSDC, PRESETS
from imageherd.heads.trunk import Classified
from imageherd.neighbors import knn_graph

QUICK = {
    "epochs": 3,
    "milestones": (2, 2.5),
    "min_steps": 20,
    "batch_size": 64,
    "hidden": (64,),
    "lr": 5e-3,
    "device": "cpu",
    "random_state": 0,
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    # Matrices this small are slower on two threads, and far slower on a busy machine.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs(300, 12, centers=5, cluster_std=2.0, random_state=3)
    return X.astype(np.float32) + 5, y


def fitted(X, **params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        return LSDC(5, **{**QUICK, **params}).fit(X)


@parametrize_with_checks([LSDC(**{**QUICK, "min_steps": 60})])
def test_scikit_learn_contract(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        check(estimator)


# Pairwise labels


def test_mirrored_trunk_starts_as_a_rotation():
    Z = torch.randn(30, 6, generator=generator(0))
    network = Classified((6, 40, 60), 3, 1)
    network.start("mirrored", generator(1))
    up, down = network.trunk(Z).detach().chunk(2, dim=1)
    # relu(a) - relu(-a) is a, the rotated row.
    np.testing.assert_allclose(torch.pdist(up - down), torch.pdist(Z), rtol=1e-5)
    np.testing.assert_array_equal(up * down, torch.zeros(30, 30))


def test_mirrored_start_keeps_more_neighbors_than_a_random_one():
    Z = torch.randn(200, 30, generator=generator(0))
    kept = {}
    for init in ("mirrored", "random"):
        network = Classified((30, 64, 65), 3, 1)
        network.start(init, generator(1))
        A = lsdc_losses.knn_labels(network.trunk(Z).detach(), 20)
        kept[init] = (A * lsdc_losses.knn_labels(Z, 20)).sum() / A.sum()
    assert kept["mirrored"] > kept["random"] + 0.1


def test_shape_of_the_network(blobs):
    X, _ = blobs
    head = fitted(X, hidden=(10, 8), classifier_layers=2, scaling="none")
    shapes = [tuple(w.shape) for w in head.network_.parameters() if w.ndim == 2]
    assert shapes == [(10, 12), (8, 10), (8, 8), (5, 8)]
    f = head.transform(X)
    assert f.shape == (300, 8)
    assert (f >= 0).all()
    logits = head.network_.classifier(torch.from_numpy(f))
    np.testing.assert_allclose(logits.softmax(1), head.predict_proba(X), atol=1e-5)
    assert LSDC(4, **PRESETS["reuters"]).hidden == (500, 500, 2000)


# The estimator


@pytest.mark.parametrize("sizes", [[40] * 5, [150, 120, 100, 80, 60]])
def test_default_row_finds_well_separated_groups(sizes):
    X, y = make_blobs(sizes, 32, cluster_std=2.0, random_state=1)
    head = LSDC(5, random_state=0, device="cpu").fit(X.astype(np.float32))
    assert adjusted_rand_score(y, head.labels_) >= 0.95


@pytest.mark.parametrize(
    "change",
    [
        {"labeling": "sne"},
        {"labeling": "cosine"},
        {"labeling": "l2"},
        {"label_space": "predictions"},
        {"composition": None},
        {"second_view": "dropout"},
        {"classifier_layers": 2},
        {"init": "random"},
        {"pretraining": "autoencoder"},
        {"optimizer": "sgd"},
    ],
    ids=str,
)
def test_ablations_change_the_result_and_still_work(blobs, change):
    X, y = blobs
    default = fitted(X).predict_proba(X)
    head = fitted(X, **change)
    assert np.abs(head.predict_proba(X) - default).max() > 1e-3
    rate = {"lr": 0.1} if "optimizer" in change else {}
    longer = fitted(X, min_steps=300, **change, **rate)
    if "label_space" not in change:
        assert adjusted_rand_score(y, longer.labels_) > 0.9


@pytest.mark.parametrize(
    "change",
    [
        {"k": 3},
        {"k": 8, "released_count": True},
        {"labeling": "cosine", "threshold": 0.9},
        {"labeling": "sne", "temperature": 0.5},
        {"mixup_alpha": 5.0},
        {"second_view": "dropout", "noise": 0.5},
        {"pretraining": "autoencoder", "noise": 0.5},
        {"n_neighbors": 1},
        {"balance": 0.5},
        {"consistency": 50.0},
        {"ramp_epochs": 0},
        {"milestones": (1,)},
        {"weight_decay": 1.0},
        {"lr": 1e-2},
    ],
    ids=str,
)
def test_every_strength_has_an_effect(blobs, change):
    X, _ = blobs
    switches = ("labeling", "second_view", "pretraining")
    relatives = {name: change[name] for name in switches if name in change}
    if "released_count" in change:
        relatives["k"] = change["k"]
    before, after = fitted(X, **relatives), fitted(X, **change)
    assert not np.array_equal(before.predict_proba(X), after.predict_proba(X))


def test_views_are_drawn_from(blobs):
    X, y = blobs
    rng = np.random.default_rng(0)
    views = X[:, None] + rng.normal(0, 0.5, (300, 3, 12)).astype(np.float32)
    params = {**QUICK, "min_steps": 300}
    head = LSDC(5, **params).fit(X, views=views)
    assert adjusted_rand_score(y, head.labels_) > 0.9
    other = LSDC(5, **params).fit(X, views=views + 1)
    assert not np.array_equal(head.predict_proba(X), other.predict_proba(X))


def test_without_push_apart_all_share_a_cluster(blobs):
    X, _ = blobs
    with pytest.warns(CollapseWarning, match=r"used 1 of 5 clusters; to use more, raise balance"):
        LSDC(5, **{**QUICK, "balance": 0.0, "min_steps": 400, "lr": 1e-2}).fit(X)


@pytest.mark.parametrize("seed", [0, 1])
def test_stronger_push_makes_sizes_more_equal(seed):
    rng = np.random.default_rng(seed)
    X = np.vstack([rng.normal(m, 1, (n, 8)) for m, n in ((0, 250), (1, 40), (-1, 30))])
    found = []
    for balance in (0.02, 1.0):
        p = fitted(X, balance=balance, min_steps=200, random_state=seed).predict_proba(X).mean(0)
        found.append(-np.sum(p * np.log(p)))
    assert found[0] < found[1]


def test_same_seed_same_bytes_and_another_seed_not(blobs):
    X, _ = blobs
    state = torch.random.get_rng_state()
    first, second = (fitted(X, pretraining="autoencoder") for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    third = fitted(X, pretraining="autoencoder", random_state=1)
    for mine, same, other in zip(
        *(head.network_.parameters() for head in (first, second, third)), strict=True
    ):
        assert torch.equal(mine, same)
        assert not torch.equal(mine, other)


@pytest.mark.parametrize("when", ["clustering", "autoencoder"])
def test_interrupted_and_resumed_ends_with_the_same_bytes(blobs, tmp_path, monkeypatch, when):
    X, _ = blobs
    monkeypatch.setattr("imageherd.heads.loop.CHECKPOINT_SECONDS", 0.0)
    params = {**QUICK, "epochs": 6, "pretraining": "autoencoder"}
    whole = LSDC(5, **params).fit(X)
    path = tmp_path / "run.checkpoint"
    with monkeypatch.context() as patch:
        if when == "autoencoder":
            patch.setattr("imageherd.heads.autoencoder.mask", interrupt_after(20))
        with pytest.raises(KeyboardInterrupt):
            LSDC(5, **params).fit(X, callback=interrupt, checkpoint=path)
    left = [file.name for file in tmp_path.iterdir()]
    assert left == ["run.checkpoint" + (".pretraining" if when == "autoencoder" else "")]
    resumed = LSDC(5, **params).fit(X, checkpoint=path)
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.network_.parameters(), resumed.network_.parameters(), strict=True)
    )
    assert whole.history_ == resumed.history_
    assert not list(tmp_path.iterdir())


def interrupt(info):
    if info["epoch"] == 4:
        raise KeyboardInterrupt


def interrupt_after(calls):
    left = iter(range(calls))

    def counted(Z, rate, draws):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return mask(Z, rate, draws)

    return counted


def test_saved_and_loaded_is_the_same(blobs, tmp_path):
    X, _ = blobs
    head = fitted(X, hidden=(16, 8), classifier_layers=2)
    head.save(tmp_path)
    again = LSDC.load(tmp_path, device="cpu")
    np.testing.assert_array_equal(head.predict_proba(X), again.predict_proba(X))
    np.testing.assert_array_equal(head.transform(X), again.transform(X))


def test_batch_grows_with_the_clusters():
    X = np.random.default_rng(0).normal(size=(1700, 4)).astype(np.float32)
    params = {**QUICK, "batch_size": None, "epochs": 1, "min_steps": 5}
    assert LSDC(2, **params).fit(X).n_iter_ == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        assert LSDC(50, **params).fit(X).n_iter_ == 2


def test_few_rows_many_clusters():
    X = np.random.default_rng(0).normal(size=(11, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        for labeling in ("knn", "sne", "cosine", "l2"):
            assert LSDC(11, labeling=labeling, **QUICK).fit(X).labels_.shape == (11,)
    assert LSDC(1, **QUICK).fit(X).labels_.tolist() == [0] * 11


@pytest.mark.parametrize("name", PRESETS)
def test_presets_train(blobs, name):
    X, _ = blobs
    quick = {"epochs": 1, "hidden": (16,), "device": "cpu", "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        # The rates are for features of order one.
        head = LSDC(5, **{**PRESETS[name], **quick, "scaling": "standard"}).fit(X)
    assert np.isfinite(head.predict_proba(X)).all()


def test_divergence_says_what_to_do(blobs):
    with pytest.raises(LossNotFiniteError, match=r"lower lr \(now 1e\+30\)"):
        fitted(blobs[0], optimizer="sgd", lr=1e30)


def test_graph_is_used_by_the_neighbor_view_alone(blobs):
    X, _ = blobs
    graph = knn_graph(X, 30)
    found = LSDC(5, **QUICK).fit(X, neighbors=graph)
    own = fitted(X)
    np.testing.assert_array_equal(found.labels_, own.labels_)
    with pytest.raises(ValueError, match="20 neighbours are needed"):
        LSDC(5, **QUICK).fit(X, neighbors=graph.slice(10))
    without = LSDC(5, **QUICK, second_view="dropout").fit(X, neighbors=graph.slice(10))
    np.testing.assert_array_equal(without.labels_, fitted(X, second_view="dropout").labels_)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("labeling", "KNN"),
        ("label_space", "logits"),
        ("composition", "ricap"),
        ("second_view", "crop"),
        ("init", "zeros"),
        ("pretraining", "rotnet"),
        ("optimizer", "lbfgs"),
        ("classifier_layers", 3),
        ("k", 0),
        ("temperature", 0.0),
        ("noise", 1.0),
        ("mixup_alpha", 0.0),
        ("balance", -1.0),
        ("consistency", -1.0),
        ("ramp_epochs", -1),
        ("hidden", ()),
        ("hidden", (0,)),
        ("milestones", (-1,)),
        ("lr", 0.0),
        ("weight_decay", -1.0),
        ("batch_size", 0),
        ("epochs", 0),
        ("min_steps", -1),
    ],
)
def test_bad_parameters_are_named(blobs, name, value):
    with pytest.raises(ValueError, match=name):
        LSDC(5, **{**QUICK, name: value}).fit(blobs[0])
