"""In what precision features are kept: float32, or float16 in half the bytes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from imageherd.backbones.base import identity_key
from imageherd.errors import ImageherdError

if TYPE_CHECKING:
    from imageherd.backbones import Backbone
    from imageherd.features.computed import Computed

    Made = TypeVar("Made", bound=Backbone | Computed)

FLOAT32, FLOAT16 = "float32", "float16"
DTYPES: dict[str, np.dtype[Any]] = {FLOAT32: np.dtype("<f4"), FLOAT16: np.dtype("<f2")}
"""What the numbers are in the shards of a feature set, by the name in its manifest."""
MOST = 65_504
"""The greatest number that float16 holds."""
LEAST_EXACT = 2**-10
"""By how much of its length rounding may move a vector: half of that where float16 suits it."""


def stored_as(maker: Made, dtype: str) -> Made:
    """Return a maker of features whose feature set keeps them in `dtype`: a set of its own.

    Parameters
    ----------
    maker : Backbone or Computed
        What makes the features; unchanged.
    dtype : {"float32", "float16"}
        With float32 the maker is returned as it is.

    Raises
    ------
    ImageherdError
        If the dtype is neither.
    """
    if dtype not in DTYPES:
        raise ImageherdError(f"dtype={dtype!r} is not known; choose {' or '.join(DTYPES)}.")
    if dtype == FLOAT32:
        return maker
    kept = copy.copy(maker)
    kept.identity = {**maker.identity, "stored": dtype}
    kept.key = identity_key(kept.identity)
    return kept


def stored_dtype(identity: Mapping[str, Any]) -> str:
    """Return in what dtype the features with this identity are kept."""
    return str(identity.get("stored", FLOAT32))


def rounded(features: np.ndarray, dtype: np.dtype[Any], row: int) -> np.ndarray:
    """Return one row's features in the dtype that they are kept in.

    Parameters
    ----------
    features : ndarray of float32, shape (d,)
        Finite.
    dtype : dtype
        Of the shard.
    row : int
        Named where it does not go.

    Raises
    ------
    ImageherdError
        If float16 overflows, or the numbers are so small that it does not tell them apart.
    """
    if dtype != DTYPES[FLOAT16]:
        return features
    wide = np.asarray(features, np.float64)
    most = float(np.abs(wide).max(initial=0))
    if most > MOST:
        raise ImageherdError(
            f"The features of row {row} reach {most:,.0f} and float16 ends at {MOST:,}; leave "
            "--dtype float16 out, or scale the vectors down."
        )
    half = wide.astype(dtype)
    if np.linalg.norm(half - wide) > LEAST_EXACT * np.linalg.norm(wide):
        raise ImageherdError(
            f"The features of row {row} are {most:.1e} at most, too small for float16 to tell "
            "apart; leave --dtype float16 out, or scale the vectors up."
        )
    return half
