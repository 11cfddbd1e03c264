"""What all still figures share: one look, captions, text that is shown as it is, sampling."""

from __future__ import annotations

import io
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from imageherd.files import write_atomically
from imageherd.report.palette import MAX_COLOURS, palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

P = ParamSpec("P")
T = TypeVar("T")

FORMATS = ("png", "svg")
# Inches, so that the figure fits the text width of a page; two pixels a point on a screen.
WIDTH = 7.2
DPI = 144
LEGEND_LINE = 0.17
INK, MUTED, RULE = "#222222", "#5f5f5f", "#d5d5d5"
# White to dark blue: lightness alone tells the value, so it survives grey print.
SEQUENTIAL = "Blues"
# Blue and vermilion of Okabe and Ito (2008), told apart by colour-blind readers and in grey.
FIRST, SECOND = "#0072b2", "#d55e00"
_CAPTION_SIZE = 7.5
_LEFT = 0.008
_STYLE = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "figure.titlesize": 10.5,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    # Ids in an SVG are hashes; salted with a constant they are the same every time.
    "svg.hashsalt": "imageherd",
}
_lock = threading.RLock()


@contextmanager
def our_style() -> Iterator[None]:
    """Within this context matplotlib's settings are ours, whatever the user's are."""
    import matplotlib

    settings: Any = {
        key: value
        for key, value in matplotlib.rcParamsDefault.items()
        if not key.startswith("backend")
    }
    # The settings are the process's, so two threads must not change them at a time.
    with _lock, matplotlib.rc_context(settings | _STYLE):
        yield


def styled(function: Callable[P, T]) -> Callable[P, T]:
    """Run `function` in `our_style`."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with our_style():
            return function(*args, **kwargs)

    return run


def new_figure(
    height: float, title: str, caption: str, *, width: float = WIDTH, legend: float = 0
) -> Figure:
    """Return an empty figure: title above, caption below, and room between for `add_legend`.

    Parameters
    ----------
    height, width, legend : float
        Inches: of the drawing with its title, of the whole, and of the legend.
    title, caption : str
        What it is, and of what.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    lines = _wrapped(caption, width)
    below = len(lines) * _CAPTION_SIZE * 1.3 / 72 + 0.06 * bool(lines)
    whole = height + legend + below
    lowest = (legend + below) / whole
    layout = ConstrainedLayoutEngine(rect=(0, lowest, 1, 1 - lowest))
    figure = Figure(figsize=(width, whole), layout=layout)
    figure.suptitle(title, x=_LEFT, ha="left")
    figure.text(
        _LEFT, 0.04 / whole, "\n".join(lines), va="bottom", fontsize=_CAPTION_SIZE, color=MUTED
    )
    return figure


def add_caption(figure: Figure, caption: str) -> None:
    """Put a caption below a figure that was not made by `new_figure`."""
    text = "\n".join(_wrapped(caption, figure.get_figwidth()))
    figure.supxlabel(text, x=_LEFT, ha="left", fontsize=_CAPTION_SIZE, color=MUTED)


def _wrapped(caption: str, width: float) -> list[str]:
    return textwrap.wrap(shown(caption), int(width * 72 / (_CAPTION_SIZE * 0.58)))


def add_legend(figure: Figure, handles: Sequence[Any], columns: int, **options: Any) -> Legend:
    """Put a legend into the room that `new_figure` kept for it."""
    engine = figure.get_layout_engine()
    top = engine.get()["rect"][1] if engine else 0
    return figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(_LEFT, top),
        borderaxespad=0,
        borderpad=0,
        ncols=columns,
        **options,
    )


def shown(text: str, most: int | None = None) -> str:
    """Return `text` as matplotlib can show it: one line, no mathematics, no lone surrogates.

    Parameters
    ----------
    text : str
        A name, a path.
    most : int, optional
        Characters it may have; the rest is an ellipsis.
    """
    text = " ".join(str(text).encode("utf-8", "backslashreplace").decode().split())
    if most is not None and len(text) > most:
        text = text[: most - 1] + "…"
    return text.replace("$", r"\$")


def colour(c: int) -> str:
    """Return the colour of cluster `c`; after 64 they go round again."""
    return _palette()[c % MAX_COLOURS]


@cache
def _palette() -> list[str]:
    return [light for light, _ in palette(MAX_COLOURS)]


def sample(n: int, most: int, random_state: int) -> NDArray[np.int64]:
    """Return `most` of the numbers below `n`, ascending, or all of them if there are no more."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(random_state).choice(n, most, replace=False))


def frame(axes: Axes) -> None:
    """Draw the whole frame of `axes`, as an image wants it."""
    axes.spines[:].set_visible(True)


def check_rows(before: NDArray[Any], after: NDArray[Any], labels: NDArray[np.integer]) -> None:
    """Raise ValueError unless there are as many of each, at least one."""
    if not len(before) == len(after) == len(labels) > 0:
        raise ValueError(
            f"before, after and labels have {len(before)}, {len(after)} and {len(labels)} rows; "
            "give as many of each, at least one."
        )


def unit_rows(X: NDArray[Any]) -> NDArray[np.float64]:
    """Return X (n, d) with rows of length one; a row of zeros stays so."""
    rows = np.asarray(X, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG or SVG by the path's ending, atomically; the same figure, same bytes.

    A character that matplotlib's font lacks is drawn as a box.

    Raises
    ------
    ValueError
        If the ending is another.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise ValueError(f"path={str(path)!r} must end in {' or '.join(FORMATS)}.")
    buffer = io.BytesIO()
    with our_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    write_atomically(path, lambda file: file.write(buffer.getvalue()))
