"""DINO's equations against float64, and its schedules at the points the papers give."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from imageherd.pretraining import dino
from imageherd.pretraining.networks import make_network
from reference import dino as reference


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_loss_is_that_of_every_pair_of_different_views(rng):
    g, t = rng.normal(size=(5, 6, 7)), rng.normal(size=(2, 6, 7))
    center = rng.normal(size=7)
    p = reference.teacher_probabilities(t, center, 0.05)
    ours = dino.teacher_probabilities(torch.tensor(t), torch.tensor(center), 0.05)
    np.testing.assert_allclose(ours, p, rtol=1e-4)
    found = dino.dino_loss(torch.tensor(g), torch.tensor(p))
    assert float(found) == pytest.approx(reference.loss(g, p, 0.1), rel=1e-5)


def test_a_view_is_not_compared_with_itself(rng):
    """With two views each of which the teacher sees, only the crossed pairs count."""
    g = torch.tensor(rng.normal(size=(2, 1, 4)))
    p = torch.tensor([[[1.0, 0, 0, 0]], [[0, 1.0, 0, 0]]])
    crossed = -(g[1] / 0.1).log_softmax(-1)[0, 0] - (g[0] / 0.1).log_softmax(-1)[0, 1]
    assert float(dino.dino_loss(g, p)) == pytest.approx(float(crossed) / 2, rel=1e-5)


def test_the_teacher_is_a_running_mean_of_the_weights(rng):
    student = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    teacher = copy.deepcopy(student)
    before = [p.detach().clone() for p in teacher.parameters()]
    with torch.no_grad():
        for p in student.parameters():
            p += torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
        student[1].running_mean += 1
    dino.update_teacher(teacher, student, 0.9)
    for old, s, t in zip(before, student.parameters(), teacher.parameters(), strict=True):
        np.testing.assert_allclose(t.detach(), 0.9 * old + 0.1 * s.detach(), rtol=1e-5, atol=1e-7)
    assert teacher[1].running_mean.abs().sum() == 0


def test_the_center_is_a_running_mean_of_the_outputs(rng):
    c, g = rng.normal(size=4), rng.normal(size=(2, 5, 4))
    found = dino.new_center(torch.tensor(c), torch.tensor(g))
    np.testing.assert_allclose(found, 0.9 * c + 0.1 * g.reshape(10, 4).mean(0), rtol=1e-5)


def test_entropies():
    p = torch.tensor([[0.25, 0.25, 0.5, 0], [0, 1, 0, 0]])
    torch.testing.assert_close(dino.entropy(p), torch.tensor([1.5 * np.log(2), 0]).float())


def test_schedules_at_the_papers_points():
    """Caron et al. 2021: of 100 epochs, 10 warm up the rate, 30 the teacher's temperature."""
    rate = [dino.learning_rate(e, 100, 2e-3) for e in (0, 5, 10, 55, 100)]
    np.testing.assert_allclose(rate, [0, 1e-3, 2e-3, (2e-3 + 1e-6) / 2, 1e-6], rtol=1e-12)
    assert dino.learning_rate(2, 20, 5e-4) == dino.learning_rate(10, 300, 5e-4) == 5e-4
    heat = [dino.teacher_temperature(e) for e in (0, 15, 30, 90)]
    np.testing.assert_allclose(heat, [0.04, 0.055, 0.07, 0.07])
    momentum = [dino.teacher_momentum(s, 100_000) for s in (0, 50_000, 100_000)]
    np.testing.assert_allclose(momentum, [0.996, 0.998, 1.0])
    first = [dino.teacher_momentum(0, total) for total in (1, 500, 2000, 5000)]
    np.testing.assert_allclose(first, [0.98, 0.98, 0.99, 0.996])


@pytest.mark.parametrize(
    ("n", "expected"), [(2, 256), (2000, 256), (4096, 1024), (50_000, 8192), (10**6, 65_536)]
)
def test_outputs_are_fewer_for_few_images(n, expected):
    assert dino.n_outputs(n) == expected


def test_the_heads_outputs_are_cosines():
    torch.manual_seed(0)
    head = dino.ProjectionHead(16, 300)
    g = head(torch.randn(4, 16))
    inner = nn.functional.normalize(head.mlp(torch.randn(4, 16)))
    assert g.shape == (4, 300)
    assert g.abs().max() <= 1 + 1e-6
    assert inner.shape == (4, 256)
    with torch.no_grad():
        head.last *= 7
    x = torch.randn(4, 16)
    cosine = nn.functional.normalize(head.mlp(x)) @ nn.functional.normalize(head.last).T
    torch.testing.assert_close(head(x), cosine)


def test_biases_and_norms_do_not_decay():
    branch = dino.Branch(make_network("vit-mini", 16), dino.ProjectionHead(128, 256))
    decaying, fixed = dino._groups(branch)
    assert fixed["weight_decay"] == 0
    assert all(p.ndim > 1 for p in decaying["params"])
    assert len(decaying["params"]) + len(fixed["params"]) == len(list(branch.parameters()))
    assert sum(p.numel() for p in fixed["params"]) < 0.02 * sum(
        p.numel() for p in branch.parameters()
    )
