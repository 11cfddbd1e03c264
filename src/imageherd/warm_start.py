"""The same clustering again after the herd has grown, from what it had learned."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from imageherd.edits.learning import Lesson, lesson_of
from imageherd.errors import ImageherdError
from imageherd.heads import HEADS
from imageherd.heads.base import Head
from imageherd.versions import clustering_of, versions_of

_NOT_KEPT = ("n_clusters", "random_state", "device")


Asked = tuple[str | None, int | str, str | None, dict[str, Any]]


def begin(
    herd: Path,
    name: str,
    asked: Asked,
    learn_edits: bool = False,
    random_state: int = 0,
    device: str = "auto",
) -> tuple[Head, Lesson | None, Asked]:
    """Return the head to go on from, what it is to learn, and what is asked for again.

    Parameters
    ----------
    herd : Path
        The herd.
    name : str
        The clustering whose current version is gone on from.
    asked : tuple
        Method, n_clusters, features and params as in `Herd.cluster`. Those given, but for the
        params, must be those of that version; params change nothing of its network.
    learn_edits : bool, default=False
        Whether its edits are learned: then the head has a column for each cluster as edited.
    random_state, device
        As in `Herd.cluster`.

    Returns
    -------
    start : Head
        The head of that version.
    lesson : Lesson or None
        What its edits teach.
    asked : tuple
        Method, number, feature set and parameters of the refit: those of the version before.

    Raises
    ------
    ImageherdError
        If another method, number or feature set is asked for, the method learns nothing that a
        refit could begin with, or there are no edits to learn, or none that it could.
    """
    old, versions = clustering_of(herd, name), versions_of(herd, name)
    used, key = old.config["method"], old.config["features"]
    lesson = lesson_of(herd, name, random_state=random_state) if learn_edits else None
    plain = "leave out the warm start: clusters found again keep numbers and names either way"
    if used not in HEADS or not HEADS[used].starts_warm:
        able = ", ".join(name for name, kind in HEADS.items() if kind.starts_warm)
        raise ImageherdError(
            f"{used}, which gave clustering {name!r}, cannot start warm (these can: {able}); "
            f"{plain}."
        )
    start = versions.head(old.version, device=device)
    if lesson is not None:
        start, plain = regrouped(start, lesson.parents), "make another clustering without its edits"
    method, n_clusters, features, params = asked
    count = start.n_clusters_
    for what, wanted, before in (
        ("method", method, used),
        ("n_clusters", None if n_clusters == "auto" else n_clusters, count),
        ("features", features, key),
    ):
        if wanted not in (None, before):
            made = "was made with" if lesson is None else "as edited has"
            raise ImageherdError(
                f"Clustering {name!r} {made} {what}={before}, so {what}={wanted} cannot start from "
                f"it; leave {what} out, or {plain}."
            )
    kept = {name: value for name, value in start.get_params().items() if name not in _NOT_KEPT}
    return start, lesson, (used, count, key, kept | params)


def regrouped(head: Head, parents: NDArray[Any]) -> Head:
    """Return a copy of a trained head with other columns, to be trained on from there.

    What a network has for each cluster, be it weights, a bias or a gain, is found as what one
    cluster more would make longer.

    Parameters
    ----------
    head : Head
        Of a method with a parameter `n_clusters`, K of them.
    parents : ndarray, shape (K', K)
        Each new column as a weighted mean of the old ones; one that is a unit vector is a copy.
    """
    found, more = copy.deepcopy(head), copy.deepcopy(head)
    found.set_params(n_clusters=len(parents))
    more.set_params(n_clusters=head.n_clusters_ + 1)
    d, mix = head.scaler_.n_outputs, torch.from_numpy(parents)
    longer = more._network(d, {}).state_dict()
    weights = {}
    for name, value in head.network_.state_dict().items():
        pairs = zip(value.shape, longer[name].shape, strict=True)
        axes = [axis for axis, (before, after) in enumerate(pairs) if before != after]
        for axis in axes:
            mixed = torch.tensordot(mix, value.double(), dims=([1], [axis]))
            value = mixed.movedim(0, axis).to(value.dtype)
        weights[name] = value
    found.network_ = found._network(d, {}).eval().requires_grad_(False)
    found.network_.load_state_dict(weights)
    found.n_clusters_ = len(parents)
    return found
