"""``imageherd bench``: methods × feature sets × seeds, as a table."""

from __future__ import annotations

import shlex
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imageherd.cli import bench_inputs as inputs
from imageherd.cli import bench_paper, checks, options
from imageherd.cli.screen import Screen, shown
from imageherd.cli.session import INTERRUPTED, TERMINATED, Terminated, running
from imageherd.errors import ImageherdError

if TYPE_CHECKING:
    from imageherd.bench.grid import Result
    from imageherd.bench.tables import Row

EXAMPLES = """\b
Examples:
  imageherd bench clothes=X.npy,y.npy
  imageherd bench holiday.herd --labels folder --method tsp --method temi:paper --seeds 5
  imageherd bench set=X-train.npy,y-train.npy,X-test.npy,y-test.npy --method all --csv table.csv
  imageherd bench --paper tsp:1 --data datasets/"""

# Minutes at most on 50,000 images; the others are run when named.
QUICK = ("kmeans", "spherical-kmeans", "tsp", "infonce")
SOME_FAILED = 3


def bench(
    features: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FEATURES...",
            help="A herd, or NAME=X.npy,y.npy (labels may be left out), or "
            "NAME=X.npy,y.npy,X-test.npy,y-test.npy to fit on the first two and score the others. "
            "X1.npy+X2.npy puts two backbones side by side.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="METHOD",
            help="A method, METHOD:PRESET for a paper's settings, LABEL=METHOD to have one more "
            "than once, or all; repeatable.",
            show_default=", ".join(QUICK),
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="METHOD.KEY=VALUE",
            help="Set a parameter of a method (or of a LABEL); repeatable.",
        ),
    ] = None,
    seeds: Annotated[
        str,
        typer.Option("--seeds", metavar="N|LIST", help="How many seeds, or which: 0,3,7."),
    ] = "3",
    n_clusters: Annotated[
        int | None,
        typer.Option(
            "--n-clusters",
            metavar="N",
            min=2,
            help="How many clusters to make.",
            show_default="the number of classes",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="CSV|folder",
            help="A herd's labels: a CSV file with the columns path and label, or the word folder.",
        ),
    ] = None,
    train_fraction: Annotated[
        float | None,
        typer.Option(
            "--train-fraction",
            metavar="SHARE",
            help="Fit on this share of the rows and score the others.",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Where runs are kept; what is there is not redone.",
        ),
    ] = Path("bench-results"),
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the table as CSV.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write it as Markdown.")
    ] = None,
    paper: Annotated[
        str | None,
        typer.Option(
            "--paper",
            metavar="PAPER:TABLE",
            help="Run a paper's table, such as tsp:1 or temi:4, and print ours beside theirs.",
        ),
    ] = None,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR",
            help="For --paper: the folder with DATASET/{train,test}/CLASS/ or DATASET.parquet, "
            "and backbones/NAME/ where they cannot be downloaded.",
        ),
    ] = Path("datasets"),
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", metavar="NAME", help="For --paper: only this dataset."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            metavar="NAME",
            help="For --paper: in place of the paper's; the folder of its weights, say.",
            show_default="the paper's",
        ),
    ] = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Compare methods on features, over several seeds.

    Each run is a process of its own and is kept when it ends: after Ctrl-C the same command does
    only what is missing. Labels score the result and choose nothing. Exit code 3: some runs failed.
    """
    with running(as_json=as_json, quiet=quiet, debug=debug) as screen:
        checks.device_name(device)
        wanted_seeds = inputs.read_seeds(seeds)
        inputs.check_outputs(out, csv, markdown)
        told = _Report(screen, out)
        if paper is not None:
            _alone(features=features, method=method, param=param, n_clusters=n_clusters)
            _alone(labels=labels, train_fraction=train_fraction)
            where = (paper, data, out, wanted_seeds, dataset, backbone, device)
            _bench_paper(screen, told, where, csv, markdown)
            return
        for option, value in (("--dataset", dataset), ("--backbone", backbone)):
            if value is not None:
                raise ImageherdError(f"{option} goes with --paper; name features or a herd.")
        sets = inputs.read_feature_sets(features or [], labels, train_fraction)
        entries = inputs.read_entries(method or list(QUICK), param or [])

        from imageherd.bench.grid import plan, run_grid

        runs = plan(entries, sets, wanted_seeds, n_clusters)
        with told.of(len(runs)):
            results = run_grid(runs, out, device=device, on_result=told)
        _show(screen, results, csv, markdown)
        _end(screen, results, {"out": out})


def _alone(**given: object) -> None:
    """Refuse what a recipe decides itself."""
    for name, value in given.items():
        if value:
            option = "FEATURES" if name == "features" else f"--{name.replace('_', '-')}"
            raise ImageherdError(f"{option} is decided by the recipe of --paper; leave it out.")


def _bench_paper(
    screen: Screen,
    told: _Report,
    where: tuple[str, Path, Path, list[int], str | None, str | None, str],
    csv: Path | None,
    markdown: Path | None,
) -> None:
    table, _, out, *_, backbone, device = where
    with told.of(0):
        assembled = bench_paper.assemble(*where)

    from imageherd.bench import comparison
    from imageherd.bench.grid import run_grid
    from imageherd.bench.papers import notes

    with told.of(len(assembled.runs)):
        results = run_grid(assembled.runs, out, device=device, on_result=told)
    found = comparison.compare(assembled, results)
    said = notes(table, backbone)
    bench_paper.show(screen, table, found, said)
    _write(screen, csv, comparison.to_csv(found))
    _write(screen, markdown, comparison.to_markdown(found, results, said, _command()))
    _end(screen, results, {"out": out, "paper": table, "figures": bench_paper.as_json(found)})


class _Report:
    """Says what each run came to, and after Ctrl-C what is kept."""

    def __init__(self, screen: Screen, out: Path) -> None:
        self.screen, self.out, self.done = screen, out, 0

    def __call__(self, result: Result, was_there: bool) -> None:
        self.done += 1
        if was_there:
            return
        what = f"{result['method']} on {result['features']}, seed {result['seed']}"
        if result["status"] != "ok":
            self.screen.remark(f"{what}: failed: {result['reason']}", style="red")
            return
        acc = result["scores"].get("ACC")
        scored = f"ACC {100 * acc:.1f}, " if acc is not None else ""
        self.screen.remark(f"{what}: {scored}{result['seconds']:.1f} s")

    @contextmanager
    def of(self, total: int) -> Iterator[None]:
        """While `total` runs are done, or features made if 0."""
        try:
            yield
        except KeyboardInterrupt as error:
            runs = f"{self.done} of {total} runs are" if total else "The features made so far are"
            self.screen.err.print()
            self.screen.err.print(
                f"Stopped. {runs} kept in {shown(self.out)}; the same command does the rest: "
                f"{_command()}",
                soft_wrap=True,
            )
            self.screen.result({"error": "stopped"})
            code = TERMINATED if isinstance(error, Terminated) else INTERRUPTED
            raise typer.Exit(code) from error


def _command() -> str:
    return shlex.join(["imageherd", *sys.argv[1:]])


def _show(screen: Screen, results: list[Result], csv: Path | None, markdown: Path | None) -> None:
    """Print the tables and write the files."""
    from imageherd.bench import tables

    rows = tables.summarize(results)
    for features in dict.fromkeys(row.features for row in rows):
        _print_set(screen, [row for row in rows if row.features == features], results)
    for meaning in () if screen.as_json else tables.MEANING:
        screen.remark()
        screen.remark(textwrap.fill(meaning, screen.out.width))
    _write(screen, csv, tables.to_csv(rows))
    _write(screen, markdown, tables.to_markdown(rows, results, _command()))


def _end(screen: Screen, results: list[Result], value: dict[str, Any]) -> None:
    """Print the results for machines, and end with code 3 where runs failed."""
    from imageherd.bench.tables import summarize

    table = [asdict(row) for row in summarize(results)]
    screen.result({**value, "table": table, "runs": results})
    n_failed = sum(result["status"] != "ok" for result in results)
    if n_failed:
        screen.error(
            f"{n_failed} of {len(results)} runs failed; the same command tries them again."
        )
        raise typer.Exit(SOME_FAILED)


def _write(screen: Screen, path: Path | None, text: str) -> None:
    from imageherd.files import write_atomically

    if path is not None:
        write_atomically(path, lambda file: file.write(text.encode()))
        screen.line(shown(path))


def _print_set(screen: Screen, rows: list[Row], results: list[Result]) -> None:
    from imageherd.bench import tables

    screen.line("")
    screen.line(tables.heading(rows, results))
    there = tables.columns(rows)
    for group in ((*tables.SCORES, *tables.COSTS), tables.LABEL_FREE):
        names = [name for name in group if name in there]
        if names:
            screen.line("")
            screen.table(
                ("method", *(tables.HEADINGS.get(name, name) for name in names)),
                ((row.method, *(tables.cell(row, name) for name in names)) for row in rows),
                left=("method",),
            )
    for line in tables.remarks(rows):
        screen.note(line)
