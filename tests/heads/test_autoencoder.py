import numpy as np
import pytest
import torch
from torch import nn

from imageherd.heads.autoencoder import decoder_of, mask, pretrain
from imageherd.heads.loop import Run, generator
from imageherd.heads.trunk import Classified


def trunk_of(*widths, init="random"):
    network = Classified(widths, 3, 1)
    network.start(init, generator(0))
    return network.trunk


def rows_on_a_plane(n=400, d=12):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(n, 2)) @ rng.normal(size=(2, d))
    return torch.from_numpy((Z / Z.std()).astype(np.float32))


def test_mask_zeroes_its_share_and_keeps_the_mean():
    Z = torch.ones(300, 400)
    found = mask(Z, 0.3, generator(0))
    assert found.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (found == 0).double().mean().item() == pytest.approx(0.3, abs=0.01)
    assert found.mean().item() == pytest.approx(1, abs=0.01)
    assert mask(Z, 0.0, generator(0)) is Z


def test_decoder_is_the_mirror_image():
    decoder = decoder_of(trunk_of(20, 9, 7, 11), generator(1))
    shapes = [(part.in_features, part.out_features) for part in decoder[::2]]
    assert shapes == [(11, 7), (7, 9), (9, 20)]
    assert all(isinstance(part, nn.ReLU) for part in decoder[1::2])
    assert isinstance(decoder[-1], nn.Linear)
    # He et al.: the variance of what goes through a layer with ReLU stays.
    wide = decoder_of(trunk_of(500, 400), generator(1))[0]
    assert wide.weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.02)


def test_restores_what_was_masked():
    Z, trunk = rows_on_a_plane(), trunk_of(12, 32)
    before = [weight.clone() for weight in trunk.parameters()]
    run = Run(0, torch.device("cpu"))
    history = pretrain(trunk, Z, run, noise=0.2, epochs=30, min_steps=0, batch_size=40)
    assert len(history) == 30
    # Left as masked, rows of variance 1 are off by 0.2 / 0.8 on average.
    assert history[-1]["loss"] < 0.25 < history[0]["loss"]
    assert all(not torch.equal(a, b) for a, b in zip(before, trunk.parameters(), strict=True))


def test_same_seed_same_bytes_and_the_noise_matters():
    Z, found = rows_on_a_plane(), []
    for seed, noise in ((0, 0.2), (0, 0.2), (1, 0.2), (0, 0.3)):
        trunk = trunk_of(12, 8)
        run = Run(seed, torch.device("cpu"))
        pretrain(trunk, Z, run, noise=noise, epochs=2, min_steps=0, batch_size=50)
        found.append(trunk[0].weight.clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[3])
