"""Embedding: the whole pipeline against its bare model, by network, runtime and kind of image."""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import embed

SIZES = (2_000,)
BUNDLED, VIT = "efficientnet-lite0", "ViT-S/16 of random weights"
RUNTIMES = ("torch", "onnx", "onnx-int8")
JPEG, PNG = "400x533 JPEG", "32x32 PNG"
Case = dict[str, Any]


def plan(options: Any) -> list[Case]:
    networks = list(by_name(options)) or [BUNDLED, VIT]
    return [
        {
            "images": images,
            "network": network,
            "runtime": runtime,
            "n": n,
            "threads": options.threads,
            "device": options.device,
        }
        for n in options.sizes or SIZES
        for network in networks
        # What is an ONNX file already has no other runtime.
        for runtime in (("onnx",) if is_onnx(network) else RUNTIMES)
        for images in (JPEG, PNG)
    ]


def prepare(case: Case, options: Any, folder: Path) -> None:
    """Make the pictures and the network, exported where need be: neither is what is measured."""
    pictures = pictures_folder(case, folder)
    if not pictures.exists():
        make: Callable[[int, Path], None] = make_pngs if case["images"] == PNG else make_jpegs
        with tempfile.TemporaryDirectory(dir=folder) as unfinished:
            make(case["n"], Path(unfinished) / "pictures")
            (Path(unfinished) / "pictures").rename(pictures)
    if case["network"] == VIT and not (folder / "vit-s16").exists():
        from onnx_export import random_vit

        random_vit(folder / "vit-s16")
    keep_exports_in(case, folder)
    from imageherd.backbones import load_backbone

    load_backbone(backbone_name(case, options, folder), device=case["device"])


def measure(case: Case, options: Any, folder: Path) -> Case:
    from speed import peak_mb

    asked = argparse.Namespace(
        backbone=backbone_name(case, options, folder),
        device=case["device"],
        n=case["n"],
        repeats=options.repeats,
        workers=None,
    )
    keep_exports_in(case, folder)
    with tempfile.TemporaryDirectory(dir=folder) as herd:
        found = embed.measure(pictures_folder(case, folder), asked, Path(herd))

    def median(part: str, clock: str) -> float:
        return statistics.median(run[clock] for run in found[part])

    return {
        "seconds": median("pipeline", "wall"),
        "cpu_seconds": median("pipeline", "cpu"),
        "images_per_s": found["images_per_second"],
        "model_images_per_s": round(case["n"] / median("model", "wall"), 1),
        "decoding_images_per_s_of_one_thread": round(case["n"] / median("decoding", "wall"), 1),
        "cpu_over_parts": found["pipeline_over_parts"],
        "waiting_for_files": max(found["waiting_for_files_share"]),
        "repeats": options.repeats,
        "peak_mb": peak_mb(),
    }


def keep_exports_in(case: Case, folder: Path) -> None:
    # An export of random weights is of no use to anyone afterwards.
    if case["network"] == VIT:
        os.environ["IMAGEHERD_CACHE"] = str(folder)


def by_name(options: Any) -> dict[str, str]:
    """Return the backbones asked for by what they are called here: of a file, its name alone."""
    return {Path(b).name if Path(b).exists() else b: b for b in options.backbones or ()}


def backbone_name(case: Case, options: Any, folder: Path) -> str:
    network = by_name(options).get(case["network"], case["network"])
    if is_onnx(network):
        return network
    return f"{folder / 'vit-s16' if network == VIT else network},runtime={case['runtime']}"


def is_onnx(network: str) -> bool:
    return network == BUNDLED or network.endswith(".onnx")


def pictures_folder(case: Case, folder: Path) -> Path:
    return folder / f"{case['images'].replace(' ', '-')}-{case['n']}"


def make_jpegs(n: int, folder: Path) -> None:
    embed.make_photos(None, n, folder)


def make_pngs(n: int, folder: Path) -> None:
    """Write `n` different pictures of 32 x 32, crops of the photographs there are, made small."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True)
    photographs = list(embed.sources(None))
    rng = np.random.default_rng(0)
    for number in range(n):
        with Image.open(io.BytesIO(photographs[number % len(photographs)])) as image:
            left, top = (int(rng.integers(0, side // 3 + 1)) for side in image.size)
            width, height = (side * 2 // 3 for side in image.size)
            crop = image.convert("RGB").crop((left, top, left + width, top + height))
        crop.resize((32, 32), Image.Resampling.BOX).save(folder / f"{number:06d}.png")


def rows(records: list[Case]) -> list[dict[str, str]]:
    return [
        {
            "images": r["case"]["images"],
            "n": f"{r['case']['n']:,}",
            "network": r["case"]["network"],
            "runtime": r["case"]["runtime"],
            "device": r["case"]["device"],
            "threads": str(r["case"]["threads"]),
            "images/s": f"{r['images_per_s']:,.0f}",
            "the model alone": f"{r['model_images_per_s']:,.0f}",
            "part of it": f"{r['images_per_s'] / r['model_images_per_s']:.2f}",
            "cpu / cpu of decoding and model": f"{r['cpu_over_parts']:.2f}",
            "peak MB": f"{r['peak_mb']:,}",
            "other work": str(r["other_work"]),
        }
        for r in records
    ]
