"""Scaling of the features before a head sees them: fitted once, kept in the saved head.

All passes over the data are in blocks of rows, so at most one scaled copy exists, in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imageherd.memory import empty_array

Features: TypeAlias = NDArray[np.floating[Any]]
Scaling = Literal["none", "l2", "standard", "pca"]
SCALINGS: tuple[str, ...] = get_args(Scaling)

# Every pass works on blocks of exactly this many rows (the last one padded), so that the result
# for a row depends neither on how many rows come with it nor on the caller's batches.
BLOCK_ROWS = 1024

# How many rows that are not finite an error names.
_ROWS_NAMED = 5


class Scaler(nn.Module):
    """A fitted scaling ``z = components (x - shift) * scale``, or unit rows for "l2".

    Parameters
    ----------
    kind : {"none", "l2", "standard", "pca"}
        "l2" makes every row √d long, which has the geometry of unit rows with values of order one
        whatever d. "standard" gives every column mean 0 and standard deviation 1 (a constant
        column becomes 0). "pca" centres and rotates onto the leading principal components, then
        divides all of them by one number so that the mean variance is 1: distances keep their
        ratios.
    n_features : int
        d, the columns of X.
    n_outputs : int, optional
        Columns of the result; less than d only for "pca".
    """

    shift: Tensor
    scale: Tensor
    components: Tensor

    def __init__(self, kind: str, n_features: int, n_outputs: int | None = None) -> None:
        super().__init__()
        self.kind = kind
        self.n_features = n_features
        self.n_outputs = n_features if n_outputs is None else n_outputs
        if kind == "standard":
            self.register_buffer("shift", torch.zeros(n_features))
            self.register_buffer("scale", torch.ones(n_features))
        elif kind == "pca":
            self.register_buffer("shift", torch.zeros(n_features))
            self.register_buffer("components", torch.zeros(self.n_outputs, n_features))

    def forward(self, X: Tensor) -> Tensor:
        """Scale a block, (b, d) to (b, n_outputs)."""
        if self.kind == "l2":
            length: Tensor = torch.linalg.vector_norm(X, dim=1, keepdim=True)
            side = math.sqrt(X.shape[1])
            return X * (side / length.clamp_min(torch.finfo(X.dtype).tiny))
        if self.kind == "standard":
            return (X - self.shift) * self.scale
        if self.kind == "pca":
            return (X - self.shift) @ self.components.T
        return X


class BlockScaler(nn.Module):
    """Scalings of feature spaces that lie side by side in X, one for each.

    Parameters
    ----------
    parts : iterable of Scaler
        In the order of the columns.
    """

    def __init__(self, parts: Iterable[Scaler]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.inputs = [part.n_features for part in parts_of(self)]
        self.sizes = [part.n_outputs for part in parts_of(self)]
        self.n_outputs = sum(self.sizes)

    def forward(self, X: Tensor) -> Tensor:
        """Scale a block of rows, (b, d) to (b, n_outputs)."""
        if len(self.parts) == 1:
            scaled: Tensor = self.parts[0](X)
            return scaled
        spaces = torch.split(X, self.inputs, 1)
        return torch.cat([f(x) for f, x in zip(self.parts, spaces, strict=True)], 1)

    def split(self, Z: Tensor) -> tuple[Tensor, ...]:
        """Return each space's columns of scaled rows (b, n_outputs)."""
        return torch.split(Z, self.sizes, 1)


def parts_of(scaler: BlockScaler) -> list[Scaler]:
    """Return the scalings of the spaces."""
    return [part for part in scaler.parts if isinstance(part, Scaler)]


def block_sizes(blocks: tuple[int, ...] | None, d: int) -> list[int]:
    """Return the columns of each feature space: `blocks`, or all d as one.

    Raises
    ------
    ValueError
        If `blocks` does not add up to d.
    """
    if blocks is None:
        return [d]
    if sum(blocks) != d:
        raise ValueError(f"blocks={blocks!r} add up to {sum(blocks)} columns; X has {d}.")
    return list(blocks)


def fit_blocks(
    X: Features, kind: str, *, blocks: tuple[int, ...] | None = None, pca_variance: float = 0.8
) -> BlockScaler:
    """Fit a scaling to each feature space of X (n, d); see `fit_scaler`."""
    ends = np.cumsum(sizes := block_sizes(blocks, X.shape[1]))
    return BlockScaler(
        fit_scaler(X[:, end - size : end], kind, pca_variance=pca_variance)
        for size, end in zip(sizes, ends, strict=True)
    )


def fit_scaler(X: Features, kind: str, *, pca_variance: float = 0.8) -> Scaler:
    """Fit a scaling to X (n, d).

    Parameters
    ----------
    X : ndarray or memmap of shape (n, d)
        Features, of any floating type.
    kind : {"none", "l2", "standard", "pca"}
        See `Scaler`.
    pca_variance : float, default=0.8
        "pca" keeps the fewest components that hold this share of the variance, in (0, 1].

    Raises
    ------
    ValueError
        If `kind` is not known.

    Notes
    -----
    "standard" takes two passes over X, "pca" two and d² numbers of memory (float64), plus an
    eigendecomposition of O(d³).
    """
    if kind not in SCALINGS:
        raise ValueError(f"scaling={kind!r} is not known; choose one of {', '.join(SCALINGS)}.")
    d = X.shape[1]
    if kind in ("none", "l2"):
        return Scaler(kind, d)
    mean = _sum_blocks(X, lambda block: block.sum(0)) / len(X)
    if kind == "standard":
        variance = _sum_blocks(X, lambda block: np.square(block - mean).sum(0)) / len(X)
        deviation = np.sqrt(variance)
        # A constant column leaves rounding, not zero: do not blow that up.
        constant = deviation <= 1e-7 * np.maximum(1.0, np.abs(mean))
        scaler = Scaler(kind, d)
        scaler.shift = _float32(mean)
        scaler.scale = _float32(np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, deviation)))
        return scaler
    covariance = _sum_blocks(X, lambda block: (block - mean).T @ (block - mean)) / len(X)
    return _principal_components(mean, covariance, pca_variance)


def apply_scaler(scaler: Scaler | BlockScaler, X: Features, scratch: Path | None = None) -> Tensor:
    """Scale the whole of X into one float32 tensor (n, n_outputs) on the CPU.

    Shares memory with X where nothing changes ("none" on writable float32, in memory or mapped as
    `Features.X` of a herd is): the heads only read it. Else above 1 GB it lies in a temporary file,
    in the folder `scratch`; see `imageherd.memory.empty_array`.
    """
    plain = isinstance(X, np.ndarray) and not isinstance(X, np.memmap)
    parts = parts_of(scaler) if isinstance(scaler, BlockScaler) else [scaler]
    as_it_is = plain and all(part.kind == "none" for part in parts)
    if as_it_is and X.dtype == np.float32 and X.flags.writeable:
        return torch.from_numpy(np.ascontiguousarray(X))
    out = torch.from_numpy(empty_array((len(X), scaler.n_outputs), scratch))
    for start in range(0, len(X), BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, len(X)))
        out[rows] = scaler(padded_block(X, start))[: rows.stop - rows.start]
    return out


def unit_blocks(X: Features, blocks: tuple[int, ...]) -> NDArray[np.float32]:
    """Return X (n, d) with each block's rows of length 1: cosines are then means over blocks."""
    out = np.empty(X.shape, dtype=np.float32)
    for end, size in zip(np.cumsum(blocks), blocks, strict=True):
        columns = slice(end - size, end)
        for start in range(0, len(X), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            part = np.asarray(X[rows, columns], dtype=np.float64)
            length = np.linalg.norm(part, axis=1, keepdims=True)
            out[rows, columns] = part / np.maximum(length, np.finfo(np.float64).tiny)
    return out


def padded_block(X: Features, start: int) -> Tensor:
    """Return rows start to start + BLOCK_ROWS of X as a float32 copy, missing rows as zeros."""
    block = torch.zeros((BLOCK_ROWS, X.shape[1]))
    rows = X[start : start + BLOCK_ROWS]
    block.numpy()[: len(rows)] = rows
    return block


def check_finite(X: Features, name: str) -> None:
    """Raise ValueError naming the rows of X (n, d) with NaN or infinity, looking block by block."""
    bad: list[int] = []
    for start in range(0, len(X), BLOCK_ROWS):
        finite = np.isfinite(X[start : start + BLOCK_ROWS]).all(axis=1)
        bad += (start + np.flatnonzero(~finite)).tolist()
    if bad:
        shown = ", ".join(map(str, bad[:_ROWS_NAMED])) + (", …" if len(bad) > _ROWS_NAMED else "")
        raise ValueError(
            f"{name} contains NaN or infinity in {len(bad)} of {len(X)} rows ({shown}); "
            "leave these rows out."
        )


def _sum_blocks(X: Features, term: Callable[[NDArray[np.float64]], Any]) -> NDArray[np.float64]:
    total = term(np.asarray(X[:BLOCK_ROWS], dtype=np.float64))
    for start in range(BLOCK_ROWS, len(X), BLOCK_ROWS):
        total += term(np.asarray(X[start : start + BLOCK_ROWS], dtype=np.float64))
    return np.asarray(total)


def _principal_components(
    mean: NDArray[np.float64], covariance: NDArray[np.float64], kept: float
) -> Scaler:
    variance, directions = np.linalg.eigh(covariance)
    variance, directions = np.maximum(variance[::-1], 0.0), directions[:, ::-1].T
    share = np.cumsum(variance) / max(variance.sum(), np.finfo(float).tiny)
    n_outputs = min(int(np.searchsorted(share, kept - 1e-12)) + 1, len(mean))
    # The sign of an eigenvector is arbitrary: make its largest entry positive.
    largest = np.abs(directions).argmax(1)
    directions = directions * np.sign(directions[np.arange(len(mean)), largest])[:, None]
    size = np.sqrt(variance[:n_outputs].mean())
    scaler = Scaler("pca", len(mean), n_outputs)
    scaler.shift = _float32(mean)
    scaler.components = _float32(directions[:n_outputs] / (size if size > 0 else 1.0))
    return scaler


def _float32(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
