"""Which method, which seed, which β: chosen without labels, by what can be seen without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from imageherd.choosing_beta import choose_beta
from imageherd.choosing_trials import (
    ROWS_PER_CLUSTER,
    Run,
    graph_to_score,
    remembered,
    sampled,
    scored,
)
from imageherd.errors import ImageherdError
from imageherd.heads import HEADS

AUTO = "auto"
CANDIDATES = ("tsp", "spectral", "lsdc", "spherical-kmeans", "turtle")
# Scores nearer than this part say nothing; the method named first, the default, then stays.
TIE = 0.05
_ALWAYS = ("random_state", "device")
_SAMPLE, _SAMPLE_PER_CLUSTER = 5000, 20


@dataclass(frozen=True)
class Choice:
    """A method and its seed, and the runs it was chosen from.

    Attributes
    ----------
    method : str
        The first named of those whose mean score over seeds is within 5 % of the highest.
    random_state : int
        The seed of its run with the highest score; of equal ones the lowest.
    runs : tuple of Run
        All of them, by method in the order they were named, then by seed; none where there were
        too few rows to compare methods on, and the first method and seed stand unopposed.
    n_rows : int
        How many rows they were fitted on.
    """

    method: str
    random_state: int
    runs: tuple[Run, ...]
    n_rows: int

    @property
    def reason(self) -> str:
        """Why this one, in a sentence without its stop."""
        if not self.runs:
            return (
                f"Not chosen: {self.n_rows:,} images are too few to compare methods on, which "
                f"takes {ROWS_PER_CLUSTER} a cluster; {self.method} is the default"
            )
        means = self.means()
        scores = ", ".join(f"{method} {mean:.2f}" for method, mean in means.items())
        n_seeds = len(self.runs) // len(means)
        return (
            f"Chosen without labels: {self.method}, by what neighbours and a linear classifier "
            f"tell of its clusters ({scores}; less than 5 % apart says nothing; "
            f"{n_seeds} seeds of each on {self.n_rows:,} images)"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        runs = [asdict(run) | {"score": run.score} for run in self.runs]
        return {"reason": self.reason, "n_rows": self.n_rows, "runs": runs}

    def means(self) -> dict[str, float]:
        """Return the mean score of each method, the highest first."""
        scores: dict[str, list[float]] = {}
        for run in self.runs:
            scores.setdefault(run.method, []).append(run.score)
        means = {method: float(np.mean(of_seeds)) for method, of_seeds in scores.items()}
        return dict(sorted(means.items(), key=lambda entry: -entry[1]))


def choose_method(
    X: ArrayLike,
    n_clusters: int,
    *,
    candidates: Sequence[str] = CANDIDATES,
    n_seeds: int = 3,
    sample: int = 5000,
    random_state: int = 0,
    device: str = "auto",
    kept: Path | None = None,
) -> Choice:
    """Choose a method and a seed without labels.

    Every candidate clusters the rows, or a sample of them, from several seeds. A clustering is
    scored by the product of two numbers: how much the cluster of a row tells of the cluster of its
    neighbours (`neighbor_information`; of neighbours that come after those the methods train on,
    as far as there are so many alike), and how well a linear classifier learns it on rows it was
    not shown (TURTLE's score, above chance). Each alone has favourites: methods that follow the
    neighbour graph, and linear ones. Compared are clusterings of one number of clusters.

    With fewer than 15 rows a cluster nothing is tried: the neighbours asked about would mostly be
    of other kinds, and the first candidate is taken.

    No proof: a clustering by something nobody asked for can be as even, connected and learnable.
    Takes the time of all the fits, about a minute and a half for 5,000 rows of 1,280 columns on a
    core, and the memory of one.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Features; may be memory-mapped.
    n_clusters : int
        How many clusters to make.
    candidates : sequence of str
        Methods that are told the number of clusters, the preferred first.
    n_seeds : int, default=3
        Runs of each, seeded `random_state`, `random_state` + 1 and so on.
    sample : int, default=5000
        Of more rows, so many are drawn.
    random_state : int, default=0
        Seed.
    device : str, default="auto"
        Where the methods train.
    kept : Path, optional
        A JSON file that gets the score of every trial as it ends; those in it are not run again.
        It must be of the same rows and parameters.

    Raises
    ------
    ValueError
        If a method is not known or counts itself, or a number is out of range.
    """
    unfit = [m for m in candidates if m not in HEADS or HEADS[m].counts_itself]
    if unfit or not candidates:
        raise ValueError(
            f"candidates={tuple(candidates)!r} must be methods that are told a number of clusters."
        )
    if n_seeds < 1:
        raise ValueError(f"n_seeds={n_seeds} must be at least 1.")
    rows = sampled(X, n_clusters, sample, random_state)
    if len(rows) < ROWS_PER_CLUSTER * n_clusters:
        return Choice(candidates[0], random_state, (), len(rows))
    graph, n_trained = graph_to_score(rows, n_clusters, device=device)

    def trial(method: str, seed: int) -> Run:
        def numbers() -> tuple[float, ...]:
            run = scored(method, n_clusters, seed, device, rows, graph, n_trained)[0]
            return run.information, run.generalization, run.seconds

        return Run(method, seed, *remembered(kept, f"{method} {seed}", numbers))

    seeds = range(random_state, random_state + n_seeds)
    runs = [trial(method, seed) for method in candidates for seed in seeds]
    choice = Choice(candidates[0], random_state, tuple(runs), len(rows))
    means = choice.means()
    method = next(m for m in candidates if means[m] >= (1 - TIE) * max(means.values()))
    of_method = [run for run in runs if run.method == method]
    return Choice(
        method, max(of_method, key=lambda r: r.score).random_state, choice.runs, len(rows)
    )


def stand_in(method: str, params: dict[str, Any]) -> str:
    """Return the method to check a call by: itself, or one that is tried where it is "auto".

    Raises
    ------
    ImageherdError
        If parameters are given to a method that is to be chosen.
    """
    if method != AUTO:
        return method
    given = [name for name in params if name not in _ALWAYS]
    if given:
        raise ImageherdError(
            f"{', '.join(given)}: a method that is chosen takes no parameters; name the method."
        )
    return CANDIDATES[0]


def decide(
    method: str,
    params: dict[str, Any],
    X: ArrayLike,
    n_clusters: int,
    settings: dict[str, Any],
    kept: Path | None = None,
) -> tuple[str, dict[str, Any]]:
    """Return method and parameters with what is "auto" in them chosen: the method, or TEMI's β.

    Parameters
    ----------
    method, params
        What `stand_in` found right; params hold random_state and device.
    X, n_clusters, kept
        As in `choose_method`; for one cluster the first candidate is taken.
    settings : dict
        What will be kept beside the result; "chosen" is added: the reason in a sentence, what it
        was chosen from, and what was asked for.
    """
    sample = max(_SAMPLE, _SAMPLE_PER_CLUSTER * n_clusters)
    if method == AUTO:
        base = {name: params[name] for name in _ALWAYS}
        choice = Choice(CANDIDATES[0], base["random_state"], (), len(np.asanyarray(X)))
        if n_clusters > 1:
            choice = choose_method(X, n_clusters, sample=sample, kept=kept, **base)
        asked = {"method": AUTO, "random_state": base["random_state"]}
        settings["chosen"] = choice.as_dict() | {"asked": asked}
        return choice.method, base | {"random_state": choice.random_state}
    if method == "temi" and params.get("beta") == AUTO:
        others = {name: value for name, value in params.items() if name != "beta"}
        found = choose_beta(X, n_clusters, sample=sample, kept=kept, **others)
        settings["chosen"] = found.as_dict()
        return method, params | {"beta": found.beta}
    return method, params
