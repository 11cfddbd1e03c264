"""What to call clusters: their images vote, and each text names the cluster it is most special to.

Two voters use it: the classifier, whose texts are ImageNet's classes (with no network), and CLIP,
whose texts are anybody's (`imageherd.clip_naming`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count

import numpy as np
from numpy.typing import NDArray

Votes = NDArray[np.float64]

N_EVIDENCE = 6
# A text with fewer votes than this part of the first one's says too little of a cluster.
CLOSE = 0.5


@dataclass(frozen=True)
class ClusterName:
    """The outcome of one cluster's vote.

    Attributes
    ----------
    name : str
        What to show: the winner, or "winner / another" where the winner names another cluster.
    share : float
        The winner's part of all votes cast in the cluster, 0 to 1.
    runner_up : str or None
        Of the other texts the one with the most votes; None if no other got any. Where the most
        voted text of all names another cluster, this is that text.
    runner_up_share : float
        Its part of the votes; 0 without a runner-up.
    winner : str
        `name` without what was added to make it distinct.
    lift : float
        How many times as large the winner's share is here as in the clusters' mean: at most the
        number of clusters, 1 for what is as frequent everywhere.
    voters : int
        Images that gave the winner a part of their vote.
    evidence : list of int
        Those that gave it most, the most first, 6 at most.
    """

    name: str
    share: float
    runner_up: str | None
    runner_up_share: float
    winner: str
    lift: float
    voters: int
    evidence: list[int]


def vote_names(
    best: NDArray[np.integer],
    weights: NDArray[np.floating],
    labels: NDArray[np.integer],
    texts: Sequence[str],
    *,
    rows: NDArray[np.integer] | None = None,
) -> dict[int, ClusterName]:
    """Name clusters by a vote of their members (CPP, algorithm 2), each by a name of its own.

    Every member adds the weights of its best texts to the texts' totals; the highest total names
    the cluster. Equal texts vote as one; of equal totals the text listed first wins.

    Where several clusters would have one name, `distribute` says who gets it; a cluster that finds
    none becomes "winner / the other text that is most special to it", with a number if need be.

    Parameters
    ----------
    best : ndarray of int, shape (n, t)
        Indices into `texts`, the best of each image (t is 5 in the paper and in the store).
    weights : ndarray of float, shape (n, t)
        What each adds: softmax probabilities of a classifier, cosine similarities of CLIP.
    labels : ndarray of int, shape (n,)
        Cluster uid of each image; negative for an image that is in no cluster.
    texts : sequence of str
        The candidates.
    rows : ndarray of int, shape (n,), optional
        What the images are called in `evidence`; their positions by default.

    Returns
    -------
    dict of int to ClusterName
        One for every uid of 0 or more in `labels`, in the order of uids.

    Raises
    ------
    ValueError
        If the shapes do not fit each other or an index has no text.
    """
    if best.shape != weights.shape or best.ndim != 2 or best.shape[1] == 0:
        raise ValueError(
            f"best {best.shape} and weights {weights.shape} must have one shape (n, t), t of 1 or "
            "more"
        )
    if labels.shape != best.shape[:1]:
        raise ValueError(f"labels has shape {labels.shape}, best has {len(best)} rows")
    clustered = np.flatnonzero(labels >= 0)
    if not len(clustered):
        return {}
    best, weights = best[clustered].astype(np.intp), weights[clustered].astype(np.float64)
    if best.size and not 0 <= best.min() <= best.max() < len(texts):
        raise ValueError(f"best must hold indices of the {len(texts)} texts")
    first: dict[str, int] = {}
    canonical = np.array([first.setdefault(text, i) for i, text in enumerate(texts)])
    # The texts may be a dictionary: only those that got a vote take part.
    known, columns = np.unique(canonical[best], return_inverse=True)
    columns = columns.reshape(best.shape)
    uids, members = np.unique(labels[clustered], return_inverse=True)
    votes: Votes = np.zeros((len(uids), len(known)))
    np.add.at(votes, (members[:, None], columns), weights)
    # Rounding makes equal totals equal, whatever the order in which they were added up.
    votes = votes.round(6)
    shares, lifts = shares_and_lifts(votes)
    words = [texts[i] for i in known]
    winners, names = _distinct(votes, words)
    rows = clustered if rows is None else np.asarray(rows)[clustered]
    given = np.where(columns == winners[members][:, None], weights, 0).sum(1)
    order = np.lexsort((rows, -given, members))
    edges = np.searchsorted(members[order], np.arange(len(uids) + 1))
    found = {}
    for c, uid in enumerate(uids.tolist()):
        mine = order[edges[c] : edges[c + 1]]
        voters = mine[given[mine] > 0]
        ranked = np.argsort(-votes[c], kind="stable")
        other = next((t for t in ranked if t != winners[c] and votes[c, t] > 0), None)
        found[uid] = ClusterName(
            name=names[c],
            share=float(shares[c, winners[c]]),
            runner_up=None if other is None else words[other],
            runner_up_share=0.0 if other is None else float(shares[c, other]),
            winner=words[winners[c]],
            lift=float(lifts[c, winners[c]]),
            voters=len(voters),
            evidence=rows[voters[:N_EVIDENCE]].tolist(),
        )
    return found


def distribute(votes: Votes) -> list[int | None]:
    """Give each cluster a text of its own, or none.

    Every cluster asks for its most voted text, which is algorithm 2. A text that several ask for
    goes to the one where its lift is largest; the others ask for their next, as long as it has at
    least half the votes of their first, and it may in turn be taken from a cluster where it is less
    special. Nobody asks in vain for what it would rather have and is more special to, so what
    comes out is the one stable matching that suits the clusters best, whoever asks first (Gale and
    Shapley 1962). A cluster whose first text nobody else wants is named by it whatever its lift.

    Parameters
    ----------
    votes : ndarray, shape (C, M)
        Of each text in each cluster. Of equal texts or clusters the first one goes first.

    Returns
    -------
    list of int or None
        Column of each cluster's text.
    """
    shares, lifts = shares_and_lifts(votes)
    wishes = [_wishes(*row) for row in zip(votes, shares, strict=True)]
    held: dict[int, int] = {}
    found: list[int | None] = [None] * len(votes)
    asking = list(range(len(votes)))
    while asking:
        c = asking.pop()
        for text in wishes[c]:
            rival = held.get(text)
            if rival is not None:
                if (-lifts[rival, text], rival) < (-lifts[c, text], c):
                    continue
                found[rival] = None
                asking.append(rival)
            held[text], found[c] = c, text
            break
    return found


def shares_and_lifts(votes: Votes) -> tuple[Votes, Votes]:
    """Return each text's part of the votes of each cluster, and that over its mean part in all.

    Parameters
    ----------
    votes : ndarray, shape (C, M)
        Of each text in each cluster. Negative ones, which cosines can add up to, are no share of
        anything.

    Returns
    -------
    shares, lifts : ndarray, shape (C, M)
        The mean is that of the clusters, not of the images, so that large clusters, and clusters
        for which a few images speak, count alike. 0 where there are no votes.
    """
    positive = np.maximum(votes, 0)
    total = positive.sum(1, keepdims=True)
    shares = np.divide(positive, total, out=np.zeros_like(votes), where=total > 0)
    mean = np.broadcast_to(shares.mean(0), shares.shape)
    lifts = np.divide(shares, mean, out=np.zeros_like(votes), where=mean > 0)
    return shares, np.round(lifts, 9)


def _wishes(votes: Votes, shares: Votes) -> Iterator[int]:
    order = np.argsort(-votes, kind="stable")
    close = order[shares[order] >= CLOSE * shares[order[0]]]
    return iter(close.tolist())


def _distinct(votes: Votes, words: Sequence[str]) -> tuple[NDArray[np.intp], list[str]]:
    """Return the column of each cluster's winner, and what to call the cluster."""
    texts = distribute(votes)
    winners = np.array(
        [row.argmax() if t is None else t for row, t in zip(votes, texts, strict=True)]
    )
    names = [words[winner] for winner in winners]
    taken = {words[t] for t in texts if t is not None}
    shares, lifts = shares_and_lifts(votes)
    for c, text in enumerate(texts):
        if text is None:
            longer = _longer(shares[c], lifts[c], winners[c], words)
            names[c] = next(name for name in longer if name not in taken)
            taken.add(names[c])
    return winners, names


def _longer(shares: Votes, lifts: Votes, winner: int, words: Sequence[str]) -> Iterator[str]:
    # A text's part of the Kullback-Leibler divergence of the cluster's votes from the mean.
    special = shares * np.log(np.where(lifts > 0, lifts, 1))
    special[winner] = 0
    other = int(special.argmax())
    both = f"{words[winner]} / {words[other]}" if special[other] > 0 else words[winner]
    return chain([both], (f"{both} {number}" for number in count(2)))
