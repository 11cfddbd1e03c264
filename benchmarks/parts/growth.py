"""Time and memory as n grows; each case is `benchmarks/growth.py`'s."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import growth

SIZES = (10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 1_280_000)
Case = dict[str, Any]


def plan(options: Any) -> list[Case]:
    common = {"d": 384, "k": 50, "clusters": 1_000, "heads": options.heads, "epochs": 2}
    return [{"n": n, **common, "threads": options.threads} for n in options.sizes or SIZES]


def prepare(case: Case, options: Any, folder: Path) -> None:
    """Nothing is shared: every n has vectors of its own."""


def measure(case: Case, options: Any, folder: Path) -> Case:
    path = folder / f"growth-{case['n']}.json"
    asked = [word for name, value in case.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, growth.__file__, *asked, "--folder", str(folder)]
    subprocess.run([*command, "--json", str(path)], stdout=subprocess.DEVNULL, check=True)
    found: Case = json.loads(path.read_text())[-1]
    phases = [found[phase] for phase in growth.PHASES]
    return {
        "seconds": round(sum(phase["seconds"] for phase in phases), 1),
        "cpu_seconds": round(sum(phase["cpu_seconds"] for phase in phases), 1),
        "peak_mb": max(phase["peak_mb"] for phase in phases),
        **{name: found[name] for name in (*growth.PHASES, "nmi", "full_s", "concentration")},
    }


def rows(records: list[Case]) -> list[dict[str, str]]:
    return [line(record, phase) for record in records for phase in growth.PHASES]


def line(record: Case, phase: str) -> dict[str, str]:
    case, found = record["case"], record[phase]
    what = {
        "graph": f"recall {record['graph']['recall']:.3f}",
        "temi": f"{case['epochs']} epochs of {record['temi']['epoch_s']:,} s",
        "predict": f"NMI {record['nmi']:.3f}; by default {record['full_s']:,} s in all",
    }
    return {
        "n": f"{case['n']:,}",
        "d": str(case["d"]),
        "K": f"{case['clusters']:,}",
        "heads": str(case["heads"]),
        "threads": str(case["threads"]),
        "phase": phase,
        "s": f"{found['seconds']:,}",
        "cpu s": f"{found['cpu_seconds']:,}",
        "peak MB": f"{found['peak_mb']:,}",
        "of its own": f"{found['own_mb']:,}",
        "what": what[phase],
        "other work": str(record["other_work"]),
    }


def below(records: list[Case]) -> str:
    """Return the slopes, of the records with as many heads as the first."""
    heads = records[0]["case"]["heads"]
    alike = [r["case"] | r for r in records if r["case"]["heads"] == heads]
    return "\n".join(growth.slopes(alike)).strip()
