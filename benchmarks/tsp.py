"""TSP with its defaults and with the paper's settings: accuracy, seconds, peak memory, as JSON.

    python benchmarks/tsp.py X.npy y.npy --out tsp.json

Seconds are those of `fit` alone and of the k-NN graph, computed once. Peak memory is that of the
process, features included; run it on an idle machine for the seconds to mean anything.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imageherd.files import write_json
from imageherd.heads.tsp import PRESETS, TSP
from imageherd.metrics import scores
from imageherd.neighbors import knn_graph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("features", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("tsp.json"))
    args = parser.parse_args()
    X, y = np.load(args.features), np.load(args.labels)
    K = len(np.unique(y))

    began = time.perf_counter()
    graph = knn_graph(X, min(20, len(X) - 1))
    result: dict[str, Any] = {
        "n": len(X),
        "d": X.shape[1],
        "threads": torch.get_num_threads(),
        "load at start": os.getloadavg()[0],
        "knn seconds": time.perf_counter() - began,
        "runs": [],
    }
    print(f"k-NN: {result['knn seconds']:.1f} s")
    for name, params in (("default", {}), ("paper", PRESETS["paper"])):
        for seed in range(args.seeds):
            began = time.perf_counter()
            head = TSP(K, random_state=seed, device=args.device, **params)
            labels = head.fit(X, neighbors=graph).labels_
            run = {"settings": name, "seed": seed, "seconds": time.perf_counter() - began}
            result["runs"].append({**run, **scores(y, labels)})
            found = "  ".join(f"{k} {100 * v:.1f}" for k, v in scores(y, labels).items())
            print(f"{name} seed {seed}: {found}  {run['seconds']:.1f} s", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result["peak memory MiB"] = peak / 1024
    write_json(args.out, result)


if __name__ == "__main__":
    main()
