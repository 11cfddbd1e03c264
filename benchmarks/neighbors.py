"""Exact cosine k-NN: imageherd against scikit-learn's brute force and faiss's flat index.

    python benchmarks/neighbors.py --n 20000 --d 768 --k 50 [--features X.npy] [--repeats 3]

Each method runs in a process of its own, on the same features, with all threads. Prints JSON:
wall-clock and processor seconds of each repeat (index building and scaling included, imports not;
on a busy machine compare the latter), recall on 500 rows
against float64 cosines (a neighbour counts if its cosine is within 1e-7 of the k-th best), and the
process's peak resident memory. Features are standard normal unless a file is given.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

METHODS = ("imageherd", "faiss", "scikit-learn")


def find(method: str, X: np.ndarray, k: int) -> np.ndarray:
    if method == "imageherd":
        from imageherd.neighbors import knn_graph

        return knn_graph(X, k).ids
    if method == "faiss":
        import faiss

        unit = X / np.linalg.norm(X, axis=1, keepdims=True)
        index = faiss.IndexFlatIP(X.shape[1])
        index.add(unit)
        ids = index.search(unit, k + 1)[1]
    else:
        from sklearn.neighbors import NearestNeighbors

        finder = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(X)
        return finder.kneighbors(return_distance=False)
    # faiss returns the row itself, mostly but not surely first.
    own = ids == np.arange(len(ids))[:, None]
    own[~own.any(axis=1), -1] = True
    return ids[~own].reshape(len(ids), k)


def recall(X: np.ndarray, ids: np.ndarray) -> float:
    rows = np.random.default_rng(1).choice(len(X), min(500, len(X)), replace=False)
    lengths = np.linalg.norm(X, axis=1, keepdims=True).astype(np.float64)
    cosines = (X[rows].astype(np.float64) / lengths[rows]) @ (X.astype(np.float64) / lengths).T
    cosines[np.arange(len(rows)), rows] = -2
    k = ids.shape[1]
    kth = np.partition(cosines, -k, axis=1)[:, -k, None]
    return float((np.take_along_axis(cosines, ids[rows], axis=1) >= kth - 1e-7).mean())


def peak_mb() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) // 1024


def make_features(args: argparse.Namespace) -> np.ndarray:
    if args.features:
        return np.load(args.features).astype(np.float32)
    rng = np.random.default_rng(0)
    return rng.standard_normal((args.n, args.d), dtype=np.float32)


def run_one(args: argparse.Namespace) -> dict[str, object]:
    X = make_features(args)
    find(args.only, X[: min(len(X), 4 * args.k + 64)], args.k)
    before, seconds, cpu_seconds = peak_mb(), [], []
    for _ in range(args.repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        ids = find(args.only, X, args.k)
        seconds.append(round(time.perf_counter() - start, 2))
        cpu_seconds.append(round(time.process_time() - cpu_start, 2))
    result = {
        "method": args.only,
        "shape": X.shape,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mb": peak_mb(),
        "before_mb": before,
    }
    return result | {"recall": recall(X, ids)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--d", type=int, default=768)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--features", help=".npy file to use instead of random features")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=METHODS, help="run this method in this process")
    args = parser.parse_args()
    if args.only:
        print(json.dumps(run_one(args)))
        return
    results = []
    for method in METHODS:
        command = [sys.executable, __file__, *sys.argv[1:], "--only", method]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results.append(json.loads(done.stdout))
    print(json.dumps({"k": args.k, "results": results}, indent=2))


if __name__ == "__main__":
    main()
