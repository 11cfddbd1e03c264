"""Every method against k-means, and the papers' ablations, on the same features and seeds.

    python benchmarks/tables.py cifar10=X.npy,y.npy clothing=X.npy,y.npy --out tables

Feature sets are NAME=X.npy,y.npy (fitted and scored on the same rows) or
NAME=Xtrain.npy,ytrain.npy,Xtest.npy,ytest.npy (scored on the test rows). Each run is a process of
its own, kept in OUT, so a stopped call goes on where it was. Nothing is chosen by labels: every row
is the method's default or a setting named here. Writes OUT/GROUP.md and OUT/GROUP.csv.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from imageherd.bench.featuresets import FeatureSet, Files
from imageherd.bench.grid import Entry, plan, run_grid
from imageherd.bench.tables import summarize, to_csv, to_markdown
from imageherd.heads import HEADS
from imageherd.heads.temi import PRESETS as TEMI
from imageherd.heads.tsp import PRESETS as TSP
from imageherd.heads.turtle import PRESETS as TURTLE

_TEMI16 = {**TEMI["released"], "n_heads": 16}

GROUPS: dict[str, list[Entry]] = {
    "methods": [Entry(method, method) for method in HEADS],
    "ablations": [
        Entry("TSP, the paper's, k-means start", "tsp", TSP["paper"]),
        Entry("TSP, the paper's, random start", "tsp", {**TSP["paper"], "init": "random"}),
        Entry("CPP, warm start", "cpp"),
        Entry("CPP, random start", "cpp", {"warm_start": False}),
        Entry("SCP, random start", "scp", {"init": "random"}),
        Entry("SCP, random start, no entropy term", "scp", {"init": "random", "balance": 0.0}),
        Entry("TEMI", "temi"),
        Entry("TEMI, one head", "temi", {"n_heads": 1}),
        Entry("PMI, the heads of TEMI unweighted", "temi", {"objective": "pmi"}),
        Entry("SCAN, in TEMI's framework", "temi", {"objective": "scan"}),
    ],
    "released": [
        Entry("TSP, the paper's", "tsp", TSP["paper"]),
        Entry(
            "TURTLE, 1,000 of the paper's steps", "turtle", {**TURTLE["paper"], "min_steps": 1000}
        ),
        Entry("TEMI, released, 16 heads, 100 epochs", "temi", {**_TEMI16, "epochs": 100}),
    ],
}
# Compared seed by seed: the second less the first.
PAIRS = {
    "ablations": [
        ("TSP, the paper's, random start", "TSP, the paper's, k-means start"),
        ("CPP, random start", "CPP, warm start"),
        ("SCP, random start, no entropy term", "SCP, random start"),
        ("PMI, the heads of TEMI unweighted", "TEMI"),
        ("SCAN, in TEMI's framework", "TEMI"),
    ]
}


def features(text: str) -> FeatureSet:
    name, _, files = text.partition("=")
    paths = files.split(",")
    if len(paths) not in (2, 4):
        raise argparse.ArgumentTypeError(f"{text} is not NAME=X.npy,y.npy or with a test split")
    score = Files((paths[2],), paths[3]) if len(paths) == 4 else None
    return FeatureSet(name, Files((paths[0],), paths[1]), score)


def paired(results: list[dict[str, Any]], group: str) -> str:
    lines = []
    scores = {
        (r["features"], r["method"], r["seed"]): 100 * r["scores"]["ACC"]
        for r in results
        if r["status"] == "ok"
    }
    for data in dict.fromkeys(r["features"] for r in results):
        for less, more in PAIRS.get(group, []):
            seeds = [s for d, m, s in scores if (d, m) == (data, more) and (d, less, s) in scores]
            gaps = [scores[data, more, s] - scores[data, less, s] for s in seeds]
            if len(gaps) > 1:
                lines.append(
                    f"- {data}: {more} less {less}: {mean(gaps):+.1f} ± {stdev(gaps):.1f} points "
                    f"of ACC over {len(gaps)} seeds, {sum(g > 0 for g in gaps)} of them above 0"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("features", nargs="+", type=features, metavar="NAME=X.npy,y.npy")
    parser.add_argument("--group", nargs="+", choices=list(GROUPS), default=["methods"])
    parser.add_argument("--only", nargs="+", help="rows of the groups, by name")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    for group in args.group:
        entries = [e for e in GROUPS[group] if not args.only or e.name in args.only]
        runs = plan(entries, args.features, args.seeds)
        results = run_grid(
            runs, args.out, device=args.device, on_result=lambda r, _: print(said(r), flush=True)
        )
        rows = summarize(results)
        command = (
            f"python benchmarks/tables.py --group {group} --seeds {' '.join(map(str, args.seeds))}"
        )
        text = to_markdown(rows, results, command)
        if gaps := paired(results, group):
            text += f"\n{gaps}\n"
        (args.out / f"{group}.md").write_text(text)
        (args.out / f"{group}.csv").write_text(to_csv(rows))


def said(result: dict[str, Any]) -> str:
    what = f"{result['features']}, {result['method']}, seed {result['seed']}"
    if result["status"] != "ok":
        return f"{what}: {result['reason']}"
    return f"{what}: ACC {100 * result['scores']['ACC']:.1f}, {result['seconds']:.0f} s"


if __name__ == "__main__":
    main()
