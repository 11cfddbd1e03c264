"""What embedding costs beside its parts: bare decoding, the bare model, and the whole pipeline.

    python benchmarks/embed.py [--images photos.parquet] [--n 2000] [--out embed.json]

Makes `n` JPEGs of about 400 x 533 (quality 90) in a temporary folder, then measures CPU seconds
(user and system) of (a) decoding and preprocessing them in a plain loop, (b) the model on as many
ready batches, (c) the pipeline as `imageherd embed` runs it, and how long the model waited for its
next batch. Each part runs `--repeats` times, in turn; the figures are medians.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imageherd.backbones import Backbone, load_backbone
from imageherd.features import pipeline
from imageherd.features.items import Items
from imageherd.features.prefetch import map_ahead
from imageherd.images.decode import decode
from imageherd.images.folder import FolderSource

SIZE = (400, 533)
EXAMPLES = Path(__file__).parents[1] / "examples" / "clothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="Parquet file with a column of image bytes")
    parser.add_argument("--n", type=int, default=2000, help="how many images")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each part")
    parser.add_argument("--workers", type=int, help="threads that decode")
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="where the JSON goes, besides the terminal")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        photos = Path(temporary) / "photos"
        make_photos(args.images, args.n, photos)
        result = measure(photos, args, Path(temporary))
    text = json.dumps(result, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


def measure(photos: Path, args: argparse.Namespace, temporary: Path) -> dict[str, Any]:
    backbone = load_backbone(args.backbone, device=args.device)
    warm = np.zeros((backbone.batch_size, 3, *[backbone.preprocessing.size] * 2), np.float32)
    backbone.embed(warm)
    decoding, model, whole, watches = [], [], [], []
    for repeat in range(args.repeats):
        decoding.append(timed(partial(decode_all, photos, backbone)))
        model.append(timed(partial(embed_ready_batches, backbone, args.n)))
        watches.append(Watched(backbone))
        whole.append(
            timed(partial(run, photos, watches[-1], args.workers, temporary / f"{repeat}"))
        )
    parts = statistics.median(a["cpu"] + b["cpu"] for a, b in zip(decoding, model, strict=True))
    cpu = statistics.median(c["cpu"] for c in whole)
    wall = statistics.median(c["wall"] for c in whole)
    return {
        "n": args.n,
        "backbone": backbone.key,
        "cpus": len(os.sched_getaffinity(0)),
        "decoding": decoding,
        "model": model,
        "pipeline": whole,
        "pipeline_over_parts": round(cpu / parts, 4),
        "pipeline_over_parts_each": [
            round(c["cpu"] / (a["cpu"] + b["cpu"]), 4)
            for a, b, c in zip(decoding, model, whole, strict=True)
        ],
        "images_per_second": round(args.n / wall, 1),
        "first_batch_seconds": [round(w.first, 3) for w in watches],
        "waiting_for_files_seconds": [round(w.waiting, 3) for w in watches],
        "waiting_for_files_share": [
            round(w.waiting / c["wall"], 4) for w, c in zip(watches, whole, strict=True)
        ],
        "between_batches_seconds": [round(w.between, 3) for w in watches],
    }


class Watched:
    """A backbone that notes how long it stood idle, and how much of that for want of a file.

    `first` is the time until the first batch was there; what follows leaves it out.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._idle_since = time.perf_counter()
        self._started = False
        self.first = self.between = self.waiting = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def embed(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Embed, and note the idle time before."""
        idle = time.perf_counter() - self._idle_since
        if self._started:
            self.between += idle
        else:
            self.first, self._started = idle, True
        outputs = self._backbone.embed(batch)
        self._idle_since = time.perf_counter()
        return outputs

    def map_ahead(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Stand in for the pipeline's own, and note how long each result made it wait."""
        results = map_ahead(*args, **kwargs)
        try:
            while True:
                asked = time.perf_counter()
                try:
                    result = next(results)
                except StopIteration:
                    return
                if self._started:
                    self.waiting += time.perf_counter() - asked
                yield result
        finally:
            results.close()


def decode_all(photos: Path, backbone: Backbone) -> None:
    for path in sorted(photos.iterdir()):
        image = decode(path.read_bytes(), min_side=backbone.preprocessing.resize).image
        backbone.preprocessing.apply(image)


def embed_ready_batches(backbone: Backbone, n: int) -> None:
    side = backbone.preprocessing.size
    batch = np.random.default_rng(0).normal(size=(backbone.batch_size, 3, side, side))
    batch = batch.astype(np.float32)
    for _ in range(-(-n // backbone.batch_size)):
        backbone.embed(batch)


def run(photos: Path, backbone: Any, workers: int | None, herd: Path) -> None:
    folder = herd / "features" / backbone.key
    pipeline.map_ahead = backbone.map_ahead
    summary = pipeline.embed_source(
        Items(herd / "items"), FolderSource(photos), 0, backbone, folder, workers=workers
    )
    assert summary.n_embedded + summary.n_copied == summary.n_images, summary


def timed(work: Callable[[], None]) -> dict[str, float]:
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return {
        name: round(value, 3)
        for name, value in [
            ("cpu", user + system),
            ("user", user),
            ("system", system),
            ("wall", wall),
        ]
    }


def make_photos(parquet: Path | None, n: int, folder: Path) -> None:
    """Write `n` different JPEGs, the pictures there are repeated with other noise if need be."""
    folder.mkdir(parents=True)
    pictures = list(sources(parquet))
    rng = np.random.default_rng(0)
    for number in range(n):
        with Image.open(io.BytesIO(pictures[number % len(pictures)])) as image:
            upright = image.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)
        if number >= len(pictures):
            noise = rng.integers(-3, 4, (SIZE[1], SIZE[0], 3))
            noisy = np.clip(np.asarray(upright, np.int16) + noise, 0, 255)
            upright = Image.fromarray(noisy.astype(np.uint8))
        upright.save(folder / f"{number:05d}.jpg", quality=90)


def sources(parquet: Path | None) -> Iterator[bytes]:
    if parquet is None:
        for path in sorted(EXAMPLES.glob("*.jpg")):
            yield path.read_bytes()
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(parquet)
    name = next(
        f.name for f in table.schema if pa.types.is_binary(f.type) or pa.types.is_struct(f.type)
    )
    for value in table[name].to_pylist():
        yield value["bytes"] if isinstance(value, dict) else value


if __name__ == "__main__":
    main()
