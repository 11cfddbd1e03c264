"""What processes add up, shown by threads, which are quick; `test_processes` has the real ones.

One process sums a batch in one order, several in another, so float32 results differ in the last
bits of each sum (6e-8 of it); Adam's steps, gradient over its own size, carry that on where a
gradient nearly vanishes. After the steps taken here weights of 0.1 to 1, which have moved by 1e-2
and more, were found to differ by 4e-6 at most: 2e-5 is asked for.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from torch import nn

from imageherd.errors import ImageherdError
from imageherd.heads import loop
from imageherd.heads.cpp import CPP
from imageherd.heads.loop import Run
from imageherd.heads.ranks import Ranks, SharedNorm, share_norms
from imageherd.heads.temi import TEMI
from imageherd.neighbors import knn_graph

CPU = torch.device("cpu")
CLOSE = {"rtol": 0, "atol": 2e-5}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Threads(Ranks):
    """Ranks that are threads of one process."""

    def __init__(self, rank, given, barrier):
        self.given, self.barrier = given, barrier
        super().__init__(rank, len(given))

    def sum(self, x):
        self.given[self.rank] = x.detach()
        self.barrier.wait(60)
        total = torch.stack(list(self.given)).sum(0)
        self.barrier.wait(60)
        return total


def together(count, work):
    """Return what ``work(ranks)`` returns in each of `count` threads."""
    given, barrier = [None] * count, threading.Barrier(count)

    def one(rank):
        try:
            return work(Threads(rank, given, barrier))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@pytest.fixture(scope="module")
def ground():
    X = make_blobs(202, n_features=16, centers=4, cluster_std=2.0, random_state=0)[0]
    X = (X / X.std()).astype(np.float32)
    return torch.from_numpy(X), torch.from_numpy(knn_graph(X, 10).ids)


def fitted(make, ground, ranks, **run):
    head = make()
    head.n_features_in_, head.n_clusters_ = ground[0].shape[1], 4
    network = head._fit(*ground, Run(3, CPU, ranks=ranks, **run))
    return head, network.state_dict()


def temi(**params):
    return lambda: TEMI(4, n_heads=3, epochs=3, min_steps=0, **params)


def cpp(**params):
    size = {"hidden": 32, "n_features_out": 12}
    return lambda: CPP(4, **size, epochs=6, start_epochs=1, min_steps=0, **params)


@pytest.mark.parametrize(
    ("make", "count"),
    [
        pytest.param(temi(objective="wpmi", heads_per_chunk=2), 2, id="temi-wpmi"),
        pytest.param(temi(objective="scan"), 2, id="temi-scan"),
        pytest.param(temi(batch_size=32), 3, id="temi-unequal-shares"),
        pytest.param(cpp(batch_size=49), 3, id="cpp-unequal-shares"),
    ],
)
def test_several_learn_what_one_does(ground, make, count):
    alone, weights = fitted(make, ground, Ranks())
    for head, shared in together(count, lambda ranks: fitted(make, ground, ranks)):
        torch.testing.assert_close(shared, weights, **CLOSE)
        for mine, expected in zip(head.history_, alone.history_, strict=True):
            assert mine == pytest.approx(expected, rel=1e-4)
    if isinstance(alone, TEMI):
        assert head.best_head_ == alone.best_head_
        np.testing.assert_allclose(head.head_losses_, alone.head_losses_, rtol=1e-4)


def test_several_go_on_from_a_checkpoint_that_the_first_writes(ground, tmp_path, monkeypatch):
    straight = fitted(temi(), ground, Ranks())[1]
    path = tmp_path / "checkpoint"
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    saved, writers = loop.save_checkpoint, []

    def save(*what):
        saved(*what)
        writers.append(threading.get_ident())

    def stop(info):
        if info["epoch"] == 2:
            raise InterruptedError

    monkeypatch.setattr(loop, "save_checkpoint", save)

    def begin(ranks):
        told = {"callback": stop} if ranks.rank == 0 else {}
        fitted(temi(), ground, ranks, checkpoint=path, **told)

    with pytest.raises(InterruptedError):
        together(2, begin)
    assert path.exists()
    assert len(set(writers)) == 1
    for _, weights in together(2, lambda ranks: fitted(temi(), ground, ranks, checkpoint=path)):
        torch.testing.assert_close(weights, straight, **CLOSE)
    assert not path.exists()


def test_all_stop_where_the_first_is_told_to(ground):
    def fit(ranks):
        told = {"callback": lambda info: info["epoch"] == 2} if ranks.rank == 0 else {}
        return fitted(temi(), ground, ranks, **told)[0].n_iter_

    assert together(2, fit) == [2, 2]


@pytest.mark.parametrize(("size", "count"), [(8, 2), (7, 3), (3, 3)])
def test_a_batch_is_shared_out_whole(size, count):
    every = [Ranks(rank, count) for rank in range(count)]
    for ranks in every:
        ranks.share_out(size)
    rows = list(range(size))
    assert [row for ranks in every for row in rows[ranks.rows]] == rows
    assert sum(ranks.share for ranks in every) == pytest.approx(1)


def test_too_few_rows_are_refused():
    with pytest.raises(ImageherdError, match="2 rows cannot be shared by 3 devices"):
        Ranks(0, 3).share_out(2)


def test_alone_nothing_is_changed(ground):
    ranks, norm = Ranks(), nn.Sequential(nn.BatchNorm1d(16))
    share_norms(norm, ranks)
    assert type(norm[0]) is nn.BatchNorm1d
    x = ground[0]
    assert all(f(x) is x for f in (ranks.mean, ranks.gather, ranks.sum))
    assert x[ranks.rows].shape == x.shape


@pytest.mark.parametrize("shape", [(10, 5), (10, 5, 3, 2)])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_shared_norm_is_that_of_the_whole_batch(shape, momentum):
    draws = torch.Generator().manual_seed(0)
    x, out = (torch.randn(shape, generator=draws) * 3 + 1 for _ in range(2))
    norm = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(5, momentum=momentum)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2, generator=draws)

    def through(module, rows, count):
        part = x[rows].clone().requires_grad_()
        y = module(part)
        (y * out[rows]).mean().backward()
        gradients = [part.grad / count, module.weight.grad, module.bias.grad]
        return y.detach(), gradients, dict(module.named_buffers())

    def part(ranks):
        ranks.share_out(10)
        shared = nn.Sequential(nn.Sequential(norm_copy()))
        share_norms(shared, ranks)
        assert isinstance(shared[0][0], SharedNorm)
        return through(shared[0][0], ranks.rows, ranks.count)

    def norm_copy():
        copied = type(norm)(5, momentum=momentum)
        copied.load_state_dict(norm.state_dict())
        return copied

    y, (d_x, d_weight, d_bias), averages = through(norm_copy(), slice(None), 1)
    parts = together(2, part)
    torch.testing.assert_close(torch.cat([p[0] for p in parts]), y)
    torch.testing.assert_close(torch.cat([p[1][0] for p in parts]), d_x)
    for i, expected in ((1, d_weight), (2, d_bias)):
        torch.testing.assert_close(sum(p[1][i] for p in parts) / 2, expected)
    for p in parts:
        torch.testing.assert_close(p[2], averages)
