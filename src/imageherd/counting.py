"""How many clusters: what the rules of `imageherd.counting_rules` say, and what they say it by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from imageherd.counting_rules import RULES, Evidence, directions, standing
from imageherd.counting_splits import unit_rows

if TYPE_CHECKING:
    from imageherd.heads.cpp import CPP

# The best on features of images, which is what herds hold; see docs/counting.md.
DEFAULT_RULE = "spectrum"

_MOST_BY_DEFAULT = 30
_ROWS_PER_CLUSTER = 20
_GRID_STEP = 0.1
_N_RUNNERS_UP = 3
_CHANCES_AT_LEAST = 10


@dataclass(frozen=True)
class Count:
    """A number of clusters and what speaks for it.

    Attributes
    ----------
    n_clusters : int
        The number with the best score; the smallest such, if several.
    ks : tuple of int
        The numbers tried, ascending; just (n_clusters,) where the data leave no choice.
    scores : tuple of float
        Score of each, see the rule; 0 where there was no choice.
    rule : str
        What was scored: one of `imageherd.counting_rules.RULES`.
    why_no_choice : str
        Why only one number was looked at; empty where several were compared.
    """

    n_clusters: int
    ks: tuple[int, ...]
    scores: tuple[float, ...]
    rule: str
    why_no_choice: str = ""

    @property
    def runners_up(self) -> tuple[tuple[int, float], ...]:
        """Up to three numbers that come next, with their scores, best first.

        Peaks of the curve come before numbers on the slope of another, whatever their scores: next
        to a good number the score is good too, and says nothing new.
        """
        height = RULES[self.rule].read(np.array(self.scores)).tolist()
        edge = [-np.inf]
        left, right = edge + height[:-1], height[1:] + edge
        others = [
            (not (h > lower and h > upper), -h, k, score)
            for h, lower, upper, k, score in zip(
                height, left, right, self.ks, self.scores, strict=True
            )
            if k != self.n_clusters
        ]
        return tuple((k, score) for _, _, k, score in sorted(others)[:_N_RUNNERS_UP])

    @property
    def reason(self) -> str:
        """One line: the number, the rule's score there, and the number that comes next.

        Where no numbers were compared it says that, and why.
        """
        if not self.runners_up:
            why = self.why_no_choice or "there is no other number to compare it with"
            return f"{_clusters(self.n_clusters)}, but this is no count: {why}"
        own = self.scores[self.ks.index(self.n_clusters)]
        k, other = self.runners_up[0]
        # As many digits as tell the two apart.
        digits = next((d for d in (2, 3, 4) if f"{own:z.{d}f}" != f"{other:z.{d}f}"), 4)
        return (
            f"{_clusters(self.n_clusters)}: {self.rule} {own:z.{digits}f} at {self.n_clusters}, "
            f"{standing(self.rule, own)}; next {k} with {other:z.{digits}f}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return all of it for JSON: "compared" says whether the number was chosen at all."""
        found = {"runners_up": self.runners_up, "reason": self.reason}
        return asdict(self) | found | {"compared": len(self.ks) > 1}


def count_clusters(
    X: ArrayLike,
    k_min: int = 2,
    k_max: int | None = None,
    *,
    rule: str = DEFAULT_RULE,
    sample: int = 2000,
    random_state: int = 0,
) -> Count:
    """Choose the number of clusters that a rule scores best on a sample; nothing is trained.

    `docs/counting.md` has the study that chose the default rule, and how far off each was there.
    Take the answer for a start, not for a truth.

    Every number from `k_min` up is tried, then steps of a tenth. Where there are fewer than 60 rows
    (20 for each of three clusters; 10 if `k_max` is given), or no more different rows than `k_min`,
    nothing can be compared: the answer is `k_min`, or the number of different rows where that is
    less, and says that it is no count.

    Takes a few seconds for a sample of 2,000 and 30 numbers (the rules that need the 2-D map ten
    or so); memory for a few times sample² numbers.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Features; may be memory-mapped.
    k_min : int, default=2
        The least number, at least 2.
    k_max : int, optional
        The greatest number; by default 30, or a 20th of the rows if that is less, but not below
        `k_min`. Lowered to one below the number of different rows in the sample.
    rule : str, default="spectrum"
        One of `imageherd.counting_rules.RULES`.
    sample : int, default=2000
        Rows to look at, at least 10.
    random_state : int, default=0
        Seeds the sample and the starts.

    Returns
    -------
    Count

    Raises
    ------
    ValueError
        If X is not 2-D, is empty or holds a NaN or an infinity in the sample, a number is out of
        range, or there is no such rule.
    """
    return count_by_rules(X, k_min, k_max, rules=[rule], sample=sample, random_state=random_state)[
        rule
    ]


def count_by_rules(
    X: ArrayLike,
    k_min: int = 2,
    k_max: int | None = None,
    *,
    rules: Sequence[str] = tuple(RULES),
    sample: int = 2000,
    random_state: int = 0,
) -> dict[str, Count]:
    """Return what each of several rules says, from one sample and one neighbour graph.

    Parameters, errors and cost as for `count_clusters`; `rules` are all by default.
    """
    for rule in rules:
        if rule not in RULES:
            raise ValueError(f"rule={rule!r} is not one of {', '.join(RULES)}.")
    X = np.asarray(X)
    if X.ndim != 2 or 0 in X.shape:
        raise ValueError(f"X must be 2-D and not empty; its shape is {X.shape}.")
    if sample < 10:
        raise ValueError(f"sample={sample} must be at least 10.")
    n = len(X)
    asked_for_one = k_min == k_max
    k_min, k_max = _range(n, k_min, k_max)
    rows = np.arange(n)
    if n > sample:
        rows = np.sort(np.random.default_rng(random_state).choice(n, sample, replace=False))
    Z = X[rows].astype(np.float64)
    if not np.isfinite(Z).all():
        raise ValueError("X holds a NaN or an infinity.")
    Z = unit_rows(Z)
    # Rounding makes copies in float32 that differ in length one row.
    n_different = len(np.unique(np.round(Z, 6), axis=0))
    too_few = n < _CHANCES_AT_LEAST or (k_min == k_max and not asked_for_one)
    if too_few or n_different <= k_min:
        why = _why_no_choice(n, n_different, k_min, too_few)
        k = min(k_min, n_different)
        return {rule: Count(k, (k,), (0.0,), rule, why) for rule in rules}
    ks = _grid(k_min, min(k_max, n_different - 1))
    # One thread: with more, sums are taken in the order the threads happen to finish.
    with threadpool_limits(limits=1):
        evidence = Evidence(directions(Z, random_state), tuple(ks), random_state)
        curves = {rule: RULES[rule].score(evidence) for rule in rules}
    return {rule: _count(ks, curve.tolist(), rule) for rule, curve in curves.items()}


def count_by_head(head: CPP, k_min: int = 2, k_max: int | None = None) -> Count:
    """Count the clusters of a fitted CPP by the coding length of its own Z (algorithm 1).

    The partitions are those the head itself would make, see `CPP.coding_length_curve`. The paper
    finds 10 on CIFAR-10, but 20 on CIFAR-100 and 200 on ImageNet: coarse groups, not fine classes.

    Parameters
    ----------
    head : CPP
        Fitted or loaded.
    k_min, k_max : int
        As for `count_clusters`, of the head's landmarks.

    Returns
    -------
    Count
        Its rule is "coding-length"; its scores are nats a row.
    """
    k_min, k_max = _range(head.n_landmarks_, k_min, k_max)
    curve = head.coding_length_curve(_grid(k_min, min(k_max, head.n_landmarks_)))
    scores = (curve.lengths / head.n_landmarks_).tolist()
    return _count(curve.n_clusters.tolist(), scores, "coding-length")


def _count(ks: list[int], scores: list[float], rule: str) -> Count:
    heights = RULES[rule].read(np.array(scores))
    return Count(ks[int(heights.argmax())], tuple(ks), tuple(scores), rule)


def _range(n: int, k_min: int, k_max: int | None) -> tuple[int, int]:
    if k_max is None:
        k_max = max(k_min, min(_MOST_BY_DEFAULT, n // _ROWS_PER_CLUSTER))
    if not 2 <= k_min <= k_max:
        raise ValueError(f"k_min={k_min} and k_max={k_max} must satisfy 2 <= k_min <= k_max.")
    return k_min, k_max


def _why_no_choice(n: int, n_different: int, k_min: int, too_few: bool) -> str:
    if n_different == 1:
        return "no two images differ"
    if not too_few:
        return f"only {n_different} of the {n} images looked at differ"
    return (
        f"{n} images are too few to tell numbers of clusters apart by, which takes "
        f"{_ROWS_PER_CLUSTER * (k_min + 1)}, {_ROWS_PER_CLUSTER} for each of {k_min + 1} clusters"
    )


def _grid(k_min: int, k_max: int) -> list[int]:
    """Every number at first, then steps of a tenth, and always the last."""
    ks = [k_min]
    while ks[-1] < k_max:
        ks.append(min(k_max, ks[-1] + max(1, int(ks[-1] * _GRID_STEP))))
    return ks


def _clusters(k: int) -> str:
    return f"{k} cluster{'' if k == 1 else 's'}"
