"""How fast a herd is pushed to a store and pulled from it, and the memory that takes.

    python benchmarks/push.py [--url file:///mnt/nas/try] [--rows 100000] [--dim 384]

Makes a herd of so many random vectors, in shards of 4,096. By default the store is a folder beside
it, so that the figures are the disk's and ours. The URL is to be a place of its own; what is put
there stays.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from imageherd import Herd, pull, push


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here, there, vectors = (Path(folder, name) for name in ("a.herd", "b.herd", "v.npy"))
        url = asked.url or f"file://{folder}/store"
        shape = (asked.rows, asked.dim)
        np.save(vectors, np.random.default_rng(0).random(shape, dtype=np.float32))
        Herd(here).embed(vectors)
        before = peak_mb()
        for name, run in (
            ("push", lambda: push(here, url)),
            ("push again", lambda: push(here, url)),
            ("pull", lambda: pull(url, there)),
            ("pull again", lambda: pull(url, there)),
        ):
            started = time.perf_counter()
            done = run()
            seconds, megabytes = time.perf_counter() - started, done.n_bytes / 1e6
            print(f"{name}: {megabytes:.0f} MB in {seconds:.1f} s, {megabytes / seconds:.0f} MB/s")
        print(f"memory above that of before: {peak_mb() - before:.0f} MB")


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
