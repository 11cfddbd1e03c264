"""``imageherd bench --paper``: a paper's table, ours beside theirs."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from imageherd.cli.screen import Screen
from imageherd.errors import ImageherdError

if TYPE_CHECKING:
    from imageherd.bench.comparison import Comparison
    from imageherd.bench.papers import Assembled


def assemble(
    table: str,
    data: Path,
    out: Path,
    seeds: list[int],
    dataset: str | None,
    backbone: str | None,
    device: str,
) -> Assembled:
    """Embed what the table needs; an error says what is missing where nothing can be run."""
    from imageherd.bench import papers

    papers.recipe(table, dataset)
    if not data.is_dir():
        raise ImageherdError(
            f"There is no folder {data} with the papers' datasets; name it with --data."
        )
    found = papers.assemble(
        table, data, out, seeds=seeds, dataset=dataset, backbone=backbone, device=device
    )
    if not found.runs:
        causes = "\n".join(dict.fromkeys(found.missing.values()))
        raise ImageherdError(f"Nothing of {table} can be run.\n{causes}")
    return found


def show(screen: Screen, table: str, comparisons: list[Comparison], said: list[str]) -> None:
    """Print ours beside theirs, and what must be known to read it."""
    from imageherd.bench.comparison import COLUMNS, cells, reasons

    screen.line("")
    screen.line(f"{table}, in percent:")
    screen.table(COLUMNS, cells(comparisons), left=COLUMNS[:4])
    for line in reasons(comparisons):
        screen.note(line)
    for line in said:
        screen.remark()
        screen.remark(textwrap.fill(line, screen.out.width))


def as_json(comparisons: list[Comparison]) -> list[dict[str, object]]:
    """Return the comparisons for a machine."""
    return [
        {**asdict(c.figure), "ours": c.ours and asdict(c.ours), "reason": c.reason}
        for c in comparisons
    ]
