"""One way to report progress: the library calls `progress`, whoever shows it sets a reporter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

Advance = Callable[[int], None]
Reporter = Callable[[str, int | None, str], AbstractContextManager[Advance]]


def _silent(description: str, total: int | None, unit: str) -> AbstractContextManager[Advance]:
    return nullcontext(lambda n: None)


_reporter: ContextVar[Reporter] = ContextVar("imageherd_progress", default=_silent)


def progress(
    description: str, total: int | None = None, unit: str = "images"
) -> AbstractContextManager[Advance]:
    """Report a task of `total` units; yields ``advance(n)``.

    Silent until someone calls `reporting`, as the command line does.

    Parameters
    ----------
    description : str
        What is being done, such as "Embedding".
    total : int, optional
        Units in all, where known.
    unit : str, default="images"
        What is counted.
    """
    return _reporter.get()(description, total, unit)


@contextmanager
def reporting(reporter: Reporter) -> Iterator[None]:
    """Within this context, tasks are shown by `reporter(description, total, unit)`."""
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)
