"""Progress for a person at a terminal (a bar) and for a log (a line now and then)."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from imageherd.cli.screen import Screen, duration
from imageherd.progress import Advance, Reporter

# A task that is over before anyone could read its bar leaves none behind.
WORTH_KEEPING = 1.0
FIRST_LINE = 10.0
LONGEST_SILENCE = 60.0


def reporter_for(screen: Screen) -> Reporter | None:
    """Choose how progress is shown; None for not at all (--quiet)."""
    if screen.quiet:
        return None
    bar_is_seen = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return plain(screen.err) if screen.as_json or not bar_is_seen else Bars(screen.err)


class Bars:
    """Progress bars with the rate and the time left, one below the other."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._open = 0

    @contextmanager
    def __call__(self, description: str, total: int | None, unit: str) -> Iterator[Advance]:
        """Show a task while the context is open; yields ``advance(n)``."""
        if total == 0:
            yield lambda n: None
            return
        if self._progress is None:
            columns = (
                SpinnerColumn(finished_text=" "),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24 if self._console.width >= 80 else 8),
                _Numbers(),
            )
            self._progress = Progress(*columns, console=self._console)
            self._progress.start()
        bars = self._progress
        task = bars.add_task(description, total=total, unit=unit)
        self._open += 1
        started = time.monotonic()
        try:
            yield lambda n: bars.advance(task, n)
        finally:
            if total is None:
                bars.update(task, total=next(t.completed for t in bars.tasks if t.id == task))
            bars.stop_task(task)
            if time.monotonic() - started < WORTH_KEEPING:
                bars.remove_task(task)
            self._open -= 1
            if self._open == 0:
                # What is printed next must find the terminal in order.
                bars.stop()
                self._progress = None


class _Numbers(ProgressColumn):
    """``120/300 images  118/s  2 s left``."""

    def render(self, task: Task) -> Text:
        unit = task.fields["unit"]
        done = f"{int(task.completed):,}"
        parts = [f"{done}/{int(task.total):,} {unit}" if task.total else f"{done} {unit}"]
        elapsed = task.finished_time if task.finished else task.elapsed
        speed = task.completed / elapsed if elapsed else 0
        if speed:
            parts.append(_rate(speed))
        if task.finished or task.stop_time is not None:
            parts.append(duration(elapsed or 0))
        elif task.time_remaining is not None:
            parts.append(f"{duration(task.time_remaining)} left")
        return Text("  ".join(parts), no_wrap=True)


def plain(console: Console) -> Reporter:
    """Report by lines without control characters: at the start, now and then, at the end."""

    @contextmanager
    def report(description: str, total: int | None, unit: str) -> Iterator[Advance]:
        of_total = f"/{total:,}" if total is not None else ""
        started = time.monotonic()
        done, next_line, silence = 0, started + FIRST_LINE, FIRST_LINE

        def advance(n: int) -> None:
            nonlocal done, next_line, silence
            done += n
            now = time.monotonic()
            if now >= next_line and done:
                silence = min(2 * silence, LONGEST_SILENCE)
                next_line = now + silence
                speed = done / (now - started)
                left = f", {duration((total - done) / speed)} left" if total is not None else ""
                say(f"{done:,}{of_total} {unit}, {_rate(speed)}{left}")

        def say(text: str) -> None:
            console.print(f"{description}: {text}", soft_wrap=True)

        yield advance
        seconds = time.monotonic() - started
        if seconds >= WORTH_KEEPING:
            rate = f", {_rate(done / seconds)}" if done else ""
            say(f"{done:,}{of_total} {unit} in {duration(seconds)}{rate}")

    return report


def _rate(speed: float) -> str:
    return f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s"
