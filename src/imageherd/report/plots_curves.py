"""Figures that are curves: spectra, neighbour consistency, entropies against β, training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imageherd.report.plots_style import (
    FIRST,
    INK,
    LEGEND_LINE,
    MUTED,
    RULE,
    SECOND,
    add_legend,
    check_rows,
    new_figure,
    shown,
    styled,
    unit_rows,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINES = ((FIRST, "-"), (SECOND, "--"), (INK, "-."), (MUTED, ":"))
_UNITS = {
    "loss": "loss",
    "rate": "rate R(Z), nats",
    "compression": "compression Rc(Z, Π), nats",
    "marginal_entropy": "H(q(c)), nats",
    "conditional_entropy": "mean H(q(c|x)), nats",
    "membership_entropy": "mean entropy of Π, nats",
    "used_clusters": "clusters used",
}


def spectrum(X: NDArray[Any]) -> NDArray[np.float64]:
    """Return the singular values of X with unit rows, the largest as 1, descending.

    Not centred, as in CPP: rows that all point one way have one large value. Takes n d min(n, d)
    multiplications.

    Parameters
    ----------
    X : ndarray, shape (n, d)
        Features.

    Returns
    -------
    ndarray, shape (min(n, d),)
        All zero if X is.
    """
    Z = unit_rows(X)
    gram = Z @ Z.T if len(Z) < Z.shape[1] else Z.T @ Z
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(gram)[::-1], 0))
    largest = values.max(initial=0)
    return np.asarray(values / largest if largest > 0 else values)


@styled
def singular_values_figure(
    before: NDArray[Any],
    after: NDArray[Any],
    labels: NDArray[np.integer],
    *,
    titles: tuple[str, str] = ("Features", "Head's features"),
    caption: str = "",
) -> Figure:
    """Draw singular values of all images, and of each cluster before and after (CPP, fig. 3).

    A curve that falls at once is a space of few directions; one that falls late uses many.

    Parameters
    ----------
    before, after : ndarray, shapes (n, d) and (n, e)
        Features of the images, and what the head makes of them.
    labels : ndarray of int, shape (n,)
        Cluster of each image; those below 0, and clusters of one image, count in the whole only.
    titles : (str, str)
        What `before` and `after` are called.
    caption : str, optional
        Below the figure.

    Raises
    ------
    ValueError
        If the lengths differ, or there is no image.
    """
    check_rows(before, after, labels)
    figure = new_figure(3.1, "Singular values, the largest as 1", caption)
    whole, *each = figure.subplots(1, 3, sharey=True)
    ids, counts = np.unique(labels[labels >= 0], return_counts=True)
    for axes, X, title, (colour, dashes) in zip(
        each, (before, after), titles, _LINES, strict=False
    ):
        _step_curve(whole, spectrum(X), colour, dashes, shown(title))
        _cluster_curves(axes, [spectrum(X[labels == c]) for c in ids[counts > 1]], colour)
        axes.set_title(f"Clusters: {shown(title[:1].lower() + title[1:], 22)}")
    whole.set_title("All images")
    whole.set_ylabel("singular value / largest")
    whole.legend(loc="best")
    for axes in (whole, *each):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("component, log scale")
        axes.set_ylim(0, 1.03)
        axes.grid(color=RULE, linewidth=0.5)
    return figure


def _step_curve(
    axes: Axes, values: NDArray[np.float64], colour: str, dashes: str, label: str
) -> None:
    axes.plot(np.arange(1, len(values) + 1), values, color=colour, linestyle=dashes, label=label)


def _cluster_curves(axes: Axes, curves: list[NDArray[np.float64]], colour: str) -> None:
    """Draw a thin line for each cluster, and their median where half of them reach."""
    from matplotlib.collections import LineCollection

    if not curves:
        return
    lines = [np.column_stack([np.arange(1, len(v) + 1), v]) for v in curves]
    faint = max(0.08, min(0.6, 10 / len(curves)))
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=0.7, alpha=faint))
    reach = int(np.median([len(v) for v in curves]))
    table = np.full((len(curves), reach), np.nan)
    for row, values in zip(table, curves, strict=True):
        row[: len(values)] = values[:reach]
    _step_curve(axes, np.nanmedian(table, axis=0), INK, "-", "median cluster")
    axes.legend(loc="upper right")


def consistency_curve(ids: NDArray[np.integer], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return, for each k, the share of an image's k nearest that have its label, on average.

    Parameters
    ----------
    ids : ndarray of int, shape (n, k)
        Neighbours of each image, nearest first.
    labels : ndarray of int, shape (n,)
        Label of each; below 0 where it is not known: such an image is not asked, and as a
        neighbour it does not count.

    Returns
    -------
    ndarray, shape (k,)
        For k neighbours at position k - 1; NaN where no image has a neighbour with a label.
    """
    asked = labels >= 0
    nearest = labels[ids[asked]]
    known = np.cumsum(nearest >= 0, axis=1)
    same = np.cumsum(nearest == labels[asked, None], axis=1)
    shares = np.divide(same, known, out=np.zeros(same.shape), where=known > 0)
    counted = (known > 0).sum(axis=0)
    totals = shares.sum(axis=0)
    means = np.full(len(totals), np.nan)
    np.divide(totals, counted, out=means, where=counted > 0)
    return means


@styled
def consistency_figure(
    curves: Mapping[str, ArrayLike], *, of: str = "label", caption: str = ""
) -> Figure:
    """Draw the share of the k nearest with the same label, against k (TSP, fig. 1).

    Parameters
    ----------
    curves : mapping of str to array-like, shape (k,)
        Shares from 0 to 1 for 1, 2, ... neighbours, by what the neighbours were found with; at most
        four.
    of : str, default="label"
        What neighbours have in common: "label" or "cluster".
    caption : str, optional
        Below the figure.

    Raises
    ------
    ValueError
        If there is no curve, or more than four.
    """
    if not 1 <= len(curves) <= len(_LINES):
        raise ValueError(f"curves has {len(curves)} entries; give 1 to {len(_LINES)}.")
    figure = new_figure(3.4, f"How many of an image's nearest have its {of}", caption, width=5.4)
    axes = figure.subplots()
    for (name, values), (colour, dashes) in zip(curves.items(), _LINES, strict=False):
        shares = 100 * np.asarray(values, dtype=np.float64)
        ks = np.arange(1, len(shares) + 1)
        axes.plot(ks, shares, color=colour, linestyle=dashes, label=shown(name, 40))
    axes.set_xlabel("nearest neighbors, k")
    axes.set_ylabel(f"same {of}, %")
    axes.set_xlim(left=1)
    axes.set_ylim(0, 100)
    axes.grid(color=RULE, linewidth=0.5)
    axes.legend(loc="lower left")
    return figure


@styled
def entropies_figure(
    betas: ArrayLike,
    cluster_entropy: ArrayLike,
    image_entropy: ArrayLike,
    n_clusters: int,
    *,
    chosen: float | None = None,
    caption: str = "",
) -> Figure:
    """Draw both entropies of TEMI's predictions against β (TEMI, fig. 2, right).

    Wanted is the lowest β at which images are placed surely (H(q(c|x)) low) while all clusters are
    in use (H(q(c)) high, near log C).

    Parameters
    ----------
    betas : array-like, shape (m,)
        The values tried.
    cluster_entropy, image_entropy : array-like, shape (m,)
        H(q(c)) and the mean H(q(c|x)) of each, in nats.
    n_clusters : int
        C; the line at log C is the most either can be.
    chosen : float, optional
        The value taken, marked.
    caption : str, optional
        Below the figure.

    Raises
    ------
    ValueError
        If the lengths differ, or nothing was tried.
    """
    x, even, unsure = (
        np.asarray(values, dtype=np.float64) for values in (betas, cluster_entropy, image_entropy)
    )
    if not len(x) == len(even) == len(unsure) > 0:
        raise ValueError(
            f"betas and the entropies have {len(x)}, {len(even)} and {len(unsure)} values; give as "
            "many of each, at least one."
        )
    order = np.argsort(x)
    title = "Entropies of the predictions against β"
    figure = new_figure(3.2, title, caption, width=5.4, legend=2 * LEGEND_LINE)
    axes = figure.subplots()
    for values, (colour, dashes), label in (
        (even, _LINES[0], "H(q(c)): how evenly clusters are used"),
        (unsure, _LINES[1], "mean H(q(c|x)): how unsure an image is"),
    ):
        axes.plot(
            x[order], values[order], color=colour, linestyle=dashes, marker="o", ms=4, label=label
        )
    most = float(np.log(n_clusters))
    axes.axhline(most, color=MUTED, linewidth=0.8, linestyle=":", label="most there can be, log C")
    if chosen is not None:
        axes.axvline(chosen, color=INK, linewidth=0.8, label=f"β = {chosen:g} taken")
    axes.set_xlabel("β")
    axes.set_ylabel("entropy, nats")
    axes.set_ylim(0, 1.08 * max(most, even.max(), unsure.max(), 1e-3))
    add_legend(figure, axes.get_legend_handles_labels()[0], 2)
    return figure


@styled
def training_figure(history: Sequence[Mapping[str, float | None]], *, caption: str = "") -> Figure:
    """Draw the loss of the head by epoch, and whatever else it tells, each on a scale of its own.

    Parameters
    ----------
    history : sequence of mapping
        The head's ``history_``: "epoch" and numbers by name; an epoch need not have them all.
    caption : str, optional
        Below the figure.

    Raises
    ------
    ValueError
        If no epoch tells a finite number.
    """
    names = [k for k in dict.fromkeys(k for entry in history for k in entry) if k != "epoch"]
    curves = {name: points for name in names if len(points := _points(history, name))}
    if not curves:
        raise ValueError("history holds no finite number beside the epoch.")
    columns = min(len(curves), 2 if len(curves) in (2, 4) else 3)
    rows = -(-len(curves) // columns)
    figure = new_figure(0.7 + 1.9 * rows, "Training", caption)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for axes, (name, points) in zip(grid.flat, curves.items(), strict=False):
        marker = "o" if len(points) < 15 else ""
        axes.plot(points[:, 0], points[:, 1], color=FIRST, linewidth=1.2, marker=marker, ms=3)
        axes.set_ylabel(_UNITS.get(name, shown(name.replace("_", " "))))
        if name == "used_clusters":
            axes.set_ylim(0, 1.08 * points[:, 1].max())
        axes.grid(color=RULE, linewidth=0.5)
    for axes in grid.flat[len(curves) :]:
        axes.set_axis_off()
    for column in range(columns):
        lowest = max(i for i in range(column, len(curves), columns)) // columns
        grid[lowest, column].set_xlabel("epoch")
        grid[lowest, column].tick_params(labelbottom=True)
    return figure


def _points(history: Sequence[Mapping[str, float | None]], name: str) -> NDArray[np.float64]:
    found = []
    for number, entry in enumerate(history, 1):
        value = entry.get(name)
        if isinstance(value, int | float) and np.isfinite(value):
            found.append((entry.get("epoch") or number, value))
    return np.array(found, dtype=np.float64)
