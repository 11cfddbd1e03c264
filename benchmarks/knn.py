"""k-NN graphs by cosine: ours, exact and approximate, beside faiss and scikit-learn.

    python benchmarks/knn.py --n 50000 --d 1280 --threads 2 --json knn.json [--features X.npy]
    python benchmarks/knn.py --n 1280000 --d 384 --threads 2 --methods approx --json knn.json
    python benchmarks/knn.py --json knn.json --table

Every method finds the k nearest of every row, in a process of its own with so many threads, from a
float16 file (`benchmarks/search.py`'s mixture of n / 100, at most 1,000, distributions) or the
float32 one given. The time is all of it but imports and the choice of faiss's parameters: of
IVF (4 √n lists) and HNSW (M = 32) it is that with the least nprobe and efSearch, doubled each time,
to reach our target of 0.95. Recall is of 500 rows against float64 cosines: a neighbour counts if
its cosine is within 1e-6 of the k-th best. peak_mb is all resident memory, pages of mapped files
included, which the system takes back when it needs them; own_mb is without them, sampled. Appends
to a JSON file; on a busy machine compare the processor's seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from search import make, resident_mb

TARGET, SAMPLE = 0.95, 500
METHODS = ("exact", "approx", "faiss-flat", "faiss-ivf", "faiss-hnsw", "scikit-learn")
Found = tuple[np.ndarray, dict[str, Any]]


def ours(method: str, X: np.ndarray, k: int, folder: Path) -> Found:
    from imageherd.neighbors import approximate_knn_graph, knn_graph

    graph = (knn_graph if method == "exact" else approximate_knn_graph)(X, k, scratch=folder)
    return graph.ids, {"its_own_recall": graph.recall}


def scikit_learn(X: np.ndarray, k: int) -> Found:
    from sklearn.neighbors import NearestNeighbors

    finder = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute")
    return finder.fit(X.astype(np.float32)).kneighbors(return_distance=False), {}


def by_faiss(method: str, X: np.ndarray, k: int, how: int) -> Found:
    import faiss

    unit = np.array(X, dtype=np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    n, d = unit.shape
    if method == "faiss-hnsw":
        index = faiss.IndexHNSWFlat(d, 32, faiss.METRIC_INNER_PRODUCT)
        params = faiss.SearchParametersHNSW(efSearch=max(how, k + 1))
    elif method == "faiss-ivf":
        quantizer = faiss.IndexFlatIP(d)
        index = faiss.IndexIVFFlat(quantizer, d, round(4 * n**0.5), faiss.METRIC_INNER_PRODUCT)
        index.train(unit)
        params = faiss.SearchParametersIVF(nprobe=how)
    else:
        index, params = faiss.IndexFlatIP(d), None
    index.add(unit)
    ids = index.search(unit, k + 1, params=params)[1]
    return without_self(ids, k), {"nprobe" if method == "faiss-ivf" else "efSearch": how}


def tuned(method: str, X: np.ndarray, k: int, truth: dict[str, np.ndarray]) -> int:
    """Return the least nprobe or efSearch, doubled each time, that reaches the target."""
    import faiss

    unit = np.array(X, dtype=np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    n, d = unit.shape
    how = 1 if method == "faiss-ivf" else 64
    if method == "faiss-ivf":
        index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(d), d, round(4 * n**0.5), faiss.METRIC_INNER_PRODUCT
        )
        index.train(unit)
    else:
        index = faiss.IndexHNSWFlat(d, 32, faiss.METRIC_INNER_PRODUCT)
    index.add(unit)
    while True:
        params = (
            faiss.SearchParametersIVF(nprobe=how)
            if method == "faiss-ivf"
            else faiss.SearchParametersHNSW(efSearch=how)
        )
        ids = index.search(unit[truth["rows"]], k + 1, params=params)[1]
        if recall(X, without_self(ids, k, truth["rows"]), truth) >= TARGET or how > n:
            return how
        how *= 2


def without_self(ids: np.ndarray, k: int, rows: np.ndarray | None = None) -> np.ndarray:
    own = ids == (np.arange(len(ids)) if rows is None else rows)[:, None]
    # faiss returns the row itself, mostly but not surely first.
    own[~own.any(axis=1), -1] = True
    return ids[~own].reshape(len(ids), k)


def exact_of_sample(X: np.ndarray, k: int) -> dict[str, np.ndarray]:
    rows = np.sort(np.random.default_rng(1).choice(len(X), min(SAMPLE, len(X)), replace=False))
    queries, best = unit_rows(X[rows]), np.full((len(rows), k + 1), -2.0)
    for start in range(0, len(X), 8192):
        cosines = queries @ unit_rows(X[start : start + 8192]).T
        best = np.partition(np.hstack([best, cosines]), -(k + 1), axis=1)[:, -(k + 1) :]
    # One of the k + 1 best is the row itself.
    return {"rows": rows, "kth": best.min(axis=1)}


def recall(X: np.ndarray, ids: np.ndarray, truth: dict[str, np.ndarray]) -> float:
    """Share of the exact neighbours; `ids` of the sample's rows; -1 is none."""
    shares = []
    for row, found, kth in zip(truth["rows"], ids, truth["kth"], strict=True):
        there = unit_rows(X[found[found >= 0]])
        shares.append((there @ unit_rows(X[row : row + 1])[0] >= kth - 1e-6).sum() / len(found))
    return float(np.mean(shares))


def unit_rows(X: np.ndarray) -> np.ndarray:
    X = X.astype(np.float64)
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def watched(work: Callable[[], Found]) -> tuple[Found, dict[str, Any]]:
    """Run it; seconds and memory, that of its own sampled five times a second."""
    own, done = [resident_mb("RssAnon")], threading.Event()

    def look() -> None:
        while not done.wait(0.2):
            own.append(resident_mb("RssAnon"))

    watcher = threading.Thread(target=look)
    watcher.start()
    before, wall, cpu = resident_mb(), time.perf_counter(), time.process_time()
    try:
        found = work()
    finally:
        done.set()
        watcher.join()
    facts = {
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_mb": resident_mb(),
        "own_mb": max(own),
        "before_mb": before,
    }
    return found, facts


def run_one(method: str, file: Path, k: int) -> dict[str, Any]:
    X = np.load(file, mmap_mode="r").view(np.ndarray)
    with np.load(file.parent / "truth.npz") as kept:
        truth = dict(kept)
    small = np.random.default_rng(0).standard_normal((500, 8), dtype=np.float32)
    works: dict[str, Callable[[np.ndarray, int], Found]] = {
        "scikit-learn": scikit_learn,
        "exact": lambda X, k: ours("exact", X, k, file.parent),
        "approx": lambda X, k: ours("approx", X, k, file.parent),
        "faiss-flat": lambda X, k: by_faiss("faiss-flat", X, k, 0),
    }
    if method in works:
        work = works[method]
    else:
        how_file = file.parent / f"{method}.json"
        if not how_file.exists():
            how_file.write_text(str(tuned(method, X, k, truth)))
            # Again, in a process whose peak of memory is that of one index.
            os.execv(sys.executable, [sys.executable, *sys.argv])
        how = int(how_file.read_text())
        work = lambda X, k: by_faiss(method, X, k, how)  # noqa: E731
    work(small, 5)
    (ids, more), facts = watched(lambda: work(X, k))
    found = {"method": method} | facts | more
    return found | {"recall": round(recall(X, ids[truth["rows"]], truth), 4)}


def prepare(folder: Path, n: int, d: int, k: int, features: Path | None = None) -> np.ndarray:
    """Write the vectors, and what is right for a sample of them."""
    file = folder / "vectors.npy"
    if features:
        np.save(file, np.load(features, mmap_mode="r")[:n])
    else:
        make(folder, n, d, 1, components=min(1_000, max(1, n // 100)))
    X: np.ndarray = np.load(file, mmap_mode="r").view(np.ndarray)
    np.savez(folder / "truth.npz", **exact_of_sample(X, k))
    return X


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    X = prepare(folder, args.n, args.d, args.k, args.features)
    threads = {f"{lib}_NUM_THREADS": str(args.threads) for lib in ("OMP", "OPENBLAS", "MKL")}
    results = []
    for method in args.methods:
        command = [sys.executable, __file__, "--only", method, "--k", str(args.k)]
        done = subprocess.run(
            [*command, "--folder", str(folder)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | threads | {"OMP_WAIT_POLICY": "PASSIVE"},
        )
        results.append(json.loads(done.stdout))
        print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    packages = ("imageherd", "faiss-cpu", "scikit-learn", "torch", "numpy")
    return {
        "n": len(X),
        "d": X.shape[1],
        "k": args.k,
        "data": args.features.stem if args.features else "mixture",
        "threads": args.threads,
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "versions": {name: version(name) for name in packages},
        "results": results,
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def table(runs: list[dict[str, Any]]) -> str:
    lines = [
        "| data | n × d | threads | method | s | cpu s | recall | peak MB | of its own |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run in runs:
        what = f"{run['data']} | {run['n']:,} × {run['d']} | {run['threads']}"
        lines += [
            f"| {what} | {r['method']} | {r['seconds']:,} | {r['cpu_seconds']:,} "
            f"| {r['recall']:.3f} | {r['peak_mb']:,} | {r['own_mb']:,} |"
            for r in run["results"]
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--d", type=int, default=384)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--features", type=Path, help=".npy file: its first n rows, not a mixture")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--folder", type=Path, help="for the vectors; a temporary one by default")
    parser.add_argument("--json", type=Path, help="file to append to")
    parser.add_argument("--table", action="store_true", help="only show the file as Markdown")
    parser.add_argument("--only", choices=METHODS, help="run this in this process")
    args = parser.parse_args()
    if args.only:
        print(json.dumps(run_one(args.only, args.folder / "vectors.npy", args.k)))
        return
    kept = json.loads(args.json.read_text()) if args.json and args.json.exists() else []
    if not args.table:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            kept.append(measure(args, Path(folder)))
        if args.json:
            args.json.write_text(json.dumps(kept, indent=1) + "\n")
    print(table(kept))


if __name__ == "__main__":
    main()
