"""Heads: seconds and accuracy, ours beside plain PyTorch, scikit-learn and ClustPy.

The time is all from the rows in memory to their labels, the k-NN graph and scaling included;
imports are not. Schedules are fixed: labels score the end, and choose nothing.
"""

from __future__ import annotations

import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np

SIZES = (10_000, 50_000)
METHODS = ("temi", "tsp", "scp", "cpp", "lsdc", "turtle")
VARIANTS = ("default", "same", "plain")
OTHERS = ("KMeans", "MiniBatchKMeans", "HDBSCAN")
# Of those to which the number of clusters can be said; its deep ones import torchvision.
CLUSTPY = ("SubKmeans", "SphericalKMeans")
# It compares all pairs in d dimensions on one thread: a quarter of an hour beyond.
MOST_FOR_HDBSCAN = 20_000
Case = dict[str, Any]


def plan(options: Any) -> list[Case]:
    data = options.features.stem if options.features else "digits"
    most = len(np.load(options.labels, mmap_mode="r")) if options.labels else 1797
    sizes = sorted({min(n, most) for n in options.sizes or SIZES})
    library = dict.fromkeys(OTHERS, "scikit-learn")
    if find_spec("clustpy"):
        library |= dict.fromkeys(CLUSTPY, "ClustPy")
    ours = [(method, variant) for method in METHODS for variant in VARIANTS]
    return [
        {
            "data": data,
            "n": n,
            "method": method,
            "variant": variant,
            "seed": seed,
            "threads": options.threads,
            "device": "cpu" if variant in ("plain", *library.values()) else options.device,
        }
        for n in sizes
        for seed in options.seeds
        for method, variant in [*ours, *library.items()]
        if method != "HDBSCAN" or (n <= MOST_FOR_HDBSCAN and seed == options.seeds[0])
    ]


def prepare(case: Case, options: Any, folder: Path) -> None:
    """Nothing is shared: every method finds its own neighbors, on the clock."""


def measure(case: Case, options: Any, folder: Path) -> Case:
    import torch

    from imageherd.metrics import scores
    from speed import peak_mb

    X, y = rows_and_labels(case, options)
    # The first optimizer of a process has PyTorch import its compiler: no part of any method.
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    fit = prepared(case)
    wall, cpu = time.perf_counter(), time.process_time()
    labels = fit(X, len(np.unique(y)))
    seconds, cpu = time.perf_counter() - wall, time.process_time() - cpu
    found = {name: round(value, 4) for name, value in scores(y, labels).items()}
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        **found,
        "n_clusters": len(np.unique(labels[labels >= 0])),
        "d": X.shape[1],
        "peak_mb": peak_mb(),
    }


def rows_and_labels(case: Case, options: Any) -> tuple[np.ndarray, np.ndarray]:
    if options.features:
        X, y = np.load(options.features, mmap_mode="r"), np.load(options.labels)
    else:
        from sklearn.datasets import load_digits

        X, y = load_digits(return_X_y=True)
    # At random: files are often in the order of their labels.
    at = np.sort(np.random.default_rng(0).permutation(len(y))[: case["n"]])
    return np.ascontiguousarray(X[at], dtype=np.float32), y[at]


def prepared(case: Case) -> Any:
    """Return fit(X, K), which returns the labels, with what it needs imported."""
    if case["variant"] == "plain":
        return plain(case["method"], case["seed"])
    if case["variant"] == "scikit-learn":
        return scikit_learn(case["method"], case["seed"])
    if case["variant"] == "ClustPy":
        method = getattr(import_module("clustpy.centroid"), case["method"])
        return lambda X, K: method(K, random_state=case["seed"]).fit(X).labels_
    from imageherd.heads import HEADS
    from speed import settings

    head = HEADS[case["method"]]
    params = settings(case["method"], case["n"]) if case["variant"] == "same" else {}
    common = {"random_state": case["seed"], "device": case["device"]}
    return lambda X, K: head(K, **common, **params).fit(X).labels_


def plain(method: str, seed: int) -> Any:
    import torch

    from plain.neighbors import nearest
    from speed import K_NEIGHBORS, NEEDS_NEIGHBORS, settings

    module = import_module(f"plain.{method}")

    def fit(X: np.ndarray, K: int) -> np.ndarray:
        given = {
            "n_clusters": K,
            "seed": seed,
            "batch_size": settings(method, len(X))["batch_size"],
        }
        if method in NEEDS_NEIGHBORS["plain"]:
            given["neighbors"] = nearest(torch.from_numpy(X), K_NEIGHBORS).numpy()
        if method == "temi":
            return module.fit_loop(X, **given)[0]
        return module.fit(X, **given)

    return fit


def scikit_learn(method: str, seed: int) -> Any:
    from sklearn import cluster

    if method == "HDBSCAN":
        # Rows in no cluster, -1, count as one more cluster.
        return lambda X, K: cluster.HDBSCAN(copy=True).fit(X).labels_
    kind = getattr(cluster, method)
    return lambda X, K: kind(K, n_init=10, random_state=seed).fit(X).labels_


def rows(records: list[Case]) -> list[dict[str, str]]:
    """One line for all seeds of a method."""
    groups: dict[tuple[Any, ...], list[Case]] = {}
    for record in records:
        case = dict(record["case"])
        del case["seed"]
        groups.setdefault(tuple(case.items()), []).append(record)
    return [line(dict(case), group, groups) for case, group in groups.items()]


def line(
    case: Case, group: list[Case], groups: dict[tuple[Any, ...], list[Case]]
) -> dict[str, str]:
    seconds, acc = median(r["seconds"] for r in group), [100 * r["ACC"] for r in group]
    plain = groups.get(tuple((case | {"variant": "plain", "device": "cpu"}).items()), [])
    ratio = more = ""
    if plain and case["variant"] in ("default", "same"):
        ratio = f"{median(r['seconds'] for r in plain) / seconds:.1f}"
        more = f"{mean(acc) - mean(100 * r['ACC'] for r in plain):+.1f}"
    spread = f" ± {stdev(acc):.1f}" if len(acc) > 1 else ""
    return {
        "data": case["data"],
        "n": f"{case['n']:,}",
        "d": f"{group[0]['d']:,}",
        "method": case["method"],
        "variant": case["variant"],
        "device": case["device"],
        "threads": str(case["threads"]),
        "seeds": str(len(group)),
        "s": f"{seconds:,.1f}",
        "ACC": f"{mean(acc):.1f}{spread}",
        "clusters": ", ".join(str(k) for k in sorted({r["n_clusters"] for r in group})),
        "plain's s / this": ratio,
        "ACC more than plain's": more,
        "peak MB": f"{max(r['peak_mb'] for r in group):,}",
        "other work": f"{max(r['other_work'] for r in group)}",
    }
