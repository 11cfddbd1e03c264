"""RotNet: the turns, the loss, the schedule."""

import numpy as np
import pytest
import torch

from imageherd.pretraining import rotnet


def test_all_images_are_turned_all_four_ways():
    x = torch.randint(0, 256, (3, 3, 5, 5))
    turned = rotnet.rotations(x).reshape(4, 3, 3, 5, 5)
    for k in range(4):
        expected = np.rot90(x.numpy(), k, (2, 3))
        np.testing.assert_array_equal(turned[k], expected)


def test_the_loss_is_the_cross_entropy_of_the_turns():
    logits = np.random.default_rng(0).normal(size=(8, 4))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.mean(np.log(p[np.arange(8), [0, 0, 1, 1, 2, 2, 3, 3]]))
    assert float(rotnet.rotnet_loss(torch.tensor(logits))) == pytest.approx(expected, rel=1e-5)


def test_the_rate_drops_at_60_120_and_160_of_200_epochs():
    rates = [rotnet.learning_rate(epoch / 200) for epoch in (0, 59, 60, 119, 120, 159, 160, 199)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008])
