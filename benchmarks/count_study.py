"""Which rule counts clusters best: class subsets of labelled data, judged on data it has not seen.

    python benchmarks/count_study.py cifar10=C_X.npy,C_y.npy clothing=L_X.npy,L_y.npy \
        fashion=F_X.npy,F_y.npy digits=D_X.npy,D_y.npy reuters=R_X.npy,R_y.npy \
        --mix cifar10 clothing fashion --out count_study

Features are (n, d) and labels (n,) in .npy files. From every set come subsets with 3, 5, 8 and 10
of its classes, balanced and with sizes that fall geometrically from 10 to 1, some draws of each;
from every two of the sets of --mix together, which must share their features' meaning, 15 and 20.
The rules of `imageherd.counting_rules` count each subset. Which of them is chosen for a subset is
decided on all subsets that share no set with it: by the share within 20 % of the true number less
the mean relative error, every set counting the same. What was computed is kept in --out, and a run
that was stopped goes on from there; a new rule is computed for all subsets.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
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


def report(rows: list[dict[str, Any]]) -> str:
    """Judge every rule, and the choice among them, on data that had no part in it."""
    true = np.array([row["n_classes"] for row in rows])
    answers = {rule: [answer(rule, row["rules"][rule]) for row in rows] for rule in RULES}
    group = np.array(["mixed" if len(r["sources"]) > 1 else r["sources"][0] for r in rows])
    apart = np.array([[not set(a["sources"]) & set(b["sources"]) for b in rows] for a in rows])
    constants = {str(k): [k] * len(rows) for k in range(K_MIN, K_MAX + 1)}
    # By mean error alone: the best of the guesses, not the best by what rules are chosen by.
    _, guess_errors = chosen(constants, true, apart, group, worth=lambda e: -e.mean(axis=1))
    names, errors = chosen(answers, true, apart, group)
    every = np.array(list(constants.values()))
    lines = [
        "| left out | subsets | rule chosen | within 20 % | mean relative error | constant chosen "
        "alike | best constant in hindsight |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in [*dict.fromkeys(group), "all"]:
        of = (group == name) | (name == "all")
        picked = ", ".join(sorted(set(names[of]))) if name != "all" else ""
        hindsight = relative_error(every, true)[:, of].mean(axis=1).min()
        ours = f"{within(errors[of]):.0%} | {errors[of].mean():.2f}"
        theirs = f"{guess_errors[of].mean():.2f} | {hindsight:.2f}"
        lines.append(f"| {name} | {of.sum()} | {picked} | {ours} | {theirs} |")
    means = {
        " and ".join(rules): np.rint(np.sqrt(np.prod([answers[r] for r in rules], axis=0)))
        for rules in combinations(RULES, 2)
    }
    _, errors = chosen(answers | means, true, apart, group)
    together = f"{within(errors):.0%} within 20 %, mean relative error {errors.mean():.2f}."
    lines += ["", f"With the geometric means of every two rules as candidates too: {together}", ""]
    return "\n".join(lines + rules_table(rows, answers, true, group))


def rules_table(
    rows: list[dict[str, Any]], answers: dict[str, Any], true: np.ndarray, group: np.ndarray
) -> list[str]:
    """How each rule does on all subsets; the default's threshold moved, too."""
    for beyond in BEYOND:
        moved = [answer("splits", row["rules"]["splits"], beyond) for row in rows]
        answers = answers | {f"splits, threshold {beyond:+}": moved}
    sizes, sets = np.unique(true), list(dict.fromkeys(group))
    lines = [
        f"| rule | within 20 % | error | {' | '.join(sets)} | mean answer at "
        f"{' | '.join(map(str, sizes))} |",
        "|---" * (3 + len(sets) + len(sizes)) + "|",
    ]
    for name, found in answers.items():
        error = relative_error(np.array([found]), true)[0]
        cells = [f"{within(error[group == g]):.0%}, {error[group == g].mean():.2f}" for g in sets]
        cells += [f"{np.mean(np.array(found)[true == k]):.1f}" for k in sizes]
        lines.append(f"| {name} | {within(error):.0%} | {error.mean():.2f} | {' | '.join(cells)} |")
    return lines


def chosen(
    answers: dict[str, Any],
    true: np.ndarray,
    apart: np.ndarray,
    group: np.ndarray,
    worth: Callable[[np.ndarray], np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each subset the candidate best on those apart from it, and its error there."""
    error = relative_error(np.array(list(answers.values())), true)
    picked = []
    for others in apart:
        each = worth(error[:, others]) if worth else goodness(error[:, others], group[others])
        picked.append(int(each.argmax()))
    return np.array(list(answers))[picked], error[picked, np.arange(len(true))]


def relative_error(answers: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.abs(answers - true) / true


def within(error: np.ndarray) -> float:
    return float((error <= WITHIN + 1e-9).mean())


def goodness(error: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Share within 20 % less mean relative error, every set counting the same."""
    each = [error[:, group == name] for name in np.unique(group)]
    shares = [(e <= WITHIN + 1e-9).mean(axis=1) - e.mean(axis=1) for e in each]
    return np.asarray(np.mean(shares, axis=0))


if __name__ == "__main__":
    main()
