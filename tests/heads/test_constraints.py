"""Labels and pairs that are known beforehand: their loss, and what heads make of them."""

import numpy as np
import pytest
import torch

from imageherd.heads import HEADS
from imageherd.heads.base import CollapseWarning
from imageherd.heads.constraints import DRAWN, KINDS, Constraints, Drawn, belief_losses
from imageherd.warm_start import regrouped
from reference import constraints as plain

NONE = np.empty((0, 2), dtype=np.int64)
RNG = np.random.default_rng(0)


def drawn(m, labels, a, b, K, n=50):
    rows = torch.from_numpy(RNG.integers(n, size=(m + labels + 2 * a + 2 * b)))
    columns = torch.from_numpy(RNG.integers(K, size=m + labels))
    known = torch.stack([rows[: m + labels], columns], 1)
    must, cannot = rows[m + labels :].view(-1, 2).split([a, b])
    return Drawn(known[:m], known[m:], must, cannot)


@pytest.mark.parametrize("counts", [(5, 2, 3, 4), (0, 0, 3, 0), (1, 0, 0, 0), (0, 3, 0, 2)])
def test_the_loss_is_that_of_a_plain_loop(counts):
    known, logits = drawn(*counts, 4), torch.randn(2, 50, 4, dtype=torch.float64) * 3
    near = torch.from_numpy(RNG.integers(50, size=counts[0]))
    found = known.losses(logits.log_softmax(2)[:, torch.cat([known.rows, near])])
    for h, p in enumerate(logits.softmax(2).numpy()):
        columns = known.fixed[:, 1].tolist()
        expected = plain.labels(p[known.labelled.numpy()], columns)
        expected += plain.believed(p[near.numpy()], columns)
        expected += plain.labels(p[known.typical[:, 0].numpy()], known.typical[:, 1].tolist())
        expected += plain.must([(p[i], p[j]) for i, j in known.must.tolist()])
        expected += plain.cannot([(p[i], p[j]) for i, j in known.cannot.tolist()])
        assert float(found[h]) == pytest.approx(expected, rel=1e-12)


def test_gradients_are_those_of_differences():
    known = drawn(0, 3, 2, 2, 3)
    logits = torch.randn(2, len(known.rows), 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: known.losses(x.log_softmax(2)), logits)


def test_belief_is_no_target_itself():
    logits = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    columns = torch.tensor([0, 2, 1, 1])
    belief_losses(logits.log_softmax(2), columns).sum().backward()
    p = logits.detach().softmax(2)[0]
    own = p[torch.arange(4), columns]
    expected = own[:, None] * (p - torch.nn.functional.one_hot(columns, 3)) / DRAWN
    torch.testing.assert_close(logits.grad[0], expected)


def test_what_is_sure_and_wrong_has_a_finite_loss_and_gradient():
    known = drawn(1, 0, 1, 1, 2)
    known.fixed[0, 1] = 0
    sure = [[-90.0, 90], [90, -90], [-90, 90], [90, -90], [90, -90], [-90, 90]]
    logits = torch.tensor([sure], requires_grad=True)
    loss = known.losses(logits.log_softmax(2))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()
    # Two that must be together, each sure to be elsewhere, are drawn to each other.
    assert logits.grad[0, :3].abs().min() > 0.4 / DRAWN


def test_a_step_looks_at_64_of_a_kind_at_most():
    many = np.stack([np.arange(200), np.arange(200) % 3], 1)
    known = Constraints(many[:DRAWN], NONE, many, NONE)
    draws = torch.Generator().manual_seed(0)
    first, second = (known.draw(draws, torch.device("cpu")) for _ in range(2))
    np.testing.assert_array_equal(first.fixed, many[:DRAWN])
    assert first.must.shape == (DRAWN, 2)
    assert not torch.equal(first.must, second.must)
    assert first.rows.shape == (3 * DRAWN,)
    draws = torch.Generator().manual_seed(0)
    assert torch.equal(known.draw(draws, torch.device("cpu")).must, first.must)


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"fixed": [[0, 4]]}, r"fixed of shape \(1, 2\) must be .* below 10 and 4"),
        ({"must": [[0, 10]]}, "must of shape .* below 10 and 10"),
        ({"cannot": [[-1, 1]]}, "cannot of shape"),
        ({"must": [1, 2]}, r"must of shape \(2,\)"),
    ],
)
def test_what_is_out_of_range_is_named(kinds, message):
    known = Constraints(**{k: np.array(kinds.get(k, NONE)) for k in KINDS})
    with pytest.raises(ValueError, match=message):
        known.check(10, 4)


# ---- what heads make of them

K, D = 4, 12
CENTERS = RNG.normal(size=(K, D)) * 3
BLOBS = np.arange(240) % K
X = (CENTERS[BLOBS] + RNG.normal(size=(240, D))).astype(np.float32)
LEARNING = ("tsp", "temi", "lsdc")


def make(method, seed=0, **params):
    if method != "lsdc":
        params["n_heads"] = 2
    if method == "tsp":
        params["lr"] = 1e-2
    params = {"epochs": 10, "min_steps": 80, **params}
    return HEADS[method](K, random_state=seed, device="cpu", **params)


def short(method):
    return make(method, epochs=6, min_steps=0)


@pytest.fixture(scope="module", params=LEARNING)
def method(request):
    return request.param


@pytest.fixture(scope="module")
def start(method):
    return make(method).fit(X)


def test_a_few_labels_move_all_that_are_alike(method, start):
    """Two whole groups change places by the labels of five of each."""
    a, b = start.labels_[0], start.labels_[1]
    fixed = [(i, b if i % K == 0 else a) for i in range(5 * K) if i % K < 2]
    known = Constraints(np.array(fixed), NONE, NONE, NONE)
    found = make(method).fit(X, start=start, constraints=known)
    others = np.setdiff1d(np.arange(240), known.fixed[:, 0])
    expected = np.where(BLOBS == 0, b, np.where(BLOBS == 1, a, start.labels_))
    assert (found.labels_ == expected)[others].mean() > 0.95


def test_the_same_twice_is_the_same_and_none_is_as_without(method, start):
    known = Constraints(
        *(np.array([kind]) for kind in ([0, start.labels_[1]], [4, 0], [1, 2], [3, 7]))
    )
    first, again = (short(method).fit(X, start=start, constraints=known) for _ in range(2))
    np.testing.assert_array_equal(first.predict_proba(X), again.predict_proba(X))
    plain = short(method).fit(X, start=start)
    assert not np.array_equal(first.predict_proba(X), plain.predict_proba(X))


def together(head, pairs):
    p, q = (head.predict_proba(X[pairs[:, side]]).astype(np.float64) for side in (0, 1))
    return (p * q).sum(1).mean()


@pytest.mark.filterwarnings("ignore", category=CollapseWarning)
def test_pairs_come_together_or_part(method, start):
    groups = [np.flatnonzero(kind == BLOBS) for kind in range(K)]
    joined = np.stack([groups[0], groups[1]], 1)
    upper = X[groups[2], 0] > np.median(X[groups[2], 0])
    parted = np.stack([groups[2][upper], groups[2][~upper]], 1)
    found = make(method).fit(X, start=start, constraints=Constraints(NONE, NONE, joined, parted))
    before, now = together(start, joined), together(found, joined)
    assert before < 0.1
    assert now > 0.7
    assert together(found, parted) / together(start, parted) < 0.75


def test_an_interrupted_run_ends_the_same_and_others_are_told_apart(
    method, start, tmp_path, monkeypatch
):
    from imageherd.errors import ImageherdError

    class StopError(Exception):
        pass

    def stop(info):
        if info["epoch"] == 4:
            raise StopError

    monkeypatch.setattr("imageherd.heads.loop.CHECKPOINT_SECONDS", 0)
    fixed = np.stack([np.arange(80), start.labels_[:80]], 1)
    known = Constraints(fixed, NONE, NONE, NONE)
    whole = short(method).fit(X, start=start, constraints=known)
    path = tmp_path / "c"
    with pytest.raises(StopError):
        short(method).fit(X, start=start, constraints=known, callback=stop, checkpoint=path)
    other = Constraints(fixed[:70], NONE, NONE, NONE)
    with pytest.raises(ImageherdError, match="other parameters or other data"):
        short(method).fit(X, start=start, constraints=other, checkpoint=path)
    resumed = short(method).fit(X, start=start, constraints=known, checkpoint=path)
    np.testing.assert_array_equal(resumed.predict_proba(X), whole.predict_proba(X))


def test_who_cannot_learn_says_so(start):
    known = Constraints(NONE, NONE, NONE, NONE)
    with pytest.raises(ValueError, match=r"for TSP, TEMI and LSDC.* this is KMeans without one"):
        HEADS["kmeans"](K).fit(X, constraints=known)
    with pytest.raises(ValueError, match="this is TSP without one"):
        make("tsp").fit(X, constraints=known)
    assert [name for name, head in HEADS.items() if head.takes_constraints] == list(LEARNING)


def test_columns_are_copied_put_in_another_order_or_averaged(method, start):
    order = [2, 0, 3, 1, 0]
    found = regrouped(start, np.eye(K)[order])
    assert (found.n_clusters, found.n_clusters_, start.n_clusters) == (K + 1, K + 1, K)
    # Column 0 is there twice, and its probability in either place as great as before.
    P, before = found.predict_proba(X), start.predict_proba(X)
    np.testing.assert_allclose(P / (1 / (1 + before[:, :1])), before[:, order], atol=1e-5)
    halves = regrouped(start, np.array([[0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    logits = np.log(start.predict_proba(X[BLOBS == 3]).astype(np.float64) + 1e-300)
    expected = logits[:, 2:] - np.logaddexp(logits[:, 2], logits[:, 3])[:, None]
    two = halves.predict_proba(X[BLOBS == 3])[:, 1:].astype(np.float64)
    np.testing.assert_allclose(two / two.sum(1, keepdims=True), np.exp(expected), atol=1e-4)
    assert len(halves.network_.state_dict()) == len(start.network_.state_dict())
    make(method).set_params(n_clusters=3).fit(X, start=halves)
