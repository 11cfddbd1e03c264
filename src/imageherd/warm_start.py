"""The same clustering again after the herd has grown, from what it had learned."""

from __future__ import annotations

from typing import Any

from imageherd.clustering import Clustering
from imageherd.errors import ImageherdError
from imageherd.heads import HEADS
from imageherd.heads.base import Head

_NOT_KEPT = ("n_clusters", "random_state", "device")


def asked_again(
    old: Clustering,
    head: Head,
    method: str | None,
    n_clusters: int | str,
    features: str | None,
    params: dict[str, Any],
) -> tuple[str, int | str, str, dict[str, Any]]:
    """Return method, number, feature set and parameters of a refit: those of the version before.

    Parameters
    ----------
    old : Clustering
        The version to go on from.
    head : Head
        The head that gave it.
    method, n_clusters, features
        As in `Herd.cluster`; those given must be those of `old`.
    params : dict
        Parameters of the head that are to be others; they do not change its network.

    Raises
    ------
    ImageherdError
        If another method, number or feature set is asked for, or the method learns nothing that a
        refit could begin with.
    """
    used, count, key = old.config["method"], head.n_clusters_, old.config["features"]
    plain = "leave out the warm start: clusters found again keep numbers and names either way"
    if used not in HEADS or not HEADS[used].starts_warm:
        able = ", ".join(name for name, kind in HEADS.items() if kind.starts_warm)
        raise ImageherdError(
            f"{used}, which gave clustering {old.name!r}, cannot start warm (these can: {able}); "
            f"{plain}."
        )
    for what, asked, before in (
        ("method", method, used),
        ("n_clusters", None if n_clusters == "auto" else n_clusters, count),
        ("features", features, key),
    ):
        if asked not in (None, before):
            raise ImageherdError(
                f"Clustering {old.name!r} was made with {what}={before}, so {what}={asked} cannot "
                f"start from it; leave {what} out, or {plain}."
            )
    kept = {name: value for name, value in head.get_params().items() if name not in _NOT_KEPT}
    return used, count, key, kept | params
