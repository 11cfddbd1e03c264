"""What every head shares: the estimator's contract, scaling, prediction in blocks, save and load.

A method's file holds its network, its loss and its estimator; see `Head` for what to define.
"""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib.metadata import version
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from sklearn.base import BaseEstimator, ClusterMixin, TransformerMixin
from sklearn.utils import check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from imageherd.device import resolve_device
from imageherd.errors import ImageherdError
from imageherd.files import read_json, write_atomically, write_json
from imageherd.heads.loop import Callback, Run
from imageherd.heads.scaling import (
    BLOCK_ROWS,
    SCALINGS,
    Features,
    Scaler,
    apply_scaler,
    fit_scaler,
    padded_block,
)

if TYPE_CHECKING:
    from imageherd.neighbors import NeighborGraph

FORMAT = 1


class Head(TransformerMixin, ClusterMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """Base of all heads: features (n, d) in, `n_clusters` groups out.

    A subclass has the parameters `n_clusters`, `scaling`, `pca_variance`, `random_state` and
    `device` beside its own (and `n_neighbors` where it needs the graph), and defines

    - ``_fit(Z, neighbors, run)``: train on scaled features Z (n, d') on ``run.device`` and return
      the network, an ``nn.Module`` that takes rows of Z to logits (b, n_clusters), whose softmax
      is `predict_proba`. `neighbors` is an int64 tensor (n, k) on the device, or None.
      Learned attributes end in an underscore.
    - ``_network(d, facts)``: the same network with any weights, for `load`; `facts` are the saved
      attributes.
    - ``_check_params()``: extended with its own parameters; raises ValueError or TypeError.
    - ``transform(X)``: what its paper searches with.
    - ``_saved``: names of learned attributes (JSON values) to keep in config.json.

    Attributes
    ----------
    labels_ : ndarray of shape (n,), int32
        Cluster of every row fitted, 0 to n_clusters - 1. Not saved with the head.
    network_ : nn.Module
        The trained network, on the CPU.
    scaler_ : Scaler
        The fitted scaling.
    n_features_in_ : int
        d.
    n_iter_ : int
        Epochs trained.
    history_ : list of dict
        Loss and more by epoch.
    """

    _saved: ClassVar[tuple[str, ...]] = ("n_iter_", "history_")

    n_clusters: int
    scaling: str
    pca_variance: float
    random_state: int | np.random.RandomState | None
    device: str
    network_: Any

    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        neighbors: NeighborGraph | None = None,
        callback: Callback | None = None,
        checkpoint: str | Path | None = None,
    ) -> Self:
        """Learn the clusters of X.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Features, finite; float32 or float64 (anything else is converted to float64). A memory
            map is read in blocks. Besides X there is one scaled float32 copy.
        y : ignored
            As scikit-learn wants it.
        neighbors : NeighborGraph, optional
            k-NN graph of X, with at least as many neighbours as the method uses; computed (cosine)
            when the method needs one and none is given.
        callback : callable, optional
            Called after every epoch with a dict (epoch, epochs, loss, seconds, ...); returning
            True ends the training there.
        checkpoint : path, optional
            Written while training and taken up by the next call with the same parameters and
            data; removed at the end.

        Raises
        ------
        ValueError
            If X, a parameter or the graph is not as described.
        LossNotFiniteError
            If training diverges.
        """
        self._check_params()
        X = self._validate(X, reset=True)
        if len(X) < self.n_clusters:
            raise ValueError(f"n_samples={len(X)} should be >= n_clusters={self.n_clusters}.")
        device = resolve_device(self.device)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        graph = self._neighbors(X, neighbors, device)
        self.scaler_ = fit_scaler(X, self.scaling, pca_variance=self.pca_variance)
        Z = apply_scaler(self.scaler_, X).to(device)
        path = None if checkpoint is None else Path(checkpoint)
        run = Run(seed, device, callback, path, self._identity(Z, seed) if path else {})
        network = self._fit(Z, graph, run)
        self.network_ = network.cpu().eval().requires_grad_(False)
        del Z
        self.labels_ = self._labels(X, device)
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.int32]:
        """Return the cluster of each row of X (n, d): ndarray (n,) of int32, in blocks of rows."""
        return self._labels(*self._ready(X))

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return P(cluster | row): ndarray (n, n_clusters) of float32, rows adding to 1."""
        X, device = self._ready(X)
        found = np.empty((len(X), self.n_clusters), dtype=np.float32)
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
        check_is_fitted(self, "network_")
        folder = Path(folder)
        modules = {"network": self.network_, "scaler": self.scaler_}
        tensors = {
            f"{part}.{name}": tensor.detach().cpu().contiguous().clone()
            for part, module in modules.items()
            for name, tensor in module.state_dict().items()
        }
        data = to_safetensors(tensors)
        config = {
            "format": FORMAT,
            "class": type(self).__name__,
            "params": {name: _plain(value) for name, value in self.get_params().items()},
            "n_features_in": self.n_features_in_,
            "n_outputs": self.scaler_.n_outputs,
            "learned": {name: _plain(getattr(self, name)) for name in self._saved},
            "versions": {name: version(name) for name in ("imageherd", "torch", "scikit-learn")},
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        write_atomically(folder / "head.safetensors", lambda file: file.write(data))
        write_json(folder / "config.json", config)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> Self:
        """Read a head written by `save`, onto whatever device this machine has.

        Raises
        ------
        ImageherdError
            If the folder holds no head, a damaged one, one of another class or one written by a
            newer version.
        """
        folder = Path(folder)
        config = read_config(folder)
        if config["class"] != cls.__name__:
            raise ImageherdError(
                f"{folder} holds a {config['class']} head, not {cls.__name__}; "
                "use imageherd.heads.load_head to read any."
            )
        try:
            data = (folder / "head.safetensors").read_bytes()
        except OSError as error:
            raise ImageherdError(f"{folder} holds no readable head.safetensors: {error}") from error
        if hashlib.sha256(data).hexdigest() != config["sha256"]:
            raise ImageherdError(
                f"{folder / 'head.safetensors'} does not belong to the config.json beside it, or "
                "is damaged; save the head again."
            )
        try:
            head = cls(**{**config["params"], "device": device})
            head._take(config, from_safetensors(data))
        except Exception as error:
            raise ImageherdError(
                f"{folder} does not hold a whole {cls.__name__} head ({error}); save it again."
            ) from error
        return head

    def _take(self, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.n_features_in_ = int(config["n_features_in"])
        for name in self._saved:
            setattr(self, name, config["learned"][name])
        self.scaler_ = Scaler(self.scaling, self.n_features_in_, int(config["n_outputs"]))
        self.network_ = self._network(self.scaler_.n_outputs, config["learned"])
        for part, module in (("network", self.network_), ("scaler", self.scaler_)):
            mine = {k.removeprefix(f"{part}."): v for k, v in tensors.items() if k.startswith(part)}
            module.load_state_dict(mine)
        self.network_.eval().requires_grad_(False)

    @abstractmethod
    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        """Train on scaled features and return the network."""

    @abstractmethod
    def _network(self, d: int, facts: dict[str, Any]) -> nn.Module:
        """Return the network with any weights."""

    def _check_params(self) -> None:
        check_scalar(self.n_clusters, "n_clusters", Integral, min_val=1)
        check_choice(self.scaling, "scaling", SCALINGS)
        check_scalar(
            self.pca_variance,
            "pca_variance",
            Real,
            min_val=0,
            max_val=1,
            include_boundaries="right",
        )
        if hasattr(self, "n_neighbors"):
            check_scalar(self.n_neighbors, "n_neighbors", Integral, min_val=1)

    def _validate(self, X: ArrayLike, *, reset: bool) -> Features:
        checked: Features = validate_data(
            self,
            X,
            reset=reset,
            dtype=(np.float64, np.float32),
            ensure_min_samples=2 if reset else 1,
        )
        return checked

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

            graph = knn_graph(X, k, device=str(device))
        if graph.ids.shape[0] != n or graph.ids.shape[1] < k:
            raise ValueError(
                f"neighbors is a graph of {graph.ids.shape[0]} rows with {graph.ids.shape[1]} "
                f"neighbours each; X has {n} rows and {k} neighbours are needed."
            )
        return torch.from_numpy(graph.ids[:, :k].astype(np.int64)).to(device)

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

    def _identity(self, Z: Tensor, seed: int) -> dict[str, Any]:
        rows = torch.linspace(0, len(Z) - 1, min(len(Z), 1000)).long()
        sample = Z[rows.to(Z.device)].cpu().numpy()
        return {
            "class": type(self).__name__,
            "params": {
                name: _plain(value)
                for name, value in self.get_params().items()
                if name not in ("random_state", "device")
            },
            "seed": seed,
            "shape": list(Z.shape),
            "data": hashlib.sha256(sample.tobytes()).hexdigest(),
        }


def check_choice(value: object, name: str, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} is not known; choose one of {', '.join(allowed)}.")


def read_config(folder: Path) -> dict[str, Any]:
    """Read and check the config.json of a saved head.

    Raises
    ------
    ImageherdError
        If it is missing, garbled or of a newer format.
    """
    path = folder / "config.json"
    try:
        config = read_json(path)
    except (OSError, ValueError) as error:
        raise ImageherdError(f"{folder} holds no saved head: {path} ({error}).") from error
    if not isinstance(config, dict) or not isinstance(config.get("format"), int):
        raise ImageherdError(f"{path} is not the config of a saved head.")
    if config["format"] > FORMAT:
        raise ImageherdError(
            f"{folder} was written by a newer imageherd (format {config['format']}, this one "
            f"reads up to {FORMAT}); update imageherd."
        )
    missing = {"class", "params", "n_features_in", "n_outputs", "learned", "sha256"} - set(config)
    if missing:
        raise ImageherdError(f"{path} lacks {', '.join(sorted(missing))}; save the head again.")
    return config


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.random.RandomState):
        return None
    return value
