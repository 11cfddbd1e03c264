"""What to call a cluster, without a network: its members' best ImageNet classes vote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count

import numpy as np
from numpy.typing import NDArray

Votes = NDArray[np.float64]


@dataclass(frozen=True)
class ClusterName:
    """The outcome of one cluster's vote.

    Attributes
    ----------
    name : str
        What to show: the winner, made distinct from the names of the other clusters.
    share : float
        The winner's part of all votes cast in the cluster, 0 to 1.
    runner_up : str or None
        The class with the second most votes; None if only one got any.
    runner_up_share : float
        Its part of the votes; 0 without a runner-up.
    winner : str
        The class with the most votes: `name` without what was added to make it distinct.
    """

    name: str
    share: float
    runner_up: str | None
    runner_up_share: float
    winner: str


def vote_names(
    top5_classes: NDArray[np.integer],
    top5_probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    class_names: Sequence[str],
) -> dict[int, ClusterName]:
    """Name clusters by a vote of their members (CPP, algorithm 2, with classes for texts).

    Every member adds the probabilities of its five best classes to the classes' totals; the
    highest total names the cluster. Classes of the same name vote as one; of equal totals the
    class listed first wins.

    Two clusters with one winner stay two for the reader: the one where its share is larger keeps
    the plain name, the other becomes "winner / runner-up", or gets a number where that is taken.

    Parameters
    ----------
    top5_classes : ndarray of int, shape (n, t)
        Indices into `class_names`, the best classes of each image (t is 5 in the store).
    top5_probabilities : ndarray of float, shape (n, t)
        Their softmax probabilities.
    labels : ndarray of int, shape (n,)
        Cluster uid of each image; negative for an image that is in no cluster.
    class_names : sequence of str

    Returns
    -------
    dict of int to ClusterName
        One for every uid of 0 or more in `labels`, in the order of uids.

    Raises
    ------
    ValueError
        If the shapes do not fit each other or a class has no name.
    """
    if top5_classes.shape != top5_probabilities.shape or top5_classes.ndim != 2:
        raise ValueError(
            f"classes {top5_classes.shape} and probabilities {top5_probabilities.shape} must have "
            "one shape (n, t)"
        )
    if labels.shape != top5_classes.shape[:1]:
        raise ValueError(
            f"labels has shape {labels.shape}, the classes have {len(top5_classes)} rows"
        )
    clustered = labels >= 0
    classes = top5_classes[clustered].astype(np.intp)
    if classes.size and not 0 <= classes.min() <= classes.max() < len(class_names):
        raise ValueError(f"a class is not among the {len(class_names)} named ones")
    names = list(dict.fromkeys(class_names))
    by_class = np.array([names.index(name) for name in class_names], dtype=np.intp)
    uids, rows = np.unique(labels[clustered], return_inverse=True)
    votes = np.zeros((len(uids), len(names)))
    weights = top5_probabilities[clustered].astype(np.float64)
    np.add.at(votes, (rows[:, None], by_class[classes]), weights)
    outcomes = {int(uid): _outcome(row, names) for uid, row in zip(uids, votes, strict=True)}
    return _distinct(outcomes)


def _outcome(votes: Votes, names: Sequence[str]) -> ClusterName:
    order = np.argsort(-votes, kind="stable")
    first, second = int(order[0]), int(order[1]) if len(order) > 1 else -1
    total = votes.sum()
    has_second = second >= 0 and votes[second] > 0
    return ClusterName(
        name=names[first],
        share=float(votes[first] / total) if total > 0 else 0.0,
        runner_up=names[second] if has_second else None,
        runner_up_share=float(votes[second] / total) if has_second else 0.0,
        winner=names[first],
    )


def _distinct(outcomes: dict[int, ClusterName]) -> dict[int, ClusterName]:
    strongest_first = sorted(outcomes, key=lambda uid: (-outcomes[uid].share, uid))
    keeps: dict[str, int] = {}
    for uid in strongest_first:
        keeps.setdefault(outcomes[uid].winner, uid)
    shown = {uid: winner for winner, uid in keeps.items()}
    taken = set(keeps)
    for uid in strongest_first:
        if uid not in shown:
            shown[uid] = next(text for text in _candidates(outcomes[uid]) if text not in taken)
            taken.add(shown[uid])
    return {uid: replace(outcome, name=shown[uid]) for uid, outcome in outcomes.items()}


def _candidates(outcome: ClusterName) -> Iterator[str]:
    both = f"{outcome.winner} / {outcome.runner_up}" if outcome.runner_up else outcome.winner
    return chain([both], (f"{both} {number}" for number in count(2)))
