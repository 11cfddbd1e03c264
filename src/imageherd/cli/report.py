"""``imageherd report``: the HTML file for people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imageherd.cli import checks, options
from imageherd.cli.screen import shown
from imageherd.cli.session import running
from imageherd.errors import ImageherdError

EXAMPLES = """\b
Examples:
  imageherd report holiday.herd
  imageherd report holiday.herd --name by-temi --output temi.html"""


def report(
    herd: options.HerdArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The HTML file to write.",
            show_default="report/index.html in the herd",
        ),
    ] = None,
    name: options.ClusteringName = "default",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write the report of a clustering.

    It is one HTML file that opens in any browser and can be mailed.
    """
    with running(as_json=as_json, quiet=quiet, debug=debug, herd=herd) as screen:
        checks.existing_herd(herd)
        if output is not None and output.is_dir():
            raise ImageherdError(
                f"{shown(output)} is a folder; name a file: {shown(output / 'report.html')}"
            )

        from imageherd.herd import Herd

        path = Herd(herd).report(output, name=name)
        screen.line(shown(path))
        screen.result({"herd": herd, "report": path})
