"""``imageherd pull``: a herd from an object store."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from imageherd.cli import options
from imageherd.cli.push import in_bytes
from imageherd.cli.screen import Screen, counted, shown
from imageherd.cli.session import running
from imageherd.errors import ImageherdError

EXAMPLES = """\b
Examples:
  imageherd pull s3://bucket/holiday.herd
  imageherd pull s3://bucket/holiday.herd other.herd
  imageherd report holiday.herd"""


def pull(
    url: Annotated[
        str,
        typer.Argument(metavar="URL", help="Where it was pushed to.", show_default=False),
    ],
    herd: Annotated[
        Path | None,
        typer.Argument(
            metavar="HERD",
            help="A new folder, or the herd that was pulled from there or pushed to it.",
            show_default="the URL's last part, here",
        ),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Fetch a herd from an object store.

    Again later, it fetches what has changed there since. Every file is checked against its hash. A
    herd that was changed here since is left alone: push it first, or pull into another folder.
    """
    home = herd or Path(PurePosixPath(url.partition("://")[2]).name)
    with running(as_json=as_json, quiet=quiet, debug=debug, herd=home) as screen:
        if not home.name:
            raise ImageherdError(f"{url} has no last part to call the herd by; name a folder, too.")
        from imageherd.remote import pull as fetch

        done = fetch(url, home)
        if done.n_fetched:
            fetched = f"{counted(done.n_fetched, 'file')} fetched, {in_bytes(done.n_bytes_fetched)}"
            screen.remark(f"{fetched}; version {done.number}, pushed by {done.by} at {done.time}.")
        else:
            screen.remark(f"Nothing was new since version {done.number}.")
        _say_where_images_are(screen, home)
        screen.line(shown(home))
        screen.result(
            {
                "herd": home,
                "url": url,
                "version": done.number,
                "pushed": {"by": done.by, "time": done.time},
                "files": done.n_files,
                "bytes": done.n_bytes,
                "fetched": {"files": done.n_fetched, "bytes": done.n_bytes_fetched},
            }
        )


def _say_where_images_are(screen: Screen, herd: Path) -> None:
    from imageherd.images.source import shown_uri
    from imageherd.sources import sources_of

    for source in sources_of(herd):
        if not source.is_there():
            where = shown_uri(source.uri)
            screen.remark(
                f"{where} is not on this machine: reports go without its pictures. If it lies "
                f"elsewhere: imageherd embed FOLDER --herd {shown(herd)} --moved-from {where}"
            )
