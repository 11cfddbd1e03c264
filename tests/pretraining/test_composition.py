import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imageherd.heads.loop import generator
from imageherd.pretraining.composition import (
    Recipe,
    compose,
    draw_mixup,
    draw_ricap,
    pair_targets,
    weak_views,
)

DRAWN = {
    "ricap": lambda n, h, w, draws: draw_ricap(n, h, w, draws),
    "mixup": lambda n, h, w, draws: draw_mixup(n, draws),
}


def numbered(n, height, width):
    """Image i is 1 in channel i, so that a composite shows what it is made of."""
    return torch.eye(n, dtype=torch.float64)[:, :, None, None].repeat(1, 1, height, width)


@pytest.mark.parametrize("kind", DRAWN)
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 12), st.integers(3, 14))
def test_targets_against_every_pixel_of_every_pair(kind, seed, height, width):
    n, draws = 9, generator(seed)
    recipe = DRAWN[kind](n, height, width, draws)
    composites = compose(numbered(n, height, width), recipe, draws).numpy()
    A = np.random.default_rng(seed).integers(0, 2, (n, n)).astype(float)
    expected = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            for y in range(height):
                for x in range(width):
                    for other in range(n):
                        expected[i, j] += composites[j, other, y, x] * A[i, other]
    expected /= height * width
    found = pair_targets(torch.from_numpy(A), recipe)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_figure_3():
    # Composite 0 is of images 1, 5, 7 and 2; image 1 is connected to 1, 5 and 2.
    partners = torch.arange(8).repeat(4, 1)
    partners[:, 0] = torch.tensor([1, 5, 7, 2])
    recipe = Recipe(partners, (0.3, 0.3, 0.3, 0.1), (6, 5))
    A = torch.eye(8)
    A[1, [1, 5, 2]] = 1.0
    assert pair_targets(A, recipe)[1, 0].item() == pytest.approx(0.7)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40))
def test_ricap_keeps_the_image_itself_where_a_part_is_larger_than_a_quarter(seed, height, width):
    n = 6
    recipe = draw_ricap(n, height, width, generator(seed))
    row, column = recipe.split
    areas = [row * column, row * (width - column)]
    areas += [(height - row) * column, (height - row) * (width - column)]
    np.testing.assert_allclose(recipe.weights, np.array(areas) / (height * width))
    for partners, area in zip(recipe.partners, areas, strict=True):
        assert sorted(partners.tolist()) == list(range(n))
        if 4 * area > height * width:
            assert partners.tolist() == list(range(n))


def test_small_parts_are_of_others():
    recipe = draw_ricap(50, 28, 28, generator(3))
    small = [p for p, w in zip(recipe.partners, recipe.weights, strict=True) if w <= 0.25]
    assert small
    for partners in small:
        assert (partners != torch.arange(50)).sum() > 40


def test_weights_follow_beta():
    draws = generator(0)
    share = np.array([draw_mixup(2, draws).weights[0] for _ in range(4000)])
    # Beta(0.3, 0.3) has mean 1/2 and variance 1 / (4 (2 · 0.3 + 1)).
    assert share.mean() == pytest.approx(0.5, abs=0.02)
    assert share.var() == pytest.approx(1 / 6.4, abs=0.01)
    splits = np.array([draw_ricap(2, 1000, 1000, draws).split for _ in range(4000)]) / 1000
    np.testing.assert_allclose(splits.mean(0), 0.5, atol=0.02)
    np.testing.assert_allclose(splits.var(0), 1 / 6.4, atol=0.01)
    assert abs(np.corrcoef(splits.T)[0, 1]) < 0.05


def test_every_pixel_of_a_ricap_composite_is_from_one_cut_of_its_part():
    n, height, width = 5, 7, 9
    pixels = torch.arange(n * height * width, dtype=torch.float64).view(n, 1, height, width)
    for seed in range(30):
        draws = generator(seed)
        recipe = draw_ricap(n, height, width, draws)
        found = compose(pixels, recipe, draws)[:, 0].long()
        image, place = found // (height * width), found % (height * width)
        row, column = recipe.split
        shift = place - torch.arange(height * width).view(height, width)
        corners = [(slice(row), slice(column)), (slice(row), slice(column, None))]
        corners += [(slice(row, None), slice(column)), (slice(row, None), slice(column, None))]
        for partners, (rows, columns) in zip(recipe.partners, corners, strict=True):
            if found[:, rows, columns].numel():
                assert (image[:, rows, columns] == partners[:, None, None]).all()
                assert len(shift[:, rows, columns].unique()) == 1


def test_two_composites_of_a_recipe_have_the_same_images_cut_elsewhere():
    pixels = torch.randn(8, 3, 16, 16, dtype=torch.float64)
    different = 0
    for seed in range(20):
        draws = generator(seed)
        recipe = draw_ricap(8, 16, 16, draws)
        different += not torch.equal(*(compose(pixels, recipe, draws) for _ in range(2)))
        constant = numbered(8, 16, 16)
        assert torch.equal(*(compose(constant, recipe, draws) for _ in range(2)))
    assert different > 10


def test_mixup_is_the_mean_weighted():
    pixels = torch.randn(6, 3, 4, 4, dtype=torch.float64)
    draws = generator(1)
    recipe = draw_mixup(6, draws)
    w = recipe.weights[0]
    expected = [w * pixels[j] + (1 - w) * pixels[int(recipe.partners[1, j])] for j in range(6)]
    torch.testing.assert_close(compose(pixels, recipe, draws), torch.stack(expected))


@pytest.mark.parametrize("flip", [False, True])
def test_weak_views_are_shifted_crops_mirrored_or_not(flip):
    n, height, width, pad = 200, 5, 7, 2
    images = torch.randint(1, 255, (n, 3, height, width), dtype=torch.uint8)
    found = weak_views(images, generator(0), flip=flip, pad=pad).numpy()
    assert found.dtype == np.uint8
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    seen = set()
    for i in range(n):
        crops = {
            (y, x, mirrored): crop[:, :, ::-1] if mirrored else crop
            for y in range(2 * pad + 1)
            for x in range(2 * pad + 1)
            for crop in [padded[i, :, y : y + height, x : x + width]]
            for mirrored in ([False, True] if flip else [False])
        }
        ways = [way for way, crop in crops.items() if np.array_equal(crop, found[i])]
        assert len(ways) == 1
        seen.add(ways[0])
    # 25 places, twice that with mirrors: each is drawn by some of 200 images.
    assert len(seen) > (40 if flip else 23)


def test_the_same_draws_give_the_same_views():
    images = torch.rand(4, 1, 8, 8)
    first, again = (weak_views(images, generator(5), flip=True) for _ in range(2))
    assert torch.equal(first, again)
