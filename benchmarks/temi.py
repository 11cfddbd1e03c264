"""Time and score TEMI: the plain loop, ours with the same settings, and our default row.

    python benchmarks/temi.py --features X.npy --labels y.npy --variant loop exact default \
        --seeds 0 1 2 --json temi.json

"loop" is `plain/temi.py`. "exact" is `imageherd.TEMI` with the loop's settings: 16 heads, batch
512, 100 epochs, β 0.6, 50 neighbours, features as they are. "default" is what `imageherd.TEMI()`
does. Schedules are fixed; labels are looked at only to score the end. Every run is a process of
its own, the variants of a seed one after the other, so that all meet the same machine.

``--epochs 3`` stops the same schedules after three epochs: for speed, not for accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

EPOCHS = 100
SHOWN = (10, 30, 50, 70, 90)


def fit_exact_or_default(
    variant: str, X: np.ndarray, n_clusters: int, args: argparse.Namespace, seed: int
) -> tuple[np.ndarray, dict[str, Any]]:
    from imageherd import TEMI
    from imageherd.heads.temi import PRESETS

    params: dict[str, Any] = {}
    if variant == "exact":
        params = {**PRESETS["released"], "n_heads": 16, "epochs": EPOCHS}
    head = TEMI(n_clusters, random_state=seed, device=args.device, **params)
    epochs: list[dict[str, Any]] = []

    def watch(info: dict[str, Any]) -> bool:
        epochs.append(info)
        return len(epochs) == args.epochs

    labels = head.fit(X, callback=watch).labels_
    return labels, {
        "epoch_seconds": [e["seconds"] for e in epochs],
        "epochs_planned": epochs[-1]["epochs"],
        "loss": min(head.head_losses_),
        "conditional_entropy": epochs[-1]["conditional_entropy"],
        "n_outputs_of_scaling": head.scaler_.n_outputs,
    }


def fit_loop(
    X: np.ndarray, y: np.ndarray, n_clusters: int, args: argparse.Namespace, seed: int
) -> tuple[np.ndarray, dict[str, Any]]:
    from plain import temi as plain_temi

    on_the_way: dict[int, float] = {}

    def look(epoch: int, labels: Any) -> None:
        if epoch in SHOWN:
            on_the_way[epoch] = accuracy(y, labels())

    labels, history = plain_temi.fit_loop(
        X,
        n_clusters,
        epochs=EPOCHS,
        stop_after=args.epochs,
        seed=seed,
        device=args.device,
        on_epoch=look,
    )
    return labels, {
        "epoch_seconds": history["seconds"],
        "epochs_planned": EPOCHS,
        "loss": history["loss"][-1],
        "acc_by_epoch": on_the_way,
    }


def accuracy(y: np.ndarray, labels: np.ndarray) -> float:
    from imageherd.metrics import clustering_accuracy

    return 100 * float(clustering_accuracy(y, labels))


def run(variant: str, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    if args.threads:
        torch.set_num_threads(args.threads)
    X = np.load(args.features).astype(np.float32, copy=False)
    y = np.load(args.labels)
    n_clusters = len(np.unique(y))
    began = time.perf_counter()
    if variant == "loop":
        labels, facts = fit_loop(X, y, n_clusters, args, seed)
    else:
        labels, facts = fit_exact_or_default(variant, X, n_clusters, args, seed)
    seconds = time.perf_counter() - began
    per_epoch = statistics.median(facts.pop("epoch_seconds"))
    result = {
        "variant": variant,
        "seed": seed,
        "acc": accuracy(y, labels),
        "seconds": seconds,
        "cpu_seconds": time.process_time(),
        "seconds_an_epoch": per_epoch,
        "seconds_all_epochs": per_epoch * facts["epochs_planned"],
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **facts,
    }
    if args.device.startswith("cuda"):
        result["peak_gpu_mb"] = torch.cuda.max_memory_allocated() / 2**20
        result["gpu"] = torch.cuda.get_device_name()
    return result


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for variant in dict.fromkeys(r["variant"] for r in runs):
        mine = [r for r in runs if r["variant"] == variant]
        acc = [r["acc"] for r in mine]
        table[variant] = {
            "acc_mean": statistics.mean(acc),
            "acc_std": statistics.stdev(acc) if len(acc) > 1 else None,
            "seconds_an_epoch": statistics.median(r["seconds_an_epoch"] for r in mine),
            "seconds_all_epochs": statistics.median(r["seconds_all_epochs"] for r in mine),
        }
    if "loop" in table:
        for row in table.values():
            ratio = table["loop"]["seconds_all_epochs"] / row["seconds_all_epochs"]
            row["times_faster_than_loop"] = ratio
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--features", type=Path, required=True, help="X.npy, (n, d)")
    parser.add_argument("--labels", type=Path, required=True, help="y.npy, (n,)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--variant", nargs="+", choices=("loop", "exact", "default"), default=["exact", "default"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, help="stop after so many, for timing")
    parser.add_argument("--threads", type=int, help="CPU threads; torch's own choice by default")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    runs = []
    for seed in args.seeds:
        for variant in args.variant:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                runs.append(pool.submit(run, variant, args, seed).result())
            print(json.dumps(runs[-1]), flush=True)
    report = {
        "features": args.features.name,
        "machine": {"cpus": os.cpu_count(), "processor": platform.processor()},
        "torch": torch.__version__,
        "stopped_after_epochs": args.epochs,
        "summary": summary(runs),
        "runs": runs,
    }
    print(json.dumps(report["summary"], indent=2))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
