import json

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn
from torch.nn import functional as F  # noqa: N812

from imageherd.heads import load_head, temi
from imageherd.heads.loop import LossNotFiniteError, Plan, Run
from imageherd.heads.temi import PRESETS, TEMI, Ensemble
from imageherd.metrics import clustering_accuracy
from imageherd.neighbors import knn_graph

OBJECTIVES = ("temi", "wpmi", "pmi", "scan")
QUICK = {"n_heads": 3, "epochs": 3, "min_steps": 0, "device": "cpu", "random_state": 0}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    # Matrices this small are slower on two threads, and far slower on a busy machine.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs(200, n_features=24, centers=4, cluster_std=2.0, random_state=0)
    return X.astype(np.float32), y


# The step


class PlainHead(nn.Module):
    """One head as anyone would write it."""

    def __init__(self, stack, i):
        super().__init__()
        self.first, self.second = nn.Linear(24, 512), nn.Linear(512, 256)
        self.last = nn.utils.parametrizations.weight_norm(nn.Linear(256, 4, bias=False))
        weights = self.last.parametrizations.weight
        with torch.no_grad():
            for mine, theirs in [
                (self.first.weight, stack.hidden_weight[i]),
                (self.first.bias, stack.hidden_bias[i, 0]),
                (self.second.weight, stack.bottleneck_weight[i]),
                (self.second.bias, stack.bottleneck_bias[i, 0]),
                (weights.original0, stack.gain[i]),
                (weights.original1, stack.direction[i]),
            ]:
                mine.copy_(theirs)

    def forward(self, x):
        z = F.normalize(self.second(F.gelu(self.first(x))), dim=1)
        return F.softmax(self.last(z) / 0.1, dim=1)


def plain_training(objective, start, Z, pairs, settings, steps_an_epoch):
    """The method as a loop over plain heads, on given pairs; returns teachers, prior, losses."""
    students = [PlainHead(start, i) for i in range(3)]
    teachers = [PlainHead(start, i) for i in range(3)]
    prior = torch.full((3, 4), 0.25)
    named = [item for head in students for item in head.named_parameters()]
    plain = [p for name, p in named if "bias" in name or "original0" in name]
    decayed = [p for name, p in named if not ("bias" in name or "original0" in name)]
    groups = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay)
    losses = torch.zeros(3)
    for number, (x, other) in enumerate(pairs):
        with torch.no_grad():
            t = [(head(Z[x]), head(Z[other])) for head in teachers]
            for i, (one, two) in enumerate(t):
                prior[i] = 0.9 * prior[i] + 0.1 * (one.mean(0) + two.mean(0)) / 2
            weights = torch.stack([(one * two).sum(1) for one, two in t])
        optimizer.zero_grad()
        for i, head in enumerate(students):
            s, s_other = head(Z[x]), head(Z[other])
            if objective == "scan":
                pair = -((s * t[i][1]).sum(1).log() + (s_other * t[i][0]).sum(1).log()) / 2
                spread = [(m * m.log()).sum() for m in (s.mean(0), s_other.mean(0))]
                loss = pair.mean() + 5 * (spread[0] + spread[1]) / 2
            else:
                a = ((s * t[i][1]) ** 0.6 / prior[i]).sum(1).log()
                b = ((s_other * t[i][0]) ** 0.6 / prior[i]).sum(1).log()
                w = {"temi": weights.mean(0), "wpmi": weights[i], "pmi": 1.0}[objective]
                loss = (-w * (a + b) / 2).mean()
            (loss / 3).backward()
            losses[i] = loss.detach()
        if number < steps_an_epoch:
            for head in students:
                for p in head.last.parameters():
                    p.grad = None
        optimizer.step()
        with torch.no_grad():
            for s, t_ in zip(students, teachers, strict=True):
                for a, b in zip(s.parameters(), t_.parameters(), strict=True):
                    b.mul_(settings.teacher_momentum).add_(a, alpha=1 - settings.teacher_momentum)
    return teachers, prior, losses


def our_training(settings, Z, neighbors, batches, monkeypatch=None):
    """The same batches through the library; returns the ensemble and the pairs it drew."""
    run = Run(seed=5, device=torch.device("cpu"))
    ensemble = Ensemble(settings, Z, neighbors, Plan(len(Z), 50, 20, 1), run)
    start = Ensemble(settings, Z, neighbors, Plan(len(Z), 50, 20, 1), run)
    pairs = []
    for epoch, batch in batches:
        state = ensemble.draws.get_state()
        choice = torch.randint(neighbors.shape[1], (len(batch),), generator=ensemble.draws)
        ensemble.draws.set_state(state)
        pairs.append((batch, neighbors[batch, choice]))
        losses = ensemble.step(batch, epoch)
    return ensemble, start, pairs, losses


@pytest.fixture(scope="module")
def ground(blobs):
    Z = torch.from_numpy(blobs[0] / blobs[0].std())
    neighbors = torch.from_numpy(knn_graph(blobs[0], 10).ids.astype(np.int64))
    draws = torch.Generator().manual_seed(0)
    orders = [torch.randperm(200, generator=draws).view(4, 50) for _ in range(5)]
    return Z, neighbors, [(e, batch) for e, order in enumerate(orders) for batch in order]


def settings_for(objective="temi", **more):
    # Adam turns rounding in a vanishing gradient into a step of up to lr: a small one is compared.
    common = {"n_heads": 3, "scale_lr": False, "lr": 1e-4, "weight_decay": 0.1}
    return TEMI(4, objective=objective, **{**common, **more})


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("steps", [1, 20])
def test_training_is_that_of_plain_heads(objective, steps, ground):
    Z, neighbors, batches = ground
    # So that a teacher, too, has gone somewhere after one step.
    settings = settings_for(objective, teacher_momentum=0.7)
    ensemble, start, pairs, losses = our_training(settings, Z, neighbors, batches[:steps])
    teachers, prior, want = plain_training(objective, start.students[0], Z, pairs, settings, 4)
    torch.testing.assert_close(ensemble.prior, prior, rtol=0, atol=1e-5)
    torch.testing.assert_close(losses, want, rtol=0, atol=1e-5)
    moved = ensemble.teachers[0].hidden_weight - start.teachers[0].hidden_weight
    assert moved.abs().max() > 2.5e-5
    for i, plain in enumerate(teachers):
        stack = ensemble.teacher(i)
        weights = plain.last.parametrizations.weight
        for ours, theirs in [
            (stack.hidden_weight[0], plain.first.weight),
            (stack.hidden_bias[0, 0], plain.first.bias),
            (stack.bottleneck_weight[0], plain.second.weight),
            (stack.bottleneck_bias[0, 0], plain.second.bias),
            (stack.gain[0], weights.original0),
            (stack.direction[0], weights.original1),
        ]:
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("objective", ["temi", "scan"])
def test_chunks_change_nothing(objective, keep, ground, monkeypatch):
    Z, neighbors, batches = ground
    monkeypatch.setattr(temi, "_KEPT_BYTES", 2**40 if keep else 0)
    whole, parts = (
        our_training(settings_for(objective, heads_per_chunk=c), Z, neighbors, batches[:12])[0]
        for c in (3, 2)
    )
    assert [len(e.students) for e in (whole, parts)] == [1, 2]
    torch.testing.assert_close(whole.prior, parts.prior, rtol=0, atol=1e-5)
    for i in range(3):
        for ours, theirs in zip(
            whole.teacher(i).parameters(), parts.teacher(i).parameters(), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_a_head_is_the_same_however_many_there_are(ground):
    # Heads that do not share weights of pairs must not touch each other at all. The loss is a
    # mean over heads, which AdamW divides out up to its epsilon.
    Z, neighbors, batches = ground
    few, many = (
        our_training(settings_for("wpmi", n_heads=n), Z, neighbors, batches[:12])[0] for n in (1, 4)
    )
    for ours, theirs in zip(few.teacher(0).parameters(), many.teacher(0).parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_last_layer_waits_for_the_second_epoch(ground):
    Z, neighbors, batches = ground
    frozen, start, *_ = our_training(settings_for(), Z, neighbors, batches[:4])
    assert torch.equal(frozen.students[0].direction, start.students[0].direction)
    assert torch.equal(frozen.students[0].gain, start.students[0].gain)
    assert not torch.equal(frozen.students[0].hidden_weight, start.students[0].hidden_weight)
    free, *_ = our_training(settings_for(), Z, neighbors, batches[:5])
    assert not torch.equal(free.students[0].direction, start.students[0].direction)
    assert not torch.equal(free.students[0].gain, start.students[0].gain)


# The estimator


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_finds_blobs_from_200_rows(objective, blobs):
    X, y = blobs
    head = TEMI(4, objective=objective, n_heads=3, min_steps=120, device="cpu", random_state=0)
    assert clustering_accuracy(y, head.fit_predict(X)) > 0.9
    assert head.n_iter_ == 30  # 4 steps an epoch
    assert np.array_equal(head.predict(X), head.labels_)
    assert np.array_equal(head.predict_proba(X).argmax(1), head.labels_)
    vectors = head.transform(X)
    assert vectors.shape == (200, 256)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_the_head_with_the_lowest_loss_predicts(blobs):
    head = TEMI(4, **QUICK).fit(blobs[0])
    assert head.best_head_ == int(np.argmin(head.head_losses_))
    assert len(set(head.head_losses_)) == 3
    assert abs(np.mean(head.head_losses_) - head.history_[-1]["loss"]) < 1e-5


def test_history_has_the_entropies_that_choose_beta(blobs):
    settings = {**QUICK, "min_steps": 80}
    low = TEMI(4, beta=0.51, **settings).fit(blobs[0]).history_[-1]
    high = TEMI(4, beta=1.0, **settings).fit(blobs[0]).history_[-1]
    assert high["conditional_entropy"] < low["conditional_entropy"]
    for entry in (low, high):
        assert 0 <= entry["conditional_entropy"] <= entry["marginal_entropy"] + 0.05
        assert entry["marginal_entropy"] <= np.log(4) + 1e-5


def test_balance_is_the_push_to_equal_sizes():
    X, _ = make_blobs([240, 40, 40], n_features=8, cluster_std=3.0, random_state=1)
    settings = {**QUICK, "min_steps": 80}
    spread = [
        TEMI(3, balance=b, **settings).fit(X).history_[-1]["marginal_entropy"] for b in (1.0, 0.0)
    ]
    assert spread[0] > spread[1]


def test_same_seed_same_bytes_other_seed_other_heads(blobs):
    one, two, other = (
        TEMI(4, **{**QUICK, "random_state": s}).fit(blobs[0]).predict_proba(blobs[0])
        for s in (0, 0, 1)
    )
    assert one.tobytes() == two.tobytes()
    assert one.tobytes() != other.tobytes()


@pytest.mark.parametrize("stop", [1, 3])
def test_resumed_is_uninterrupted(stop, blobs, tmp_path, monkeypatch):
    settings = {**QUICK, "epochs": 4, "heads_per_chunk": 2}
    whole = TEMI(4, **settings).fit(blobs[0])

    class KilledError(Exception):
        pass

    def kill(info):
        if info["epoch"] == stop + 1:
            raise KilledError

    # Written after every epoch instead of twice a minute.
    original = temi.train
    monkeypatch.setattr(
        temi, "train", lambda *a, **k: original(*a, **{**k, "checkpoint_seconds": 0})
    )
    path = tmp_path / "temi.ckpt"
    with pytest.raises(KilledError):
        TEMI(4, **settings).fit(blobs[0], callback=kill, checkpoint=path)
    assert path.exists()
    epochs = []
    resumed = TEMI(4, **settings).fit(
        blobs[0], callback=lambda info: epochs.append(info["epoch"]), checkpoint=path
    )
    assert epochs == list(range(stop + 1, 5))
    assert not path.exists()
    assert resumed.head_losses_ == whole.head_losses_
    assert resumed.history_ == whole.history_
    for name, values in whole.network_.state_dict().items():
        assert torch.equal(values, resumed.network_.state_dict()[name])


def test_saved_and_loaded(blobs, tmp_path):
    head = TEMI(4, **QUICK).fit(blobs[0])
    head.save(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["class"] == "TEMI"
    back = load_head(tmp_path, device="cpu")
    assert isinstance(back, TEMI)
    assert back.predict_proba(blobs[0]).tobytes() == head.predict_proba(blobs[0]).tobytes()
    assert back.transform(blobs[0]).tobytes() == head.transform(blobs[0]).tobytes()
    assert (back.best_head_, back.head_losses_) == (head.best_head_, head.head_losses_)


def test_a_given_graph_is_used(blobs):
    X = blobs[0]
    own = TEMI(4, **QUICK).fit(X).head_losses_
    given = TEMI(4, **QUICK).fit(X, neighbors=knn_graph(X, 30)).head_losses_
    backwards = knn_graph(X, 199)
    far = type(backwards)(backwards.ids[:, ::-1].copy(), backwards.similarities[:, ::-1].copy())
    assert own == given
    assert TEMI(4, **QUICK).fit(X, neighbors=far).head_losses_ != own


def test_divergence_is_a_clear_error(blobs):
    head = TEMI(4, **{**QUICK, "lr": 1e30, "warmup_epochs": 0})
    with pytest.raises(LossNotFiniteError, match="lower lr"):
        head.fit(blobs[0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("objective", "info"),
        ("beta", 0.5),
        ("beta", 1.1),
        ("n_heads", 0),
        ("balance", -1.0),
        ("temperature", 0.0),
        ("teacher_momentum", 1.0),
        ("lr_decay", "step"),
        ("heads_per_chunk", 0),
        ("scaling", "minmax"),
    ],
)
def test_wrong_parameters_are_named(name, value, blobs):
    with pytest.raises(ValueError, match=name):
        TEMI(4, **{name: value}).fit(blobs[0])


def test_presets_are_the_papers():
    paper, released = (TEMI(10, **PRESETS[name]) for name in ("paper", "released"))
    for head in (paper, released):
        assert (head.n_heads, head.epochs, head.batch_size, head.lr) == (50, 200, 512, 1e-4)
        assert (head.beta, head.n_neighbors, head.weight_decay) == (0.6, 50, 1e-4)
        assert head.teacher_momentum == 0.996
        assert (head.scaling, head.lr_decay, head.min_steps) == ("none", "constant", 0)
    assert (released.scale_lr, released.warmup_epochs) == (True, 20)
    assert (paper.scale_lr, paper.warmup_epochs) == (False, 0)


@parametrize_with_checks([TEMI(2, n_heads=2, min_steps=60, device="cpu", random_state=0)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)
