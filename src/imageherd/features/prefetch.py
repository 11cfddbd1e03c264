"""A map in threads that runs a bounded number of results ahead and keeps their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def map_ahead(
    function: Callable[[Job], Result], jobs: Iterable[Job], *, workers: int, ahead: int
) -> Generator[Result, None, None]:
    """Yield ``function(job)`` for each job, in order, computed in threads.

    At most `ahead` results are waiting or under way, which bounds the memory. What `function`
    raises is raised here, at its turn. Closing the generator drops what has not begun and waits
    for what has, so that no thread is left behind; use ``contextlib.closing``.

    Parameters
    ----------
    function : callable
        Called in threads; should spend its time outside the interpreter lock.
    jobs : iterable
        Taken in the caller's thread, one for each result handed out.
    workers : int
        Threads.
    ahead : int
        Jobs handed to the threads and not yet taken from this generator, at least 1.
    """
    executor = ThreadPoolExecutor(workers, thread_name_prefix="imageherd-reader")
    waiting: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            waiting.append(executor.submit(function, job))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
