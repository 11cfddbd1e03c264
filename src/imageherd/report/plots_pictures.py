"""Figures made of the photographs themselves: neighbors of some, and two searches side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imageherd.report.plots_style import (
    FIRST,
    LEGEND_LINE,
    MUTED,
    RULE,
    SECOND,
    WIDTH,
    add_legend,
    new_figure,
    shown,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Picture = NDArray[np.uint8] | None
"""Pixels (height, width, 3), or None where the file can no longer be read."""

# Of a cell of side 1; frames and the space between them take the rest.
_FILLED = 0.9
_NAME_LENGTH = 80
_DASHES = (0, (3, 1.5))


@styled
def gallery_figure(
    queries: Sequence[Picture],
    neighbors: Sequence[Sequence[Picture]],
    same: Sequence[Sequence[bool]],
    *,
    names: Sequence[str] = (),
    caption: str = "",
) -> Figure:
    """Draw some images, each with its nearest in a row (TSP, fig. 2).

    A neighbor of the same cluster has a blue frame, one of another an orange, dashed one.

    Parameters
    ----------
    queries : sequence of (ndarray or None)
        The images in the first column.
    neighbors : sequence of sequences of (ndarray or None)
        The nearest of each, nearest first.
    same : sequence of sequences of bool
        Whether each neighbor is in the query's cluster.
    names : sequence of str, optional
        The query's cluster, over each query.
    caption : str, optional
        Below the figure.

    Raises
    ------
    ValueError
        If the lengths differ, or there is no query.
    """
    if not len(queries) == len(neighbors) == len(same) > 0:
        raise ValueError(
            f"queries, neighbors and same have {len(queries)}, {len(neighbors)} and {len(same)} "
            "rows; give as many of each, at least one."
        )
    columns = 1.25 + max(len(row) for row in neighbors)
    pitch = 1.14 if names else 1.0
    cell = (WIDTH - 0.2) / columns
    title = "Images and beside each its nearest, the nearest first"
    figure = new_figure(len(queries) * pitch * cell + 0.4, title, caption, legend=LEGEND_LINE)
    axes = _sheet(figure.subplots(), columns, len(queries) * pitch)
    for i, (query, row, agreed) in enumerate(zip(queries, neighbors, same, strict=True)):
        top = i * pitch + (pitch - 1)
        _draw(axes, query, 0, top)
        if names:
            axes.text(0.05, top - 0.01, shown(names[i], _NAME_LENGTH), fontsize=7, va="bottom")
        for j, (picture, agrees) in enumerate(zip(row, agreed, strict=True)):
            _draw(axes, picture, 1.25 + j, top, bool(agrees))
    _explain_frames(figure)
    return figure


@styled
def search_figure(
    query: Picture,
    left: Sequence[Picture],
    right: Sequence[Picture],
    left_same: Sequence[bool],
    right_same: Sequence[bool],
    *,
    titles: tuple[str, str] = ("Features", "Head's features"),
    caption: str = "",
) -> Figure:
    """Draw what two searches for the same image find, side by side (CPP, fig. 2, left).

    Parameters
    ----------
    query : ndarray or None
        The image searched with.
    left, right : sequence of (ndarray or None)
        What was found, nearest first, row by row in a square; as many of each.
    left_same, right_same : sequence of bool
        Whether each is in the query's cluster.
    titles : (str, str)
        Over the two.
    caption : str, optional
        Below the figure.

    Raises
    ------
    ValueError
        If nothing was found, or the lengths differ.
    """
    if not len(left) == len(left_same) == len(right) == len(right_same) > 0:
        raise ValueError(
            f"left and right have {len(left)} and {len(right)} images, {len(left_same)} and "
            f"{len(right_same)} of them marked; give as many of each, at least one."
        )
    side = math.ceil(math.sqrt(len(left)))
    rows = -(-len(left) // side)
    from_left = (1.5, 1.5 + side + 0.4)
    columns = from_left[1] + side
    cell = (WIDTH - 0.2) / columns
    title = "One search in two spaces, the nearest first, row by row"
    figure = new_figure((rows + 0.4) * cell + 0.4, title, caption, legend=LEGEND_LINE)
    axes = _sheet(figure.subplots(), columns, rows + 0.4)
    _draw(axes, query, 0, 0.4)
    axes.text(0.05, 0.36, "searched with", va="bottom")
    for x, title, found, agreed in zip(
        from_left, titles, (left, right), (left_same, right_same), strict=True
    ):
        axes.text(x + 0.05, 0.36, shown(title, 40), va="bottom")
        for i, (picture, agrees) in enumerate(zip(found, agreed, strict=True)):
            _draw(axes, picture, x + i % side, 0.4 + i // side, bool(agrees))
    _explain_frames(figure)
    return figure


def _sheet(axes: Axes, columns: float, rows: float) -> Axes:
    """Make `axes` a sheet whose unit is a cell, y downwards."""
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)
    axes.set_axis_off()
    return axes


def _draw(axes: Axes, picture: Picture, x: float, y: float, agrees: bool | None = None) -> None:
    """Draw a picture whole in the cell at (x, y), framed by whether its cluster agrees."""
    from matplotlib.patches import Rectangle

    if picture is None:
        axes.text(x + 0.5, y + 0.5, "gone", ha="center", va="center", fontsize=7, color=MUTED)
    else:
        height, width = picture.shape[:2]
        longest = max(height, width)
        w, h = _FILLED * width / longest, _FILLED * height / longest
        left, top = x + (1 - w) / 2, y + (1 - h) / 2
        axes.imshow(picture, extent=(left, left + w, top + h, top), aspect="equal")
    colour = RULE if agrees is None else FIRST if agrees else SECOND
    inset = (1 - _FILLED) / 4
    axes.add_patch(
        Rectangle(
            (x + inset, y + inset),
            1 - 2 * inset,
            1 - 2 * inset,
            fill=False,
            edgecolor=colour,
            linestyle=_DASHES if agrees is False else "-",
            linewidth=0.8 if agrees is None else 1.6,
        )
    )


def _explain_frames(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    same = Line2D([], [], color=FIRST, label="in the same cluster")
    other = Line2D([], [], color=SECOND, linestyle=_DASHES, label="in another cluster")
    add_legend(figure, [same, other], 2)
