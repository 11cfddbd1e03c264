"""``imageherd push``: a herd onto an object store."""

from __future__ import annotations

from typing import Annotated

import typer

from imageherd.cli import checks, options
from imageherd.cli.screen import counted, shown
from imageherd.cli.session import running

EXAMPLES = """\b
Examples:
  imageherd push holiday.herd s3://bucket/holiday.herd
  imageherd push holiday.herd file:///mnt/nas/holiday.herd
  imageherd pull s3://bucket/holiday.herd   # on another machine"""


def push(
    herd: options.HerdArgument,
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL",
            help="A place of its own on a store that fsspec knows: s3://, gs://, az://, sftp://, "
            "file:// and others.",
            show_default=False,
        ),
    ],
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Put a herd on an object store.

    Again later, it sends what has changed since. Features, clusters, names and edits, not the
    images. Whoever pulls gets the push before until this one is whole. What somebody else has
    pushed since is never overwritten.
    """
    with running(as_json=as_json, quiet=quiet, debug=debug, herd=herd) as screen:
        checks.existing_herd(herd)
        from imageherd.remote import push as send

        done = send(herd, url)
        if done.n_sent:
            screen.remark(f"{counted(done.n_sent, 'file')} sent, {in_bytes(done.n_bytes_sent)}.")
        else:
            screen.remark("Nothing was new.")
        screen.line(f"{url} is at version {done.number}: {counted(done.n_files, 'file')}")
        screen.result(
            {
                "herd": herd,
                "url": url,
                "version": done.number,
                "files": done.n_files,
                "bytes": done.n_bytes,
                "sent": {"files": done.n_sent, "bytes": done.n_bytes_sent},
            }
        )
        screen.remark(f"To have it elsewhere: imageherd pull {shown(url)}")


def in_bytes(n: int) -> str:
    """Write a number of bytes roughly: ``7.6 MB``."""
    size, unit = float(n), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:,.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"
