"""The application: what is served where, and how errors are told."""

from __future__ import annotations

import ctypes
import logging
import mimetypes
import re
import socket
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pyarrow as pa
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from imageherd.app import clusterings, comparing, editing, exporting, finding, pictures, points
from imageherd.app.finder import Finder
from imageherd.app.guard import LOCAL, Guard
from imageherd.app.laying import Maps
from imageherd.app.models import Problem
from imageherd.app.opened import Opened
from imageherd.app.saying import told
from imageherd.edits.journal import EditConflictError
from imageherd.errors import ImageherdError

_M_MMAP_THRESHOLD = -3
_log = logging.getLogger(__name__)

PORT = 8420
"""Where it listens unless told otherwise; anywhere, where another does."""
PAGE = Path(__file__).with_name("page")
ROUTERS = (clusterings, editing, exporting, pictures, points, finding, comparing)
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in (400, 401, 403, 404, 413, 422)
}


def create_app(
    herd: Path, token: str, *, author: str = "", hosts: Collection[str] = LOCAL
) -> FastAPI:
    """Return the application that serves a herd.

    Parameters
    ----------
    herd : Path
        The herd.
    token : str
        The secret that a request must bring.
    author : str, default=""
        Whose edits are made through it, for the log.
    hosts : collection of str
        Names by which it may be addressed, without ports; by default this machine's to itself.

    Raises
    ------
    ImageherdError
        If the token is too short, or has characters that a link cannot hold as they are.
    """
    app = FastAPI(
        title="imageherd",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses=REFUSALS,
    )
    if not re.fullmatch(r"[A-Za-z0-9_-]{8,200}", token):
        raise ImageherdError(
            "The token must have 8 to 200 of the letters A to Z and a to z, digits, - and _."
        )
    app.state.opened = Opened(herd, author)
    app.state.maps = Maps()
    app.state.finder = Finder()
    app.state.closing = lambda: False
    app.add_middleware(Guard, token=token, hosts=hosts)
    app.add_exception_handler(HTTPException, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(EditConflictError, _conflict)
    app.add_exception_handler(ImageherdError, _mistake)
    app.add_exception_handler(OSError, _outside)
    app.add_exception_handler(Exception, _bug)
    for module in ROUTERS:
        app.include_router(module.router, prefix="/api")
    # On Windows other programs may have it that scripts are plain text, which browsers do not run.
    mimetypes.add_type("text/javascript", ".js")
    app.mount("/page", StaticFiles(directory=PAGE))
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


def serve(
    herd: Path,
    token: str,
    *,
    author: str = "",
    host: str = "127.0.0.1",
    port: int | None = None,
    debug: bool = False,
    ready: Callable[[str], None],
) -> None:
    """Serve a herd until Ctrl-C, which raises KeyboardInterrupt once all is closed.

    Parameters
    ----------
    herd, token, author
        As for `create_app`.
    host : str, default="127.0.0.1"
        The address to listen at; one that is not this machine's to itself lets others in, who
        need the token. Requests must then name it, or, for "0.0.0.0" and "::", this machine.
    port : int, optional
        By default 8420, or a free one where that is taken.
    debug : bool, default=False
        Whether tracebacks go to the log.
    ready : callable
        Called with the address, such as ``http://127.0.0.1:8420``, when requests are taken.

    Raises
    ------
    ImageherdError
        If it cannot listen there.
    """
    _give_memory_back()
    hosts = LOCAL if host in LOCAL else {*LOCAL, host, socket.gethostname()}
    app = create_app(herd, token, author=author, hosts=hosts)
    with _listening(host, port) as listening:
        found = listening.getsockname()[1]
        config = uvicorn.Config(
            app,
            ws="none",
            log_config=None,
            log_level="error" if debug else "critical",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        app.state.closing = lambda: server.should_exit
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        ready(f"http://[{shown}]:{found}" if ":" in shown else f"http://{shown}:{found}")
        server.run(sockets=[listening])


def _give_memory_back() -> None:
    """Have freed memory go back to the system: 670 MB, not 950, for a million images.

    Arrow keeps what it has freed for later, and so does glibc, of ever larger arrays; a server
    that waits for a person needs neither.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**20)


def _listening(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens; where no port was asked for, any that is free will do."""
    for tried in (PORT, 0) if port is None else (port,):
        try:
            found = socket.getaddrinfo(host, tried, type=socket.SOCK_STREAM)
            listening = socket.create_server((host, tried), family=found[0][0], backlog=128)
            # Else the second half of a small answer waits 40 ms for word of the first; asyncio
            # sees to it for sockets that it makes itself.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return listening
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or str(error)
    raise ImageherdError(
        f"{host} cannot be listened at on port {tried}: {why}. Give another with --port, or leave "
        "it out for a free one."
    )


def _told(request: Request, error: Any) -> JSONResponse:
    said = error.detail
    if said == HTTPStatus(error.status_code).phrase:
        # Not one of ours.
        where = request.url.path
        said = {
            404: f"There is nothing at {where}.",
            405: f"{where} does not take {request.method}.",
        }.get(error.status_code, said)
    said = said if said.endswith(".") else f"{said}."
    return JSONResponse({"detail": said}, error.status_code, error.headers)


def _invalid(request: Request, error: Any) -> JSONResponse:
    return JSONResponse({"detail": "; ".join(map(_sentence, error.errors()))}, 422)


def _sentence(error: dict[str, Any]) -> str:
    # Beside the names there are kinds, such as "literal['auto']".
    where = [str(part) for part in error["loc"][1:] if str(part).replace("-", "").isalnum()]
    return f"{'.'.join(where[:4])}: {error['msg']}." if where else f"{error['msg']}."


def _mistake(request: Request, error: Any) -> JSONResponse:
    path = request.app.state.opened.herd.path
    return JSONResponse({"detail": str(error).replace(str(path), path.name)}, 400)


def _conflict(request: Request, error: Any) -> JSONResponse:
    here, name = request.app.state.opened, request.path_params["c"]
    said = here.sayings(name)
    since = [told(entry, said).model_dump() for entry in error.since if entry.seq in said]
    state = here.state(name)
    answer = {"detail": str(error), "state": state, "since": since}
    return JSONResponse(answer, 409, {"ETag": f'"{state}"'})


def _outside(request: Request, error: Any) -> JSONResponse:
    # The machine's state, such as a full disk; the path is nobody's business.
    _log.error("%s %s: %s", request.method, request.url.path, error)
    said = f"The herd cannot be read or written: {error.strerror or type(error).__name__}."
    return JSONResponse({"detail": said}, 500)


def _bug(request: Request, error: Any) -> JSONResponse:
    _log.error("A bug in imageherd: %s %s: %r", request.method, request.url.path, error)
    said = f"This is a bug in imageherd ({type(error).__name__}); nothing that was kept is lost."
    return JSONResponse({"detail": said}, 500)
