"""Names that a cluster could have: by its images' votes, and by where its images came from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imageherd.app.opened import Opened
from imageherd.app.view import View
from imageherd.backbones import imagenet_class_names
from imageherd.clustering import NOWHERE
from imageherd.derived import Features, feature_keys, feature_set, naming_of, voted_names

MOST = 8
LEAST_SHARE = 0.02
"""Of all votes, or of the images: less is chance."""
SAMPLE = 5000
"""Images that are looked at, of a cluster and of all others."""


def names_for(here: Opened, view: View, uid: int) -> list[str]:
    """Return up to 8 names for a cluster, the likeliest first; its own is not among them.

    First what its images vote for: the classes that the classifier sees in them, or the words most
    telling of texts. Then what was voted for the clusters, as trained, that its images come from,
    and what these are called. Of a large cluster 5,000 images vote: takes part of a second.
    """
    at = some_of(view.members(uid, "row"), SAMPLE)
    data = here.features(view.clustering.config["features"])
    votes = _words(here, view, uid, at, data) if naming_of(data) else _classes(here, view, at, data)
    known = dict.fromkeys([*votes, *_origins(view, at)])
    return [name for name in known if name != view.names[uid]][:MOST]


def names_of_parts(
    here: Opened, data: Features, rows: NDArray[np.int64], labels: NDArray[np.int32]
) -> dict[int, str]:
    """Return what the images of each part vote for, by its label; nothing where none can vote.

    Parameters
    ----------
    here : Opened
        The herd.
    data : Features
        Of all images.
    rows, labels : ndarray, shape (m,)
        Some images that have features, ascending, and the part of each.
    """
    named = voted_names(here.herd.path, Features(rows, data.key, data.store), labels)
    return {label: found.name for label, found in named.items()}


def some_of(members: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return at most so many of the members, drawn at random, always the same, in their order."""
    if len(members) <= most:
        return members
    drawn = np.random.default_rng(0).choice(len(members), most, replace=False)
    return members[np.sort(drawn)]


def _classes(here: Opened, view: View, at: NDArray[np.int64], data: Features) -> list[str]:
    rows = view.clustering.rows[at]
    for key in [data.key, *feature_keys(here.herd.path)]:
        store = data.store if key == data.key else feature_set(here.herd.path, key)
        there = rows[np.isin(rows, store.rows_present())] if store.has_top5 else rows[:0]
        if len(there):
            classes, weights = store.top5(there)
            texts = imagenet_class_names()
            votes = np.bincount(classes.ravel(), weights.ravel(), minlength=len(texts)).round(6)
            order = np.argsort(-votes, kind="stable")[:MOST]
            return [texts[i] for i in order if votes[i] >= LEAST_SHARE * votes.sum()]
    return []


def _words(here: Opened, view: View, uid: int, at: NDArray[np.int64], data: Features) -> list[str]:
    """Return the words that tell the cluster's texts from those of the others, first together."""
    others = some_of(np.flatnonzero(~np.isin(view.clustering.uids, (uid, NOWHERE))), SAMPLE)
    at = np.sort(np.concatenate([at, others]))
    at = at[np.isin(view.clustering.rows[at], data.rows)]
    uids = view.clustering.uids[at]
    some = Features(view.clustering.rows[at], data.key, data.store)
    found = voted_names(here.herd.path, some, uids).get(uid)
    if found is None:
        return []
    words = found.name.split(", ")
    return [found.name, *words, *([found.runner_up] if found.runner_up else [])]


def _origins(view: View, at: NDArray[np.int64]) -> list[str]:
    """Return the names, and the candidates for them, of the clusters that images come from."""
    trained = view.clustering.as_trained or view.clustering
    by_uid = {c.uid: c for c in trained.clusters}
    uids, counts = np.unique(trained.uids[at], return_counts=True)
    found: list[str | None] = []
    for i in np.argsort(-counts, kind="stable"):
        cluster = by_uid.get(int(uids[i]))
        if cluster is not None and counts[i] >= LEAST_SHARE * len(at):
            plain = cluster.name == f"cluster {cluster.uid}"
            found += [None if plain else cluster.name, cluster.winner, cluster.runner_up]
    return [name for name in found if name]
