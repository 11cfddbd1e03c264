"""Markdown from the records of `benchmarks/run.py`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

TITLES = {
    "embed": "Embedding",
    "knn": "Neighbors",
    "heads": "Heads",
    "growth": "Growth",
    "gpu": "GPU",
}
Record = dict[str, Any]


def to_markdown(records: list[Record]) -> str:
    """Return a table for each part, machine and set of versions, in the order of the records."""
    groups: dict[str, list[Record]] = {}
    for part in TITLES:
        for record in records:
            if record["part"] == part:
                where = f"{record['machine']} {record['versions']}"
                groups.setdefault(f"{part} {where}", []).append(record)
    return "\n\n".join(_table(group) for group in groups.values())


def _table(records: list[Record]) -> str:
    part = import_module(f"parts.{records[0]['part']}")
    rows = part.rows(records)
    titles = list(rows[0])
    numbers = [all(_is_number(row[title]) for row in rows) for title in titles]
    lines = [
        f"### {TITLES[records[0]['part']]}",
        "",
        _where(records),
        "",
        f"| {' | '.join(titles)} |",
        f"| {' | '.join('---:' if number else '---' for number in numbers)} |",
        *(f"| {' | '.join(row[title] for title in titles)} |" for row in rows),
    ]
    if hasattr(part, "below"):
        lines += ["", part.below(records)]
    return "\n".join(lines).rstrip()


def _where(records: list[Record]) -> str:
    machine, dates = records[0]["machine"], sorted(r["date"][:10] for r in records)
    versions = ", ".join(f"{name} {number}" for name, number in records[0]["versions"].items())
    commits = ", ".join(dict.fromkeys(r["commit"] for r in records))
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    commands = "; ".join(f"`{c}`" for c in dict.fromkeys(r["command"] for r in records))
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['ram_gib']} GiB, "
        f"{machine['system']}; {versions}; commit {commits}; {when}; {commands}. *Other work* "
        "is the cores that worked for others meanwhile: above 0.1 or so seconds say little."
    )


def _is_number(cell: str) -> bool:
    return not cell or (cell[0] in "+-0123456789" and " " not in cell)
