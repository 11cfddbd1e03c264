"""Which rule counts clusters best: class subsets of labelled data, judged on data it has not seen.

    python benchmarks/count_study.py cifar10=C_X.npy,C_y.npy clothing=L_X.npy,L_y.npy \
        fashion=F_X.npy,F_y.npy digits=D_X.npy,D_y.npy reuters=R_X.npy,R_y.npy \
        --mix cifar10 clothing fashion --out count_study

Features are (n, d) and labels (n,) in .npy files. From every set come subsets with 3, 5, 8 and 10
of its classes, balanced and with sizes that fall geometrically from 10 to 1, some draws of each;
from every two of the sets of --mix together, which must share their features' meaning, 15 and 20.
A subset is described by each rule of `imageherd.counting_rules` alone; the candidates are these
rules and their combinations, and none is chosen by a subset's own data: for a subset the candidate
is the one that does best on all subsets that share no set with it. What was computed is kept in
--out, and a run that was stopped goes on from there; a new rule is computed for all subsets.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imageherd.counting import count_by_rules
from imageherd.counting_rules import RULES
from imageherd.files import read_json, write_json

ALONE, TOGETHER = (3, 5, 8, 10), (15, 20)
K_MIN, K_MAX = 2, 30
RATIO = 10
WITHIN = 0.2
BEYOND = (-0.8, -0.4, 0.4, 0.8)


class Subset(NamedTuple):
    """Classes drawn from one set or two; `n_classes` of them, balanced or not, by a seed."""

    sources: tuple[str, ...]
    n_classes: int
    balanced: bool
    draw: int

    @property
    def key(self) -> str:
        """What it is called in the results."""
        how = "balanced" if self.balanced else "uneven"
        return f"{'+'.join(self.sources)}-{self.n_classes}-{how}-{self.draw}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sets", nargs="+", metavar="NAME=X.npy,y.npy")
    parser.add_argument("--mix", nargs="*", default=[], help="sets of the same features")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument(
        "--part",
        type=int,
        nargs=2,
        default=(0, 1),
        metavar=("I", "N"),
        help="only every Nth subset from the Ith on: several processes share the work",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    args = parser.parse_args()
    data = {}
    for text in args.sets:
        name, _, files = text.partition("=")
        data[name] = [np.load(file, mmap_mode="r") for file in files.split(",")]
    every = list(subsets({name: len(np.unique(y)) for name, (_, y) in data.items()}, args))
    for number, subset in enumerate(every):
        if number % args.part[1] == args.part[0]:
            describe(data, subset, args.rows, args.out / f"{subset.key}.json")
    kept = [
        read_json(args.out / f"{s.key}.json")
        for s in every
        if (args.out / f"{s.key}.json").exists()
    ]
    print(report([row for row in kept if set(row["rules"]) == set(RULES)]))


def describe(data: dict[str, list[Any]], subset: Subset, n: int, path: Path) -> None:
    """Ask the rules that have not been asked yet about a subset; the seconds are processor's."""
    kept = read_json(path) if path.exists() else {"rules": {}, "seconds": 0.0}
    missing = [rule for rule in RULES if rule not in kept["rules"]]
    if not missing:
        return
    started = time.process_time()
    X = draw(data, subset, n)
    counts = count_by_rules(X, K_MIN, K_MAX, rules=missing, sample=len(X))
    kept["rules"] |= {rule: {"ks": c.ks, "scores": c.scores} for rule, c in counts.items()}
    kept["seconds"] += time.process_time() - started
    write_json(path, kept | {"sources": subset.sources, "n_classes": subset.n_classes})
    answers = " ".join(f"{rule} {count.n_clusters}" for rule, count in counts.items())
    print(f"{subset.key} ({kept['seconds']:.1f} s): {answers}", flush=True)


def answer(rule: str, curve: dict[str, Any], beyond: float = 0.0) -> int:
    """Return the number that a curve speaks for, read from `beyond` instead of 0."""
    heights = RULES[rule].read(np.array(curve["scores"]) - beyond)
    return int(curve["ks"][int(heights.argmax())])


def subsets(n_classes: dict[str, int], args: argparse.Namespace) -> Iterator[Subset]:
    """Yield the subsets, the first draw of everything first."""
    for number in range(args.draws):
        for balanced in (True, False):
            for name, most in n_classes.items():
                for k in ALONE:
                    if k <= most:
                        yield Subset((name,), k, balanced, number)
            for pair in combinations(args.mix, 2):
                for k in TOGETHER:
                    if k <= sum(n_classes[name] for name in pair):
                        yield Subset(pair, k, balanced, number)


def draw(data: dict[str, list[Any]], subset: Subset, n: int) -> np.ndarray:
    """Draw about `n` rows, fewer where a class has not enough; in the order of the files."""
    seed = [subset.draw, subset.n_classes, subset.balanced, *"+".join(subset.sources).encode()]
    rng = np.random.default_rng(seed)
    classes = [(name, c) for name in subset.sources for c in np.unique(data[name][1])]
    chosen = [classes[i] for i in rng.choice(len(classes), subset.n_classes, replace=False)]
    members = [np.flatnonzero(data[name][1] == c) for name, c in chosen]
    share = RATIO ** -np.linspace(0, 0 if subset.balanced else 1, subset.n_classes)
    sizes = np.minimum(np.rint(n * share / share.sum()), [len(m) for m in members]).astype(int)
    if subset.balanced:
        sizes[:] = sizes.min()
    parts = []
    for (name, _), rows, size in zip(chosen, members, sizes, strict=True):
        parts.append(data[name][0][np.sort(rng.choice(rows, size, replace=False))])
    return np.concatenate(parts)


def candidates(rules: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Return every candidate's answer: each rule's, and geometric means of two, three and all.

    What `splits` takes for chance is a number that somebody chose: its neighbours are candidates.
    """
    answers = {(rule,): answer(rule, curve) for rule, curve in rules.items()}
    for beyond in BEYOND:
        answers[("splits", f"{beyond:+}")] = answer("splits", rules["splits"], beyond)
    found = {}
    for size in (1, 2, 3, len(RULES)):
        for group in combinations(answers, size):
            if len({name[0] for name in group}) == size:
                mean = np.exp(np.mean([np.log(answers[name]) for name in group]))
                found[", ".join("".join(name) for name in group)] = round(float(mean))
    return found


def report(rows: list[dict[str, Any]]) -> str:
    """Judge every candidate, and the choice among them, on data that had no part in it."""
    true = np.array([row["n_classes"] for row in rows])
    answers = [candidates(row["rules"]) for row in rows]
    names = list(answers[0])
    table = np.array([[answer[name] for name in names] for answer in answers])
    constants = np.arange(K_MIN, K_MAX + 1)
    sets = ["+".join(row["sources"]) for row in rows]
    group = np.array(["mixed" if "+" in name else name for name in sets])
    error = np.abs(table - true[:, None]) / true[:, None]
    guess_error = np.abs(constants - true[:, None]) / true[:, None]
    chosen, guessed = np.empty((2, len(rows)), dtype=int)
    for i, row in enumerate(rows):
        apart = [not set(row["sources"]) & set(other["sources"]) for other in rows]
        chosen[i] = best(error[apart], group[apart])
        guessed[i] = guess_error[apart].mean(axis=0).argmin()
    each = np.arange(len(rows))
    lines = [
        "| left out | subsets | within 20 % | mean relative error | best constant, chosen likewise "
        "| in hindsight | chosen rule |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in [*dict.fromkeys(group), "all"]:
        of = (group == name) | (name == "all")
        picked = [names[c] for c in chosen[of]]
        rule = max(dict.fromkeys(picked), key=picked.count)
        ours = error[each, chosen][of]
        lines.append(
            f"| {name} | {of.sum()} | {(ours <= WITHIN + 1e-9).mean():.0%} | {ours.mean():.2f} | "
            f"{guess_error[each, guessed][of].mean():.2f} | {guess_error[of].mean(axis=0).min():.2f}"
            f" | {rule if name != 'all' else ''} |"
        )
    winner = best(error, group)
    shown = [names.index(rule) for rule in RULES]
    shown += [i for i in np.argsort(-goodness(error, group), kind="stable") if i not in shown][:6]
    lines += ["", f"Best on everything: {names[winner]}", ""]
    heads = [f"{k}" for k in sorted(set(true.tolist()))]
    lines += [
        f"| rule | within 20 % | mean relative error | mean answer at {' | '.join(heads)} |",
        "|---" * (3 + len(heads)) + "|",
    ]
    for i in shown:
        means = [f"{table[true == int(k), i].mean():.1f}" for k in heads]
        close = (error[:, i] <= WITHIN + 1e-9).mean()
        lines.append(
            f"| {names[i]} | {close:.0%} | {error[:, i].mean():.2f} | {' | '.join(means)} |"
        )
    return "\n".join(lines)


def goodness(error: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Share within 20 % less mean relative error, every set counting the same."""
    each = [error[group == name] for name in np.unique(group)]
    return np.mean([(e <= WITHIN + 1e-9).mean(axis=0) - e.mean(axis=0) for e in each], axis=0)


def best(error: np.ndarray, group: np.ndarray) -> int:
    return int(goodness(error, group).argmax())


if __name__ == "__main__":
    main()
