"""What features in float16 save, and what they change.

    python benchmarks/half_features.py X.npy [--labels y.npy] [--n-clusters 20] [--seeds 3]

Takes the vectors into a herd twice, in float32 and in float16, and compares: bytes on disk; the
share of each row's 10 nearest that stay; the clusters of k-means and TSP, as the adjusted Rand
index between the two, beside that between one seed and the next in float32; and, with labels, both
kinds' adjusted mutual information with these.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score

from imageherd import TSP, Herd, KMeans
from imageherd.features.precision import DTYPES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("vectors", type=Path, help="a .npy of shape (n, d)")
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--n-clusters", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    sets, graphs = [], []
    with tempfile.TemporaryDirectory() as folder:
        herd = Herd(Path(folder, "compared.herd"))
        for dtype in DTYPES:
            herd.embed(asked.vectors, dtype=dtype)
            data = herd.features()
            shards = data.store.folder.glob("shard-*.npy")
            print(f"{dtype}: {sum(path.stat().st_size for path in shards) / 1e6:.2f} MB")
            sets.append(np.array(data.X))
            graphs.append(herd.neighbors(data, k=10).ids)
    kept = [len(np.intersect1d(*ids)) / 10 for ids in zip(*graphs, strict=True)]
    print(f"10 nearest that stay: {np.mean(kept):.4f}")
    labels = np.load(asked.labels) if asked.labels else None
    for head in (KMeans, TSP):
        runs = [
            [head(asked.n_clusters, random_state=s).fit_predict(X) for s in range(asked.seeds)]
            for X in sets
        ]
        between = [adjusted_rand_score(*pair) for pair in zip(*runs, strict=True)]
        of_seeds = [adjusted_rand_score(*pair) for pair in itertools.combinations(runs[0], 2)]
        print(f"{head.__name__}: ARI float32 to float16 {shown(between)}, ", end="")
        print(f"seed to seed {shown(of_seeds)}")
        if labels is not None:
            for dtype, found in zip(DTYPES, runs, strict=True):
                scores = [adjusted_mutual_info_score(labels, one) for one in found]
                print(f"    AMI with the labels, {dtype}: {shown(scores)}")


def shown(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
