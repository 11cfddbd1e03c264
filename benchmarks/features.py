"""Features of the images in a Parquet file, as X.npy and y.npy for the other benchmarks.

    python benchmarks/features.py cifar10.parquet --split test --mode squash --out cifar10_test

Columns: image (a struct with bytes), label (a string) and, for --split, split. Writes OUT_X.npy
(n, d) float32 in the file's order, OUT_y.npy (n,) int64 and OUT_names.json, the classes in order;
from a classifier of ImageNet's classes OUT_top5_{classes,probabilities}.npy too, (n, 5) each.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from imageherd.backbones import DEFAULT_BACKBONE, load_backbone
from imageherd.features.batching import top5_of
from imageherd.images.decode import decode
from imageherd.progress import progress


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parquet", type=Path)
    parser.add_argument("--split", help="only rows of this split")
    parser.add_argument("--mode", choices=("crop", "squash"), default="crop")
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE)
    parser.add_argument("--out", required=True, help="how the files' names begin")
    args = parser.parse_args()
    table = pq.read_table(args.parquet, columns=["split", "label", "image"])
    if args.split:
        table = table.filter(np.asarray(table["split"]) == args.split)
    backbone = load_backbone(args.backbone, preprocessing_mode=args.mode)
    images = (row["bytes"] for row in table["image"].to_pylist())

    def pixels_of(data: bytes) -> np.ndarray:
        return backbone.preprocessing.apply(decode(data).image)

    X = np.empty((len(table), backbone.dim), np.float32)
    size = backbone.batch_size
    done, top5 = 0, []
    with ThreadPoolExecutor() as pool, progress("Embedding", len(X), "images") as advance:
        while batch := list(islice(images, size)):
            pixels = list(pool.map(pixels_of, batch))
            rows = slice(done, done + len(pixels))
            padded = np.zeros((size, *pixels[0].shape), np.float32)
            padded[: len(pixels)] = pixels
            outputs = backbone.embed(padded)
            X[rows] = outputs["features"][: len(pixels)]
            if "logits" in outputs:
                top5.append(top5_of(outputs["logits"][: len(pixels)]))
            done = rows.stop
            advance(len(pixels))
    names, y = np.unique(np.asarray(table["label"].to_pylist()), return_inverse=True)
    np.save(f"{args.out}_X.npy", X)
    np.save(f"{args.out}_y.npy", y.astype(np.int64))
    if top5:
        for field in ("classes", "probabilities"):
            np.save(f"{args.out}_top5_{field}.npy", np.concatenate(top5)[field])
    Path(f"{args.out}_names.json").write_text(json.dumps(names.tolist()) + "\n")


if __name__ == "__main__":
    main()
