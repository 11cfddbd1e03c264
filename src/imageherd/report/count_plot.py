"""The curves behind a number of clusters, as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imageherd.counting import Count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 3
_PANEL = (4.0, 2.6)


def count_figure(counts: Sequence[Count]) -> Figure:
    """Draw each rule's score against the number of clusters.

    A filled point marks the number a rule chooses, open ones its runners-up.

    Parameters
    ----------
    counts : sequence of Count
        At least one, of whatever rules; each gets a panel of its own.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    if not counts:
        raise ValueError("counts is empty; give at least one Count.")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = min(_COLUMNS, len(counts))
    lines = -(-len(counts) // columns)
    size = max(_PANEL[0] * columns, 5), _PANEL[1] * lines + 0.4
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, count in zip(panels, counts, strict=False):
        score = dict(zip(count.ks, count.scores, strict=True))
        panel.plot(count.ks, count.scores, color="0.55", linewidth=1.2)
        others = [k for k, _ in count.runners_up]
        panel.plot(others, [score[k] for k in others], "o", mfc="white", mec="C0", markersize=6)
        panel.plot([count.n_clusters], [score[count.n_clusters]], "o", color="C0", markersize=7)
        panel.set_title(f"{count.rule}: {count.n_clusters}", fontsize="medium")
        panel.set_xlabel("number of clusters")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[len(counts) :]:
        panel.remove()
    return figure
