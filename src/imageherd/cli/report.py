"""``imageherd report``: the HTML file for people, and still figures for papers and slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imageherd.cli import checks, options
from imageherd.cli.screen import Screen, shown
from imageherd.cli.session import running
from imageherd.errors import ImageherdError

if TYPE_CHECKING:
    from imageherd.report.figures import Figures

EXAMPLES = """\b
Examples:
  imageherd report holiday.herd
  imageherd report holiday.herd --name by-temi --output temi.html
  imageherd report holiday.herd --figures --labels labels.csv --format svg"""

FORMATS = ("png", "svg")


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
    as_trained: options.AsTrained = False,
    figures: Annotated[
        bool,
        typer.Option("--figures", help="Write still figures too, in a folder beside the report."),
    ] = False,
    figures_in: Annotated[
        Path | None,
        typer.Option(
            "--figures-in",
            metavar="DIR",
            help="Write the figures into this folder.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option("--format", metavar="png|svg", help="Of the figures.", show_default="png"),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="CSV|folder",
            help="Labels for the figures that need some, as evaluate takes them.",
            show_default=False,
        ),
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Write the report of a clustering.

    It is one HTML file that opens in any browser and can be mailed. With --figures come the still
    figures that the clustering allows; which were left out, and why, is said.
    """
    with running(as_json=as_json, quiet=quiet, debug=debug, herd=herd) as screen:
        checks.existing_herd(herd)
        if output is not None and output.is_dir():
            raise ImageherdError(
                f"{shown(output)} is a folder; name a file: {shown(output / 'report.html')}"
            )
        drawn = figures or figures_in is not None
        _check_figures(drawn, figures_in, format, labels)

        from imageherd.herd import Herd
        from imageherd.report import report_file

        opened = Herd(herd)
        result: dict[str, Any] = {"herd": herd}
        if drawn:
            # First, for they are what labels that cannot be read would stop.
            folder = figures_in or _beside(output or report_file(herd, name))
            how = {"labels": labels, "format": format or FORMATS[0]}
            found = opened.figures(folder, name=name, as_trained=as_trained, **how)
            result |= {"figures": found.files, "figures_left_out": found.left_out}
        result["report"] = opened.report(output, name=name, as_trained=as_trained)
        screen.line(shown(result["report"]))
        if drawn:
            _say_figures(screen, found)
        screen.result(result)


def _check_figures(
    drawn: bool,
    folder: Path | None,
    format: str | None,
    labels: str | None,
) -> None:
    for option, given in (("--format", format), ("--labels", labels)):
        if given is not None and not drawn:
            raise ImageherdError(f"{option} is about the figures; say --figures as well.")
    if format is not None:
        checks.one_of("--format", format, FORMATS)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise ImageherdError(f"{shown(folder)} is a file; name a folder for the figures.")


def _beside(report: Path) -> Path:
    return report.parent / ("figures" if report.stem == "index" else f"{report.stem}-figures")


def _say_figures(screen: Screen, found: Figures) -> None:
    for file in found.files.values():
        screen.line(shown(file))
    for figure, reason in found.left_out.items():
        screen.remark(f"Left out: {figure}: {reason}.")
