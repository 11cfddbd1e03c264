"""Subspace clustering: every row written with few of the others, then a spectral cut.

Rows that lie in one low-dimensional subspace write each other. EnSC: You, Li, Robinson and Vidal,
"Oracle based active set algorithm for scalable elastic net subspace clustering" (CVPR 2016).
SSC-OMP: You, Robinson and Vidal, "Scalable sparse subspace clustering by orthogonal matching
pursuit" (CVPR 2016). CPP's table 2 compares with both.
"""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import enet_path
from sklearn.utils import check_scalar
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from imageherd.baselines.vote import Voting
from imageherd.heads.loop import Run
from imageherd.heads.spectral import spectral_labels
from imageherd.progress import progress

# Rows whose products with all others are computed together.
BLOCK = 512
# Elastic net: rows a code starts from, and most that join it at a time.
N_CANDIDATES = 100
MAX_ROUNDS = 20
# A code is done when no left-out row's product exceeds the bound by more than this share.
SLACK = 1e-3
# Duality gap of a code, beside ‖x‖² = 1, and sweeps of coordinate descent at most.
TOLERANCE = 1e-4
MAX_SWEEPS = 1000


def code_affinity(codes: csr_array) -> csr_array:
    """Return |C| + |C|ᵀ of codes (n, n), every code first divided by its largest entry.

    (Elhamifar and Vidal 2013, algorithm 1: rows then have an equal say.)
    """
    sizes = abs(codes).tocsr()
    largest = sizes.max(axis=1).toarray().ravel()
    scale = np.divide(1.0, largest, out=np.zeros_like(largest), where=largest > 0)
    sizes.data *= np.repeat(scale, np.diff(sizes.indptr))
    return csr_array(sizes + sizes.T)


def omp_codes(U: Tensor, n_nonzero: int, tolerance: float) -> csr_array:
    """Write every row with at most `n_nonzero` others by orthogonal matching pursuit.

    Each round takes the row with the largest |product| with what is left, then fits all taken rows
    by least squares; a row is done when what is left of it has squared length `tolerance` or less.

    Parameters
    ----------
    U : Tensor of shape (n, d)
        Rows of length 1 or 0.
    n_nonzero : int
        Rounds, below n.
    tolerance : float
        ε.

    Returns
    -------
    csr_array of shape (n, n)
        Codes, one a row, with zero diagonal. O(n² d n_nonzero) time, 512 n numbers of memory.
    """
    n = len(U)
    ids = torch.zeros((n, n_nonzero), dtype=torch.int64)
    values = torch.zeros((n, n_nonzero), dtype=torch.float64)
    with progress("Coding rows", n, "rows") as advance:
        for start in range(0, n, BLOCK):
            rows = torch.arange(start, min(start + BLOCK, n), device=U.device)
            taken, fitted = _pursue(U, rows, n_nonzero, tolerance)
            ids[rows], values[rows] = taken.cpu(), fitted.cpu()
            advance(len(rows))
    return _sparse(ids, values)


def _pursue(U: Tensor, rows: Tensor, n_nonzero: int, tolerance: float) -> tuple[Tensor, Tensor]:
    own = U[rows]
    left = own
    taken = rows[:, None]
    values = torch.zeros((len(rows), n_nonzero), dtype=torch.float64, device=U.device)
    ids = torch.zeros((len(rows), n_nonzero), dtype=torch.int64, device=U.device)
    for t in range(n_nonzero):
        going = left.square().sum(1) > tolerance
        if not going.any():
            break
        products = (left @ U.T).abs()
        products.scatter_(1, taken, -1.0)
        best = products.argmax(1, keepdim=True)
        taken = torch.cat([taken, best], 1)
        atoms = U[taken[:, 1:]].double()
        gram = atoms @ atoms.transpose(1, 2)
        # Rows taken after one is done are not used; this keeps the batch solvable.
        gram.diagonal(dim1=1, dim2=2).add_(1e-10)
        target = atoms @ own.double()[:, :, None]
        fitted = torch.linalg.solve(gram, target)
        rest = own - (fitted.transpose(1, 2) @ atoms).squeeze(1).to(own.dtype)
        values[going, : t + 1] = fitted.squeeze(2)[going]
        ids[going, : t + 1] = taken[going, 1:]
        left = torch.where(going[:, None], rest, left)
    return ids, values


def elastic_net_codes(U: NDArray[np.float32], gamma: float, tau: float) -> csr_array:
    """Write every row with the others by an elastic net, over a growing set of candidates.

    Code c of row x minimises τ ‖c‖₁ + (1 - τ)/2 ‖c‖² + γ'/2 ‖x - Σ c_i u_i‖² with c = 0 at x
    itself. The search (ORGEN) starts from the rows with the largest |product| with x. A row that
    is left out can lower the objective only if γ' |u_i · rest| > τ: such rows join those in use
    until there are none.

    Parameters
    ----------
    U : ndarray of shape (n, d)
        Rows of length 1 or 0.
    gamma : float
        γ' as a multiple of the smallest value that gives a code other than zero,
        τ / max |product|.
    tau : float
        τ in (0, 1]; 1 is the lasso.

    Returns
    -------
    csr_array of shape (n, n)
        Codes, one a row, with zero diagonal.
    """
    n = len(U)
    codes: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    with (
        progress("Coding rows", n, "rows") as advance,
        threadpool_limits(1, user_api="openmp"),
        warnings.catch_warnings(),
    ):
        # A code cut short is a little less sparse than it could be, and no reason to worry a user.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for start in range(0, n, BLOCK):
            codes += _code_block(U, np.arange(start, min(start + BLOCK, n)), gamma, tau)
            advance(len(codes) - start)
    starts = np.cumsum([0, *(len(ids) for ids, _ in codes)])
    columns = np.concatenate([ids for ids, _ in codes])
    values = np.concatenate([code for _, code in codes])
    return csr_array((values, columns, starts), shape=(n, n))


def _code_block(
    U: NDArray[np.float32], rows: NDArray[np.int64], gamma: float, tau: float
) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    products = _others(U[rows], U, rows)
    # 1 / γ': with the objective divided by γ', where penalties beside a plain residual stand.
    weight = products.max(1) / (gamma * tau)
    sets = [_largest(products[i], 0.0) for i in range(len(rows))]
    codes = [np.zeros(len(ids)) for ids in sets]
    going = np.flatnonzero(weight > 0)
    for _ in range(MAX_ROUNDS):
        rest = U[rows[going]].copy()
        for k, i in enumerate(going):
            atoms = U[sets[i]]
            codes[i] = _elastic_net(atoms, rest[k], float(weight[i]), tau)
            rest[k] -= codes[i].astype(U.dtype) @ atoms
            used = codes[i] != 0
            sets[i], codes[i] = sets[i][used], codes[i][used]
        products = _others(rest, U, rows[going])
        still = []
        for k, i in enumerate(going):
            products[k, sets[i]] = 0
            joining = _largest(products[k], float(weight[i]) * tau * (1 + SLACK))
            if len(joining):
                still.append(i)
                sets[i] = np.concatenate([sets[i], joining])
        going = np.array(still, dtype=np.int64)
        if not len(going):
            break
    return [(ids[: len(code)], code) for ids, code in zip(sets, codes, strict=True)]


def _others(
    rest: NDArray[np.float32], U: NDArray[np.float32], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    products: NDArray[np.float32] = np.abs(rest @ U.T)
    products[np.arange(len(rows)), rows] = 0
    return products


def _largest(products: NDArray[np.float32], least: float) -> NDArray[np.int64]:
    """Return where the largest 100 of the products above `least` are."""
    found = np.flatnonzero(products > least)
    if len(found) > N_CANDIDATES:
        found = found[np.argpartition(-products[found], N_CANDIDATES)[:N_CANDIDATES]]
    return found


def _elastic_net(
    atoms: NDArray[np.float32], x: NDArray[np.float32], weight: float, tau: float
) -> NDArray[np.float64]:
    """Minimise ‖x - cᵀ atoms‖²/2 + weight (τ ‖c‖₁ + (1 - τ)/2 ‖c‖²) over c."""
    atoms = atoms.astype(np.float64)
    # Coordinate descent needs products only; of the data it wants the shape, and ‖x‖ = 1.
    shape = np.zeros((1, len(atoms)), order="F")
    _, paths, *_ = enet_path(
        shape,
        np.ones(1),
        l1_ratio=tau,
        alphas=[weight],
        precompute=atoms @ atoms.T,
        Xy=atoms @ x,
        tol=TOLERANCE,
        max_iter=MAX_SWEEPS,
        check_input=False,
    )
    return np.asarray(paths[:, 0])


class EnSC(Voting):
    """Elastic-net subspace clustering (EnSC), You et al. 2016.

    `elastic_net_codes` of the rows at unit length, `code_affinity`, `spectral_labels`.

    Parameters
    ----------
    n_clusters : int, default=10
        K.
    scaling : {"none", "l2", "standard", "pca"}, default="l2"
        See `imageherd.heads.scaling.Scaler`. Rows are brought to unit length after it.
    pca_variance : float, default=0.8
        Share of the variance that scaling="pca" keeps.
    blocks : tuple of int, optional
        Columns of each feature space where X holds several side by side; each is scaled on its own.
    gamma : float, default=10.0
        Weight of a faithful code against a simple one, as a multiple of the smallest that gives
        any code: above 1. CPP's table 9 picks among 1, 5, 10, 50 and 100 by accuracy, that is by
        labels; ours is the middle.
    tau : float, default=0.95
        Share of the ℓ₁ penalty beside the ℓ₂ penalty, in (0, 1]; 1 gives the sparsest codes. CPP's
        table 9 picks among 0.9, 0.95 and 1.
    random_state : int, RandomState or None, default=None
        Seed of the spectral cut.
    device : str, default="auto"
        Not used: runs on the CPU.

    Notes
    -----
    O(n² d) for products, a few times over, and n small problems one after another: n = 3,781 of
    1,280 columns took 6 s of one core; gamma=50 takes tens of times that. Memory beside the
    features: the codes (some 30 entries a row), what `spectral_labels` takes, and what
    `NeighborVote` keeps.
    """

    against_collapse: ClassVar[str] = "raise gamma or lower n_clusters"

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        scaling: str = "l2",
        pca_variance: float = 0.8,
        blocks: tuple[int, ...] | None = None,
        gamma: float = 10.0,
        tau: float = 0.95,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.scaling = scaling
        self.pca_variance = pca_variance
        self.blocks = blocks
        self.gamma = gamma
        self.tau = tau
        self.random_state = random_state
        self.device = device

    def _check_params(self) -> None:
        super()._check_params()
        check_scalar(self.gamma, "gamma", Real, min_val=1, include_boundaries="neither")
        check_scalar(self.tau, "tau", Real, min_val=0, max_val=1, include_boundaries="right")

    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        codes = elastic_net_codes(nn.functional.normalize(Z).cpu().numpy(), self.gamma, self.tau)
        return self._vote(Z, spectral_labels(code_affinity(codes), self.n_clusters, run.seed))


class SSCOMP(Voting):
    """Sparse subspace clustering by orthogonal matching pursuit (SSC-OMP), You et al. 2016.

    `omp_codes` of the rows at unit length, `code_affinity`, `spectral_labels`.

    It wants subspaces of many dimensions, sparsely sampled. Of compact or densely sampled groups
    the nearest row explains nearly all of a row, and what is left is written with rows of any
    group: three blobs far apart come out at random.

    Parameters
    ----------
    n_clusters : int, default=10
        K.
    scaling : {"none", "l2", "standard", "pca"}, default="l2"
        See `imageherd.heads.scaling.Scaler`. Rows are brought to unit length after it.
    pca_variance : float, default=0.8
        Share of the variance that scaling="pca" keeps.
    blocks : tuple of int, optional
        Columns of each feature space where X holds several side by side; each is scaled on its own.
    n_nonzero : int, default=5
        Rows that a code uses at most (the papers' k_max). CPP's table 9 picks among 3, 5 and 10 by
        accuracy, that is by labels; ours is the middle.
    tolerance : float, default=1e-6
        A code is good enough when what it leaves of its row has this squared length (the papers'
        ε; CPP's table 9: 1e-4 to 1e-7).
    random_state : int, RandomState or None, default=None
        Seed of the spectral cut.
    device : str, default="auto"
        Where rows are coded; the cut is computed on the CPU. See
        `imageherd.device.resolve_device`.

    Notes
    -----
    O(n² d n_nonzero) time: n = 10,000 of 1,280 columns took 15 s of one core. Memory beside the
    features: 512 n numbers while coding, the codes, what `spectral_labels` takes, and what
    `NeighborVote` keeps.
    """

    against_collapse: ClassVar[str] = "raise n_nonzero or lower n_clusters"

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        scaling: str = "l2",
        pca_variance: float = 0.8,
        blocks: tuple[int, ...] | None = None,
        n_nonzero: int = 5,
        tolerance: float = 1e-6,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.scaling = scaling
        self.pca_variance = pca_variance
        self.blocks = blocks
        self.n_nonzero = n_nonzero
        self.tolerance = tolerance
        self.random_state = random_state
        self.device = device

    def _check_params(self) -> None:
        super()._check_params()
        check_scalar(self.n_nonzero, "n_nonzero", Integral, min_val=1)
        check_scalar(self.tolerance, "tolerance", Real, min_val=0)

    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        codes = omp_codes(
            nn.functional.normalize(Z), min(self.n_nonzero, len(Z) - 1), self.tolerance
        )
        return self._vote(Z, spectral_labels(code_affinity(codes), self.n_clusters, run.seed))


def _sparse(ids: Tensor, values: Tensor) -> csr_array:
    n, k = ids.shape
    starts = np.arange(0, n * k + 1, k)
    codes = csr_array((values.numpy().ravel(), ids.numpy().ravel(), starts), shape=(n, n))
    codes.eliminate_zeros()
    return codes
