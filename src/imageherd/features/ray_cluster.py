"""Ray for the time of a run: an existing cluster, or one of this machine's cores.

Ray by itself reports its usage to its makers, serves a dashboard and keeps each run's logs below
/tmp/ray; what is started here does none of the three.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imageherd.cores import usable_cores
from imageherd.errors import ImageherdError

PREFIX = "imageherd-ray-"

# Vectors that wait for their turn and keys of images; what is more goes to the disk.
_OBJECT_STORE_BYTES = 2**30
# Read when Ray is imported, and handed on to what it starts.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # What it calls an error is a remark on how Ray Data makes its actors.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # It prints to stdout that a worker died, and that it makes another.
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    # By default its workers let whatever else runs go first, and on a busy machine hardly start.
    "RAY_worker_niceness": "0",
}
_ANSWER_SECONDS = 10
_LOGGERS = ("ray", "ray.data")


def require_ray() -> Any:
    """Return the module ``ray``, with ``ray.data``.

    Raises
    ------
    ImageherdError
        If it is not installed.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImageherdError('The engine ray needs Ray: pip install "imageherd[ray]"') from error
    return ray


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Give the module ``ray``, connected to a cluster; afterwards all is as it was before.

    Parameters
    ----------
    address : str or None
        Where an existing cluster is, as ``ray.init`` takes it: "auto", "10.0.0.1:6379". None starts
        Ray on this machine's cores and stops it in the end. A process that is connected already
        stays with its cluster, whatever the address.

    Raises
    ------
    ImageherdError
        If Ray is not installed, or there is no cluster at the address.
    """
    ray = require_ray()
    if ray.is_initialized():
        with _quiet():
            yield ray
        return
    with _quiet(), _folder() as folder:
        how: dict[str, Any] = {"address": address}
        if address is None:
            how = {
                "address": "local",
                "num_cpus": usable_cores(),
                "object_store_memory": _OBJECT_STORE_BYTES,
                "include_dashboard": False,
                "_temp_dir": os.fspath(folder),
            }
        try:
            _knock(address)
            with _signals_kept(), _stderr_away():
                ray.init(**how, log_to_driver=False, logging_level=logging.CRITICAL)
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            where = "Ray did not start on this machine"
            if address is not None:
                where = f"There is no Ray cluster to work with at {address}"
            raise ImageherdError(f"{where}: {str(error).strip().splitlines()[0]}") from error
        try:
            yield ray
        finally:
            ray.shutdown()


def _knock(address: str | None) -> None:
    """Raise OSError if nobody answers: Ray itself would go on trying for ten minutes."""
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder for a run's sockets, logs and spilled objects; it goes with the run."""
    # Not where TMPDIR says: the path of a socket has room for 107 letters.
    below = Path("/tmp") if os.name == "posix" else Path(tempfile.gettempdir())
    for left in below.glob(f"{PREFIX}*"):
        _remove_if_dead(left)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=below))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_if_dead(folder: Path) -> None:
    """Remove the folder of a run that was killed, when its processes went with it."""
    process = folder.name.removeprefix(PREFIX).partition("-")[0]
    if process.isdecimal() and not Path("/proc", process).exists() and Path("/proc").is_dir():
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Let SIGTERM mean afterwards what it did before: Ray takes it for itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _stderr_away() -> Iterator[None]:
    """Drop what is written to stderr: Ray says there, at any log level, at which level it logs."""
    sys.stderr.flush()
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep off the screen what Ray logs of its doings, and what will change in its next version."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
