"""What 50 corrections do to the images that nobody touched.

    python benchmarks/features.py clothing.parquet --out clothing
    python benchmarks/learning.py clothing_X.npy clothing_y.npy --out learning.json --figure F.svg

For each seed a herd of the vectors is clustered with as many clusters as there are classes, and a
person is simulated: they take a cluster for the class that most of its images are of, go down the
list of the most doubtful images, as the report has it, and move those that are wrong to the cluster
that stands for their class (of several, to the one with most of it), until 50 are moved; an image
of a class that no cluster stands for is left. Then the clustering is made anew twice, with the same
seed from the same version: without the edits (`warm_start`) and with them (`learn_edits`). ACC is
that of all images, and of those that were not moved, each with a matching of its own. *By hand* is
the first of the two with the 50 put where the person put them: what they alone account for.

Instead of files, *kinds* and *noise* are made-up sets of six classes, where it should help and
where it cannot. In the first, 30 in 100 of a class lie apart from it, nearer to the next class:
what is wrong there is wrong a hundred times, for one reason. In the second, classes are round and
overlap, and the clusters are nearly as right as they can be: what is wrong is so by chance, and
says nothing of others.

    python benchmarks/learning.py kinds --corrections 30 --seeds 3 --out kinds.json
    python benchmarks/learning.py noise --corrections 30 --seeds 3 --out noise.json

Labels are used for the person and for ACC. A finished seed is kept in --out and left out next time.
--method takes any that learns from edits; --param passes one of its parameters.
"""

from __future__ import annotations

import argparse
import ast
import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from imageherd.clustering import Clustering
from imageherd.files import write_json
from imageherd.herd import Herd
from imageherd.metrics import scores
from imageherd.review import most_doubtful

Moves = dict[int, list[int]]
Planted = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


def noise(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    centers, y = rng.normal(size=(6, 48)) * 0.42, rng.integers(6, size=1200)
    return (centers[y] + rng.normal(size=(1200, 48))).astype(np.float32), y


def kinds(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    centers, apart = rng.normal(size=(6, 48)) * 0.55, rng.normal(size=(6, 48)) * 0.35
    y, is_apart = rng.integers(6, size=1200), rng.random(1200) < 0.3
    between = 0.4 * centers[y] + 0.6 * centers[(y + 1) % 6] + apart[y]
    X = np.where(is_apart[:, None], between, centers[y]) + rng.normal(size=(1200, 48)) * 0.8
    return X.astype(np.float32), y


PLANTED: dict[str, Planted] = {"kinds": kinds, "noise": noise}


def moves_of_a_person(found: Clustering, y: np.ndarray, n: int) -> Moves:
    """Rows that a person moves, by the uid of the cluster that they move them to."""
    uids, column = np.unique(found.uids, return_inverse=True)
    counts = np.zeros((len(uids), y.max() + 1), dtype=int)
    np.add.at(counts, (column, y), 1)
    stands_for = counts.argmax(1)
    to = {}
    for c in np.unique(stands_for).tolist():
        mine = np.flatnonzero(stands_for == c)
        to[c] = int(uids[mine[counts[mine, c].argmax()]])
    moves: Moves = {}
    for doubt in most_doubtful(found, len(y)):
        c = int(y[doubt.position])
        if c in to and stands_for[column[doubt.position]] != c:
            moves.setdefault(to[c], []).append(int(found.rows[doubt.position]))
            if sum(map(len, moves.values())) == n:
                break
    return moves


def acc(uids: np.ndarray, y: np.ndarray) -> float:
    return float(scores(y, np.unique(uids, return_inverse=True)[1])["ACC"])


def one_seed(
    X: Path, y: np.ndarray, folder: Path, seed: int, n: int, method: str, params: dict[str, Any]
) -> dict[str, Any]:
    started = time.perf_counter()
    herd = Herd(folder / "h.herd")
    herd.embed(X)
    base = herd.cluster(method, len(np.unique(y)), random_state=seed, **params)
    moves = moves_of_a_person(base, y, n)
    twin = Herd(shutil.copytree(herd.path, folder / "twin.herd"))
    plain = twin.cluster(warm_start=True, random_state=seed)
    edits = herd.edit()
    for to, rows in moves.items():
        edits.move(rows, to)
    learned = herd.cluster(learn_edits=True, random_state=seed)
    moved = np.concatenate(list(moves.values()))
    rest = np.setdiff1d(base.rows, moved)
    by_hand = plain.uids.copy()
    by_hand[moved] = learned.uids[moved]
    changed = learned.uids != plain.uids
    return {
        "seed": seed,
        "n_moved": len(moved),
        "first": acc(base.uids, y),
        "without": acc(plain.uids, y),
        "by hand": acc(by_hand, y),
        "learned": acc(learned.uids, y),
        "others without": acc(plain.uids[rest], y[rest]),
        "others learned": acc(learned.uids[rest], y[rest]),
        "others that changed": int(changed[rest].sum()),
        "n_others": len(rest),
        "seconds": time.perf_counter() - started,
    }


def summary(rows: list[dict[str, Any]]) -> str:
    def of(name: str, minus: str | None = None) -> np.ndarray:
        values = np.array([row[name] for row in rows])
        return 100 * (values if minus is None else values - [row[minus] for row in rows])

    def said(values: np.ndarray) -> str:
        return f"{values.mean():.2f} ± {values.std(ddof=1) if len(values) > 1 else 0:.2f}"

    gain = of("others learned", "others without")
    images = gain / 100 * [row["n_others"] for row in rows]
    return "\n".join(
        [
            f"{len(rows)} seeds, {np.mean([row['n_moved'] for row in rows]):.0f} images moved",
            f"ACC of all, %: without {said(of('without'))}, with the moved put right by hand "
            f"{said(of('by hand'))}, learned {said(of('learned'))}",
            f"paired: by hand {said(of('by hand', 'without'))}, "
            f"learned {said(of('learned', 'without'))}",
            f"ACC of the others: without {said(of('others without'))}, "
            f"learned {said(of('others learned'))}; paired {said(gain)}, positive in "
            f"{(gain > 0).sum()} of {len(rows)}",
            f"others: {images.mean():.0f} more are right; "
            f"{np.mean([row['others that changed'] for row in rows]):.0f} changed cluster",
        ]
    )


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.hashsalt": "learning", "font.size": 9}
    from matplotlib import pyplot as plt

    steps = ("without", "by hand", "learned")
    names = ("made anew\nwithout the edits", "and those moved\nput right by hand", "edits learned")
    values = 100 * np.array([[row[step] for step in steps] for row in rows])
    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    axes.plot(values.T, color="#8a8f98", linewidth=0.8, marker="o", markersize=3)
    axes.plot(values.mean(0), color="#0b62a4", linewidth=2.2, marker="o")
    for x, value in enumerate(values.mean(0)):
        said: dict[str, Any] = {"ha": "center", "weight": 700, "textcoords": "offset points"}
        clear = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85}
        axes.annotate(f"{value:.1f}", (x, value), (0, 11), **said, bbox=clear)
    axes.set_xticks(range(3), names)
    axes.set_xlim(-0.3, 2.3)
    axes.set_ylabel("ACC of all images, %")
    n_moved, n_others = rows[0]["n_moved"], rows[0]["n_others"]
    title = f"{n_moved} of {n_moved + n_others:,} images moved by hand: {len(rows)} seeds, and mean"
    axes.set_title(title, fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("X", help="X.npy, or kinds or noise")
    parser.add_argument("y", type=Path, nargs="?")
    parser.add_argument("--method", default="tsp")
    parser.add_argument("--param", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--corrections", type=int, default=50)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args()
    params = {k: ast.literal_eval(v) for k, v in (pair.split("=", 1) for pair in args.param)}
    if (args.y is None) != (args.X in PLANTED):
        parser.error("give X.npy and y.npy, or kinds or noise alone")
    run = {"method": args.method, "params": params, "corrections": args.corrections}
    run |= {"features": Path(args.X).name}
    kept = json.loads(args.out.read_text()) if args.out.exists() else {"run": run, "seeds": []}
    if kept["run"] != run:
        parser.error(f"{args.out} is of another run: {kept['run']}")
    for seed in range(len(kept["seeds"]), args.seeds):
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            X, y = Path(args.X), None if args.y is None else np.load(args.y)
            if y is None:
                vectors, y = PLANTED[args.X](np.random.default_rng(seed))
                np.save(X := Path(folder) / "x.npy", vectors)
            about = (Path(folder), seed, args.corrections, args.method, params)
            kept["seeds"].append(one_seed(X, y, *about))
        write_json(args.out, kept)
        print(json.dumps(kept["seeds"][-1]), flush=True)
    print(summary(kept["seeds"]))
    if args.figure:
        draw(kept["seeds"], args.figure)


if __name__ == "__main__":
    main()
