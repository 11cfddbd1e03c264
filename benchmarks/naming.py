"""Are clusters called what they are? The offline classifier's vote on labelled photographs.

    python benchmarks/features.py clothing.parquet --out clothing
    python benchmarks/naming.py clothing benchmarks/clothing_names.json --k 10 20 --json naming.json

Takes what benchmarks/features.py writes. The features are clustered as `imageherd cluster` would;
which names are right for which class was written down before anything was voted. A cluster is
rightly named if the text that names it is right for the label most of its members have. Labels are
used for nothing but the figures printed here.

Two rules are compared. Old: every cluster has its most voted text; where several have the same, all
but the one with the largest share become "winner / runner-up" or get a number. New:
`imageherd.naming.distribute`. For both the winner is judged, which a longer name begins with; how
many clusters have a name without an addition is printed beside it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imageherd.backbones import imagenet_class_names
from imageherd.heads import HEADS
from imageherd.heads.make import make_head
from imageherd.naming import ClusterName, vote_names

Name = tuple[str, bool]


def old_rule(
    classes: NDArray[Any], probabilities: NDArray[Any], labels: NDArray[Any], names: list[str]
) -> dict[int, Name]:
    """Return each cluster's winner, and whether it stands alone."""
    found = {}
    for uid in np.unique(labels).tolist():
        votes: Counter[str] = Counter()
        for own, p in zip(classes[labels == uid], probabilities[labels == uid], strict=True):
            for index, weight in zip(own, p, strict=True):
                votes[names[index]] += float(weight)
        winner, most = votes.most_common(1)[0]
        found[uid] = winner, most / votes.total()
    best: dict[str, tuple[float, int]] = {}
    for uid, (winner, share) in found.items():
        best[winner] = max(best.get(winner, (0.0, 0)), (share, -uid))
    return {uid: (w, best[w] == (share, -uid)) for uid, (w, share) in found.items()}


def judge(
    winners: dict[int, Name], labels: NDArray[Any], y: NDArray[Any], right: list[set[str]]
) -> dict[str, float]:
    """Return the shares of clusters and of images that are rightly named."""
    rightly = {uid: winners[uid][0] in right[majority(y[labels == uid])] for uid in winners}
    sizes = {uid: int((labels == uid).sum()) for uid in winners}
    return {
        "clusters": len(winners),
        "clusters_right": sum(rightly.values()) / len(winners),
        "images_right": sum(sizes[uid] for uid in winners if rightly[uid]) / len(labels),
        "without_addition": sum(alone for _, alone in winners.values()) / len(winners),
        "right_without_addition": sum(rightly[u] and winners[u][1] for u in winners) / len(winners),
    }


def majority(members: NDArray[Any]) -> int:
    return int(np.bincount(members).argmax())


def sheet(
    named: dict[int, ClusterName],
    labels: NDArray[Any],
    y: NDArray[Any],
    right: list[set[str]],
    label_names: list[str],
) -> list[dict[str, Any]]:
    """Return what the names of one clustering were, largest cluster first."""
    rows = []
    for uid, outcome in named.items():
        members = y[labels == uid]
        label = majority(members)
        rows.append(
            {
                "name": outcome.name,
                "images": len(members),
                "share": outcome.share,
                "lift": outcome.lift,
                "runner_up": outcome.runner_up,
                "mostly": label_names[label],
                "mostly_share": float((members == label).mean()),
                "right": outcome.winner in right[label],
            }
        )
    return sorted(rows, key=lambda row: -row["images"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("features", help="how the files' names begin")
    parser.add_argument("names", type=Path, help="JSON: which names are right for which class")
    parser.add_argument("--method", choices=list(HEADS), default="tsp")
    parser.add_argument("--k", type=int, nargs="+", default=[10, 20])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    X = np.load(f"{args.features}_X.npy")
    y = np.load(f"{args.features}_y.npy")
    classes = np.load(f"{args.features}_top5_classes.npy")
    probabilities = np.load(f"{args.features}_top5_probabilities.npy")
    label_names = json.loads(Path(f"{args.features}_names.json").read_text())
    table = json.loads(args.names.read_text())["names"]
    right = [{name for _, name in table[label]} for label in label_names]
    can_be = float(np.mean([bool(right[label]) for label in y]))
    print(f"{len(X):,} images; {can_be:.1%} are of classes that ImageNet has a name for")
    runs = []
    for k in args.k:
        for seed in range(args.seeds):
            head = make_head(args.method, k, len(X), random_state=seed, device="cpu")
            labels = head.fit(X).labels_
            vote = (classes, probabilities, labels, imagenet_class_names())
            named = vote_names(*vote)
            new = {uid: (n.winner, n.name == n.winner) for uid, n in named.items()}
            for rule, winners in (("old", old_rule(*vote)), ("new", new)):
                scores = judge(winners, labels, y, right)
                runs.append({"k": k, "seed": seed, "rule": rule, **scores})
                print(
                    f"k {k:>3} seed {seed} {rule}: {scores['clusters_right']:6.1%} of clusters and "
                    f"{scores['images_right']:6.1%} of images rightly named; "
                    f"{scores['without_addition']:6.1%} of names without an addition, "
                    f"{scores['right_without_addition']:6.1%} and right"
                )
            rows = sheet(named, labels, y, right, label_names)
            runs[-1]["sheet"] = rows
            if seed == 0:
                for row in rows:
                    print(
                        f"  {row['name']:<34} {row['images']:>5} {row['share']:>4.0%} "
                        f"x{row['lift']:<4.1f} {'right' if row['right'] else 'wrong'}: "
                        f"{row['mostly_share']:.0%} {row['mostly']}, or {row['runner_up']}"
                    )
    for k in args.k:
        for rule in ("old", "new"):
            own = [run for run in runs if run["k"] == k and run["rule"] == rule]
            means = {key: np.mean([run[key] for run in own]) for key in own[0] if "right" in key}
            print(f"k {k:>3} {rule}, mean: " + ", ".join(f"{a} {v:.1%}" for a, v in means.items()))
    if args.json:
        args.json.write_text(json.dumps(runs, indent=2) + "\n")


if __name__ == "__main__":
    main()
