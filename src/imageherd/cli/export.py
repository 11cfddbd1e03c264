"""``imageherd export``: a clustering for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from imageherd.cli import checks, options
from imageherd.cli.screen import shown
from imageherd.cli.session import running
from imageherd.errors import ImageherdError

EXAMPLES = """\b
Examples:
  imageherd export holiday.herd clusters.csv
  imageherd export holiday.herd sorted/ --to folders --link symlink
  imageherd export holiday.herd doubtful.csv --review 100
  imageherd export holiday.herd sorter.onnx"""

FORMATS = ("csv", "parquet", "folders")
KINDS = (*FORMATS, "onnx")
LINKS = ("copy", "symlink", "hardlink")


def export(
    herd: options.HerdArgument,
    destination: Annotated[
        Path, typer.Argument(metavar="DESTINATION", help="The new file, or the new folder.")
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="|".join(KINDS),
            help="What to write: a table, a table with the features, a folder a cluster, or a "
            "model from pixels to clusters, for any program that runs ONNX.",
            show_default="by DESTINATION's ending",
        ),
    ] = "",
    link: Annotated[
        str,
        typer.Option(
            "--link", metavar="|".join(LINKS), help="How the images get into the folders."
        ),
    ] = "copy",
    review: Annotated[
        int | None,
        typer.Option(
            "--review",
            metavar="N",
            min=1,
            help="Write only the N images most worth a look, the most doubtful first, and why.",
            show_default=False,
        ),
    ] = None,
    name: options.ClusteringName = "default",
    as_trained: options.AsTrained = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write a clustering as a table, as folders or as a model.

    Nothing is ever overwritten. Beside a model, a .json file of the same name says what its input
    is to be and what its outputs mean.
    """
    with running(as_json=as_json, quiet=quiet, debug=debug, herd=herd) as screen:
        kind = checks.one_of("--to", to or _by_ending(destination), KINDS)
        checks.one_of("--link", link, LINKS)
        if review and kind not in ("csv", "folders"):
            raise ImageherdError("--review gives a table or folders; say --to csv or --to folders.")
        checks.existing_herd(herd)
        from imageherd.herd import Herd

        which: dict[str, Any] = {"to": kind, "name": name, "as_trained": as_trained}
        if kind in FORMATS:
            which |= {"link": link, "review": review or 0}
        path = Herd(herd).export(destination, **which)
        screen.line(shown(path))
        screen.result({"herd": herd, "to": kind, "destination": path})


def _by_ending(destination: Path) -> str:
    ending = destination.suffix.lower().removeprefix(".")
    if ending not in ("csv", "parquet", "onnx"):
        # Not folders by default: that could copy a disk full of images by accident.
        raise ImageherdError(
            f"What {shown(destination)} is to be is not clear; say --to csv, --to parquet, "
            "--to folders or --to onnx."
        )
    return ending
