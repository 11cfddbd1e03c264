"""Coding rates: what CPP maximises, what it minimises, and how it counts clusters.

Chu et al., "Image clustering via the principle of rate reduction in the age of pre-trained
models" (ICLR 2024); coding lengths after Ma et al. 2007. Equation numbers are Chu et al.'s; the
forms are those of their program, with the ½ of a coding rate in nats.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imageherd.heads.networks import onednn_helps, times_transposed

# Numbers in one stack of dz × dz matrices; at most five such stacks are alive.
_STACK = 2**25
# Rows of a symmetric matrix computed at a time. Fewer leave less above the diagonal to compute in
# vain, and make thinner products.
_STRIP = 16


def coding_rate(Z: Tensor, eps2: float) -> Tensor:
    """Eq. 1: R(Z) = ½ log det(I + dz/(B ε²) ZᵀZ), the volume the rows of Z span.

    Parameters
    ----------
    Z : Tensor of shape (B, dz)
        Unit rows.
    eps2 : float
        ε², the distortion allowed.

    Returns
    -------
    Tensor of shape ()
    """
    B, dz = Z.shape
    gram = torch.eye(dz, dtype=Z.dtype, device=Z.device) + dz / (B * eps2) * (Z.T @ Z)
    return _half_log_det(gram)


def compression(Z: Tensor, Pi: Tensor, eps2: float) -> Tensor:
    """Eq. 2: Rc(Z, Π) = Σj tr_j/(2B) log det(I + dz/(tr_j ε²) Zᵀ diag(Πj) Z), tr_j = Σi Πij.

    The mean volume of what each column of Π calls one cluster. Exact, with gradients for Z and Π
    (once differentiable). Σi Πij zi ziᵀ is linear in zi ziᵀ, so the lower triangles of all B sums
    come out of one product, of Πᵀ with the lower triangles of the zi ziᵀ; determinants and their
    gradients come from one Cholesky factor each.

    Parameters
    ----------
    Z : Tensor of shape (B, dz)
        Unit rows.
    Pi : Tensor of shape (B, B')
        Non-negative membership; each column is one cluster.
    eps2 : float
        ε², the distortion allowed.

    Returns
    -------
    Tensor of shape ()

    Notes
    -----
    About B B' dz² multiplications and additions for the value, three times that with gradients
    (half of what B' full products Zᵀ diag(Πj) Z take), and O(B' dz³) for the factors, a third of
    it for the value. Memory: five stacks of at most 2²⁵ numbers (or one dz × dz matrix), whatever
    B'; with gradients Z and Π once more.
    """
    return cast(Tensor, _Compression.apply(Z, Pi, eps2))  # type: ignore[no-untyped-call]


class _Compression(torch.autograd.Function):
    """`compression`; as its gradient is only ever scaled, it is computed with the value."""

    @staticmethod
    def forward(ctx: Any, Z: Tensor, Pi: Tensor, eps2: float) -> Tensor:
        B, dz = Z.shape
        wanted = any(ctx.needs_input_grad)
        mass = Pi.sum(0).clamp_min(torch.finfo(Pi.dtype).tiny)
        d_Z, d_Pi = torch.zeros_like(Z), torch.empty_like(Pi)
        total = torch.zeros((), dtype=torch.float64, device=Z.device)
        size = max(1, _STACK // dz**2)
        for start in range(0, Pi.shape[1], size):
            columns = slice(start, start + size)
            members = Pi[:, columns]
            grams = _weighted_grams(Z, members)
            grams *= (dz / (mass[columns] * eps2))[:, None, None]
            grams.diagonal(dim1=1, dim2=2).add_(1)
            # The one without checks: a NaN is to be seen in the loss, not raised here.
            factors = torch.linalg.cholesky_ex(grams).L
            log_dets = 2 * factors.diagonal(dim1=1, dim2=2).log().sum(1)
            total += (mass[columns] * log_dets).sum(dtype=torch.float64) / (2 * B)
            if wanted:
                # Symmetric; its transpose is what lies in memory row by row.
                inverses = torch.cholesky_inverse(factors).mT
                # d/dtr_j, where a factor dz/(tr_j ε²) stands before the sum as well.
                traces = inverses.diagonal(dim1=1, dim2=2).sum(1)
                by_mass = (log_dets - dz + traces) / (2 * B)
                inverses *= dz / (2 * B * eps2)
                d_Pi[:, columns] = _add_gradients(d_Z, Z, members, inverses) + by_mass
        if wanted:
            ctx.save_for_backward(d_Z, d_Pi)
        return total.to(Z.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        d_Z, d_Pi = ctx.saved_tensors
        return gradients[0] * d_Z, gradients[0] * d_Pi, None


def _weighted_grams(Z: Tensor, weights: Tensor) -> Tensor:
    """Σi w_ij zi ziᵀ for every column j of weights (B, c): (c, dz, dz), lower triangles filled."""
    B, dz = Z.shape
    rows = weights.T.contiguous()
    columns = Z.T.contiguous()
    grams = Z.new_zeros(len(rows), dz, dz)
    for strip, width in _strips(dz):
        pairs = columns[strip, None] * columns[None, :width]
        grams[:, strip, :width] = _times(rows, pairs.view(-1, B)).view(len(rows), -1, width)
    return grams


def _add_gradients(d_Z: Tensor, Z: Tensor, weights: Tensor, P: Tensor) -> Tensor:
    """Gradients of Σj ⟨Pj, Σi w_ij zi ziᵀ⟩: added to d_Z (B, dz), returned for weights (B, c)."""
    d_weights = torch.zeros_like(weights)
    weights = weights.contiguous()
    for strip, width in _strips(Z.shape[1]):
        # What lies left of the diagonal block stands for its mirror image too.
        left = slice(0, strip.start)
        part = P[:, strip, :width].clone(memory_format=torch.contiguous_format)
        part[:, :, left] *= 2
        part = part.view(len(part), -1)
        z = Z[:, strip]
        d_weights += _times((z[:, :, None] * Z[:, None, :width]).view(len(Z), -1), part)
        Q = _times(weights, part.T).view(len(Z), -1, width)
        d_Z[:, strip] += torch.bmm(Q, Z[:, :width, None])[:, :, 0]
        d_Z[:, :width] += torch.bmm(z[:, None], Q)[:, 0]
    return d_weights


def _strips(dz: int) -> Iterator[tuple[slice, int]]:
    """Yield strips of rows that cover the lower triangle of a dz × dz matrix, and their widths."""
    for start in range(0, dz, _STRIP):
        stop = min(start + _STRIP, dz)
        yield slice(start, stop), stop


def _times(a: Tensor, b: Tensor) -> Tensor:
    """Return a bᵀ, by the quicker of PyTorch's two libraries."""
    if onednn_helps(a):
        return times_transposed(a, b.contiguous())
    return a @ b.T


def _half_log_det(matrix: Tensor) -> Tensor:
    factor: Tensor = torch.linalg.cholesky_ex(matrix).L
    return factor.diagonal().log().sum()


def coding_length(
    Z: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]], eps2: float
) -> float:
    """Algorithm 1: nats that code unit rows Z (n, dz) cluster by cluster, and the labels.

    L = Σk (m_k + dz) ½ log det(I + dz/(m_k ε²) ZₖᵀZₖ) - m_k log(m_k/n), m_k the size of cluster k
    of `labels` (n,). The ½ is that of Ma et al. 2007 and of the authors' program; eq. 5 leaves it
    out, which would count the labels half as much.

    Time: O(n dz²), and O(min(m, dz)³) a cluster.
    """
    total = 0.0
    for label in np.unique(labels):
        rows = torch.from_numpy(np.asarray(Z[labels == label], dtype=np.float64))
        m, dz = rows.shape
        # det(I + AᵀA) = det(I + AAᵀ): take the smaller.
        gram = rows @ rows.T if m < dz else rows.T @ rows
        size = len(gram)
        rate = _half_log_det(torch.eye(size, dtype=rows.dtype) + dz / (m * eps2) * gram)
        total += (m + dz) * float(rate) - m * np.log(m / len(labels))
    return float(total)


@dataclass(frozen=True)
class CodingLengthCurve:
    """Coding length by number of clusters, and the two readings of it.

    Attributes
    ----------
    n_clusters : ndarray of shape (c,), int64
        Numbers of clusters, ascending.
    lengths : ndarray of shape (c,), float64
        Coding lengths in nats, see `coding_length`.
    minimum : int
        Number of clusters with the smallest length: algorithm 1.
    elbow : int
        Where the curve bends most, the reading of fig. 4; see `elbow`.
    """

    n_clusters: NDArray[np.int64]
    lengths: NDArray[np.float64]
    minimum: int
    elbow: int


def elbow(x: NDArray[np.number[Any]], y: NDArray[np.floating[Any]]) -> int:
    """Return the index where a falling curve bends most: farthest below the line of its ends.

    With both axes scaled to the curve's extent, as in Satopaa et al. 2011 ("Kneedle"). A curve
    that is nowhere below that line bends at its lower end, the smallest index on a tie.
    """
    below = y[0] + (x - x[0]) * (y[-1] - y[0]) / max(x[-1] - x[0], 1) - y
    if below.max() <= 1e-12 * np.abs(y).max():
        return int(np.argmin(y))
    return int(np.argmax(below))
