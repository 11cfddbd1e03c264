"""CPP: clustering by rate reduction on pretrained features (Chu et al. 2024).

"Image clustering via the principle of rate reduction in the age of pre-trained models", ICLR. A
small network maps features to Z, which is spread out as a whole and compressed cluster by
cluster, and to codes C, which say through a doubly stochastic Π who is whose company. Clusters
are read off Π afterwards, for any K. Equation numbers are the paper's; where it is silent or
differs, the authors' program ("released") is followed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from imageherd.device import resolve_device
from imageherd.heads.base import Head
from imageherd.heads.coding import (
    CodingLengthCurve,
    coding_length,
    elbow,
)
from imageherd.heads.cpp_network import CodingNetwork, batches, train_network
from imageherd.heads.loop import Run, generator
from imageherd.heads.scaling import BLOCK_ROWS, Features, padded_block
from imageherd.heads.sinkhorn import default_gamma
from imageherd.heads.spectral import embedding_labels, spectral_embedding, spectral_labels

_PAPER: dict[str, Any] = {
    "scaling": "none",
    "hidden": 4096,
    "n_features_out": 128,
    "batch_size": 1024,
    "lr": 1e-4,
    "start_epochs": 1,
    "min_steps": 0,
    "n_landmarks": 15_000,
}
_WIDE = {**_PAPER, "hidden": 2048, "n_features_out": 1024, "start_epochs": 2, "epochs": 20}
PRESETS: dict[str, dict[str, Any]] = {
    "cifar10": {**_PAPER, "gamma": 0.175, "epochs": 5},
    "cifar20": {**_PAPER, "gamma": 0.13, "epochs": 15},
    "cifar100": {**_PAPER, "gamma": 0.1, "epochs": 50, "batch_size": 1500},
    "imagenet": {**_WIDE, "gamma": 0.12},
    "coco": {**_PAPER, "gamma": 0.12, "epochs": 20, "batch_size": 1200},
    "laion": {**_WIDE, "gamma": 0.09},
}
"""Table 8's rows by name, for ``CPP(n_clusters, **PRESETS["cifar10"])``."""

Part = Callable[[nn.Module, CodingNetwork, Tensor], Tensor]


class CPP(Head):
    """CPP: features spread as a whole and compressed by cluster; clusters read off for any K.

    Training does not know K: it maximises the rate reduction R(Z) - Rc(Z, Π). A spectral
    clustering of Π over landmarks gives these their labels; any row takes the label with the
    largest summed membership, whoever else is in the batch, and `predict_proba` are these sums.
    `labels_for` and `with_clusters` read off another K without training, `coding_length_curve`
    counts. `transform` returns Z, which is what the paper searches with.

    The defaults are ours, for any folder from 200 rows up and a machine without a GPU, settled by
    the losses and entropies in `history_`, on 400 photographs also by neighbour consistency and
    by no cluster taking half of them, and on planted subspaces. The paper's settings are
    ``CPP(**PRESETS["cifar10"])`` and so on (table 8). If `history_` ends with a
    conditional_entropy near its first, training has not left the start: raise `epochs` or `lr`.

    Of the paper's and the authors' program's form of the objective, this is the program's: eqs. 1
    and 2 have no ½ (a factor on the learning rate), divide Π's columns by their sums and project
    CᵀC where the program projects its absolute values.

    Parameters
    ----------
    n_clusters : int, default=10
        K, at most `n_features_out` and `n_landmarks`.
    scaling : {"none", "l2", "standard", "pca"}, default="pca"
        See `imageherd.heads.scaling.Scaler`: the learning rate does not hang on the scale of a
        backbone's features. The paper: "none".
    pca_variance : float, default=0.95
        Share of the variance that scaling="pca" keeps: with 0.8, subspaces lose dimensions.
    blocks : tuple of int, optional
        Columns of each feature space where X holds several side by side; each is scaled on its
        own.
    hidden : int, default=512
        Width of the trunk's two layers. The paper: 4096 (2048 for ImageNet and LAION). A wide
        trunk tears a small folder's clusters into pieces, which Rc - R rewards; and at d = 1280 it
        would take most of the time.
    n_features_out : int, optional
        dz, the columns of Z and C. By default 128, but not more than X has or an
        eighth of the batch (the paper's 128 to 1024 rows): among hardly more rows than columns all
        can be orthogonal, clusters or not; and not less than K. The paper: 128 (1024 for ImageNet
        and LAION).
    eps2 : float, default=0.1
        ε², the distortion at which volumes are measured.
    gamma : float, optional
        Temperature of Π in training: lower gives every row fewer mates. By default 0.4/ln K,
        between 0.1 and 0.175 (`imageherd.heads.sinkhorn.default_gamma`). The paper: 0.09 to 0.175.
    landmark_gamma : float, default=0.15
        Temperature of Π over the landmarks.
    balance : float, default=1.0
        How hard Π's columns are held to equal sums, 0 to 1 (1: Sinkhorn's projection, the paper;
        0: a softmax over rows; see `imageherd.heads.sinkhorn.column_potentials`). It makes rows,
        not clusters, count equally: blocks of any sizes fit it. Less lets crowded clusters draw
        the rows of small ones.
    membership_penalty : float, default=0.05
        p of the term p/2·‖Π‖², which keeps Π from shrinking to single rows. The program's; not in
        the paper.
    warm_start : bool, default=True
        Begin by maximising R(Z) alone (eq. 4), then copy Z's last layer to C's. False: begin with
        everything at once from random layers, the paper's ablation.
    epochs, start_epochs : int, default=20 and 2
        Epochs in all, and of them those that maximise R(Z) alone; both stretch where `min_steps`
        adds epochs. The paper: 5 to 50, and 1 or 2.
    min_steps : int, default=120
        Epochs are added to reach so many steps. Few: rows seen often are torn from their clusters.
    batch_size : int, default=512
        At most n/4 is used, but not fewer than 32 rows where there are so many. The paper: 1024 to
        1500.
    lr : float, default=1e-3
        Of SGD with momentum. The paper: 1e-4, at which the loss stays where it was here.
    momentum : float, default=0.9
        Of SGD.
    weight_decay, code_weight_decay : float, default=1e-4 and 5e-3
        Of trunk and Z, and of C's layer. (Table 8 has 3e-3 for the latter, the text 5e-3.)
    n_landmarks : int, default=10_000
        m, rows that the spectral clustering sees, all of them when n is smaller. The program:
        15,000.
    random_state : int, RandomState or None, default=None
        Seed.
    device : str, default="auto"
        See `imageherd.device.resolve_device`. "mps" lacks the factorisations: it trains on the CPU.

    Attributes
    ----------
    codes_ : ndarray of shape (n, dz), float32
        C of the fitted rows, for `labels_for`. Not saved with the head.
    gamma_ : float
        The temperature used in training.
    n_features_out_ : int
        dz.
    n_landmarks_ : int
        Landmarks there are.
    seed_ : int
        Seed of this fit, drawn from `random_state`.
    history_ : list of dict
        By epoch: epoch, loss, rate R(Z), compression Rc(Z, Π) and membership_entropy, the mean
        entropy of Π's rows in nats (the last two 0 while R(Z) alone is maximised); and how the
        epoch's last batch would be clustered, see `imageherd.heads.usage.Usage`.

    Notes
    -----
    Time: about 3 B² dz² multiplications and additions a step beside the network's, then some
    200 K m² for the landmarks, and O(m dz) a row predicted. Memory: the scaled features, in
    training some hundred MB (see `imageherd.heads.coding.compression`), Π over the landmarks (4 m²
    bytes, 400 MB for 10,000) and its eigenvectors, and codes_.
    """

    _saved: ClassVar[tuple[str, ...]] = (
        *Head._saved,
        "seed_",
        "gamma_",
        "n_features_out_",
        "n_landmarks_",
    )
    keeps_dtypes: ClassVar[tuple[str, ...]] = ("float32",)
    against_collapse: ClassVar[str] = "lower n_clusters or landmark_gamma"
    shares_batches: ClassVar[bool] = True

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        scaling: str = "pca",
        pca_variance: float = 0.95,
        blocks: tuple[int, ...] | None = None,
        hidden: int = 512,
        n_features_out: int | None = None,
        eps2: float = 0.1,
        gamma: float | None = None,
        landmark_gamma: float = 0.15,
        balance: float = 1.0,
        membership_penalty: float = 0.05,
        warm_start: bool = True,
        epochs: int = 20,
        start_epochs: int = 2,
        min_steps: int = 120,
        batch_size: int = 512,
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        code_weight_decay: float = 5e-3,
        n_landmarks: int = 10_000,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.scaling = scaling
        self.pca_variance = pca_variance
        self.blocks = blocks
        self.hidden = hidden
        self.n_features_out = n_features_out
        self.eps2 = eps2
        self.gamma = gamma
        self.landmark_gamma = landmark_gamma
        self.balance = balance
        self.membership_penalty = membership_penalty
        self.warm_start = warm_start
        self.epochs = epochs
        self.start_epochs = start_epochs
        self.min_steps = min_steps
        self.batch_size = batch_size
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.code_weight_decay = code_weight_decay
        self.n_landmarks = n_landmarks
        self.random_state = random_state
        self.device = device

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return Z of each row of X (n, d): ndarray (n, dz) of float32, unit rows."""
        X, device = self._ready(X)
        return self._in_blocks(X, device, _features)

    def labels_for(self, n_clusters: int, X: ArrayLike | None = None) -> NDArray[np.int32]:
        """Return labels for another number of clusters, without training.

        Parameters
        ----------
        n_clusters : int
            1 to `n_landmarks_`.
        X : array-like of shape (n, d), optional
            Rows to label; by default those fitted. A loaded head has none: give X.

        Returns
        -------
        ndarray of shape (n,), int32
            What ``with_clusters(n_clusters).predict(X)`` gives; `labels_` for `n_clusters` itself.
        """
        head = self.with_clusters(n_clusters)
        if X is not None:
            return head.predict(X)
        if not hasattr(self, "codes_"):
            raise ValueError("X=None is for the rows fitted, which this head has not; give X.")
        return head._in_blocks(self.codes_, resolve_device(self.device), _labels_of_codes)

    def with_clusters(self, n_clusters: int) -> Self:
        """Return a head of the same training with another number of clusters, 1 to `n_landmarks_`.

        It predicts, saves and loads as this one does, but has no `labels_` (see `labels_for`).

        Notes
        -----
        O(m² K) time and 4 m² bytes, m landmarks.
        """
        check_is_fitted(self, "network_")
        check_scalar(n_clusters, "n_clusters", Integral, min_val=1, max_val=self.n_landmarks_)
        head = copy.copy(self)
        head.n_clusters = head.n_clusters_ = int(n_clusters)
        head.network_ = copy.deepcopy(self.network_)
        head.network_.n_clusters = int(n_clusters)
        labels = spectral_labels(self._landmark_membership(), int(n_clusters), self.seed_)
        head.network_.landmark_labels.copy_(torch.from_numpy(labels))
        for name in ("labels_", "codes_"):
            head.__dict__.pop(name, None)
        return head

    def coding_length_curve(self, n_clusters: Sequence[int]) -> CodingLengthCurve:
        """Algorithm 1: the coding length of the landmarks' Z for each number of clusters.

        Parameters
        ----------
        n_clusters : sequence of int
            Numbers of clusters to try, 1 to `n_landmarks_`.

        Returns
        -------
        CodingLengthCurve
            Numbers (ascending), lengths in nats, and both readings: the minimum (algorithm 1) and
            the elbow (fig. 4). It counts coarse groups, not fine classes: the paper finds 20 for
            CIFAR-100 and 200 for ImageNet.

        Notes
        -----
        One eigendecomposition for the largest number, then a k-means for each.
        """
        check_is_fitted(self, "network_")
        for value in n_clusters:
            check_scalar(value, "n_clusters", Integral, min_val=1, max_val=self.n_landmarks_)
        counts = np.unique(np.asarray(n_clusters, dtype=np.int64))
        if not len(counts):
            raise ValueError("n_clusters is empty; give the numbers to try.")
        Z = self.network_.landmark_features.numpy()
        columns = spectral_embedding(self._landmark_membership(), int(counts[-1]), seed=self.seed_)
        lengths = np.array(
            [
                coding_length(Z, embedding_labels(columns, k, seed=self.seed_), self.eps2)
                for k in counts
            ]
        )
        best, bend = counts[[int(lengths.argmin()), elbow(counts, lengths)]].tolist()
        return CodingLengthCurve(counts, lengths, best, bend)

    def _check_params(self) -> None:
        super()._check_params()
        for name in ("hidden", "epochs", "batch_size", "n_landmarks"):
            check_scalar(getattr(self, name), name, Integral, min_val=1)
        for name in ("start_epochs", "min_steps"):
            check_scalar(getattr(self, name), name, Integral, min_val=0)
        for name in ("lr", "eps2", "landmark_gamma"):
            check_scalar(getattr(self, name), name, Real, min_val=0, include_boundaries="neither")
        for name in ("membership_penalty", "momentum", "weight_decay", "code_weight_decay"):
            check_scalar(getattr(self, name), name, Real, min_val=0)
        if self.warm_start and self.start_epochs >= self.epochs:
            raise ValueError(
                f"start_epochs={self.start_epochs} must be fewer than epochs={self.epochs}: "
                "clusters form in those after the start."
            )
        check_scalar(self.balance, "balance", Real, min_val=0, max_val=1)
        if self.gamma is not None:
            check_scalar(self.gamma, "gamma", Real, min_val=0, include_boundaries="neither")
        if self.n_features_out is not None:
            check_scalar(self.n_features_out, "n_features_out", Integral, min_val=1)
        for name in ("n_features_out", "n_landmarks"):
            value = getattr(self, name)
            if value is not None and value < self.n_clusters:
                raise ValueError(f"{name}={value} must be at least n_clusters={self.n_clusters}.")

    def _network(self, d: int, facts: dict[str, Any]) -> CodingNetwork:
        sizes = facts["n_features_out_"], facts["n_landmarks_"], self.n_clusters
        return CodingNetwork(d, self.hidden, *sizes, self.landmark_gamma)

    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        if run.device.type == "mps":
            run, Z = replace(run, device=torch.device("cpu")), Z.cpu()
        self.seed_ = run.seed
        self.gamma_ = float(self.gamma or default_gamma(self.n_clusters))
        most = min(128, self.n_features_in_, batches(self, len(Z))[0].batch_size // 8)
        self.n_features_out_ = int(self.n_features_out or max(self.n_clusters, most))
        self.n_landmarks_ = min(int(self.n_landmarks), len(Z))
        network = self._network(Z.shape[1], dict(vars(self)))
        network.start(generator(run.seed, stream=1))
        network.to(Z.device)
        self.history_ = train_network(network, Z, self, run)
        self.n_iter_ = len(self.history_)
        drawn = torch.randperm(len(Z), generator=generator(run.seed, stream=2))
        rows = drawn[: self.n_landmarks_].sort().values.to(Z.device)
        network.eval().place_landmarks(Z[rows], self.balance)
        labels = spectral_labels(network.landmark_membership(), self.n_clusters, run.seed)
        network.landmark_labels.copy_(torch.from_numpy(labels))
        return network

    def _landmark_membership(self) -> Tensor:
        device = resolve_device(self.device)
        # No eigenvectors on Apple's GPUs.
        kind = "cpu" if device.type == "mps" else device
        network: CodingNetwork = copy.deepcopy(self.network_).to(kind)
        return network.landmark_membership()

    def _training_labels(self, X: Features, device: torch.device) -> NDArray[np.int32]:
        self.codes_ = self._in_blocks(X, device, _codes)
        return self._in_blocks(self.codes_, device, _labels_of_codes)

    def _in_blocks(self, rows: Features, device: torch.device, part: Part) -> NDArray[Any]:
        """Rows through a part of the network, in blocks and the precision of `predict`."""
        dtype = torch.float64 if device.type == "cpu" else torch.float32
        scaler = copy.deepcopy(self.scaler_).to(device=device, dtype=dtype)
        network = copy.deepcopy(self.network_).to(device=device, dtype=dtype)
        found = []
        with torch.no_grad():
            for start in range(0, len(rows), BLOCK_ROWS):
                block = padded_block(rows, start).to(device=device, dtype=dtype)
                found.append(part(scaler, network, block)[: len(rows) - start].cpu())
        return np.asarray(torch.cat(found).numpy())


def _features(scaler: nn.Module, network: CodingNetwork, x: Tensor) -> Tensor:
    return network.features(scaler(x)).float()


def _codes(scaler: nn.Module, network: CodingNetwork, x: Tensor) -> Tensor:
    return network.codes(scaler(x)).float()


def _labels_of_codes(scaler: nn.Module, network: CodingNetwork, codes: Tensor) -> Tensor:
    return network.log_p(codes).argmax(1).int()
