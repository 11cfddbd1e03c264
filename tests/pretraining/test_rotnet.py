"""RotNet: the turns, the loss, the schedule; and that it learns."""

import numpy as np
import pytest
import torch

from imageherd.pretraining import rotnet
from imageherd.pretraining.augment import MultiCrop, weak_views


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


def test_weak_views_move_by_whole_pixels_with_black_behind():
    torch.manual_seed(0)
    x = torch.rand(40, 3, 8, 8)
    crop = weak_views(8)[0]
    padded = torch.nn.functional.pad(x, (4, 4, 4, 4))
    places = set()
    for image, source in zip(crop(x), padded, strict=True):
        errors = {
            (i, j): float((source[:, i : i + 8, j : j + 8] - image).abs().max())
            for i in range(9)
            for j in range(9)
        }
        places.add(min(errors, key=errors.get))
        assert min(errors.values()) < 1e-4
    assert len(places) > 20


def test_crops_are_of_the_papers_sizes_and_in_range():
    torch.manual_seed(0)
    for size, patch, local in ((32, 4, 16), (28, 4, 12), (224, 16, 96)):
        assert MultiCrop(size, patch).local_size == local
    large, small = MultiCrop(48, 4)(torch.rand(3, 3, 48, 48))
    assert [len(large), len(small)] == [2, 8]
    assert {view.shape for view in large} == {(3, 3, 48, 48)}
    assert {view.shape for view in small} == {(3, 3, 24, 24)}
    assert all(view.min() >= 0 and view.max() <= 1 for view in (*large, *small))


def test_crops_cover_the_shares_of_the_paper():
    """In an image whose red is x and green is y, a crop's spread tells its width and height."""
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    image = torch.stack([x, y, x]).expand(200, 3, 64, 64)
    crops = MultiCrop(64, 4)
    for part, low, high in ((crops._first[0], 0.4, 1.0), (crops._local[0], 0.05, 0.4)):
        seen = part(image)
        wide = seen[:, 0, 0, -1] - seen[:, 0, 0, 0]
        area = wide * (seen[:, 1, -1, 0] - seen[:, 1, 0, 0])
        assert low * 0.85 < area.min() < low * 1.3
        assert high * 0.85 < area.max() < high * 1.05
