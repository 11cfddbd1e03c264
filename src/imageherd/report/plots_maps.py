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
    colours,
    frame,
    new_figure,
    sample,
    shown,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "o^sDvPX"
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
        _scatter(axes, xy[rows], labels, names)
        axes.set_title(shown(title))
        axes.set_xlabel("first map axis, no unit")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_aspect("equal", adjustable="datalim")
        frame(axes)
    left.set_ylabel("second map axis, no unit")
    if legend:
        drawn, _ = left.get_legend_handles_labels()
        for handle in add_legend(figure, drawn, _LEGEND_COLUMNS, handletextpad=0.1).legend_handles:
            if handle is not None:
                handle.set(sizes=[24], alpha=1)
    return figure


def _scatter(
    axes: Axes, xy: NDArray[Any], labels: NDArray[np.integer], names: Sequence[str]
) -> None:
    size = float(np.clip(5_000 / max(len(xy), 1), 1.5, 14))
    palette = colours(int(labels.max(initial=0)) + 1)
    # Grey first: what fits nowhere must not lie over a cluster.
    for c in np.unique(labels):
        members = xy[labels == c]
        known = c >= 0
        axes.scatter(
            members[:, 0],
            members[:, 1],
            s=size,
            c=palette[c] if known else MUTED,
            marker=_MARKERS[c // _PER_MARKER % len(_MARKERS)] if known else "x",
            linewidths=0 if known else 0.6,
            alpha=0.85,
            # In an SVG ten thousand markers would be ten thousand elements.
            rasterized=True,
            label=shown(names[c], _NAME_LENGTH) if known and names else "fits nowhere",
        )
