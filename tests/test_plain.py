"""The plain versions that speed is compared with: the same losses, networks and settings."""

import importlib
import inspect
import warnings

import numpy as np
import pytest
import torch

import speed
from imageherd.heads import HEADS
from imageherd.heads import cpp_network as our_cpp
from imageherd.heads import infonce as our_infonce
from imageherd.heads import lsdc_losses as our_lsdc
from imageherd.heads import scp as our_scp
from imageherd.heads import temi_losses as our_temi
from imageherd.heads import tsp as our_tsp
from imageherd.heads import turtle as our_turtle
from imageherd.heads.coding import coding_rate, compression
from imageherd.heads.networks import HeadStack
from imageherd.heads.sinkhorn import column_potentials, membership
from imageherd.heads.trunk import Classified
from imageherd.neighbors import knn_graph
from plain import cpp, infonce, lsdc, neighbors, scp, temi, tsp, turtle

B, K, D = 24, 4, 12
FITS = {m: getattr(m, "fit_loop" if m is temi else "fit") for m in (tsp, temi, scp, infonce)}
WITHOUT_GRAPH = (cpp, lsdc, turtle)


@pytest.fixture
def numbers() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def data() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (np.repeat(np.eye(3, D), 40, axis=0) + 0.1 * rng.standard_normal((120, D))).astype("f")


def logits(numbers, *shape) -> torch.Tensor:
    return torch.randn(shape, generator=numbers).mul(2).requires_grad_()


def assert_equal(plain, ours, *inputs):
    """Compare two losses, and their gradients by what they are made of."""
    torch.testing.assert_close(plain, ours, rtol=1e-5, atol=1e-6)
    pairs = zip(torch.autograd.grad(plain, inputs), torch.autograd.grad(ours, inputs), strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_tsp(numbers):
    a, b = logits(numbers, B, K), logits(numbers, B, K)
    plain = tsp.tsp_loss(a.softmax(1), b.softmax(1), 3.0)
    ours = our_tsp.tsp_loss(a.log_softmax(1)[None], b.log_softmax(1)[None], 3.0)[0]
    assert_equal(plain, ours, a, b)


def test_tsp_draws_neighbors_alike(data):
    X, ids = torch.from_numpy(data), neighbors.nearest(torch.from_numpy(data), 7)
    mine = tsp.neighbor_probabilities(X, ids)
    torch.testing.assert_close(mine, our_tsp.neighbor_probabilities(X, ids))


def test_temi(numbers):
    student, teacher = logits(numbers, 2 * B, K), logits(numbers, 2 * B, K).detach()
    q = teacher.softmax(1)
    prior = torch.full((K,), 1 / K)
    weight = our_temi.pair_weights(*q[None].chunk(2, dim=1))[0]
    plain = temi.temi_loss(student.softmax(1), q, prior, weight, 0.6)
    log_q = student.log_softmax(1)[None], teacher.log_softmax(1)[None]
    assert_equal(plain, our_temi.pmi_losses(*log_q, prior[None], weight, 0.6)[0], student)


def test_temi_has_the_same_network(numbers):
    stack = HeadStack(D, K, seed=3)
    head = temi.Head(D, K)
    names = ("hidden_weight", "hidden_bias", "bottleneck_weight", "bottleneck_bias")
    mine = [head.hidden.weight, head.hidden.bias, head.bottleneck.weight, head.bottleneck.bias]
    last = head.last.parametrizations.weight
    mine += [last.original0, last.original1]
    with torch.no_grad():
        for p, name in zip(mine, (*names, "gain", "direction"), strict=True):
            p.copy_(getattr(stack, name).view(p.shape))
    x = torch.randn((B, D), generator=numbers)
    torch.testing.assert_close(head(x), stack(x)[0])


def test_cpp(numbers):
    Z = torch.nn.functional.normalize(logits(numbers, B, D)).detach().requires_grad_()
    C = torch.nn.functional.normalize(logits(numbers, B, D)).detach().requires_grad_()
    plain = cpp.cpp_loss(Z, C, 0.175, 0.1, 0.05)
    Pi = membership(C, C, column_potentials(C.detach(), 0.175), 0.175)
    ours = compression(Z, Pi, 0.1) - coding_rate(Z, 0.1) + 0.05 / 2 * Pi.square().sum()
    assert_equal(plain, ours, Z, C)


def test_scp(numbers):
    a, b = logits(numbers, B, K), logits(numbers, B, K)
    ours = our_scp.scp_loss(a.log_softmax(1), b.log_softmax(1), balance=1.5)
    assert_equal(scp.scp_loss(a, b, 1.5), ours, a, b)


def test_lsdc(numbers):
    f = torch.randn((B, D), generator=numbers)
    a, b = logits(numbers, B, K), logits(numbers, B, K)
    A = lsdc.knn_labels(f, 9)
    assert torch.equal(A, our_lsdc.knn_labels(f, 9 - 2))
    plain = lsdc.clustering_loss(a.softmax(1), b.softmax(1), A)
    assert_equal(plain, our_lsdc.clustering_loss(a.softmax(1), b.softmax(1), A), a, b)


def test_turtle(numbers):
    a, b = logits(numbers, B, K), logits(numbers, B, K).detach()
    ours = our_turtle.turtle_loss(a.log_softmax(1)[None], b.log_softmax(1)[None], 10.0)
    assert_equal(turtle.turtle_loss(a.softmax(1), b, 10.0), ours, a)


def test_turtle_trains_the_same_classifiers(numbers):
    x, tau = torch.randn((B, D), generator=numbers), logits(numbers, B, K).softmax(1).detach()
    torch.manual_seed(0)
    start = torch.nn.Linear(D, K)
    torch.manual_seed(0)
    mine = turtle.learn(x, tau, 10, 1e-2)
    ours = our_turtle.Classifiers([D], K, 1e-2, torch.device("cpu"))
    ours.weight[0].copy_(start.weight.detach())
    ours.bias[0].copy_(start.bias.detach())
    log_q = ours.learn([our_turtle.Space.of(x)], tau, 10)[0]
    torch.testing.assert_close(mine(x).log_softmax(1), log_q, rtol=1e-4, atol=1e-5)


def test_infonce(data, numbers):
    ids = neighbors.nearest(torch.from_numpy(data), 3)
    where, p = our_infonce.walk(ids, 1)
    walked = torch.from_numpy(infonce.walk(ids.numpy()).toarray())
    # Of several rows reached as often, either may be among those kept: compare probabilities.
    torch.testing.assert_close(walked.sort(1).values[:, -6:], p.sort(1).values)
    dense = torch.zeros(120, 120).scatter_(1, where, p)
    a = logits(numbers, 120, K)

    def both(loss, *target):
        pi = a.softmax(1)
        return loss(pi[:B], pi, *target)

    ours = both(our_infonce.infonce_loss, where[:B], p[:B], 0.6, 1.0)
    assert_equal(both(infonce.infonce_loss, dense[:B], 0.6), ours, a)


@pytest.mark.parametrize(
    ("plain", "ours"),
    [
        (scp.network(D, K), our_scp.ClusterHead(D, K)),
        (cpp.Network(D, 32, 8), our_cpp.CodingNetwork(D, 32, 8, 5, K, 0.1)),
        (
            torch.nn.Sequential(torch.nn.Linear(D, 9), torch.nn.Linear(9, K)),
            Classified((D, 9), K, 1),
        ),
    ],
    ids=["scp", "cpp", "lsdc"],
)
def test_networks_have_the_same_layers(plain, ours):
    mine, theirs = ([tuple(p.shape) for p in net.parameters()] for net in (plain, ours))
    assert mine == theirs


def test_neighbors_are_the_same(data):
    mine = neighbors.nearest(torch.from_numpy(data), 5).numpy()
    assert (mine == knn_graph(data, 5).ids).mean() > 0.99


@pytest.mark.parametrize("module", [*FITS, *WITHOUT_GRAPH], ids=lambda m: m.__name__)
def test_settings_are_those_timed(module):
    method = module.__name__.removeprefix("plain.")
    head = HEADS[method](10, **speed.settings(method, 50_000))
    fit = FITS.get(module) or module.fit
    own = {"n_clusters", "seed", "stop_after", "device"}
    names = {"k": "n_neighbors"} if module is temi else {}
    compared = []
    for name, parameter in inspect.signature(fit).parameters.items():
        name = names.get(name, name)
        if name in own or not isinstance(parameter.default, int | float | tuple):
            continue
        theirs = getattr(head, name)
        theirs = theirs[0] if name == "hidden" and isinstance(theirs, tuple) else theirs
        assert parameter.default == theirs, name
        compared.append(name)
    assert {"batch_size"} < set(compared)


@pytest.mark.parametrize("module", [*FITS, *WITHOUT_GRAPH], ids=lambda m: m.__name__)
def test_takes_as_many_steps_as_ours(module, data, monkeypatch):
    method = module.__name__.removeprefix("plain.")
    length = {"min_steps": 8} if module is turtle else {"epochs": 2}
    settings = {**speed.settings(method, len(data)), "min_steps": 0, **length}
    settings |= {"hidden": 16, "n_features_out": 10} if module is cpp else {}
    ours = speed.Clock(-1, start=int(module is cpp))
    loop = our_cpp if module is cpp else importlib.import_module(f"imageherd.heads.{method}")
    monkeypatch.setattr(loop, "train", loop.train)
    speed.leave_steps_out(method, ours)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        HEADS[method](random_state=0, device="cpu", **settings).fit(data)
    assert min(ours.asked) > 0 or module is not cpp

    mine = speed.Clock(1000, start=int(module is cpp))
    given = {name: settings[name] for name in length}
    given |= {"hidden": 16, "n_features_out": 10} if module is cpp else {}
    if module in FITS:
        given["neighbors"] = neighbors.nearest(torch.from_numpy(data), 5).numpy()
    given |= {"k": 5} if module is temi else {}
    labels = (FITS.get(module) or module.fit)(data, batch_size=30, enough=mine, **given)
    assert mine.asked == ours.asked
    assert [kind["done"] for kind in mine.report()] == [a for a in mine.asked if a]
    assert np.shape(labels[0] if module is temi else labels) == (120,)


def test_clock_leaves_out_what_is_not_timed():
    clock = speed.Clock(-1, start=1)
    assert [clock(0) for _ in range(9)] == [False] * 6 + [True] * 3
    assert [clock(1) for _ in range(7)] == [False] * 6 + [True]
    assert clock.asked == [9, 7]
    assert [kind["done"] for kind in clock.report()] == [6, 6]


def test_seconds_in_all_count_what_was_left_out():
    graph = {"method": "k-NN", "repeat": 0}
    kinds = [{"done": 10, "seconds_a_step": 0.5}]
    run = {"method": "tsp", "repeat": 0, "kinds": kinds, "seconds": 9.0}
    results = [
        {**graph, "variant": "plain", "seconds": 40.0},
        {**graph, "variant": "same", "seconds": 20.0},
        {**run, "variant": "plain"},
        {**run, "variant": "same", "steps": [110]},
    ]
    speed.add_up(results)
    assert [r["in_all"] for r in results[2:]] == [40 + 9 + 50, 20 + 9 + 50]
