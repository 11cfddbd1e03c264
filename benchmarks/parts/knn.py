"""k-NN graphs: ours, faiss and scikit-learn; each case is `benchmarks/knn.py`'s."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import knn

SIZES = (10_000, 50_000, 200_000)
K = 50
Case = dict[str, Any]


def plan(options: Any) -> list[Case]:
    return [
        {"method": method, "n": n, "d": d, "k": K, "threads": options.threads}
        for n in options.sizes or SIZES
        for d in options.dims
        for method in knn.METHODS
    ]


def prepare(case: Case, options: Any, folder: Path) -> None:
    vectors = vectors_folder(case, folder)
    if not (vectors / "truth.npz").exists():
        vectors.mkdir(exist_ok=True)
        knn.prepare(vectors, case["n"], case["d"], case["k"])


def measure(case: Case, options: Any, folder: Path) -> Case:
    command = [sys.executable, knn.__file__, "--only", case["method"], "--k", str(case["k"])]
    command += ["--folder", str(vectors_folder(case, folder))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: Case = json.loads(done.stdout)
    del found["method"]
    return found


def vectors_folder(case: Case, folder: Path) -> Path:
    return folder / f"knn-{case['n']}x{case['d']}"


def rows(records: list[Case]) -> list[dict[str, str]]:
    return [
        {
            "n": f"{r['case']['n']:,}",
            "d": f"{r['case']['d']:,}",
            "threads": str(r["case"]["threads"]),
            "method": r["case"]["method"],
            "s": f"{r['seconds']:,}",
            "cpu s": f"{r['cpu_seconds']:,}",
            "recall": f"{r['recall']:.3f}",
            "faiss Flat's s / this": faster(r, records),
            "peak MB": f"{r['peak_mb']:,}",
            "of its own": f"{r['own_mb']:,}",
            "other work": str(r["other_work"]),
        }
        for r in records
    ]


def faster(record: Case, records: list[Case]) -> str:
    flat = record["case"] | {"method": "faiss-flat"}
    seconds = [r["seconds"] for r in records if r["case"] == flat]
    return f"{seconds[0] / record['seconds']:.2f}" if seconds and record["seconds"] else ""
