"""Texts of Reuters-R8 by tf-idf of 2,000 words: every method beside k-means, as Markdown and JSON.

    python benchmarks/reuters.py reuters-r8/train.txt reuters-r8/test.txt --out reuters.json

A text a line, ``label<TAB>text``. Reuters-R8 (7,674 documents, 8 classes, half of them of one) is
not the papers' Reuters-10K (10,000 of RCV1, 4 classes), which is not public: their figures do not
compare. All documents are clustered and scored, labels serve the scores alone. LSD-C has its
authors' settings for Reuters-10K (table 5), and the number of clusters is that of the classes.
Seconds are those of `fit`, with the k-NN graph where a method uses one.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imageherd.baselines import KMeans, Spectral, SphericalKMeans
from imageherd.features.tfidf import Tfidf
from imageherd.files import write_json
from imageherd.heads.base import Head
from imageherd.heads.lsdc import LSDC, PRESETS
from imageherd.heads.temi import TEMI
from imageherd.heads.tsp import TSP
from imageherd.metrics import scores

MEASURES = ("ACC", "NMI", "ARI")

METHODS: dict[str, Callable[[int, int], Head]] = {
    "k-means": lambda K, seed: KMeans(K, random_state=seed),
    "spherical k-means": lambda K, seed: SphericalKMeans(K, random_state=seed),
    "spectral": lambda K, seed: Spectral(K, random_state=seed),
    "TSP": lambda K, seed: TSP(K, random_state=seed),
    # A quarter of the heads and half of the steps, to be done in minutes on a processor.
    "TEMI, 4 heads, 500 steps": lambda K, seed: TEMI(
        K, n_heads=4, min_steps=500, random_state=seed
    ),
    "LSD-C": lambda K, seed: LSDC(K, random_state=seed),
    "LSD-C, Reuters settings": lambda K, seed: LSDC(K, random_state=seed, **PRESETS["reuters"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--out", type=Path, default=Path("reuters.json"))
    args = parser.parse_args()
    lines = [line for file in args.files for line in file.read_text("utf-8").splitlines()]
    labels, texts = zip(*(line.split("\t", 1) for line in lines), strict=True)
    X = Tfidf.fit(texts).transform(texts).toarray()
    K = len(set(labels))
    result: dict[str, Any] = {
        "documents": len(X),
        "words": X.shape[1],
        "clusters": K,
        "documents without a known word": int((~X.any(axis=1)).sum()),
        "threads": torch.get_num_threads(),
        "load at start": os.getloadavg()[0],
        "runs": [],
    }
    print(f"{len(X)} documents, {X.shape[1]} words, {K} classes", flush=True)
    for name in args.methods:
        for seed in range(args.seeds):
            began = time.perf_counter()
            found = METHODS[name](K, seed).fit(X).labels_
            seconds = time.perf_counter() - began
            run = {"method": name, "seed": seed, "seconds": seconds, **scores(labels, found)}
            result["runs"].append(run)
            write_json(args.out, result)
            figures = "  ".join(f"{m} {100 * run[m]:.1f}" for m in MEASURES)
            print(f"{name}, seed {seed}: {figures}  {seconds:.0f} s", flush=True)
    print(table(result["runs"]))


def table(runs: list[dict[str, Any]]) -> str:
    """Lay out mean and standard deviation over the seeds, a line a method."""
    lines = [f"| method | {' | '.join(MEASURES)} | s |", "| --- | --- | --- | --- | --- |"]
    for name in dict.fromkeys(run["method"] for run in runs):
        mine = [run for run in runs if run["method"] == name]
        values = [np.array([100 * run[m] for run in mine]) for m in MEASURES]
        cells = [f"{v.mean():.1f} ± {v.std():.1f}" for v in values]
        seconds = np.mean([run["seconds"] for run in mine])
        lines.append(f"| {name} | {' | '.join(cells)} | {seconds:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
