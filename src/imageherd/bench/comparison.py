"""Our figures beside a paper's."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from imageherd.bench.grid import Result
from imageherd.bench.papers import Assembled, Figure
from imageherd.bench.tables import Number, Row, made_with, markdown_table, summarize

COLUMNS = ("row", "dataset", "backbone", "metric", "paper", "ours")


@dataclass(frozen=True)
class Comparison:
    """A paper's figure and ours.

    Attributes
    ----------
    figure : Figure
        Theirs, in percent.
    ours : Number or None
        Ours, a fraction; None where there is none.
    reason : str
        Why there is none.
    """

    figure: Figure
    ours: Number | None
    reason: str = ""


def compare(assembled: Assembled, results: Sequence[Result]) -> list[Comparison]:
    """Put the results of a recipe's runs beside the paper's figures, in the paper's order."""
    rows = {(row.method, row.features): row for row in summarize(results)}
    return [_compared(figure, assembled, rows) for figure in assembled.figures]


def _compared(figure: Figure, assembled: Assembled, rows: dict[tuple[str, str], Row]) -> Comparison:
    if figure in assembled.missing:
        return Comparison(figure, None, assembled.missing[figure])
    row = rows[figure.row, assembled.features[figure]]
    ours = row.numbers.get(figure.metric)
    return Comparison(figure, ours, "" if ours else "; ".join(row.failures))


def cells(comparisons: Sequence[Comparison]) -> list[tuple[str, ...]]:
    """Write the comparisons as rows of text, of `COLUMNS`; percent."""
    return [
        (
            c.figure.row,
            c.figure.dataset,
            c.figure.backbone or "–",
            c.figure.metric,
            Number(c.figure.value, c.figure.std).text(1),
            c.ours.text(1, 100) if c.ours else "–",
        )
        for c in comparisons
    ]


def reasons(comparisons: Sequence[Comparison]) -> list[str]:
    """Say once for each cause why there is no figure of ours, and for which rows."""
    found: dict[str, list[str]] = {}
    for c in comparisons:
        if c.ours is None:
            what = f"{c.figure.row} on {c.figure.dataset}"
            names = found.setdefault(c.reason, [])
            if what not in names:
                names.append(what)
    return [f"{', '.join(names)}: {reason}" for reason, names in found.items()]


def to_csv(comparisons: Sequence[Comparison]) -> str:
    """Write the comparisons as CSV: theirs and ours in percent, with standard deviations."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    names = ("paper", "paper_std", "ours", "ours_std")
    writer.writerow(("row", "dataset", "backbone", "protocol", "metric", *names, "reason"))
    for c in comparisons:
        f = c.figure
        ours: tuple[object, object] = ("", "")
        if c.ours:
            ours = (100 * c.ours.mean, "" if c.ours.std is None else 100 * c.ours.std)
        theirs = (f.value, "" if f.std is None else f.std)
        about = (f.row, f.dataset, f.backbone or "", f.protocol, f.metric)
        writer.writerow((*about, *theirs, *ours, c.reason))
    return text.getvalue()


def to_markdown(
    comparisons: Sequence[Comparison], results: Sequence[Result], said: Sequence[str], command: str
) -> str:
    """Write the comparisons as Markdown, with what must be known to read them."""
    parts = [
        markdown_table(COLUMNS, cells(comparisons), left=4),
        *(f"- {line}" for line in reasons(comparisons)),
        *said,
        f"`{command}`",
        made_with(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
