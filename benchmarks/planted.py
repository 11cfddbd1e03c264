"""Data whose groups are known because we planted them, and every method's score on it.

    python benchmarks/planted.py --seeds 0 1 2 --json planted.json

The bars in `BARS` were written down before any method was run on these data; the test suite holds
the methods to them (tests/heads/test_planted.py). Everything runs with its default row.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import vonmises_fisher
from sklearn.metrics import adjusted_rand_score

from imageherd.heads import HEADS
from imageherd.neighbors import NeighborGraph, knn_graph

FALSE_SHARE = 0.3


class Planted(NamedTuple):
    """X (n, d) float32, y (n,), and a graph where the data come with one of their own."""

    X: np.ndarray
    y: np.ndarray
    neighbors: NeighborGraph | None = None


def mixture(seed: int, sizes: tuple[int, ...] = (200,) * 6, kappa: float = 200.0) -> Planted:
    """Draw von Mises-Fisher groups on the unit sphere in 32 dimensions.

    κ = 200 spreads a group over about 0.4 radians, while centres drawn at random are about 1.6
    apart: well separated.
    """
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(len(sizes), 32))
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    parts = [
        vonmises_fisher(mu, kappa).rvs(size, random_state=rng)
        for mu, size in zip(centers, sizes, strict=True)
    ]
    return _shuffled(np.concatenate(parts), sizes, rng)


def unbalanced(seed: int) -> Planted:
    """Draw the same with three large groups and three a tenth their size."""
    return mixture(seed, sizes=(400, 400, 400, 40, 40, 40))


def subspaces(seed: int) -> Planted:
    """Draw five random 3-dimensional subspaces of 30 dimensions, unit rows, 1 % of noise.

    A group is a great sphere through the origin: it holds x and -x, so centres mean nothing.
    """
    rng = np.random.default_rng(seed)
    sizes = (200,) * 5
    parts = []
    for size in sizes:
        basis, _ = np.linalg.qr(rng.normal(size=(30, 3)))
        inside = rng.normal(size=(size, 3))
        inside /= np.linalg.norm(inside, axis=1, keepdims=True)
        parts.append(inside @ basis.T + 0.01 * rng.normal(size=(size, 30)))
    return _shuffled(np.concatenate(parts), sizes, rng)


def false_neighbors(seed: int) -> Planted:
    """Draw the mixture with a graph of 50 in which 30 % are rows of other groups."""
    X, y, _ = mixture(seed)
    rng = np.random.default_rng(seed + 1000)
    graph = knn_graph(X, 50, device="cpu")
    ids = graph.ids.copy()
    strangers = np.stack([rng.choice(np.flatnonzero(y != mine), 50, replace=False) for mine in y])
    swap = rng.random(ids.shape) < FALSE_SHARE
    ids[swap] = strangers[swap]
    return Planted(X, y, NeighborGraph(ids, graph.similarities))


def _shuffled(X: np.ndarray, sizes: tuple[int, ...], rng: np.random.Generator) -> Planted:
    y = np.repeat(np.arange(len(sizes)), sizes)
    order = rng.permutation(len(X))
    return Planted(X[order].astype(np.float32), y[order])


DATA: dict[str, Callable[[int], Planted]] = {
    "mixture": mixture,
    "false neighbors": false_neighbors,
    "subspaces": subspaces,
    "unbalanced": unbalanced,
}

# At least (or, for "<", less than) this ARI.
BARS: dict[str, dict[str, tuple[str, float]]] = {
    # SSC-OMP is here to be looked at (0.01 when first run), not held to: it is for subspaces.
    "mixture": {method: (">=", 0.95) for method in HEADS if method != "ssc-omp"},
    # SCP joined when its first run (0.0, all rows in one cluster) had led to another start.
    "false neighbors": dict.fromkeys(("tsp", "temi", "turtle", "scp"), (">=", 0.9)),
    "subspaces": {"cpp": (">=", 0.95), "ensc": (">=", 0.95), "kmeans": ("<", 0.7)},
    "unbalanced": {"tsp": (">=", 0.9), "kmeans": (">=", 0.9)},
}

# The strength of the push to equal sizes in the papers, where their data are balanced.
PAPERS_PUSH = {
    "tsp": 3.0,
    "temi": 1.0,
    "cpp": 1.0,
    "scp": 1.0,
    "lsdc": 1.0,
    "turtle": 10.0,
    "infonce": 1.0,
}


def run(method: str, data: Planted, seed: int, **params: Any) -> tuple[float, float, Any]:
    """Return ARI, seconds and the fitted head."""
    if not HEADS[method].counts_itself:
        params["n_clusters"] = len(np.unique(data.y))
    head = HEADS[method](random_state=seed, device="cpu", **params)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        head.fit(data.X, neighbors=data.neighbors)
    return adjusted_rand_score(data.y, head.labels_), time.perf_counter() - began, head


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", default=list(HEADS), metavar="METHOD")
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for method in args.methods:
        cells: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in args.data]
        if "unbalanced" in args.data and method in PAPERS_PUSH:
            cells += [("unbalanced", {"balance": push}) for push in (0.0, PAPERS_PUSH[method])]
        for name, params in cells:
            found = [run(method, DATA[name](seed), seed, **params) for seed in args.seeds]
            ari = [score for score, _, _ in found]
            rows.append(
                {
                    "method": method,
                    "data": name,
                    "params": params,
                    "ari": ari,
                    "mean": statistics.mean(ari),
                    "std": statistics.stdev(ari) if len(ari) > 1 else None,
                    "seconds": statistics.median(seconds for _, seconds, _ in found),
                    "bar": BARS[name].get(method) if not params else None,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    if args.json:
        facts = {"seeds": args.seeds, "python": platform.python_version(), "rows": rows}
        args.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
