"""Peak resident memory of k-NN and of training each head on many features.

    python benchmarks/memory.py [--n 200000] [--d 1280] [--queries 4096] [--heads tsp temi]

The features are random, in a memory-mapped .npy file, as the store keeps them. Each task runs in a
process of its own; its peak includes Python, the libraries and whatever of the file is mapped in.
Prints JSON.

k-NN of all 200,000 rows is 10¹⁴ multiplications: with --queries, only that many rows are searched
for, against all rows (`knn_query`), which takes the same memory but for the result, 8 bytes a
neighbour; --queries 0 builds the whole graph. Heads train for --epochs on a random graph, which
costs the memory of a real one; more epochs take more time but no more memory.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


def peak_mb() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) // 1024


def write_features(path: Path, n: int, d: int) -> None:
    X = np.lib.format.open_memmap(path, "w+", np.float32, (n, d))
    rng = np.random.default_rng(0)
    for start in range(0, n, 4096):
        X[start : start + 4096] = rng.standard_normal((min(4096, n - start), d), dtype=np.float32)
    X.flush()


def knn(X: np.ndarray, args: argparse.Namespace) -> None:
    from imageherd.neighbors import knn_graph, knn_query

    if args.queries:
        rows = np.linspace(0, len(X) - 1, args.queries).astype(np.int64)
        knn_query(X, X[rows], args.k)
    else:
        knn_graph(X, args.k)


def train(name: str, X: np.ndarray, args: argparse.Namespace) -> None:
    from imageherd.heads import HEADS
    from imageherd.neighbors import NeighborGraph

    rng = np.random.default_rng(0)
    n = len(X)
    others = rng.integers(1, n, (n, args.k), dtype=np.int32)
    ids = (np.arange(n, dtype=np.int32)[:, None] + others) % n
    similarities = np.sort(rng.random((n, args.k), dtype=np.float32), axis=1)[:, ::-1].copy()
    del others
    head = HEADS[name](n_clusters=10, epochs=args.epochs, random_state=0, device="cpu")
    head.fit(X, neighbors=NeighborGraph(ids.astype(np.int32), similarities))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--d", type=int, default=1280)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--queries", type=int, default=4096, help="0: the whole graph")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--heads", nargs="*", default=["tsp", "temi"])
    parser.add_argument("--task", help="knn or a head, to run in this process on --file")
    parser.add_argument("--file", type=Path, help="the features' file, for --task")
    args = parser.parse_args()
    if args.task:
        X = np.load(args.file, mmap_mode="r")
        start = time.perf_counter()
        if args.task == "knn":
            knn(X, args)
        else:
            train(args.task, X, args)
        seconds = round(time.perf_counter() - start, 1)
        print(json.dumps({"task": args.task, "peak_mb": peak_mb(), "seconds": seconds}))
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "X.npy"
        write_features(file, args.n, args.d)
        for task in ("knn", *args.heads):
            options = [*sys.argv[1:], "--task", task, "--file", str(file)]
            done = subprocess.run(
                [sys.executable, __file__, *options], stdout=subprocess.PIPE, text=True, check=True
            )
            results.append(json.loads(done.stdout))
    settings = {name: getattr(args, name) for name in ("n", "d", "k", "queries", "epochs")}
    print(json.dumps(settings | {"limit_mb": 4096, "results": results}, indent=2))


if __name__ == "__main__":
    main()
