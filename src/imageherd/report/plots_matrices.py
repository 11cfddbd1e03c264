"""Figures that are matrices: cosine similarities sorted by cluster, classes against clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imageherd.report.plots_style import (
    INK,
    SEQUENTIAL,
    WIDTH,
    check_rows,
    frame,
    new_figure,
    sample,
    shown,
    styled,
    unit_rows,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# More tick labels than this are closer than their own height.
_MOST_NAMES = 50
_MOST_NUMBERS = 20
_MOST_CELLS = 250
_NAME_LENGTH = 22
# The share of the axis that a block needs for its name beside it.
_NAMED_SHARE = 0.03


@styled
def similarity_figure(
    before: NDArray[Any],
    after: NDArray[Any],
    labels: NDArray[np.integer],
    *,
    names: Sequence[str] = (),
    titles: tuple[str, str] = ("Features", "Head's features"),
    max_rows: int = 1_000,
    random_state: int = 0,
    caption: str = "",
) -> Figure:
    """Draw |ZᵀZ|, the cosine of each pair of images, sorted by cluster (CPP, fig. 2, right).

    Clusters that are far from each other show as dark blocks along the diagonal on a light ground.

    Parameters
    ----------
    before, after : ndarray, shapes (n, d) and (n, e)
        Features of the images, and what the head makes of them; of any scale.
    labels : ndarray of int, shape (n,)
        Cluster of each image, from 0; below 0 is none, and comes last.
    names : sequence of str, optional
        Name of each cluster, written beside blocks that are large enough.
    titles : (str, str)
        Over the two matrices.
    max_rows : int, default=1_000
        Images drawn at most, a seeded sample of them; the time and memory are its square.
    random_state : int, default=0
        Seed of the sample.
    caption : str, optional
        Below the figure.

    Raises
    ------
    ValueError
        If the lengths differ, or there is no image.
    """
    check_rows(before, after, labels)
    rows = sample(len(labels), max_rows, random_state)
    groups = np.where(labels[rows] < 0, np.iinfo(np.int64).max, labels[rows])
    order = rows[np.argsort(groups, kind="stable")]
    figure = new_figure(3.5, "Cosine similarity of the images, sorted by cluster", caption)
    left, right = figure.subplots(1, 2)
    for axes, X, title in ((left, before, titles[0]), (right, after, titles[1])):
        Z = unit_rows(X[order])
        image = axes.imshow(np.abs(Z @ Z.T), cmap=SEQUENTIAL, vmin=0, vmax=1)
        axes.set_title(shown(title))
        axes.set_xlabel("image, sorted by cluster")
        frame(axes)
    left.set_ylabel("image, sorted by cluster")
    _mark_blocks(left, right, labels[order], names)
    bar = figure.colorbar(image, ax=[left, right], shrink=0.75, aspect=30)
    bar.set_label("|cosine similarity|")
    bar.outline.set_visible(False)
    return figure


def _mark_blocks(
    left: Axes, right: Axes, labels: NDArray[np.integer], names: Sequence[str]
) -> None:
    """Name the large blocks on the left, and put a tick where a block ends."""
    edges = np.flatnonzero(np.diff(labels)) + 1
    if len(edges) > _MOST_NAMES:
        return
    for axis in (left.xaxis, left.yaxis, right.xaxis, right.yaxis):
        axis.set_ticks(edges - 0.5, labels=[""] * len(edges))
    if not names:
        return
    bounds = np.concatenate([[0], edges, [len(labels)]])
    large = np.flatnonzero(np.diff(bounds) >= _NAMED_SHARE * len(labels))
    middles = (bounds[:-1] + bounds[1:])[large] / 2 - 0.5
    found = labels[bounds[large]]
    texts = [shown(names[c], _NAME_LENGTH) if c >= 0 else "fits nowhere" for c in found]
    left.set_yticks(middles, labels=texts, minor=True)
    left.tick_params(axis="y", which="minor", length=0, labelsize=7)


@styled
def confusion_figure(
    matrix: NDArray[np.integer],
    classes: Sequence[str],
    clusters: Sequence[str],
    *,
    caption: str = "",
) -> Figure:
    """Draw how the images of each class spread over the clusters (TSP, fig. 7).

    Colour is the share of the class. Up to 20 × 20 the counts are written too; beyond 250 a side,
    a cell drawn is the largest of a block, so that no full cell is lost.

    Parameters
    ----------
    matrix : ndarray of int, shape (n_classes, n_clusters)
        Images of each class in each cluster; `imageherd.metrics.confusion` puts the clusters in the
        order of the classes.
    classes, clusters : sequence of str
        Names of rows and columns.
    caption : str, optional
        Below the figure.

    Raises
    ------
    ValueError
        If the matrix is empty or the names are not as many as its rows and columns.
    """
    if matrix.ndim != 2 or not matrix.size or matrix.shape != (len(classes), len(clusters)):
        raise ValueError(
            f"matrix of shape {matrix.shape} wants names of its rows and columns, at least one "
            f"each; there are {len(classes)} and {len(clusters)}."
        )
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    step = -(-max(matrix.shape) // _MOST_CELLS)
    if step > 1:
        caption = f"{caption} A cell is the largest of {step} × {step}.".strip()
    drawn = _pooled(shares, step)
    height = 2.6 + 0.24 * min(len(classes), 22)
    figure = new_figure(height, "Classes and clusters", caption, width=WIDTH)
    axes = figure.subplots()
    # Half a cell around, in units of the matrix before pooling, whose ends may be cut short.
    extent = (-0.5, drawn.shape[1] * step - 0.5, drawn.shape[0] * step - 0.5, -0.5)
    image = axes.imshow(100 * drawn, cmap=SEQUENTIAL, vmin=0, vmax=100, extent=extent)
    axes.set_xlim(-0.5, matrix.shape[1] - 0.5)
    axes.set_ylim(matrix.shape[0] - 0.5, -0.5)
    axes.set_aspect("auto")
    frame(axes)
    axes.set_xlabel("cluster")
    axes.set_ylabel("class")
    if len(clusters) <= _MOST_NAMES:
        texts = [shown(name, _NAME_LENGTH) for name in clusters]
        axes.set_xticks(range(len(clusters)), labels=texts, rotation=50, ha="right")
        axes.tick_params(axis="x", labelrotation=50)
        for label in axes.get_xticklabels():
            label.set_rotation_mode("anchor")
    if len(classes) <= _MOST_NAMES:
        axes.set_yticks(range(len(classes)), labels=[shown(c, _NAME_LENGTH) for c in classes])
    if max(matrix.shape) <= _MOST_NUMBERS:
        _write_counts(axes, matrix, shares)
    bar = figure.colorbar(image, ax=axes, aspect=30)
    bar.set_label("share of the class, %")
    bar.outline.set_visible(False)
    return figure


def _pooled(values: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    rows, columns = (-(-size // step) * step for size in values.shape)
    padded = np.zeros((rows, columns))
    padded[: values.shape[0], : values.shape[1]] = values
    blocks = padded.reshape(rows // step, step, columns // step, step)
    pooled: NDArray[np.float64] = blocks.max(axis=(1, 3))
    return pooled


def _write_counts(axes: Axes, matrix: NDArray[np.integer], shares: NDArray[np.float64]) -> None:
    for (i, j), count in np.ndenumerate(matrix):
        if count:
            colour = "white" if shares[i, j] > 0.5 else INK
            text = f"{count:,}" if count < 10_000 else f"{count / 1000:.0f}k"
            axes.text(j, i, text, ha="center", va="center", fontsize=6.5, color=colour)
