"""Spectral clustering of an affinity: normalised cuts by leading eigenvectors and k-means.

Ng, Jordan and Weiss, "On spectral clustering" (2001); von Luxburg, "A tutorial on spectral
clustering" (2007), whose L_sym this is. CPP reads its clusters off Π with it (sec. 3.2).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from imageherd.heads.loop import generator

Affinity: TypeAlias = "Tensor | NDArray[np.floating[Any]] | sparse.sparray | sparse.spmatrix"

# Residual ‖N u - λ u‖ of every eigenvector. The angle to the true one is this over the gap to the
# next eigenvalue, and float32 affinities can give no more.
TOLERANCE = 1e-5
MAX_CYCLES = 100
# Up to so many rows all eigenvectors at once are quicker than iterations.
_DENSE_ROWS = 500


def spectral_labels(
    affinity: Affinity, n_clusters: int, seed: int, *, n_init: int = 10
) -> NDArray[np.int32]:
    """Cut a graph into K parts.

    The K leading eigenvectors of 2I - L_sym of the symmetrised affinity, rows normalised, then
    k-means.

    Parameters
    ----------
    affinity : Tensor, ndarray or SciPy sparse matrix of shape (n, n)
        Non-negative; (A + Aᵀ)/2 is what counts. Read only, and not copied.
    n_clusters : int
        K, 1 to n.
    seed : int
        Of the eigensolver's start and of k-means.
    n_init : int, default=10
        Starts of k-means.

    Returns
    -------
    ndarray of shape (n,), int32
        0 to K - 1. Rows without any affinity fall into one and the same cluster.

    Raises
    ------
    ValueError
        If the affinity is not square, finite and non-negative, or `n_clusters` not in 1 to n.

    Notes
    -----
    O(n² K) time a round of the eigensolver for a dense affinity, O(nnz K) for a sparse one, some
    tens of rounds; memory for n · max(4K, 200) numbers beside the affinity.
    """
    embedding = spectral_embedding(affinity, n_clusters, seed=seed)
    return embedding_labels(embedding, n_clusters, seed=seed, n_init=n_init)


def embedding_labels(
    embedding: NDArray[np.floating[Any]], n_clusters: int, *, seed: int, n_init: int = 10
) -> NDArray[np.int32]:
    """Return k-means labels (n,) of the first K columns of an embedding, rows normalised.

    `embedding` comes from `spectral_embedding` with K or more columns: one embedding serves every
    smaller number of clusters.
    """
    columns = np.asarray(embedding[:, :n_clusters], dtype=np.float64)
    length = np.linalg.norm(columns, axis=1, keepdims=True)
    rows = columns / np.maximum(length, np.finfo(np.float64).tiny)
    kmeans = KMeans(n_clusters, n_init=n_init, random_state=seed % 2**32)
    # One thread adds up in one order; fewer distinct rows than K are no reason for a warning here.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(kmeans.fit_predict(rows), dtype=np.int32)


def spectral_embedding(
    affinity: Affinity, n_components: int, *, seed: int = 0
) -> NDArray[np.float64]:
    """Return the leading eigenvectors of 2I - L_sym, (n, n_components), largest eigenvalue first.

    L_sym = I - N, N = D^-½ W D^-½, W = (A + Aᵀ)/2, D its row sums. N has the same eigenvectors.
    Up to 500 rows by a full decomposition, above by block Krylov iteration with restarts, which
    unlike single-vector Lanczos finds all vectors of a multiple eigenvalue: a graph in several
    pieces has one for every piece.

    Parameters and errors as for `spectral_labels`. A ConvergenceWarning is given when the
    residual is above 1e-5 after 100 restarts.
    """
    n = _check(affinity, n_components)
    product, dtype = _normalised_product(affinity)
    device = affinity.device if isinstance(affinity, Tensor) else torch.device("cpu")
    if n <= max(_DENSE_ROWS, 4 * n_components):
        whole = product(torch.eye(n, dtype=dtype, device=device)).double()
        vectors = torch.linalg.eigh((whole + whole.T) / 2).eigenvectors.flip(1)
        return np.asarray(vectors[:, :n_components].cpu().numpy())
    block = torch.randn((n, n_components + 8), generator=generator(seed, stream=300))
    vectors = _leading(product, block.to(device, dtype), n_components)
    return np.asarray(vectors.double().cpu().numpy())


def _check(affinity: Affinity, n_components: int) -> int:
    shape = tuple(affinity.shape)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"affinity has shape {shape}; it must be square.")
    if not 1 <= n_components <= shape[0]:
        raise ValueError(f"n_clusters={n_components} must be in 1 to n_samples={shape[0]}.")
    values: Any = affinity.data if sparse.issparse(affinity) else affinity
    # NaN fails the comparison too.
    if len(values) and not (values.min() >= 0 and values.max() < np.inf):
        raise ValueError("affinity must be finite and non-negative.")
    return int(shape[0])


def _normalised_product(affinity: Any) -> tuple[Callable[[Tensor], Tensor], torch.dtype]:
    """Return V ↦ N V and the dtype it works in, without forming W or N."""
    if sparse.issparse(affinity):
        rows = affinity.tocsr()
        columns = rows.T.tocsr()

        def times(V: Tensor) -> Tensor:
            dense = V.numpy()
            return torch.from_numpy((rows @ dense + columns @ dense) / 2)

        dtype = torch.float64
        ones = torch.ones((rows.shape[0], 1), dtype=dtype)
    else:
        A = torch.as_tensor(affinity)

        def times(V: Tensor) -> Tensor:
            return (A @ V + A.T @ V) / 2

        dtype = A.dtype
        ones = torch.ones((len(A), 1), dtype=dtype, device=A.device)
    degree = times(ones)
    # A row without affinity has no place in N: zero, not infinity.
    scale = torch.where(degree > 0, degree.clamp_min(torch.finfo(dtype).tiny).rsqrt(), 0.0)
    return lambda V: scale * times(scale * V), dtype


def _leading(product: Callable[[Tensor], Tensor], block: Tensor, wanted: int) -> Tensor:
    """Leading eigenvectors (n, wanted): block Krylov, Rayleigh-Ritz, restart from the best."""
    n, width = block.shape
    depth = max(3, min(200, n) // width)
    for _ in range(MAX_CYCLES):
        basis = torch.linalg.qr(block).Q
        images = newest = product(basis)
        for _ in range(depth - 1):
            # Twice, as once leaves rounding behind.
            for _ in range(2):
                newest = newest - basis @ (basis.T @ newest)
            newest = torch.linalg.qr(newest).Q
            basis = torch.cat([basis, newest], 1)
            newest = product(newest)
            images = torch.cat([images, newest], 1)
        small = basis.T @ images
        values, rotation = torch.linalg.eigh((small + small.T) / 2)
        best = rotation[:, -width:].flip(1)
        block = basis @ best
        kept = block[:, :wanted]
        residual = images @ best[:, :wanted] - kept * values.flip(0)[:wanted]
        if float(torch.linalg.vector_norm(residual, dim=0).max()) <= TOLERANCE:
            return kept
    warnings.warn(
        f"The eigenvectors have not settled after {MAX_CYCLES} rounds; the clusters may differ "
        "from those of the exact ones.",
        ConvergenceWarning,
        stacklevel=4,
    )
    return kept
