"""The application: what is served where, and how errors are told."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from imageherd.app import clusterings, comparing, finding, pictures, points
from imageherd.app.guard import LOCAL, Guard
from imageherd.app.models import Problem
from imageherd.app.opened import Opened
from imageherd.errors import ImageherdError

PAGE = Path(__file__).with_name("page")
ROUTERS = (clusterings, pictures, points, finding, comparing)
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
    """
    app = FastAPI(
        title="imageherd",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses=REFUSALS,
    )
    app.state.opened = Opened(herd, author)
    app.add_middleware(Guard, token=token, hosts=hosts)
    app.add_exception_handler(HTTPException, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ImageherdError, _mistake)
    for module in ROUTERS:
        app.include_router(module.router, prefix="/api")
    if PAGE.is_dir():
        app.mount("/page", StaticFiles(directory=PAGE))
        app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


def _told(request: Request, error: Any) -> JSONResponse:
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


def _invalid(request: Request, error: Any) -> JSONResponse:
    said = (f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors())
    return JSONResponse({"detail": "; ".join(said)}, 422)


def _mistake(request: Request, error: Any) -> JSONResponse:
    path = request.app.state.opened.herd.path
    return JSONResponse({"detail": str(error).replace(str(path), path.name)}, 400)
