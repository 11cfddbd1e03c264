"""A head by its name, with what a user may have mistyped checked."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from imageherd.device import resolve_device
from imageherd.errors import ImageherdError
from imageherd.heads import HEADS
from imageherd.heads.base import Head


def make_head(
    method: str, n_clusters: int, n: int, *, random_state: int, device: str, **params: Any
) -> Head:
    """Make an unfitted head.

    Parameters
    ----------
    method : str
        One of `imageherd.heads.HEADS`.
    n_clusters, n : int
        Number of clusters wanted (a method that counts itself is not told) and of images there
        are.
    random_state : int
        Seed.
    device : str
        Where it trains.
    **params
        Parameters of the head.

    Raises
    ------
    ImageherdError
        If the method or a parameter is not known, or n_clusters does not suit n images.
    """
    if method not in HEADS:
        raise ImageherdError(f"method={method!r} is not known{_choices(method, HEADS)}")
    head_class = HEADS[method]
    known = head_class().get_params()
    for name in params:
        if name not in known:
            raise ImageherdError(f"{method} has no parameter {name!r}{_choices(name, known)}")
    if not 2 <= n_clusters <= n:
        least = f"give a number from 2 to {n}" if n > 1 else "it takes two to make clusters"
        raise ImageherdError(f"n_clusters={n_clusters} does not suit {n} images; {least}.")
    resolve_device(device)
    if not head_class.counts_itself:
        params["n_clusters"] = n_clusters
    return head_class(random_state=random_state, device=device, **params)


def _choices(wrong: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(wrong, list(known), n=1)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{meant}; choose one of {', '.join(sorted(known))}."
