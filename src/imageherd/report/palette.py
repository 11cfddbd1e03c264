"""Colours for any number of clusters that colour-blind readers can still tell apart.

Farthest-first choice: each colour is the candidate farthest from those already taken, where far is
the smallest distance over full colour vision and its two common deficiencies, in both themes.
Distances are in Oklab (Ottosson 2020); deficiencies are simulated as by Machado et al. 2009 at
severity 1. No palette keeps a hundred colours apart, so the map also changes marker shape, writes
names beside clusters and highlights one at a time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MAX_COLOURS = 64

_VISIONS = np.array(
    [
        np.eye(3),
        [  # protanopia
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        [  # deuteranopia
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
    ]
)
_RGB_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LMS_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
# Lightness ranges that stay readable on the light and on the dark background.
_LIGHTNESS = {"light": (0.40, 0.68), "dark": (0.58, 0.88)}


def palette(n_colours: int) -> list[tuple[str, str]]:
    """Choose colours as (light theme, dark theme) pairs of "#rrggbb".

    Parameters
    ----------
    n_colours : int
        How many; at most 64 are made, whoever needs more goes round again.

    Returns
    -------
    list of (str, str)
        The first colours are the farthest apart; the same list for every call.
    """
    light, dark = _candidates()
    seen = np.concatenate([_seen(light), _seen(dark)], axis=0)
    chosen = [int(np.argmin(np.linalg.norm(light - _to_rgb(0.5, 0.13, 4.4), axis=1)))]
    distance = np.full(len(light), np.inf)
    while len(chosen) < min(n_colours, MAX_COLOURS):
        gaps = np.linalg.norm(seen - seen[:, chosen[-1:]], axis=2).min(axis=0)
        distance = np.minimum(distance, gaps)
        chosen.append(int(distance.argmax()))
    return [(_hex(light[i]), _hex(dark[i])) for i in chosen[: max(n_colours, 0)]]


def _candidates() -> tuple[Array, Array]:
    """Linear RGB candidates for both themes, row by row the same hue."""
    hues = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    chromas, levels = np.array([0.06, 0.11, 0.16]), np.linspace(0, 1, 7)
    hue, chroma, level = (a.ravel() for a in np.meshgrid(hues, chromas, levels, indexing="ij"))
    themes = []
    for low, high in _LIGHTNESS.values():
        themes.append(_to_rgb(low + (high - low) * level, chroma, hue))
    inside = np.all([((rgb >= 0) & (rgb <= 1)).all(axis=1) for rgb in themes], axis=0)
    return themes[0][inside], themes[1][inside]


def _to_rgb(lightness: Array | float, chroma: Array | float, hue: Array | float) -> Array:
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    lab = np.stack(np.broadcast_arrays(np.asarray(lightness, dtype=float), a, b), axis=-1)
    lms = (lab @ np.linalg.inv(_LMS_TO_LAB).T) ** 3
    rgb: Array = lms @ np.linalg.inv(_RGB_TO_LMS).T
    return rgb


def _seen(rgb: Array) -> Array:
    """Oklab coordinates under each vision, shape (3, n, 3)."""
    simulated = np.clip(np.einsum("vij,nj->vni", _VISIONS, rgb), 0, 1)
    lab: Array = np.cbrt(simulated @ _RGB_TO_LMS.T) @ _LMS_TO_LAB.T
    return lab


def _hex(rgb: Array) -> str:
    linear = np.clip(rgb, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(float(v) * 255):02x}" for v in encoded)
