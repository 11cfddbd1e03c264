"""DINO's crops: their sizes, the shares they cover, and what they do not do."""

import pytest
import torch

from imageherd.pretraining.augment import MultiCrop, local_scale


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
    assert local_scale(64) == (0.05, 0.4)
    for part, low, high in ((crops._first[0], 0.4, 1.0), (crops._local[0], 0.05, 0.4)):
        seen = part(image)
        wide = seen[:, 0, 0, -1] - seen[:, 0, 0, 0]
        area = wide * (seen[:, 1, -1, 0] - seen[:, 1, 0, 0])
        assert low * 0.85 < area.min() < low * 1.3
        assert high * 0.85 < area.max() < high * 1.05


@pytest.mark.parametrize(
    ("size", "low"), [(224, 0.05), (36, 0.05), (32, 64 / 1024), (16, 0.25), (12, 0.4)]
)
def test_a_local_crop_of_a_small_image_covers_8_by_8_pixels(size, low):
    assert local_scale(size) == (pytest.approx(low), 0.4)


def test_views_are_mirrored_only_if_they_may_be():
    """In an image that grows brighter to the right only a mirrored view does not."""
    torch.manual_seed(0)
    ramp = torch.linspace(0.2, 0.8, 16).expand(20, 3, 16, 16)

    def mirrored(flip):
        large, small = MultiCrop(16, 4, flip=flip)(ramp)
        # The second global view may be solarised, which is brighter to the left too.
        views = [large[0], *small]
        return torch.cat([v[:, 0, 0, -1] < v[:, 0, 0, 0] for v in views]).float().mean()

    assert float(mirrored(flip=False)) == 0
    assert 0.3 < float(mirrored(flip=True)) < 0.7


def test_colours_stay_if_they_are_to_stay():
    torch.manual_seed(0)
    color = torch.tensor([0.8, 0.4, 0.2])[:, None, None]
    for recolor in (True, False):
        large, small = MultiCrop(16, 4, recolor=recolor)(color.expand(20, 3, 16, 16))
        for view in (*large, *small):
            # At an image's edge all channels are somewhat darker: bicubic, black beyond it.
            red, green, blue = (view / color).unbind(1)
            same = torch.allclose(red, green, atol=1e-4) and torch.allclose(red, blue, atol=1e-4)
            assert same != recolor


def test_no_two_local_views_are_one():
    torch.manual_seed(0)
    small = torch.stack(MultiCrop(16, 4)(torch.rand(1, 3, 16, 16))[1])
    different = (small[:, None] - small[None]).abs().flatten(2).amax(2) > 0.01
    assert torch.equal(different.flatten(1).sum(1), torch.full((8,), 7))
