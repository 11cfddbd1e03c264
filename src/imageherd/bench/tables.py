"""Results as a table: mean ± standard deviation over the seeds, for people and for programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

Result = dict[str, Any]

SCORES = ("ACC", "NMI", "ARI", "AMI")
LABEL_FREE = (
    "consistency",
    "generalization",
    "marginal_entropy",
    "conditional_entropy",
    "used_clusters",
)
COSTS = ("seconds", "peak_mb")
# On a machine with other work the processor's time says more; written, not shown.
UNSHOWN = ("cpu_seconds",)
PERCENT = (*SCORES, "consistency", "generalization")
"""Shown in percent; kept, and written to CSV and JSON, as fractions."""


@dataclass(frozen=True)
class Number:
    """A mean and its standard deviation.

    Attributes
    ----------
    mean : float
        Over the seeds.
    std : float or None
        Of the sample (divided by the number of seeds less one); None for a single seed.
    """

    mean: float
    std: float | None

    def text(self, digits: int, factor: float = 1.0) -> str:
        """Write ``49.4 ± 0.4``."""
        shown = f"{factor * self.mean:,.{digits}f}"
        return shown if self.std is None else f"{shown} ± {factor * self.std:,.{digits}f}"


@dataclass(frozen=True)
class Row:
    """One method on one feature set, over all seeds.

    Attributes
    ----------
    method, features : str
        Names.
    n, d, n_clusters : int or None
        Rows fitted, columns, clusters asked for; n and d are None where no run ended well.
    seeds : list of int
        Of the runs that ended well.
    numbers : dict of str to Number
        By the names of `SCORES`, `LABEL_FREE`, `COSTS` and `UNSHOWN`; what is not known is left
        out.
    failures : list of str
        ``seed 3: reason`` for each run that failed.
    warnings : list of str
        What the methods warned of, each once.
    """

    method: str
    features: str
    n: int | None
    d: int | None
    n_clusters: int
    seeds: list[int] = field(default_factory=list)
    numbers: dict[str, Number] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def summarize(results: Sequence[Result]) -> list[Row]:
    """Put the seeds of each method and feature set together, in the order they come in.

    Parameters
    ----------
    results : sequence of dict
        From `imageherd.bench.grid.run_grid`.
    """
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result["features"], result["method"]), []).append(result)
    return [_row(group) for group in groups.values()]


def _row(group: list[Result]) -> Row:
    good = [result for result in group if result["status"] == "ok"]
    values = [{**r, **r["scores"], **r["label_free"]} for r in good]
    numbers = {}
    for name in (*SCORES, *LABEL_FREE, *COSTS, *UNSHOWN):
        found = [v[name] for v in values if v.get(name) is not None]
        if found:
            numbers[name] = Number(mean(found), stdev(found) if len(found) > 1 else None)
    first = good[0] if good else {}
    return Row(
        method=group[0]["method"],
        features=group[0]["features"],
        n=first.get("n"),
        d=first.get("d"),
        n_clusters=group[0]["n_clusters"],
        seeds=[result["seed"] for result in good],
        numbers=numbers,
        failures=[f"seed {r['seed']}: {r['reason']}" for r in group if r["status"] != "ok"],
        warnings=sorted({warning for result in good for warning in result["warnings"]}),
    )


def cell(row: Row, name: str) -> str:
    """Write one number of a row as it is shown, "failed" where every run failed, "–" for none."""
    number = row.numbers.get(name)
    if number is None:
        return "failed" if row.failures and not row.seeds else "–"
    if name in PERCENT:
        return number.text(1, 100)
    if name == "peak_mb":
        return f"{number.mean:,.0f}"
    if name == "seconds":
        return number.text(0 if number.mean >= 100 else 1)
    if name == "used_clusters":
        return number.text(1) if number.std else number.text(0).partition(" ")[0]
    return number.text(2)


def to_csv(rows: Sequence[Row]) -> str:
    """Write the rows as CSV: each number as two columns, such as ACC and ACC_std.

    Scores are fractions, times in seconds, memory in MB, entropies in nats.
    """
    names = (*SCORES, *LABEL_FREE, *COSTS, *UNSHOWN)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    numbers = [column for name in names for column in (name, f"{name}_std")]
    writer.writerow(
        ["method", "features", "n", "d", "n_clusters", "seeds", *numbers, "failures", "warnings"]
    )
    for row in rows:
        cells: list[Any] = [row.method, row.features, row.n, row.d, row.n_clusters, len(row.seeds)]
        for name in names:
            number = row.numbers.get(name, Number(math.nan, None))
            cells += ["" if math.isnan(number.mean) else repr(number.mean)]
            cells += ["" if number.std is None else repr(number.std)]
        writer.writerow([*cells, "; ".join(row.failures), "; ".join(row.warnings)])
    return text.getvalue()


HEADINGS = {
    "seconds": "seconds",
    "peak_mb": "MB",
    "consistency": "neighbors",
    "generalization": "linear",
    "marginal_entropy": "H(c)",
    "conditional_entropy": "H(c|x)",
    "used_clusters": "used",
}
MEANING = (
    "ACC, NMI, ARI, AMI in percent, mean ± standard deviation over the seeds. Seconds are of the "
    "fit alone; MB is the peak of a run's whole process.",
    "Without labels: neighbors, how many of the 20 nearest are in the same cluster (%); linear, "
    "how well a linear classifier learns the clusters, above chance (%); H(c) and H(c|x), entropy "
    "of the clusters and of a row's cluster (nats); used, clusters with at least one row.",
)


def to_markdown(rows: Sequence[Row], results: Sequence[Result], command: str = "") -> str:
    """Write the rows as Markdown, a table a feature set, with the versions and the machine."""
    parts = []
    for features in dict.fromkeys(row.features for row in rows):
        mine = [row for row in rows if row.features == features]
        names = columns(mine)
        table = markdown_table(
            ["method", *(HEADINGS.get(name, name) for name in names)],
            [[row.method, *(cell(row, name) for name in names)] for row in mine],
        )
        parts.append(f"**{heading(mine, results)}**\n\n{table}")
        if said := remarks(mine):
            parts.append("\n".join(f"- {line}" for line in said))
    parts += MEANING
    if command:
        parts.append(f"`{command}`")
    if made := made_with(results):
        parts.append(made)
    return "\n\n".join(parts) + "\n"


def columns(rows: Sequence[Row]) -> list[str]:
    """List the numbers that any of the rows has, labels' scores first."""
    order = (*SCORES, *COSTS, *LABEL_FREE)
    return [name for name in order if any(name in row.numbers for row in rows)]


def heading(rows: Sequence[Row], results: Sequence[Result]) -> str:
    """Say what the rows of one feature set have in common: ``clothing: 3,781 × 1,280, ...``."""
    features = rows[0].features
    mine = [r for r in results if r["features"] == features]
    sound = next((r for r in mine if r["status"] == "ok"), None)
    parts = []
    if sound is not None:
        parts.append(f"{sound['n']:,} × {sound['d']:,}")
        if sound["n_scored"] != sound["n"]:
            parts.append(f"scored on {sound['n_scored']:,} others")
    parts.append(f"{rows[0].n_clusters} clusters")
    n_seeds = len({r["seed"] for r in mine})
    parts.append(f"{n_seeds} seed{'' if n_seeds == 1 else 's'}")
    graph = (sound or {}).get("graph") or {}
    if graph.get("seconds") is not None:
        parts.append(f"k-NN graph {graph['seconds']:.1f} s")
    if graph.get("label_consistency") is not None:
        share = 100 * graph["label_consistency"]
        parts.append(f"{share:.1f} % of the 20 nearest have the true label")
    return f"{features}: {', '.join(parts)}"


def remarks(rows: Sequence[Row]) -> list[str]:
    """Say what failed and what was warned of, a line each."""
    failures = [f"{row.method}, {failure}" for row in rows for failure in row.failures]
    return failures + [f"{row.method}: {warning}" for row in rows for warning in row.warnings]


def made_with(results: Sequence[Result]) -> str:
    """Say with which versions and on which machine, or machines, the results were made."""
    made = {_made_with(r): None for r in results if r["status"] == "ok"}
    return " ".join(f"{one}." for one in made)


def _made_with(result: Result) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in result["versions"].items())
    m = result["machine"]
    threads = f", OMP_NUM_THREADS={m['omp_threads']}" if m["omp_threads"] else ""
    cores = f"{m['cores']} core{'' if m['cores'] == 1 else 's'}"
    return f"{m['system']}, {cores}{threads}, Python {m['python']}, {versions}"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Write a Markdown table; all but the first `left` columns are right-aligned."""
    rule = ["---"] * left + ["---:"] * (len(columns) - left)
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in (columns, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *body))
