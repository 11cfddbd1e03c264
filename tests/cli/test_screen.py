"""What is printed, to a terminal and to a log."""

import io
import os
import re

import pytest
from rich.console import Console

from imageherd.cli import progress
from imageherd.cli.screen import Screen, counted, duration, shown


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.2, "a second"),
        (4.2, "4 s"),
        (48, "50 s"),
        (58, "1 min"),
        (200, "3 min"),
        (3590, "1 h"),
        (9000, "2 h 30 min"),
        (90_000, "25 h"),
    ],
)
def test_duration_as_one_would_say_it(seconds, expected):
    assert duration(seconds) == expected


def test_counted():
    assert counted(1, "image") == "1 image"
    assert counted(12_000, "image") == "12,000 images"


def test_names_that_are_no_utf8_can_be_shown():
    odd = os.fsdecode(b"h\xe4user.herd")
    assert shown(odd) == r"h\xe4user.herd"
    assert shown("häuser [1].herd") == "häuser [1].herd"
    shown(odd).encode()


def test_brackets_in_names_are_not_taken_for_styles(capsys):
    screen = Screen()
    screen.line("[red]holiday[/red].jpg :smile:")
    screen.table(("name",), [("[bold]x",)], left=("name",))
    out = capsys.readouterr().out
    assert "[red]holiday[/red].jpg :smile:" in out
    assert "[bold]x" in out


def test_a_path_is_never_broken_into_lines(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    path = "/a" * 60
    Screen().line(path)
    assert capsys.readouterr().out == path + "\n"


def test_plain_progress_is_lines_without_control_characters(monkeypatch):
    clock = iter([0.0, 1.0, 11.0, 12.0, 32.0, 40.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    file = io.StringIO()
    console = Console(file=file, highlight=False, markup=False)
    with progress.plain(console)("Embedding", 1000, "images") as advance:
        for _ in range(4):
            advance(100)
    assert file.getvalue().splitlines() == [
        "Embedding: 200/1,000 images, 18/s, 45 s left",
        "Embedding: 400/1,000 images, 12/s, 50 s left",
        "Embedding: 400/1,000 images in 40 s, 10/s",
    ]


def test_a_short_task_leaves_no_line():
    file = io.StringIO()
    with progress.plain(Console(file=file))("Counting", None, "steps") as advance:
        advance(3)
    assert file.getvalue() == ""


@pytest.mark.parametrize("width", [60, 100])
def test_bars_show_rate_and_fit_the_terminal(width, monkeypatch):
    monkeypatch.setattr(progress, "WORTH_KEEPING", 0.0)
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, color_system=None)
    bars = progress.Bars(console)
    with bars("Embedding", 200, "images") as advance:
        advance(150)
        with bars("Reading", None, "files") as inner:
            inner(3)
        advance(50)
    lines = re.sub(r"\x1b\[[\d?]*[A-Za-z]", "", file.getvalue()).replace("\r", "\n").splitlines()
    assert any("200/200 images" in line and "/s" in line for line in lines)
    assert any("3 files" in line for line in lines)
    assert all(len(line.rstrip()) <= width for line in lines)


def test_a_task_without_anything_to_do_shows_nothing():
    file = io.StringIO()
    with progress.Bars(Console(file=file, force_terminal=True))("Embedding", 0, "images"):
        pass
    assert file.getvalue() == ""


def test_progress_is_silent_with_quiet_and_plain_with_json(monkeypatch):
    monkeypatch.setattr(
        "sys.stderr", type("Terminal", (io.StringIO,), {"isatty": lambda s: True})()
    )
    monkeypatch.setenv("TERM", "xterm")
    assert progress.reporter_for(Screen(quiet=True)) is None
    assert isinstance(progress.reporter_for(Screen()), progress.Bars)
    assert not isinstance(progress.reporter_for(Screen(as_json=True)), progress.Bars)
    monkeypatch.setenv("TERM", "dumb")
    assert not isinstance(progress.reporter_for(Screen()), progress.Bars)
