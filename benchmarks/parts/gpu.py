"""What a GPU is for: TEMI and the exact graph at ImageNet's size, SCP at CIFAR-10's.

The vectors are `benchmarks/growth.py`'s planted clusters. TEMI gets neighbours of each row's own
cluster, so that its time is the head's alone; it runs one epoch of the paper's 200, and `full_s` is
what these would take. SCP runs the paper's schedule whole. `--device cuda`; on a CPU only with
small `--sizes`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

import growth
from knn import exact_of_sample, recall

MANY, FEW = 1_280_000, 50_000
D, K_NEIGHBORS, EPOCHS = 768, 50, 200
CONCENTRATION = 256.0
CASES = {"knn": MANY, "temi": MANY, "scp": FEW}
Case = dict[str, Any]


def plan(options: Any) -> list[Case]:
    if options.device == "cpu" and not options.sizes:
        raise SystemExit("gpu wants --device cuda; on a CPU give small --sizes to try it out.")
    return [
        {
            "method": method,
            "n": n,
            "d": D,
            "clusters": 10 if method == "scp" else min(1_000, n // 100),
            "device": options.device,
        }
        for method, usual in CASES.items()
        for n in options.sizes or [usual]
    ]


def prepare(case: Case, options: Any, folder: Path) -> None:
    there = vectors_folder(case, folder)
    if not (there / "kinds.npy").exists():
        there.mkdir(exist_ok=True)
        growth.make(there, case["n"], case["d"], case["clusters"], CONCENTRATION)


def vectors_folder(case: Case, folder: Path) -> Path:
    return folder / f"gpu-{case['n']}x{case['d']}-{case['clusters']}"


def measure(case: Case, options: Any, folder: Path) -> Case:
    import torch

    there = vectors_folder(case, folder)
    X = np.load(there / "vectors.npy", mmap_mode="r").view(np.ndarray)
    kinds = np.load(there / "kinds.npy")
    on_a_gpu = case["device"].startswith("cuda")
    # Opening the GPU, and what optimizers import, is no part of any method.
    torch.optim.Adam([torch.zeros(1, requires_grad=True, device=case["device"])])
    began = time.perf_counter()
    found = {"knn": graph, "temi": temi, "scp": scp}[case["method"]](X, kinds, case, there)
    seconds = time.perf_counter() - began - found.pop("not_it", 0.0)
    return {
        "seconds": round(seconds, 1),
        **found,
        "gpu": torch.cuda.get_device_name(case["device"]) if on_a_gpu else "none",
        "gpu_peak_mb": torch.cuda.max_memory_allocated(case["device"]) >> 20 if on_a_gpu else 0,
    }


def graph(X: np.ndarray, kinds: np.ndarray, case: Case, folder: Path) -> Case:
    from imageherd.neighbors import knn_graph

    ids = knn_graph(X, K_NEIGHBORS, device=case["device"], scratch=folder).ids
    began = time.perf_counter()
    truth = exact_of_sample(X, K_NEIGHBORS)
    found = round(recall(X, ids[truth["rows"]], truth), 4)
    return {"recall": found, "not_it": time.perf_counter() - began}


def temi(X: np.ndarray, kinds: np.ndarray, case: Case, folder: Path) -> Case:
    from imageherd.heads.temi import PRESETS, TEMI
    from imageherd.neighbors import NeighborGraph

    began = time.perf_counter()
    ids = within(kinds, K_NEIGHBORS)
    neighbors = NeighborGraph(ids, np.ones(ids.shape, np.float32))
    made = time.perf_counter() - began
    epochs: list[Case] = []
    params = PRESETS["paper"] | {"epochs": 1, "n_neighbors": K_NEIGHBORS}
    head = TEMI(case["clusters"], **params, random_state=0, device=case["device"])
    began = time.perf_counter()
    head.fit(X, neighbors=neighbors, callback=epochs.append)
    fixed = time.perf_counter() - began - epochs[0]["seconds"]
    return {
        "epoch_s": round(epochs[0]["seconds"], 2),
        "full_s": round(fixed + EPOCHS * epochs[0]["seconds"], 1),
        "nmi": nmi(kinds, head.labels_),
        "not_it": made,
    }


def scp(X: np.ndarray, kinds: np.ndarray, case: Case, folder: Path) -> Case:
    from imageherd.heads.scp import SCP
    from speed import settings

    params = settings("scp", case["n"])
    head = SCP(case["clusters"], **params, random_state=0, device=case["device"])
    return {"nmi": nmi(kinds, head.fit(X).labels_)}


def within(kinds: np.ndarray, k: int) -> np.ndarray:
    """Return ids (n, k) of others of each row's cluster, which has more than k rows."""
    order = np.argsort(kinds, kind="stable")
    sizes = np.bincount(kinds)
    first = (np.cumsum(sizes) - sizes)[kinds[order]]
    at = (np.arange(len(kinds)) - first)[:, None] + np.arange(1, k + 1)
    ids = np.empty((len(kinds), k), np.int32)
    ids[order] = order[first[:, None] + at % sizes[kinds[order]][:, None]]
    return ids


def nmi(kinds: np.ndarray, labels: np.ndarray) -> float:
    from sklearn.metrics import normalized_mutual_info_score

    return round(float(normalized_mutual_info_score(kinds, labels)), 4)


def rows(records: list[Case]) -> list[dict[str, str]]:
    return [
        {
            "method": r["case"]["method"],
            "n": f"{r['case']['n']:,}",
            "d": f"{r['case']['d']:,}",
            "K": f"{r['case']['clusters']:,}",
            "GPU": r["gpu"],
            "s": f"{r['seconds']:,}",
            "an epoch": f"{r['epoch_s']:,}" if "epoch_s" in r else "",
            "200 epochs": f"{r['full_s']:,}" if "full_s" in r else "",
            "found": f"recall {r['recall']:.3f}" if "recall" in r else f"NMI {r['nmi']:.3f}",
            "GPU's peak MB": f"{r['gpu_peak_mb']:,}",
            "other work": str(r["other_work"]),
        }
        for r in records
    ]
