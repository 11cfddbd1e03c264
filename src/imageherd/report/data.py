"""What a report is made from; plain values, so that it can be written without a herd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class ReportCluster:
    """One cluster; every int is an index into `ReportData.paths`.

    Attributes
    ----------
    uid : int
        The cluster's permanent number.
    name : str or None
        What to call it; empty or None shows "Cluster <uid>".
    runner_up : str or None
        The second name in the vote.
    share : float or None
        The name's share of the votes, 0 to 1.
    size : int
        Members in all.
    confidence : float
        How sure the clustering is of its members on average, 0 to 1.
    medoids : list of int
        The members that stand for the cluster, best first; shown large.
    typical, doubtful : list of int
        Members most like all the others, and those the clustering is least sure of.
    members : list of int
        All members.
    winner : str or None
        What the vote said, where `name` is not that; `share` is its.
    runner_up_share, lift : float or None
        The second name's share, and how many times as large the winner's is as in the mean cluster.
    voters : int or None
        Images that gave the winner a part of their vote.
    evidence : list of int
        Those that gave it most, the most first.
    reasons : dict of int to str
        What makes the doubtful ones doubtful, in words.
    """

    uid: int
    name: str | None
    runner_up: str | None
    share: float | None
    size: int
    confidence: float
    medoids: list[int]
    typical: list[int]
    doubtful: list[int]
    members: list[int]
    winner: str | None = None
    runner_up_share: float | None = None
    lift: float | None = None
    voters: int | None = None
    evidence: list[int] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)


@dataclass
class Curve:
    """How good a rule found each number of clusters.

    Attributes
    ----------
    chosen : int
        The number it chose.
    ks, scores : list of int and of float
        The numbers tried, ascending, and their scores.
    runners_up : list of int
        What comes next, best first.
    rule : str or None
        What the rule is called.
    """

    chosen: int
    ks: list[int]
    scores: list[float]
    runners_up: list[int]
    rule: str | None


@dataclass
class ReportData:
    """Everything a report shows.

    Attributes
    ----------
    title : str
        The heading, such as the folder's name.
    created : str
        When, as it should be read.
    settings : dict of str to str
        How the clusters came about, shown as given.
    counts : dict of str to int
        The numbers of the header, in order, such as images, clusters, unreadable, fits nowhere.
    clusters : list of ReportCluster
        The clusters; their order is the order of "as found".
    paths : list of str
        Display path of each of the n images.
    unreadable : list of (str, str)
        Path and reason of each file that could not be read.
    labels : ndarray of shape (n,)
        Cluster uid of each image, -1 where it fits nowhere.
    probability : ndarray of shape (n,)
        Of each image for its cluster, 0 to 1.
    xy : ndarray of shape (n, 2) or None
        The map (`imageherd.report.map.layout`), if there is one.
    thumbnail : callable
        ``thumbnail(index, px)`` gives an upright JPEG whose longer side is about `px`, or None
        where the picture can no longer be read. Called from several threads.
    why : list of str
        Sentences: why so many clusters, why this method, what repeats.
    curve : Curve or None
        Where the number of clusters was counted.
    joins : list of (int, int)
        Which clusters become one, step by step, until one is left: a uid out of each of the two
        groups that a step joins. Empty where that is not known; no slider is shown then.
    copy_of : ndarray of int, shape (n,), or None
        Which image each one repeats, -1 for none.
    same : ndarray of bool, shape (n,), or None
        Whether it is a copy of that one, not a near-copy.
    text : callable or None
        ``text(index)`` gives what to show where there is no thumbnail: a few words, or None.
    noun : str
        What one of the images is called: "image", or "text".
    """

    title: str
    created: str
    settings: dict[str, str]
    counts: dict[str, int]
    clusters: list[ReportCluster]
    paths: list[str]
    unreadable: list[tuple[str, str]]
    labels: NDArray[np.integer]
    probability: NDArray[np.floating]
    xy: NDArray[np.floating] | None
    thumbnail: Callable[[int, int], bytes | None]
    why: list[str] = field(default_factory=list)
    curve: Curve | None = None
    joins: list[tuple[int, int]] = field(default_factory=list)
    copy_of: NDArray[np.integer] | None = None
    same: NDArray[np.bool_] | None = None
    text: Callable[[int], str | None] | None = None
    noun: str = "image"
