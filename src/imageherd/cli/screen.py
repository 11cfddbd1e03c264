"""What a verb prints: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # rich would exit with 1 here; `session.running` knows better.
        raise BrokenPipeError


class Screen:
    """Where a verb's output goes.

    Parameters
    ----------
    as_json : bool, default=False
        Only `result` prints to stdout, one JSON object; the rest is silent or on stderr.
    quiet : bool, default=False
        No remarks.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        for stream in (sys.stdout, sys.stderr):
            # A terminal that cannot show a name must not end the run.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        self.out = _Console(highlight=False, markup=False, emoji=False)
        self.err = _Console(highlight=False, markup=False, emoji=False, stderr=True)

    def remark(self, text: str = "", style: str | None = None) -> None:
        """Say something that is not the result; silent with --quiet, on stderr with --json."""
        if not self.quiet:
            (self.err if self.as_json else self.out).print(text, style=style, soft_wrap=True)

    def note(self, text: str) -> None:
        """Say on stderr something the user should know about."""
        if not self.quiet:
            self.err.print(Text.assemble(("Note: ", "yellow"), text), soft_wrap=True)

    def error(self, text: str) -> None:
        """Say on stderr why the verb ends."""
        self.err.print(Text.assemble(("Error: ", "bold red"), (text, "red")), soft_wrap=True)

    def line(self, text: str) -> None:
        """Print one line of the result, never broken to the terminal's width."""
        if not self.as_json:
            self.out.print(text, soft_wrap=True)

    def table(
        self, columns: Sequence[str], rows: Iterable[Sequence[object]], left: Sequence[str] = ()
    ) -> None:
        """Print a table; columns are right-aligned but for those in `left`."""
        if self.as_json:
            return
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in columns:
            in_left = column in left
            table.add_column(
                column,
                justify="left" if in_left else "right",
                overflow="fold",
                no_wrap=not in_left,
            )
        for row in rows:
            table.add_row(*("" if cell is None else str(cell) for cell in row))
        self.out.print(table)

    def result(self, value: dict[str, Any]) -> None:
        """Print the result for machines, with --json only."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, ensure_ascii=False, default=_plain) + "\n")
            sys.stdout.flush()


def _plain(value: Any) -> Any:
    """Turn what JSON does not know (NumPy numbers and arrays, paths) into what it does."""
    if isinstance(value, Path):
        return shown(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def shown(path: str | os.PathLike[str]) -> str:
    r"""Return a path as it can be printed: odd bytes and control characters as ``\xNN``."""
    text = os.fspath(path)
    if text.isprintable():
        return text
    from imageherd.images.names import display_path

    return display_path(os.fsencode(text))


def duration(seconds: float) -> str:
    """Write a time roughly, as one would say it.

    >>> duration(4.2), duration(48), duration(200), duration(9000)
    ('4 s', '50 s', '3 min', '2 h 30 min')
    """
    if seconds < 1:
        return "a second"
    if seconds < 10:
        return f"{seconds:.0f} s"
    if seconds < 57.5:
        return f"{5 * round(seconds / 5)} s"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(10 * round(minutes / 10), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def counted(n: int, what: str) -> str:
    """Write a number with its noun: ``1 image``, ``12,000 images``."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"
