"""What ONNX Runtime gains over PyTorch, with weights of 32 and of 8 bits, and what it changes.

    python benchmarks/onnx_export.py
    python benchmarks/onnx_export.py --backbone dinov2-small

Embeds the photographs of examples/clothing with each runtime. Speed is the network's alone, on
random pixels. The change is measured without labels, as the share of an image's 10 nearest
neighbors that stay; and with the photographs' labels, as neighbor consistency (TSP, fig. 1).

Without --backbone the network is a ViT-S/16 with random weights, since no trained weights come with
this repository: its speed is that of any ViT-S/16; its features say little about images and lie
close together, so that rounding moves their neighbors more than a trained network's.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image

from imageherd.backbones import Backbone, load_backbone
from imageherd.backbones.spec import RUNTIMES, parse_spec
from imageherd.cores import usable_cores
from imageherd.metrics import neighbor_consistency
from imageherd.neighbors import knn_graph

CLOTHING = Path(__file__).parents[1] / "examples/clothing"
K = 10


def random_vit(folder: Path) -> str:
    torch.manual_seed(0)
    sizes = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
    model = transformers.ViTModel(transformers.ViTConfig(**sizes), add_pooling_layer=False)
    model.save_pretrained(folder)
    transformers.ViTImageProcessorPil().save_pretrained(folder)
    return str(folder)


def photographs() -> tuple[list[Path], list[str]]:
    with (CLOTHING / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [CLOTHING / row["path"] for row in rows], [row["label"] for row in rows]


def embed(backbone: Backbone, paths: list[Path]) -> np.ndarray:
    blocks = []
    for start in range(0, len(paths), 32):
        images = [Image.open(path).convert("RGB") for path in paths[start : start + 32]]
        pixels = np.stack([backbone.preprocessing.apply(image) for image in images])
        blocks.append(backbone.embed(pixels)["features"])
    return np.concatenate(blocks)


def speed(backbone: Backbone, seconds: float) -> tuple[float, float]:
    """Images a second, and a second of one core: a busy machine spoils the first only."""
    side = backbone.preprocessing.size
    pixels = np.random.default_rng(0).normal(size=(32, 3, side, side)).astype(np.float32)
    backbone.embed(pixels)
    started, cpu, n_images = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - started < seconds:
        backbone.embed(pixels)
        n_images += len(pixels)
    return n_images / (time.perf_counter() - started), n_images / (time.process_time() - cpu)


def megabytes(name: str, cache: Path, runtime: str) -> float:
    folder = Path(name) if runtime == "torch" else next((cache / "onnx").glob(f"*-{runtime}-[0-9]"))
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backbone", help="default: a ViT-S/16 with random weights")
    parser.add_argument("--seconds", type=float, default=10.0, help="timing of each runtime")
    parser.add_argument("--n", type=int, default=400, help="photographs")
    asked = parser.parse_args()
    torch.set_num_threads(usable_cores())
    paths, labels = (listed[: asked.n] for listed in photographs())
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IMAGEHERD_CACHE"] = folder
        name = asked.backbone or random_vit(Path(folder) / "vit-s16-random")
        spec = parse_spec(name)
        print(f"{asked.backbone or 'ViT-S/16, random weights'}, {len(paths)} photographs")
        print("runtime    images/s  of one core  gain     MB  least cosine  same 10  consistency")
        reference, plain = None, 0.0
        for runtime in RUNTIMES:
            backbone = load_backbone(spec.model, device="cpu", output=spec.output, runtime=runtime)
            wall, core = speed(backbone, asked.seconds)
            features = embed(backbone, paths)
            graph = knn_graph(features, k=K)
            if reference is None:
                reference, plain = (features, graph.ids), core
            lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(reference[0], axis=1)
            cosine = ((features * reference[0]).sum(1) / lengths).min()
            both = zip(graph.ids, reference[1], strict=True)
            same = np.mean([len(set(a) & set(b)) / K for a, b in both])
            disk = "" if asked.backbone else f"{megabytes(spec.model, Path(folder), runtime):.0f}"
            print(
                f"{runtime:<9}  {wall:8.1f}  {core:11.1f}  {core / plain:3.2f}x  {disk:>5}"
                f"  {cosine:12.6f}  {same:7.1%}  {neighbor_consistency(graph, labels, k=K):11.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
