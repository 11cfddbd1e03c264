"""The frame every verb runs in: progress, warnings, signals, and how errors are told."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import typer

from imageherd.cli.progress import reporter_for
from imageherd.cli.screen import Screen, shown
from imageherd.errors import ImageherdError
from imageherd.pretraining.places import WORK, is_first_process
from imageherd.progress import reporting
from imageherd.project import is_half_pulled, is_herd

BUG, MISTAKE, INTERRUPTED, NO_READER, TERMINATED = 1, 2, 130, 141, 143

# The machine's state, not a mistake in the program.
_OUTSIDE = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EIO,
    errno.EMFILE,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
}


class Terminated(KeyboardInterrupt):
    """SIGTERM, treated like Ctrl-C: the herd is left in order."""


@contextmanager
def running(
    *, as_json: bool, quiet: bool, debug: bool, herd: Path | None = None
) -> Iterator[Screen]:
    """Run a verb: show progress, turn whatever ends it into a message and an exit code.

    Parameters
    ----------
    as_json, quiet, debug : bool
        The options of the same names.
    herd : Path, optional
        The herd, or the network in training, that the verb works on, to say that it is kept.
    """
    screen = Screen(as_json=as_json, quiet=quiet)
    reporter = reporter_for(screen)
    try:
        with (
            _terminated_by_signal(),
            _warnings_as_notes(screen, debug),
            reporting(reporter) if reporter else nullcontext(),
        ):
            yield screen
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt as error:
        _say_stopped(screen, herd)
        raise typer.Exit(TERMINATED if isinstance(error, Terminated) else INTERRUPTED) from error
    except ImageherdError as error:
        if debug:
            screen.err.print(traceback.format_exc(), soft_wrap=True)
        _fail(screen, str(error), MISTAKE, error)
    except BrokenPipeError as error:
        _silence_stdout()
        raise typer.Exit(NO_READER) from error
    except Exception as error:
        text = _outside_cause(error)
        if text and debug:
            screen.err.print(traceback.format_exc(), soft_wrap=True)
        if text:
            _fail(screen, text, MISTAKE, error)
        where = _keep_traceback(screen, debug)
        text = f"This is a bug in imageherd ({type(error).__name__}: {error}). {where}"
        _fail(screen, text, BUG, error)


def _outside_cause(error: Exception) -> str:
    """Say what is wrong if it is the machine's state; empty if it is the program."""
    if isinstance(error, OSError) and error.errno in _OUTSIDE:
        if not isinstance(error.filename, str):
            return f"{error.strerror}."
        path = Path(error.filename)
        # A hidden file is one of ours; the folder it was to be in is what the user knows.
        about = path.parent if path.name.startswith(".") else path
        return f"{error.strerror}: {shown(about)}."
    if isinstance(error, MemoryError):
        return "There is not enough memory for this many images at once."
    return ""


def _fail(screen: Screen, text: str, code: int, cause: BaseException) -> NoReturn:
    screen.error(text)
    screen.result({"error": text})
    raise typer.Exit(code) from cause


def _say_stopped(screen: Screen, herd: Path | None) -> None:
    if not is_first_process():
        return
    again = shlex.join(["imageherd", *sys.argv[1:]])
    begun = herd is not None and ((herd / WORK).is_dir() or is_half_pulled(herd))
    kept = herd is not None and (begun or is_herd(herd))
    # The terminal shows ^C on the line that was being written.
    screen.err.print()
    screen.err.print(
        f"Stopped. {shown(herd)} is kept; the same command takes it up again: {again}"
        if herd is not None and kept
        else f"Stopped before anything was kept. Start again with: {again}",
        soft_wrap=True,
    )
    screen.result({"error": "stopped"})


def _keep_traceback(screen: Screen, debug: bool) -> str:
    """Print the traceback with --debug, else write it to a file; returns where to find it."""
    text = traceback.format_exc()
    if debug:
        screen.err.print(text, soft_wrap=True)
        return "The traceback is above."
    name = f"imageherd-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.txt"
    path = Path(tempfile.gettempdir()) / name
    command = shlex.join(["imageherd", *sys.argv[1:]])
    try:
        path.write_text(f"{command}\n\n{text}", encoding="utf-8", errors="backslashreplace")
    except OSError:
        return "Run it again with --debug to see the traceback."
    return f"The traceback is in {path}; with --debug it is printed."


def _silence_stdout() -> None:
    # Python flushes stdout once more at exit and would complain about the closed pipe then.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _terminated_by_signal() -> Iterator[None]:
    """Within this context SIGTERM raises `Terminated`."""

    def stop(number: int, frame: Any) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _warnings_as_notes(screen: Screen, debug: bool) -> Iterator[None]:
    """Show imageherd's own warnings as notes; those of other packages only with --debug."""
    ours = str(Path(__file__).parents[1])

    def show(message: Any, category: Any, filename: str, lineno: int, *rest: Any) -> None:
        if debug:
            screen.note(f"{filename}:{lineno}: {category.__name__}: {message}")
        elif filename.startswith(ours):
            screen.note(str(message))

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield
