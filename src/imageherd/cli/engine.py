"""Options that say what embeds: this process, or Ray."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from imageherd.errors import ImageherdError

if TYPE_CHECKING:
    from imageherd.features.ray_engine import RayEngine

LOCAL, RAY = "local", "ray"

_PANEL = "Many machines"
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="local|ray",
        help="What embeds: this process, or Ray, on this machine or a cluster of many; the result "
        "is the same.",
        rich_help_panel=_PANEL,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT|auto",
        help="With --engine ray: the cluster, each machine of which finds SOURCE at the same path.",
        show_default="RAY_ADDRESS, else this machine",
        rich_help_panel=_PANEL,
    ),
]
Actors = Annotated[
    int | None,
    typer.Option(
        "--actors",
        metavar="N",
        min=1,
        help="With --engine ray: how many processes embed, each with a GPU, if there are any, and "
        "as many cores as --workers says.",
        show_default="what the cluster has room for",
        rich_help_panel=_PANEL,
    ),
]


def chosen(engine: str, address: str | None, actors: int | None) -> RayEngine | None:
    """Return the engine the options ask for, None for this process.

    Raises
    ------
    ImageherdError
        If there is no such engine, it lacks its package, or the options do not go together.
    """
    if engine not in (LOCAL, RAY):
        raise ImageherdError(f"--engine {engine} is not known; choose {LOCAL} or {RAY}.")
    if engine == LOCAL:
        for option, value in (("--address", address), ("--actors", actors)):
            if value is not None:
                raise ImageherdError(f"{option} goes with --engine {RAY}; add it, or leave it out.")
        return None
    from imageherd.features.ray_cluster import require_ray
    from imageherd.features.ray_engine import RayEngine

    require_ray()
    return RayEngine(address or os.environ.get("RAY_ADDRESS"), actors)
