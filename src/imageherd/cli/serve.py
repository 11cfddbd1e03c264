"""``imageherd serve``: look at a clustering in the browser, correct it, keep it."""

from __future__ import annotations

import getpass
import ipaddress
import os
import secrets
import sys
import threading
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from imageherd.cli import checks, options
from imageherd.cli.screen import Screen, shown
from imageherd.cli.session import Terminated, running
from imageherd.errors import ImageherdError

EXAMPLES = """\b
Examples:
  imageherd serve holiday.herd
  imageherd serve holiday.herd --name by-temi --port 9000
  imageherd serve holiday.herd --host 192.168.1.20 --no-browser"""

EXTRA = ("fastapi", "uvicorn", "python_multipart")


def serve(
    herd: options.HerdArgument,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="Which clustering to open.",
            show_default="default, or the first there is",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help="Where to listen. Anything but this machine's own address lets others in who "
            "have the link.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="N",
            min=0,
            max=65535,
            help="The port to listen at.",
            show_default="8420, or a free one",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="SECRET",
            help="The secret in the link, to have the same link again.",
            show_default="a new one each time",
        ),
    ] = None,
    author: Annotated[
        str | None,
        typer.Option(
            "--author",
            metavar="NAME",
            help="Who edits, for the log.",
            show_default="your user name",
        ),
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Do not open the link in a browser.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Look at a clustering in the browser, and correct it.

    Rename, move, merge and split; every edit is kept at once, can be undone, and counts for
    export, report, evaluate and assign. It runs until Ctrl-C.
    """
    with running(as_json=as_json, quiet=quiet, debug=debug, herd=herd) as screen:
        checks.existing_herd(herd)
        _check_extra()
        opened = _clustering(herd, name)

        from imageherd.app.server import serve as run

        if not _is_local(host):
            screen.note(
                f"{host} can be reached from other machines: who has the link may edit. There, it "
                "begins with this machine's name or address."
            )
        secret = token or secrets.token_urlsafe(24)

        def ready(address: str) -> None:
            link = f"{address}/?token={secret}#/c/{quote(opened)}"
            _say(screen, herd, link)
            if not no_browser and _has_browser():
                # Some browsers keep whoever opens them waiting.
                threading.Thread(target=webbrowser.open, args=(link,), daemon=True).start()

        author = _user() if author is None else author
        try:
            run(herd, secret, author=author, host=host, port=port, debug=debug, ready=ready)
        except KeyboardInterrupt as stop:
            screen.remark()
            screen.remark(f"Stopped. What you have edited is kept in {shown(herd)}.")
            if isinstance(stop, Terminated):
                raise typer.Exit(143) from stop


def _say(screen: Screen, herd: Path, link: str) -> None:
    screen.remark(f"See {shown(herd)} in the browser, at the link below. Ctrl-C ends it.")
    screen.line(link)
    screen.result({"herd": herd, "link": link})
    sys.stdout.flush()


def _check_extra() -> None:
    missing = [module for module in EXTRA if find_spec(module) is None]
    if missing:
        raise ImageherdError(
            f"The browser interface needs {', '.join(missing)}; install with: "
            'pip install "imageherd[app]"'
        )


def _clustering(herd: Path, name: str | None) -> str:
    """Return the clustering to open."""
    found = sorted(path.parent.name for path in herd.glob("clusterings/*/current.json"))
    if not found:
        raise ImageherdError(
            f"{shown(herd)} has no clustering yet; run: imageherd cluster {shown(herd)}"
        )
    if name is None:
        return "default" if "default" in found else found[0]
    if name not in found:
        raise ImageherdError(
            f"{shown(herd)} has no clustering {name!r}; it has {', '.join(found)}."
        )
    return name


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _has_browser() -> bool:
    graphical = sys.platform in ("darwin", "win32")
    return graphical or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
