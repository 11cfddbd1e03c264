import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from imageherd.heads.temi_losses import (
    entropy,
    pair_weights,
    pmi,
    pmi_losses,
    scan_losses,
    update_prior,
)
from reference import temi as reference

OBJECTIVES = ("temi", "wpmi", "pmi", "scan")


def probabilities(seed, H=3, B=6, K=5):
    """Student (H, 2, B, K), teacher (H, 2, B, K) and prior (H, K)."""
    draws = np.random.default_rng(seed)
    q = reference.softmax(draws.normal(size=(2, H, 2, B, K)) * 0.2)
    return q[0], q[1], reference.softmax(draws.normal(size=(H, K)) * 0.1)


def rows(q):
    """Views (H, 2, B, K) as log probabilities the way the library has them, (H, 2B, K)."""
    return torch.from_numpy(q).flatten(1, 2).log()


def our_losses(objective, log_qs, log_qt, prior, **settings):
    """The library's losses with the weights of an objective."""
    if objective == "scan":
        return scan_losses(log_qs, log_qt, settings.get("alpha", 5.0))
    own = pair_weights(*log_qt.exp().chunk(2, dim=1))
    weights = {"pmi": 1.0, "wpmi": own, "temi": own.mean(dim=0)}[objective]
    return pmi_losses(log_qs, log_qt, prior, weights, **settings)


def test_prior_is_eq_6():
    _, qt, prior = probabilities(0)
    ours = update_prior(torch.from_numpy(prior), rows(qt).exp(), 0.7)
    want = [reference.prior(p, q.reshape(-1, 5), 0.7) for p, q in zip(prior, qt, strict=True)]
    np.testing.assert_allclose(ours.numpy(), want, atol=1e-12)


@pytest.mark.parametrize(("beta", "balance"), [(0.6, 1.0), (1.0, 1.0), (0.75, 0.3)])
def test_pmi_is_eq_8_and_weights_are_eq_9(beta, balance):
    qs, qt, prior = probabilities(1)
    ours = pmi(rows(qs)[:, :6], rows(qt)[:, 6:], torch.from_numpy(prior), beta, balance)
    weights = pair_weights(*rows(qt).exp().chunk(2, dim=1))
    for i in range(3):
        for b in range(6):
            want = reference.pmi(qs[i, 0, b], qt[i, 1, b], prior[i], beta, balance)
            assert abs(ours[i, b].item() - want) < 1e-6
            want = reference.weight(qt[i, 0, b], qt[i, 1, b])
            assert abs(weights[i, b].item() - want) < 1e-6


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("seed", [0, 1])
def test_losses_are_the_references(objective, seed):
    qs, qt, prior = probabilities(seed)
    ours = our_losses(objective, rows(qs), rows(qt), torch.from_numpy(prior))
    want = reference.losses(objective, qs, qt, prior)
    np.testing.assert_allclose(ours.numpy(), want, atol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradients_by_finite_differences(objective):
    draws = np.random.default_rng(2)
    h = draws.normal(size=(2, 2, 4, 3)) * 0.2
    _, qt, prior = probabilities(3, H=2, B=4, K=3)
    logits = torch.from_numpy(h).requires_grad_()
    log_qs = F.log_softmax(logits / 0.1, dim=3).flatten(1, 2)
    our_losses(objective, log_qs, rows(qt), torch.from_numpy(prior)).sum().backward()
    for index in np.ndindex(*h.shape):
        step = np.zeros_like(h)
        step[index] = 1e-6
        up, down = (
            reference.losses(objective, reference.softmax(h + s), qt, prior).sum()
            for s in (step, -step)
        )
        assert abs(logits.grad[index].item() - (up - down) / 2e-6) < 1e-6


def test_losses_stay_finite_at_the_edge():
    # One-hot to the last bit, and a class that nobody uses any more.
    log_q = F.log_softmax(torch.tensor([[[400.0, 0.0, -400.0]] * 4]), dim=2).requires_grad_()
    prior = torch.tensor([[1.0, 0.0, 0.0]])
    loss = pmi_losses(log_q, log_q.detach(), prior) + scan_losses(log_q, log_q.detach())
    loss.sum().backward()
    assert loss.isfinite().all()
    assert log_q.grad.isfinite().all()
    assert entropy(torch.tensor([1.0, 0.0])) == 0
