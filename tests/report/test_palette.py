"""Colours: readable in both themes, and far apart also for colour-blind readers."""

import itertools

import numpy as np
import pytest

from imageherd.report import palette as module
from imageherd.report.palette import MAX_COLOURS, palette


def linear(colour):
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one, other):
    high, low = sorted((linear(c) @ [0.2126, 0.7152, 0.0722] for c in (one, other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("n", [0, 1, 10, MAX_COLOURS, 1_000])
def test_as_many_colours_as_asked_for_up_to_the_most(n):
    colours = palette(n)
    assert len(colours) == min(n, MAX_COLOURS)
    assert len(set(colours)) == len(colours)
    assert colours == palette(1_000)[:n]


def test_every_colour_stands_out_from_its_background():
    for light, dark in palette(MAX_COLOURS):
        assert contrast(light, "#ffffff") > 2.4
        assert contrast(dark, "#1b1d20") > 3


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize("vision", [0, 1, 2])
def test_the_first_colours_differ_for_every_kind_of_sight(theme, vision):
    colours = np.array([linear(pair[theme]) for pair in palette(12)])
    seen = module._seen(colours)[vision]
    gaps = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
    # Just noticeable is about 0.02 in Oklab.
    assert min(gaps) > 0.045


def test_oklab_and_the_simulation_agree_with_published_values():
    # Ottosson 2020: white is L = 1, a = b = 0; red is (0.628, 0.225, 0.126).
    seen = module._seen(np.array([[1.0, 1, 1], [1, 0, 0]]))[0]
    np.testing.assert_allclose(seen, [[1, 0, 0], [0.628, 0.225, 0.126]], atol=1e-3)
    # Greys look the same to everybody.
    greys = module._seen(np.full((1, 3), 0.4))
    np.testing.assert_allclose(greys, np.broadcast_to(greys[:1], greys.shape), atol=1e-3)
