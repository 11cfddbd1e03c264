"""The 2-D maps of the images side by side, before and after the head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imageherd.report.plots_style import (
    LEGEND_LINE,
    MUTED,
    add_legend,
    colour,
    frame,
    new_figure,
    sample,
    shown,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_MARKERS, _NOWHERE = "o^sDvPX", "x"
_PER_MARKER = 8
_MOST_NAMES = 20
_LEGEND_COLUMNS = 4
_NAME_LENGTH = 24


@styled
def maps_figure(
    before: NDArray[Any],
    after: NDArray[Any],
    labels: NDArray[np.integer],
    *,
    names: Sequence[str] = (),
    titles: tuple[str, str] = ("Features", "Head's features"),
    max_points: int = 20_000,
    random_state: int = 0,
    caption: str = "",
) -> Figure:
    """Draw two maps of the same images, coloured by cluster (TSP, fig. 4).

    Colours are chosen to be told apart by colour-blind readers; after every eighth cluster the
    marker changes too. Beyond 20 clusters there is no legend: nobody could use it.

    Parameters
    ----------
    before, after : ndarray, shape (n, 2)
        Places of the images on the two maps, as `imageherd.report.map.layout` gives them.
    labels : ndarray of int, shape (n,)
        Cluster of each image, from 0; below 0 is none, drawn grey.
    names : sequence of str, optional
        Name of each cluster, for the legend.
    titles : (str, str)
        Over the maps.
    max_points : int, default=20_000
        Images drawn at most, a seeded sample of them.
    random_state : int, default=0
        Seed of the sample.
    caption : str, optional
        Below the figure.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    n = len(labels)
    if before.shape != (n, 2) or after.shape != (n, 2):
        raise ValueError(
            f"before and after have shapes {before.shape} and {after.shape}; {n} labels want "
            f"({n}, 2)."
        )
    rows = sample(n, max_points, random_state)
    labels = labels[rows]
    ids = np.unique(labels)
    legend = len(ids) <= _MOST_NAMES and bool(names)
    lines = -(-len(ids) // _LEGEND_COLUMNS) if legend else 0
    title = "Maps of the images, coloured by cluster"
    figure = new_figure(4.0, title, caption, legend=LEGEND_LINE * lines)
    left, right = figure.subplots(1, 2)
    for axes, xy, title in ((left, before, titles[0]), (right, after, titles[1])):
        _scatter(axes, xy[rows], labels)
        axes.set_title(shown(title))
        axes.set_xlabel("first map axis, no unit")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_aspect("equal", adjustable="datalim")
        frame(axes)
    left.set_ylabel("second map axis, no unit")
    if legend:
        handles = [_handle(c, names) for c in ids.tolist()]
        add_legend(figure, handles, _LEGEND_COLUMNS, handletextpad=0.1)
    return figure


def _scatter(axes: Axes, xy: NDArray[Any], labels: NDArray[np.integer]) -> None:
    """Draw all points of a marker at once: a thousand clusters take no longer than ten."""
    size = float(np.clip(5_000 / max(len(xy), 1), 1.5, 14))
    markers = np.array([_marker(c) for c in labels.tolist()], dtype="U1")
    # What fits nowhere first: it must not lie over a cluster.
    for marker in _NOWHERE + _MARKERS:
        members = np.flatnonzero(markers == marker)
        if len(members):
            axes.scatter(
                xy[members, 0],
                xy[members, 1],
                s=size,
                c=[_colour(c) for c in labels[members].tolist()],
                marker=marker,
                linewidths=0.6 if marker == _NOWHERE else 0,
                alpha=0.85,
                # In an SVG ten thousand markers would be ten thousand elements.
                rasterized=True,
            )


def _handle(c: int, names: Sequence[str]) -> Line2D:
    """Return the line of the legend for a cluster."""
    from matplotlib.lines import Line2D

    name = shown(names[c], _NAME_LENGTH) if c >= 0 else "fits nowhere"
    return Line2D([], [], color=_colour(c), marker=_marker(c), ms=5, mew=0.6, ls="", label=name)


def _marker(c: int) -> str:
    return _MARKERS[c // _PER_MARKER % len(_MARKERS)] if c >= 0 else _NOWHERE


def _colour(c: int) -> str:
    return colour(c) if c >= 0 else MUTED
