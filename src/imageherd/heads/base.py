"""What every head shares: the estimator's contract, scaling, prediction in blocks, save and load.

A method's file holds its network, its loss and its estimator; see `Head` for what to define.
"""

from __future__ import annotations

import copy
import hashlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from imageherd.device import on_device, resolve_device
from imageherd.heads.constraints import Constraints
from imageherd.heads.loop import Callback, Run
from imageherd.heads.processes import check_sharing, fit_shared
from imageherd.heads.saving import load_saved, plain, save_head
from imageherd.heads.scaling import (
    BLOCK_ROWS,
    SCALINGS,
    Features,
    apply_scaler,
    block_sizes,
    check_finite,
    fit_blocks,
    padded_block,
    unit_blocks,
)

if TYPE_CHECKING:
    from imageherd.neighbors import NeighborGraph


class CollapseWarning(UserWarning):
    """Fewer clusters are used than were asked for."""


class Head(TransformerMixin, ClusterMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """Base of all heads: features (n, d) in, `n_clusters` groups out.

    A subclass has the parameters `n_clusters`, `scaling`, `pca_variance`, `blocks`,
    `random_state` and `device` beside its own (and `n_neighbors` where it needs the graph), and
    defines

    - ``_fit(Z, neighbors, run)``: train on scaled features Z (n, d') on ``run.device`` and return
      the network, an ``nn.Module`` that takes rows of Z to logits (b, n_clusters), whose softmax
      is `predict_proba`. `neighbors` is an int32 tensor (n, k) on the device, or None.
      Learned attributes end in an underscore.
    - ``_network(d, facts)``: the same network with any weights, for `load`; `facts` are the saved
      attributes.
    - ``_check_params()``: extended with its own parameters; raises ValueError or TypeError.
    - ``transform(X)``: what its paper searches with.
    - ``_saved``: names of learned attributes (JSON values) to keep in config.json.
    - ``against_collapse``: what to change when it uses fewer clusters than asked for.
    - ``keeps_dtypes``: kinds of X that `transform` gives back as they are, for scikit-learn.
    - ``starts_warm``: True if _fit begins with the weights of ``run.start`` where it is given.
    - ``takes_constraints``: True if _fit adds the loss of ``run.constraints`` where there are some.
    - ``shares_batches``: True if _fit takes its part of each batch by ``run.ranks``.
    - ``uses_views``: True if it trains on augmented views, in ``run.views`` (n, V, d') scaled.
    - ``counts_itself``: True if it has no parameter `n_clusters` and sets `n_clusters_` in _fit.
    - ``_training_labels(X, device)``: only if `labels_` are not what `predict` says.

    Attributes
    ----------
    labels_ : ndarray of shape (n,), int32
        Cluster of every row fitted, 0 to n_clusters - 1. Not saved with the head.
    network_ : nn.Module
        The trained network, on the CPU.
    scaler_ : BlockScaler
        The fitted scaling.
    n_clusters_ : int
        Columns of `predict_proba`; `n_clusters`, unless the method counts itself.
    n_features_in_ : int
        d.
    n_iter_ : int
        Epochs trained.
    history_ : list of dict
        Loss and more by epoch.
    """

    _saved: ClassVar[tuple[str, ...]] = ("n_iter_", "history_")
    against_collapse: ClassVar[str] = "lower n_clusters"
    keeps_dtypes: ClassVar[tuple[str, ...]] = ("float64",)
    starts_warm: ClassVar[bool] = False
    takes_constraints: ClassVar[bool] = False
    shares_batches: ClassVar[bool] = False
    uses_views: ClassVar[bool] = False
    counts_itself: ClassVar[bool] = False

    n_clusters: int
    scaling: str
    pca_variance: float
    blocks: tuple[int, ...] | None
    random_state: int | np.random.RandomState | None
    device: str
    network_: Any

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = list(self.keeps_dtypes)
        return tags

    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        neighbors: NeighborGraph | None = None,
        views: ArrayLike | None = None,
        callback: Callback | None = None,
        checkpoint: str | Path | None = None,
        start: Head | None = None,
        constraints: Constraints | None = None,
        devices: int = 1,
    ) -> Self:
        """Learn the clusters of X.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features, finite; floating numbers of any size (anything else is converted to
            float64). A memory map is read in blocks. Besides X there is one scaled float32 copy,
            above 1 GB in a temporary file: beside `checkpoint` if its folder is there.
        y : ignored
            As scikit-learn wants it.
        neighbors : NeighborGraph, optional
            k-NN graph of X, with at least as many neighbours as the method uses; computed (cosine,
            the mean over `blocks`) when the method needs one and none is given. Not used beside
            `views`.
        views : array-like of shape (n, V, d), optional
            Features of V augmented views of every row, for a method that trains on views.
        callback : callable, optional
            Called after every epoch with a dict (epoch, epochs, loss, seconds, ...); returning
            True ends the training there.
        checkpoint : path, optional
            Written while training and taken up by the next call with the same parameters and
            data; removed at the end.
        start : Head, optional
            The same method with as many clusters, fitted to features of the same kind: its scaling
            is kept and training begins with its weights. Where all are trained from the best of
            several (TEMI), one of them begins so.
        constraints : Constraints, optional
            What is known of some rows, for a method that takes it (TSP, TEMI, LSD-C). A label names
            a column of `start`, which has to be given.
        devices : int, default=1
            GPUs, or on a CPU processes, that share every batch (TEMI, CPP): up to rounding they
            learn what one does with it. See `imageherd.heads.processes.fit_shared`.

        Raises
        ------
        ValueError
            If X, a parameter or the graph is not as described.
        LossNotFiniteError
            If training diverges.

        Warns
        -----
        CollapseWarning
            If fewer clusters are used than were asked for.
        """
        self._check_params()
        X = self._validate(X, reset=True)
        wanted = self._wanted()
        if len(X) < wanted:
            raise ValueError(f"n_samples={len(X)} should be >= n_clusters={wanted}.")
        device = resolve_device(self.device)
        here = torch.device("cpu") if check_sharing(self, device, devices) else device
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        graph = self._neighbors(X, neighbors, device) if views is None else None
        if start is None:
            self.scaler_ = fit_blocks(
                X, self.scaling, blocks=self.blocks, pca_variance=self.pca_variance
            )
        else:
            self._check_start(start)
            self.scaler_ = copy.deepcopy(start.scaler_)
        path = None if checkpoint is None else Path(checkpoint)
        scratch = None if path is None else path.parent
        Z = on_device(apply_scaler(self.scaler_, X, scratch), here)
        run = Run(seed, device, callback, path, start=start and start.network_)
        if views is not None:
            run.views = on_device(self._views(views, X, scratch), device)
        if constraints is not None:
            run.constraints = self._constraints(constraints, start, len(X))
        if path is not None:
            run.identity = self._identity(Z, run)
        self.n_clusters_ = int(wanted)
        network = fit_shared(self, Z, graph, run, devices)
        self.network_ = network.cpu().eval().requires_grad_(False)
        del Z
        self.labels_ = self._training_labels(X, device)
        self._warn_of_collapse()
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.int32]:
        """Return the cluster of each row of X (n, d): ndarray (n,) of int32, in blocks of rows."""
        return self._labels(*self._ready(X))

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return P(cluster | row): ndarray (n, n_clusters_) of float32, rows adding to 1."""
        X, device = self._ready(X)
        found = np.empty((len(X), self.n_clusters_), dtype=np.float32)
        for rows, logits in self._logits(X, device):
            found[rows] = logits.softmax(1).numpy()
        return found

    def save(self, folder: str | Path) -> None:
        """Write the trained head as ``head.safetensors`` and ``config.json``; never pickle.

        The parameters, the scaling and the network are kept; `labels_` are not. A `random_state`
        that is not an integer is kept as None.

        Raises
        ------
        NotFittedError
            If the head has not been fitted.
        """
        save_head(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> Self:
        """Read a head written by `save`, onto whatever device this machine has.

        Raises
        ------
        ImageherdError
            If the folder holds no head, a damaged one, one of another class or one written by a
            newer version.
        """
        return load_saved(cls, Path(folder), device)

    @abstractmethod
    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        """Train on scaled features and return the network."""

    @abstractmethod
    def _network(self, d: int, facts: dict[str, Any]) -> nn.Module:
        """Return the network with any weights."""

    def _check_params(self) -> None:
        check_scalar(self._wanted(), "n_clusters", Integral, min_val=1)
        check_choice(self.scaling, "scaling", SCALINGS)
        share = {"min_val": 0, "max_val": 1, "include_boundaries": "right"}
        check_scalar(self.pca_variance, "pca_variance", Real, **share)
        if self.blocks is not None:
            if not isinstance(self.blocks, tuple | list):
                raise ValueError(f"blocks={self.blocks!r} must hold the columns of each space.")
            for size in self.blocks:
                check_scalar(size, "each of blocks", Integral, min_val=1)
        if hasattr(self, "n_neighbors"):
            check_scalar(self.n_neighbors, "n_neighbors", Integral, min_val=1)

    def _check_start(self, start: Head) -> None:
        check_is_fitted(start, "network_")
        fit = self.starts_warm and type(start) is type(self)
        mine, its = (self._wanted(), self.n_features_in_), (start.n_clusters_, start.n_features_in_)
        if not fit or mine != its:
            raise ValueError(
                f"start={start!r} of {its[0]} clusters and {its[1]} features is nothing "
                f"{type(self).__name__} of {mine[0]} and {mine[1]} can start from."
            )

    def _constraints(self, given: Constraints, start: Head | None, n: int) -> Constraints:
        if not self.takes_constraints or start is None:
            raise ValueError(
                f"constraints are for TSP, TEMI and LSDC, going on from a start; this is "
                f"{type(self).__name__}{'' if start else ' without one'}."
            )
        given.check(n, self._wanted())
        return given

    def _wanted(self) -> int:
        return 1 if self.counts_itself else self.n_clusters

    def _validate(self, X: ArrayLike, *, reset: bool) -> Features:
        checked: Features = validate_data(
            self,
            X,
            reset=reset,
            dtype=(np.float64, np.float32, np.float16),
            ensure_all_finite=False,
            ensure_min_samples=2 if reset else 1,
        )
        block_sizes(self.blocks, checked.shape[1])
        check_finite(checked, "X")
        return checked

    def _views(self, views: ArrayLike, X: Features, scratch: Path | None) -> Tensor:
        if not self.uses_views:
            raise ValueError(f"{type(self).__name__} does not train on views; leave views out.")
        found = np.asanyarray(views)
        if found.ndim != 3 or found.shape[::2] != X.shape or not found.shape[1]:
            raise ValueError(
                f"views has shape {found.shape}; X of shape {X.shape} wants "
                f"({len(X)}, V, {X.shape[1]})."
            )
        flat = found.reshape(-1, X.shape[1])
        check_finite(flat, "views")
        return apply_scaler(self.scaler_, flat, scratch).view(len(X), found.shape[1], -1)

    def _ready(self, X: ArrayLike) -> tuple[Features, torch.device]:
        check_is_fitted(self, "network_")
        return self._validate(X, reset=False), resolve_device(self.device)

    def _neighbors(
        self, X: Features, graph: NeighborGraph | None, device: torch.device
    ) -> Tensor | None:
        # n images in K groups are n/K of a kind: of more neighbours than that most are strangers.
        if not hasattr(self, "n_neighbors"):
            return None
        n = len(X)
        k = min(self.n_neighbors, max(5, n // (3 * self.n_clusters)), n - 1)
        if graph is None:
            from imageherd.neighbors import knn_graph

            rows = X if self.blocks is None else unit_blocks(X, self.blocks)
            graph = knn_graph(rows, k, device=str(device))
        if graph.ids.shape[0] != n or graph.ids.shape[1] < k:
            raise ValueError(
                f"neighbors is a graph of {graph.ids.shape[0]} rows with {graph.ids.shape[1]} "
                f"neighbours each; X has {n} rows and {k} neighbours are needed."
            )
        return torch.from_numpy(np.require(graph.ids[:, :k], np.int32, ["C", "W"])).to(device)

    def _training_labels(self, X: Features, device: torch.device) -> NDArray[np.int32]:
        return self._labels(X, device)

    def _warn_of_collapse(self) -> None:
        used = len(np.unique(self.labels_[self.labels_ >= 0]))
        if used < self.n_clusters_:
            warnings.warn(
                f"{type(self).__name__} used {used} of {self.n_clusters_} clusters; to use more, "
                f"{self.against_collapse}.",
                CollapseWarning,
                stacklevel=3,
            )

    def _labels(self, X: Features, device: torch.device) -> NDArray[np.int32]:
        found = np.empty(len(X), dtype=np.int32)
        for rows, logits in self._logits(X, device):
            found[rows] = logits.argmax(1).numpy()
        return found

    def _logits(self, X: Features, device: torch.device) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows and their logits on the CPU, a block at a time."""
        # A float32 product may differ in its last bit with a row's place in the block. On the CPU
        # float64 is affordable, and its last bits are gone once the result is float32 again.
        dtype = torch.float64 if device.type == "cpu" else torch.float32
        parts = nn.Sequential(self.scaler_, self.network_)
        parts = copy.deepcopy(parts).to(device=device, dtype=dtype)
        for start in range(0, len(X), BLOCK_ROWS):
            rows = slice(start, min(start + BLOCK_ROWS, len(X)))
            with torch.no_grad():
                logits = parts(padded_block(X, start).to(device=device, dtype=dtype)).cpu()
            yield rows, logits[: rows.stop - start]

    def _identity(self, Z: Tensor, run: Run) -> dict[str, Any]:
        rows = torch.linspace(0, len(Z) - 1, min(len(Z), 1000)).long().to(Z.device)
        data = hashlib.sha256(Z[rows].cpu().numpy().tobytes())
        if run.views is not None:
            data.update(run.views[rows].cpu().numpy().tobytes())
        for value in () if run.start is None else run.start.state_dict().values():
            data.update(value.numpy().tobytes())
        if run.constraints is not None:
            data.update(run.constraints.digest().encode())
        return {
            "class": type(self).__name__,
            "params": {
                name: plain(value)
                for name, value in self.get_params().items()
                if name not in ("random_state", "device")
            },
            "seed": run.seed,
            "shape": list(Z.shape),
            "data": data.hexdigest(),
        }


def check_choice(value: object, name: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is not known; choose one of {', '.join(allowed)}.")
