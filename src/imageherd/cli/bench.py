"""``imageherd bench``: methods × feature sets × seeds, as a table."""

from __future__ import annotations

import os
import shlex
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imageherd.cli import checks, options
from imageherd.cli.screen import Screen, shown
from imageherd.cli.session import INTERRUPTED, TERMINATED, Terminated, running
from imageherd.errors import ImageherdError

if TYPE_CHECKING:
    from imageherd.bench.featuresets import FeatureSet
    from imageherd.bench.grid import Entry, Result
    from imageherd.bench.tables import Row

EXAMPLES = """\b
Examples:
  imageherd bench clothes=X.npy,y.npy
  imageherd bench holiday.herd --labels folder --method tsp --method temi:paper --seeds 5
  imageherd bench set=X-train.npy,y-train.npy,X-test.npy,y-test.npy --method all --csv table.csv
  imageherd bench --paper tsp:1 --data datasets/"""

# Minutes at most on 50,000 images; the others are run when named.
QUICK = ("kmeans", "tsp")
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
        wanted_seeds = _seeds(seeds)
        _check_outputs(out, csv, markdown)
        given = [_feature_sets(text, labels, train_fraction) for text in features or []]
        sets = [one for several in given for one in several]
        if not sets:
            raise ImageherdError("Give at least one herd or NAME=X.npy,y.npy.")
        _check_names([one.name for one in sets])
        entries = _entries(method or list(QUICK), param or [])

        from imageherd.bench.grid import plan, run_grid

        runs = plan(entries, sets, wanted_seeds, n_clusters)
        report = _Report(screen, out, len(runs))
        with report:
            results = run_grid(runs, out, device=device, on_result=report)
        _show(screen, results, out, csv, markdown)


class _Report:
    """Says what each run came to, and after Ctrl-C what is kept."""

    def __init__(self, screen: Screen, out: Path, total: int) -> None:
        self.screen, self.out, self.total, self.done = screen, out, total, 0

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

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, KeyboardInterrupt):
            return
        again = shlex.join(["imageherd", *sys.argv[1:]])
        self.screen.err.print()
        self.screen.err.print(
            f"Stopped. {self.done} of {self.total} runs are kept in {shown(self.out)}; the same "
            f"command does the others: {again}",
            soft_wrap=True,
        )
        self.screen.result({"error": "stopped"})
        code = TERMINATED if isinstance(error, Terminated) else INTERRUPTED
        raise typer.Exit(code) from error


def _seeds(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = [-1]
    if len(numbers) == 1 and numbers[0] > 0 and "," not in text:
        return list(range(numbers[0]))
    if min(numbers) < 0 or "," not in text or len(set(numbers)) < len(numbers):
        raise ImageherdError(
            f"--seeds {text} cannot be done; say how many (5) or which ones, each once (0,3,7)."
        )
    return numbers


def _check_outputs(out: Path, csv: Path | None, markdown: Path | None) -> None:
    if out.exists() and not out.is_dir():
        raise ImageherdError(f"{shown(out)} is a file; name a folder with --out.")
    for option, path, ending in (("--csv", csv, ".csv"), ("--markdown", markdown, ".md")):
        if path is not None and (path.suffix.lower() != ending or path.is_dir()):
            raise ImageherdError(f"{option} {shown(path)}: give the name of a file in {ending}.")


def _check_names(names: list[str]) -> None:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ImageherdError(
            f"Two feature sets are called {', '.join(sorted(twice))}; give each a name of its own: "
            "NAME=..."
        )


def _entries(methods: list[str], params: list[str]) -> list[Entry]:
    """Read --method and --param."""
    from imageherd.bench.grid import Entry
    from imageherd.bench.presets import preset

    expanded = [m for text in methods for m in (options.METHODS if text == "all" else (text,))]
    entries: dict[str, Entry] = {}
    for text in expanded:
        label, equals, chosen = text.partition("=")
        name, _, wanted = (chosen if equals else text).partition(":")
        checks.one_of("--method", name, (*options.METHODS, "all"))
        if name == "all":
            raise ImageherdError("--method all stands alone: it has neither label nor preset.")
        if label in entries:
            raise ImageherdError(f"--method {label} is there twice; tell them apart: LABEL={name}.")
        entries[label] = Entry(label, name, preset(name, wanted) if wanted else {})
    for text in params:
        label = _label_of(text, list(entries))
        found = checks.parameters(entries[label].method, [text[len(label) + 1 :]])
        entries[label].params.update(found)
    return list(entries.values())


def _label_of(text: str, labels: list[str]) -> str:
    """Return the longest label that `text` (``LABEL.key=value``) begins with."""
    fitting = [label for label in labels if text.startswith(f"{label}.")]
    if fitting:
        return max(fitting, key=len)
    before, dot, _ = text.partition("=")[0].rpartition(".")
    if not dot:
        raise ImageherdError(
            f"--param {text} does not say of which method; write it METHOD.KEY=VALUE, such as "
            f"{labels[0]}.{text}."
        )
    return checks.one_of("--param of", before, labels)


def _feature_sets(text: str, labels: str | None, fraction: float | None) -> list[FeatureSet]:
    """Read one FEATURES argument."""
    if fraction is not None and not 0 < fraction < 1:
        raise ImageherdError(f"--train-fraction {fraction} is out of range; give one of 0 to 1.")
    name, equals, rest = text.partition("=")
    files = (rest if equals else text).split(",")
    if files[0].endswith(".npy"):
        return [_plain_files(text, name if equals else Path(files[0]).stem, files, fraction)]
    return _of_herd(Path(rest if equals else text), name if equals else "", labels, fraction)


def _plain_files(text: str, name: str, files: list[str], fraction: float | None) -> FeatureSet:
    from imageherd.bench.featuresets import FeatureSet, Files

    if len(files) > 4 or not name or not all(f.endswith(".npy") for f in files[::2]):
        raise ImageherdError(
            f"{text} is not read; write NAME=X.npy, NAME=X.npy,y.npy or "
            "NAME=X-train.npy,y-train.npy,X-test.npy,y-test.npy."
        )
    parts = [
        Files(
            tuple(os.fspath(Path(x).absolute()) for x in X.split("+")),
            os.fspath(Path(y[0]).absolute()) if y and y[0] else None,
        )
        for X, y in ((files[i], files[i + 1 : i + 2]) for i in range(0, len(files), 2))
    ]
    if len(parts) == 2:
        return FeatureSet(name, parts[0], parts[1])
    return FeatureSet(name, parts[0], train_fraction=fraction)


def _of_herd(path: Path, name: str, labels: str | None, fraction: float | None) -> list[FeatureSet]:
    from imageherd.bench.featuresets import FeatureSet, HerdRows
    from imageherd.project import read_project

    checks.existing_herd(path)
    backbones = read_project(path)["backbones"]
    if not backbones:
        raise ImageherdError(f"{shown(path)} has no features yet: imageherd embed PHOTOS")
    name = name or path.stem
    where = os.fspath(path.absolute())
    if labels not in (None, "folder"):
        labels = os.fspath(Path(str(labels)).absolute())
    return [
        FeatureSet(
            name if len(backbones) == 1 else f"{name}/{Path(backbone).name}",
            HerdRows(where, (key,), labels),
            train_fraction=fraction,
        )
        for key, backbone in backbones.items()
    ]


def _show(
    screen: Screen, results: list[Result], out: Path, csv: Path | None, markdown: Path | None
) -> None:
    """Print the tables, write the files, and end with code 3 where runs failed."""
    from imageherd.bench import tables

    rows = tables.summarize(results)
    for features in dict.fromkeys(row.features for row in rows):
        _print_set(screen, [row for row in rows if row.features == features], results)
    for meaning in tables.MEANING:
        screen.remark()
        screen.remark(textwrap.fill(meaning, screen.out.width))
    command = shlex.join(["imageherd", *sys.argv[1:]])
    _write(screen, csv, tables.to_csv(rows))
    _write(screen, markdown, tables.to_markdown(rows, results, command))
    n_failed = sum(result["status"] != "ok" for result in results)
    screen.result({"out": out, "table": [asdict(row) for row in rows], "runs": results})
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
