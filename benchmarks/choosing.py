"""How close a choice without labels comes to the best method by labels.

    python benchmarks/choosing.py cifar10=X.npy,y.npy clothing=X.npy,y.npy --out choosing

Of every set given (features (n, d) and labels (n,) in .npy files) and of scikit-learn's digits at
most --rows rows are drawn. `imageherd.choosing.choose_method` tries its candidates on them; the
labels are then asked how good each run is. Three rules are told apart: the product of neighbour
information and linear generalisation that is used, and each of the two alone. A rule picks the
method with the highest mean over the seeds, the product the first named of those within 5 % of
it; its regret is what that method's mean ACC lacks to the
best method's. With --betas, `choose_beta` does the same for TEMI's β. What was fitted is kept in
--out, and a run that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from imageherd import choosing
from imageherd.bench.tables import markdown_table
from imageherd.choosing_beta import BETAS, lowest_enough
from imageherd.choosing_trials import graph_to_score, scored
from imageherd.files import read_json, write_json
from imageherd.heads import HEADS
from imageherd.metrics import mean_entropies, scores
from imageherd.neighbors import NeighborGraph, knn_graph

N_SEEDS = 3
RULES: dict[str, Callable[[dict[str, Any]], float]] = {
    "product": lambda run: run["score"],
    "information alone": lambda run: run["information"],
    "linear alone": lambda run: run["generalization"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sets", nargs="*", metavar="NAME=X.npy,y.npy")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--methods", nargs="+", default=choosing.CANDIDATES)
    parser.add_argument("--betas", action="store_true", help="TEMI's β instead of methods")
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, X, y in _sets(args.sets, args.rows):
        k = len(np.unique(y))
        print(f"**{name}: {len(X):,} × {X.shape[1]:,}, {k} classes**\n", flush=True)
        print(_betas(args.out, name, X, y) if args.betas else _methods(args, name, X, y), "\n")


def _sets(given: list[str], most: int) -> Any:
    digits = load_digits()
    sets = [("digits", digits.data.astype(np.float32), digits.target)]
    for entry in given:
        name, _, files = entry.partition("=")
        X, y = files.split(",")
        sets.append((name, np.load(X, mmap_mode="r"), np.load(y)))
    for name, X, y in sets:
        rows = np.arange(len(X))
        if len(X) > most:
            rows = np.sort(np.random.default_rng(0).choice(len(X), most, replace=False))
        yield name, np.asarray(X[rows]), y[rows]


def _methods(args: argparse.Namespace, name: str, X: Any, y: Any) -> str:
    k = len(np.unique(y))
    graph, n_trained = graph_to_score(X, k)
    runs: dict[str, list[dict[str, Any]]] = {}
    for method in args.methods:
        for seed in range(N_SEEDS):
            path = args.out / f"{name}-{len(X)}-{method}-{seed}.json"
            if not path.exists():
                write_json(path, _run(method, k, seed, X, y, graph, n_trained))
            runs.setdefault(method, []).append(read_json(path))
    columns = ("ACC", "NMI", "ARI", "score", "information", "generalization", "seconds")
    mean = {m: {c: float(np.mean([r[c] for r in of])) for c in columns} for m, of in runs.items()}
    order = sorted(runs, key=lambda m: -mean[m]["score"])
    table = [
        (
            m,
            *(f"{100 * mean[m][c]:.1f}" for c in columns[:3]),
            *(f"{mean[m][c]:.3f}" for c in columns[3:6]),
            f"{mean[m]['seconds']:.1f}",
        )
        for m in order
    ]
    best = max(mean[m]["ACC"] for m in runs)
    lines = []
    for rule, value in RULES.items():
        means = {m: np.mean([value(run) for run in of]) for m, of in runs.items()}
        tie = choosing.TIE if rule == "product" else 0
        picked = next(m for m in runs if means[m] >= (1 - tie) * max(means.values()))
        lack = 100 * (best - mean[picked]["ACC"])
        lines.append(f"- {rule}: {picked}, {lack:.1f} points below the best")
    everything = 100 * (best - np.mean([mean[m]["ACC"] for m in runs]))
    lines.append(f"- a method at random: {everything:.1f} points below the best")
    return markdown_table(("method", *columns), table, left=1) + "\n" + "\n".join(lines)


def _run(
    method: str, k: int, seed: int, X: Any, y: Any, graph: NeighborGraph, n_trained: int
) -> dict[str, Any]:
    run, labels = scored(method, k, seed, "cpu", X, graph, n_trained)
    return vars(run) | {"score": run.score} | scores(y, labels)


def _betas(out: Path, name: str, X: Any, y: Any) -> str:
    k = len(np.unique(y))
    graph, found = knn_graph(X, 50), []
    for beta in BETAS:
        path = out / f"{name}-{len(X)}-beta-{beta}.json"
        if not path.exists():
            head = HEADS["temi"](n_clusters=k, n_heads=4, beta=beta, random_state=0, device="cpu")
            head.fit(X, neighbors=graph)
            clusters, images = mean_entropies(head.predict_proba(X))
            write_json(path, scores(y, head.labels_) | {"clusters": clusters, "images": images})
        found.append(read_json(path))
    beta = lowest_enough(BETAS, [(f["clusters"], f["images"]) for f in found])
    table = [
        (
            f"{b:g}" + (" (chosen)" if b == beta else ""),
            *(f"{100 * f[c]:.1f}" for c in ("ACC", "NMI", "ARI")),
            *(f"{f[c]:.2f}" for c in ("clusters", "images")),
        )
        for b, f in zip(BETAS, found, strict=True)
    ]
    return markdown_table(("β", "ACC", "NMI", "ARI", "H(c)", "H(c|x)"), table, left=1)


if __name__ == "__main__":
    main()
