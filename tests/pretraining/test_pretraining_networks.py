"""The networks: shapes, costs, fresh weights by the seed, other sizes than their own."""

import pytest
import torch
from torch.nn import functional

from imageherd.errors import ImageherdError
from imageherd.pretraining.networks import (
    ResNet18,
    VisionTransformer,
    make_network,
    network_from_settings,
    network_settings,
)

SMALL = ("resnet18-narrow", "vgg4", "vit-mini")


@pytest.mark.parametrize("name", SMALL)
def test_features_of_any_network_and_the_same_network_again(name):
    network = make_network(name, 32, seed=3).eval()
    x = torch.randn(2, 3, 32, 32)
    assert network.features(x).shape == (2, network.dim)
    twin = network_from_settings(network_settings(network)).eval()
    twin.load_state_dict(network.state_dict())
    assert torch.equal(twin.features(x), network.features(x))


def test_weights_depend_on_the_seed_alone():
    state = torch.get_rng_state()
    first = make_network("vit-mini", 16, seed=1)
    torch.randn(5)
    again, other = make_network("vit-mini", 16, seed=1), make_network("vit-mini", 16, seed=2)
    assert torch.equal(first.positions, again.positions)
    assert not torch.equal(first.positions, other.positions)
    torch.set_rng_state(state)
    make_network("vit-mini", 16)
    assert torch.equal(torch.get_rng_state(), state)


def test_resnet18_is_resnet18():
    """11,689,512 weights with the classifier of 1,000 classes, as published."""
    large, small = ResNet18(), ResNet18(small=True)
    n = sum(p.numel() for p in large.parameters())
    assert n + 512 * 1000 + 1000 == 11_689_512
    x = torch.randn(1, 3, 32, 32)
    assert small.block4(small.block3(small.block2(small.block1(small.stem(x))))).shape[2:] == (4, 4)
    assert large.block1(large.stem(x)).shape[2:] == (8, 8)
    assert make_network("resnet18-narrow", 64).small
    assert not make_network("resnet18-narrow", 96).small


def test_attention_is_that_of_the_formula():
    vit = VisionTransformer(size=8, patch=4, dim=12, depth=1, n_heads=3)
    layer, tokens = vit.layers[0], torch.randn(2, 5, 12)
    q, k, v = layer.qkv(tokens).split(12, 2)
    parts = []
    for h in range(3):
        a, b, c = (m[..., 4 * h : 4 * h + 4] for m in (q, k, v))
        parts.append((a @ b.transpose(1, 2) / 2).softmax(-1) @ c)
    expected = layer.projection(torch.cat(parts, 2))
    torch.testing.assert_close(layer._attention(tokens), expected)


def test_positions_are_interpolated_as_images_are():
    vit = VisionTransformer(size=32, patch=4, dim=6, depth=1, n_heads=1)
    grid = vit.positions[:, 1:].reshape(1, 8, 8, 6).permute(0, 3, 1, 2)
    moved = functional.interpolate(grid, size=(4, 4), mode="bicubic", align_corners=False)
    found = vit._positions(4)
    torch.testing.assert_close(found[:, 1:], moved.flatten(2).transpose(1, 2))
    assert torch.equal(found[:, 0], vit.positions[:, 0])
    assert vit.features(torch.randn(2, 3, 16, 16)).shape == (2, 6)


def test_a_dropped_path_is_dropped_for_whole_images_and_kept_in_the_mean():
    layer = VisionTransformer(size=8, patch=4, dim=6, depth=1, n_heads=1).layers[0]
    kept = layer._kept(torch.ones(4000, 5, 6), 0.25)
    assert kept.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (kept == kept[:, :1, :1]).all()
    assert float(kept.mean()) == pytest.approx(1, abs=0.05)
    layer.eval()
    assert torch.equal(layer._kept(kept, 0.25), kept)


@pytest.mark.parametrize(
    ("name", "size", "says"),
    [
        ("resnet50", 32, "choose one of resnet18"),
        ("vit-mini", 30, "squares of 4 pixels, so size=30 cannot be done; 32 can"),
        ("resnet18", 4, "too small"),
    ],
)
def test_networks_that_cannot_be(name, size, says):
    with pytest.raises(ImageherdError, match=says):
        make_network(name, size)
