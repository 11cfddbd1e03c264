"""What to call clusters of texts: by the words that are most telling of each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from imageherd.features.store import FeatureSet
from imageherd.naming import N_EVIDENCE, ClusterName, shares_and_lifts

N_WORDS = 3
NAMING = {"by": "tf-idf", "texts": "the texts' own words"}
"""What a clustering so named says of it."""


def text_names(
    store: FeatureSet,
    rows: NDArray[np.int64],
    uids: NDArray[np.int32],
    terms: list[str],
) -> dict[int, ClusterName]:
    """Name clusters of texts by their three most telling words: "oil, opec, barrels".

    A word's share of a cluster is its part of the tf-idf of the cluster's texts, its lift how many
    times as large that is as in the clusters' mean. How telling a word is: share · ln(lift), its
    part of the Kullback-Leibler divergence of the cluster's words from the mean; that passes over
    words that are frequent everywhere and those that a single text has. Clusters that would have
    the same three get a fourth, and so on.

    Parameters
    ----------
    store : FeatureSet
        Tf-idf of the texts, read a block at a time.
    rows : ndarray of int64, shape (n,)
        The texts.
    uids : ndarray of int32, shape (n,)
        Cluster of each; negative for none.
    terms : list of str
        The word that each feature counts.

    Returns
    -------
    dict of int to ClusterName
        One for every uid of 0 or more, in the order of uids. `winner` is the first word, `share`,
        `lift`, `voters` and `evidence` are its; `runner_up` is the word after the last of `name`.
        A cluster with no word more frequent than elsewhere gets the most frequent of its own.
    """
    placed = np.flatnonzero(uids >= 0)
    if not len(placed):
        return {}
    known, members = np.unique(uids[placed], return_inverse=True)
    votes = np.zeros((len(known), len(terms)))
    for here, block in _blocks(store, rows[placed]):
        mine = members[here]
        shape = (len(known), len(block))
        votes += csr_array((np.ones(len(block)), (mine, np.arange(len(block)))), shape) @ block
    shares, lifts = shares_and_lifts(votes.round(6))
    telling = shares * np.log(np.where(lifts > 0, lifts, 1))
    order = np.lexsort((np.broadcast_to(np.arange(len(terms)), shares.shape), -shares, -telling))
    winners = order[:, 0]
    given = np.empty(len(placed), np.float32)
    for here, block in _blocks(store, rows[placed]):
        given[here] = block[np.arange(len(block)), winners[members[here]]]
    taken: set[str] = set()
    found = {}
    for c, uid in enumerate(known.tolist()):
        words = [terms[t] for t in order[c] if shares[c, t] > 0]
        name = next(name for name in _names(words, uid) if name not in taken)
        taken.add(name)
        mine = np.flatnonzero((members == c) & (given > 0))
        best = mine[np.argsort(-given[mine], kind="stable")][:N_EVIDENCE]
        others = words[name.count(", ") + 1 :][:1]
        found[uid] = ClusterName(
            name=name,
            share=float(shares[c, winners[c]]),
            runner_up=others[0] if others else None,
            runner_up_share=float(shares[c, terms.index(others[0])]) if others else 0.0,
            winner=words[0] if words else name,
            lift=float(lifts[c, winners[c]]),
            voters=len(mine),
            evidence=rows[placed][best].tolist(),
        )
    return found


def _blocks(
    store: FeatureSet, rows: NDArray[np.int64]
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    start = 0
    for _, block in store.blocks(rows):
        yield slice(start, start + len(block)), block
        start += len(block)


def _names(words: list[str], uid: int) -> Iterator[str]:
    for n in range(min(N_WORDS, len(words)) or 1, len(words) + 1):
        yield ", ".join(words[:n])
    yield f"cluster {uid}"
