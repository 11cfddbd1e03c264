"""Seconds and memory of neighbour graph, TEMI and prediction as n grows, on planted clusters.

    python benchmarks/growth.py --n 10000 20000 40000 --threads 2 --json growth.json
    python benchmarks/growth.py --n 1280000 --heads 1 --threads 2 --json growth.json
    python benchmarks/growth.py --json growth.json --table

A mixture of K von Mises-Fisher distributions around random directions, equally likely, in a float16
file. Each n has a process of its own: the approximate graph of the 50 nearest, TEMI for a few
epochs on that graph, the cluster of every row. peak_mb is all resident memory so far, pages of
mapped files included, which the system takes back when it needs them; own_mb is without them,
sampled. Recall is of 500 rows against float64 cosines; NMI is to the planted clusters; full_s is
what all epochs of TEMI's default would take, from the mean epoch. The slopes are of log seconds
and log memory over log n: 1 is in proportion. Appends to a JSON file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from knn import exact_of_sample, processor, recall, watched

BLOCK = 16_384
PHASES = ("graph", "temi", "predict")


def make(folder: Path, n: int, d: int, K: int, concentration: float) -> None:
    """Write vectors.npy (n, d) of float16 and kinds.npy (n,)."""
    rng = np.random.default_rng(0)
    centers = unit(rng.standard_normal((K, d)))
    kinds = rng.integers(K, size=n)
    X = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, (n, d))
    for start in range(0, n, BLOCK):
        own = centers[kinds[start : start + BLOCK]]
        cosine = cosines(rng, len(own), d, concentration)[:, None]
        aside = rng.standard_normal(own.shape)
        aside = unit(aside - (aside * own).sum(1, keepdims=True) * own)
        X[start : start + BLOCK] = cosine * own + np.sqrt(1 - cosine**2) * aside
    X.flush()
    np.save(folder / "kinds.npy", kinds)


def cosines(rng: np.random.Generator, n: int, d: int, concentration: float) -> np.ndarray:
    """Draw cosines to the mean direction (Wood 1994)."""
    b = (d - 1) / (2 * concentration + np.sqrt(4 * concentration**2 + (d - 1) ** 2))
    x = (1 - b) / (1 + b)
    c = concentration * x + (d - 1) * np.log(1 - x**2)
    found = np.empty(0)
    while len(found) < n:
        z, u = rng.beta((d - 1) / 2, (d - 1) / 2, n), rng.random(n)
        w = (1 - (1 + b) * z) / (1 - (1 - b) * z)
        kept = concentration * w + (d - 1) * np.log(1 - x * w) - c >= np.log(u)
        found = np.concatenate([found, w[kept]])
    return found[:n]


def unit(X: np.ndarray) -> np.ndarray:
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def run_one(args: argparse.Namespace) -> dict[str, Any]:
    from sklearn.metrics import normalized_mutual_info_score

    from imageherd.heads.temi import TEMI
    from imageherd.neighbors import approximate_knn_graph

    X = np.load(args.folder / "vectors.npy", mmap_mode="r").view(np.ndarray)
    truth = exact_of_sample(X, args.k)
    epochs: list[dict[str, Any]] = []
    head = TEMI(
        args.clusters,
        n_heads=args.heads,
        n_neighbors=args.k,
        epochs=args.epochs,
        min_steps=0,
        random_state=0,
        device="cpu",
    )

    def fit() -> None:
        head.fit(X, neighbors=found, callback=epochs.append, checkpoint=args.folder / "run")

    found, facts = watched(lambda: approximate_knn_graph(X, args.k, scratch=args.folder))
    rows: dict[str, Any] = {"graph": facts | {"its_own_recall": found.recall}}
    rows["graph"]["recall"] = round(recall(X, found.ids[truth["rows"]], truth), 4)
    _, facts = watched(fit)
    epoch = float(np.mean([info["seconds"] for info in epochs]))
    n_epochs = max(TEMI().epochs, -(-TEMI().min_steps // (len(X) // head.batch_size)))
    rows["temi"] = facts | {"epoch_s": round(epoch, 1), "default_epochs": n_epochs}
    labels, rows["predict"] = watched(lambda: head.predict(X))
    fixed = sum(rows[phase]["seconds"] for phase in PHASES) - len(epochs) * epoch
    nmi = normalized_mutual_info_score(np.load(args.folder / "kinds.npy"), labels)
    return rows | {"nmi": round(float(nmi), 4), "full_s": round(fixed + n_epochs * epoch, 1)}


def measure(args: argparse.Namespace, n: int) -> dict[str, Any]:
    threads = {f"{lib}_NUM_THREADS": str(args.threads) for lib in ("OMP", "OPENBLAS", "MKL")}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        make(Path(folder), n, args.d, args.clusters, args.concentration)
        options = ("k", "clusters", "heads", "epochs")
        asked = [part for name in options for part in (f"--{name}", str(getattr(args, name)))]
        done = subprocess.run(
            [sys.executable, __file__, "--only", "--folder", folder, *asked],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | threads | {"OMP_WAIT_POLICY": "PASSIVE"},
        )
    names = ("d", "k", "clusters", "concentration", "heads", "epochs", "threads")
    return {
        "n": n,
        **{name: getattr(args, name) for name in names},
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "versions": {name: version(name) for name in ("imageherd", "faiss-cpu", "torch", "numpy")},
        **json.loads(done.stdout),
    }


def table(runs: list[dict[str, Any]]) -> str:
    lines = [
        "| n | K | heads | phase | s | cpu s | peak MB | of its own | |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run in runs:
        said = {
            "graph": f"recall {run['graph']['recall']:.3f}",
            "temi": f"{run['epochs']} epochs of {run['temi']['epoch_s']:,} s",
            "predict": f"NMI {run['nmi']:.3f}; by default {run['full_s']:,} s in all",
        }
        lines += [
            f"| {run['n']:,} | {run['clusters']:,} | {run['heads']} | {phase} "
            f"| {run[phase]['seconds']:,} | {run[phase]['cpu_seconds']:,} "
            f"| {run[phase]['peak_mb']:,} | {run[phase]['own_mb']:,} | {said[phase]} |"
            for phase in PHASES
        ]
    return "\n".join([*lines, *slopes(runs)])


def slopes(runs: list[dict[str, Any]]) -> list[str]:
    n = np.log([run["n"] for run in runs])
    if len(set(n)) < 2:
        return []
    found = []
    for phase in PHASES:
        of = {
            what: np.polyfit(n, np.log([max(run[phase][what], 0.1) for run in runs]), 1)[0]
            for what in ("cpu_seconds", "own_mb")
        }
        found.append(f"{phase} {of['cpu_seconds']:.2f} in time, {of['own_mb']:.2f} in memory")
    return ["", f"Slopes: {'; '.join(found)}."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, nargs="+", default=[10_000, 20_000])
    parser.add_argument("--d", type=int, default=384)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--clusters", type=int, default=1_000)
    parser.add_argument("--concentration", type=float, default=256.0)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="for the vectors; a temporary one by default")
    parser.add_argument("--json", type=Path, help="file to append to")
    parser.add_argument("--table", action="store_true", help="only show the file as Markdown")
    parser.add_argument("--only", action="store_true", help="run in this process, on --folder")
    args = parser.parse_args()
    if args.only:
        print(json.dumps(run_one(args)))
        return
    kept = json.loads(args.json.read_text()) if args.json and args.json.exists() else []
    for n in [] if args.table else args.n:
        kept.append(measure(args, n))
        if args.json:
            args.json.write_text(json.dumps(kept, indent=1) + "\n")
    print(table(kept))


if __name__ == "__main__":
    main()
