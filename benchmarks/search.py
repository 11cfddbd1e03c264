"""Search among a million vectors: building the index, time a query, recall, memory.

    python benchmarks/search.py --n 1000000 --d 384 --folder /somewhere/with/2-GB

Vectors are float16 in a .npy file, read through a memory map: a mixture of 1,000 normal
distributions of equal spread and unequal sizes (log-normal), seeded. Queries are further draws that
the index has never seen. Building and searching each run in a process of their own, with one
thread, so that the peak of resident memory is its own. Pages of mapped files count in it, which the
system takes back when it needs them; query_own_mb is without them. Recall is against a brute-force
product in float32 by NumPy. Prints JSON; on a busy machine compare the processor's seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COMPONENTS, SPREAD, BLOCK = 1_000, 0.7, 8_192


def make(folder: Path, n: int, d: int, n_queries: int, components: int = COMPONENTS) -> None:
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((components, d), dtype=np.float32)
    shares = rng.lognormal(sigma=1.0, size=components)

    def draw(m: int) -> np.ndarray:
        which = rng.choice(components, m, p=shares / shares.sum())
        noise = rng.standard_normal((m, d), dtype=np.float32)
        return (centers[which] + SPREAD * noise).astype(np.float16)

    X = np.lib.format.open_memmap(folder / "vectors.npy", mode="w+", dtype=np.float16, shape=(n, d))
    for start in range(0, n, BLOCK):
        X[start : start + BLOCK] = draw(min(BLOCK, n - start))
    np.save(folder / "queries.npy", draw(n_queries))


def resident_mb(what: str = "VmHWM") -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+) kB", status)[1]) // 1024


def build(folder: Path) -> dict[str, object]:
    from imageherd.search_index import build_index, save_index

    X = np.load(folder / "vectors.npy", mmap_mode="r").view(np.ndarray)
    before, wall, cpu = resident_mb(), time.perf_counter(), time.process_time()
    index = build_index(lambda at: X[at], *X.shape)
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    save_index(index, folder / "index.faiss")
    return {
        "build_s": round(seconds, 1),
        "build_cpu_s": round(cpu_seconds, 1),
        "lists": index.ivf.nlist if index.ivf else 0,
        "n_probe": index.n_probe,
        "its_own_recall": round(index.recall, 4),
        "index_mb": (folder / "index.faiss").stat().st_size >> 20,
        "build_peak_mb": resident_mb(),
        "before_mb": before,
    }


def query(folder: Path) -> dict[str, object]:
    from imageherd.search_index import load_index
    from imageherd.search_space import Space

    X = np.load(folder / "vectors.npy", mmap_mode="r").view(np.ndarray)
    queries = np.load(folder / "queries.npy").astype(np.float32)
    before, start = resident_mb(), time.perf_counter()
    index = load_index(folder / "index.faiss", *X.shape)
    loaded = time.perf_counter() - start
    space = Space(np.arange(len(X)), X.shape[1], lambda at: X[at], "benchmark", index)
    wall, cpu, found = [], [], []
    for vector in queries:
        start, cpu_start = time.perf_counter(), time.process_time()
        hits = space.nearest(vector, 64)
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
        found.append(hits.rows)
    peak, own = resident_mb(), resident_mb("RssAnon")
    start, cpu_start = time.perf_counter(), time.process_time()
    space.nearest(queries[0], 64, exact=True)
    exact = time.perf_counter() - start, time.process_time() - cpu_start

    def ms(seconds: list[float], q: float) -> float:
        return round(1000 * float(np.quantile(seconds, q)), 1)

    return {
        "load_ms": round(1000 * loaded, 1),
        "query_ms": {"first": ms(wall[:1], 0), "median": ms(wall, 0.5), "p95": ms(wall, 0.95)},
        "query_cpu_ms": {"median": ms(cpu, 0.5), "p95": ms(cpu, 0.95)},
        "exact_query_s": round(exact[0], 2),
        "exact_query_cpu_s": round(exact[1], 2),
        "recall_at_64": round(recall(X, queries, np.array(found)), 4),
        "query_peak_mb": peak,
        "query_own_mb": own,
        "before_mb": before,
    }


def recall(X: np.ndarray, queries: np.ndarray, found: np.ndarray) -> float:
    best = np.full((len(queries), 64), -np.inf, dtype=np.float32)
    at = np.zeros((len(queries), 64), dtype=np.int64)
    for start in range(0, len(X), BLOCK):
        block = X[start : start + BLOCK].astype(np.float32)
        cosines = queries @ (block / np.linalg.norm(block, axis=1, keepdims=True)).T
        rows = np.broadcast_to(np.arange(start, start + len(block)), cosines.shape)
        cosines, rows = np.hstack([best, cosines]), np.hstack([at, rows])
        kept = np.argpartition(cosines, -64, axis=1)[:, -64:]
        best = np.take_along_axis(cosines, kept, axis=1)
        at = np.take_along_axis(rows, kept, axis=1)
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(at, found, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--d", type=int, default=384)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="for the vectors; a temporary one by default")
    parser.add_argument("--only", choices=("build", "query"), help="run this in this process")
    args = parser.parse_args()
    if args.only:
        print(json.dumps({"build": build, "query": query}[args.only](args.folder)))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        make(Path(folder), args.n, args.d, args.queries)
        results: dict[str, object] = {"n": args.n, "d": args.d}
        for step in ("build", "query"):
            done = subprocess.run(
                [sys.executable, __file__, "--folder", folder, "--only", step],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
            results |= {step: json.loads(done.stdout)}
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
