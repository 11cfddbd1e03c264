"""Time `imageherd sort` on the example photographs and say how many clusters get a right name.

    python benchmarks/demo.py --repeats 3 --json demo.json

Every repeat is a new herd in a new process: embedding, counting, TSP, names, map and report. Which
names are right was written down in `clothing_names.json` before the first run; labels are used for
nothing but the figures printed here.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from imageherd import Herd

ROOT = Path(__file__).parents[1]
PHOTOS = ROOT / "examples" / "clothing"


def sort_once(herd: Path, seed: int, n_clusters: str) -> float:
    command = [sys.executable, "-m", "imageherd", "sort", str(PHOTOS), "--herd", str(herd)]
    options = ["--seed", str(seed), "--n-clusters", n_clusters, "--quiet"]
    began = time.perf_counter()
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def names_of(path: Path) -> list[dict[str, Any]]:
    right = json.loads((ROOT / "benchmarks" / "clothing_names.json").read_text())["names"]
    with (PHOTOS / "labels.csv").open(newline="") as file:
        label_of = {row["path"]: row["label"] for row in csv.DictReader(file)}
    herd = Herd(path)
    paths = herd.items()["path"].to_pylist()
    found = herd.clustering()
    rows = []
    for cluster in found.clusters:
        members = found.rows[found.uids == cluster.uid]
        label, count = Counter(label_of[paths[row]] for row in members).most_common(1)[0]
        rows.append(
            {
                "name": cluster.name,
                "winner": cluster.winner,
                "size": cluster.size,
                "majority": label,
                "majority_share": count / cluster.size,
                "right": cluster.winner in {name for _, name in right[label]},
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3, help="herds made, seeds 0, 1, ...")
    parser.add_argument("--n-clusters", default="auto")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    runs = []
    for seed in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "demo.herd"
            seconds = sort_once(path, seed, args.n_clusters)
            scores = Herd(path).evaluate(PHOTOS / "labels.csv").scores
            names = names_of(path)
        n_right = sum(row["right"] for row in names)
        runs.append({"seed": seed, "seconds": seconds, **scores, "names": names})
        print(
            f"seed {seed}: {seconds:.1f} s, {len(names)} clusters, {n_right} rightly named, "
            f"ACC {100 * scores['ACC']:.1f}"
        )
    for row in runs[0]["names"]:
        mark = "right" if row["right"] else "wrong"
        print(
            f"  {row['name']:<28} {row['size']:>4}  {mark}: mostly {row['majority']} "
            f"({100 * row['majority_share']:.0f} %)"
        )
    report = {
        "machine": {"cpus": os.cpu_count(), "processor": platform.processor()},
        "versions": {name: version(name) for name in ("imageherd", "torch", "onnxruntime")},
        "seconds_median": statistics.median(run["seconds"] for run in runs),
        "runs": runs,
    }
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
