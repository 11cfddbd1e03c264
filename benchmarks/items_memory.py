"""Peak memory of bookkeeping for very many images, none of which is new: no picture is read.

    python benchmarks/items_memory.py 1000000

makes a herd's items and a feature set of 4 numbers an image in a temporary folder, then, in a
process of its own, does what a second ``embed`` does, and prints the peak after each step as JSON.
"""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from imageherd.features.estimate import estimate
from imageherd.features.items import Items
from imageherd.features.pipeline import embed_source
from imageherd.features.writer import Writer
from imageherd.images.source import Entry

DIM = 4


def key(i: int) -> bytes:
    return b"2026/holiday %04d/IMG_%08d.jpg" % (i // 1000, i)


class Source:
    """A folder that is as the items say."""

    def __init__(self, n: int) -> None:
        self.n = n

    def scan(self) -> list[Entry]:
        """List all images."""
        return [Entry(key(i), 2_000_000 + i, 1_700_000_000_000_000_000 + i) for i in range(self.n)]

    def read(self, key: bytes) -> bytes:
        """Fail: nothing is new."""
        raise AssertionError("nothing is to be read")


BACKBONE = SimpleNamespace(
    key="none", identity={}, dim=DIM, batch_size=8, preprocessing=SimpleNamespace(size=4)
)


def make(folder: Path, n: int) -> None:
    items = Items(folder / "items")
    for start in range(0, n, items.part_rows):
        each = range(start, min(n, start + items.part_rows))
        items.append(
            {
                "source": [0] * len(each),
                "key": [key(i) for i in each],
                "path": [key(i).decode() for i in each],
                "content_hash": [hashlib.sha256(b"%d" % i).hexdigest() for i in each],
                "width": [4000] * len(each),
                "height": [3000] * len(each),
                "bytes": [2_000_000 + i for i in each],
                "mtime_ns": [1_700_000_000_000_000_000 + i for i in each],
                "status": ["ok"] * len(each),
                "reason": [""] * len(each),
            }
        )
    items.save()
    writer = Writer(folder / "features", BACKBONE, items.part_rows)
    for index in range(-(-n // items.part_rows)):
        rows = min(items.part_rows, n - index * items.part_rows)
        block = writer.open_block(index, rows)
        block.features[:], block.missing[:] = np.float32(1), False
        writer.commit(block, lambda: None)


def measure(folder: Path, n: int) -> None:
    steps: list[tuple[str, float, float]] = []
    started = time.perf_counter()

    def note(step: str) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        steps.append((step, round(peak), round(time.perf_counter() - started, 1)))

    note("start")
    items = Items(folder / "items")
    note("items read")
    source = Source(n)
    source.scan()
    note("folder listed")
    assert estimate(items, source, 0, BACKBONE, folder / "features") == 0
    note("estimate")
    summary = embed_source(items, source, 0, BACKBONE, folder / "features", workers=1)
    assert (summary.n_images, summary.n_embedded) == (n, 0)
    note("embed")
    print(json.dumps([dict(zip(("step", "peak_mib", "seconds"), s, strict=True)) for s in steps]))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure(Path(sys.argv[2]), int(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), int(sys.argv[1]))
            subprocess.run([sys.executable, __file__, sys.argv[1], folder], check=True)
