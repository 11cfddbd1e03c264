"""LSD-C: Rebuffi et al., "LSD-C: Linearly Separable Deep Clusters" (2020), on vectors.

A small trunk and a linear classifier. Points close together in the trunk's output, within the
batch, are to share a cluster, others not, so that the trunk comes to gather in linearly separable
groups what is close. Equation and table numbers are the paper's; where it is silent, the authors'
program ("released") is followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar
from torch import Tensor, nn

from imageherd.heads.autoencoder import mask, pretrain
from imageherd.heads.base import Head, check_choice
from imageherd.heads.loop import Run, generator, plan, train
from imageherd.heads.lsdc_losses import (
    beta,
    clustering_loss,
    connections,
    consistency_loss,
    mixed_targets,
    ramp_up,
    second_views,
)
from imageherd.heads.scaling import BLOCK_ROWS, Features, padded_block
from imageherd.heads.trunk import Classified
from imageherd.heads.usage import Usage

if TYPE_CHECKING:
    from imageherd.neighbors import NeighborGraph

_IMAGES: dict[str, Any] = {
    "optimizer": "sgd",
    "lr": 0.1,
    # What the paper takes for MixUp; its 5e-4 goes with RICAP, which needs images.
    "weight_decay": 1e-4,
    "batch_size": 256,
    "min_steps": 0,
    "scaling": "none",
    "init": "random",
    "labeling": "knn",
    "released_count": True,
    "second_view": "dropout",
}


def _row(
    epochs: int, milestones: tuple[int, ...], weight: float, ramp: int, **more: Any
) -> dict[str, Any]:
    length = {"epochs": epochs, "milestones": milestones}
    return {**_IMAGES, **length, "consistency": weight, "ramp_epochs": ramp, **more}


PRESETS: dict[str, dict[str, Any]] = {
    "cifar10": _row(220, (140, 180), 5, 100, k=20),
    "cifar10-cosine": _row(220, (140, 180), 5, 100, labeling="cosine", threshold=0.9),
    "cifar10-sne": _row(220, (140, 180), 5, 100, labeling="sne", threshold=0.01, temperature=1.0),
    "cifar20": _row(200, (170,), 25, 150, k=10),
    "cifar20-cosine": _row(200, (170,), 25, 150, labeling="cosine", threshold=0.95),
    "cifar20-sne": _row(200, (170,), 25, 150, labeling="sne", threshold=0.01, temperature=0.5),
    "stl10": _row(200, (140, 180), 5, 50, labeling="sne", threshold=0.01, temperature=0.5),
    "mnist": _row(15, (), 5, 50, k=10),
    "reuters": {
        **_row(75, (), 25, 100, k=5, optimizer="adam", lr=1e-3, weight_decay=2e-3),
        "hidden": (500, 500, 2000),
        "pretraining": "autoencoder",
        "scaling": "l2",
    },
}
"""Table 5, for ``LSDC(n_clusters, **PRESETS["cifar10"])``; MixUp of features stands for RICAP."""


class LSDC(Head):
    """LSD-C: points that are close in a trained trunk's output are to share a cluster.

    The paper trains on images, from a pretrained network, and augments them. On vectors three
    things stand for that. The trunk is a small network that starts as nearly a rotation of X
    (`init`). Composites are MixUps of scaled rows. And the second view of a row, the weak crop of
    an image, is by default one of its nearest neighbours in all of X: the two differ as points
    of one cluster do, and are far closer to each other than the neighbours within a batch, the
    k-th of which is about the n k / B-th of all. With ``second_view="dropout"`` it is another
    pass with a share of the trunk's outputs dropped (Laine and Aila 2017), which needs no graph.
    Views of the images themselves, ``fit(X, views=V)``, are drawn from where given. With MixUp,
    eq. 5 compares rows with composites of their second views, and eq. 8 two such composites with
    the same partners and weight (released); with None both compare a row with its second view.

    The defaults are one row for unknown data, from n = 200 up: table 5's row for CIFAR-10 at a
    seventh of its length, with what depends on the number of clusters or the features' unit made
    to follow it, and the paper's optimiser for vectors. Labeling and second view were settled
    without labels on features of 3,781 photographs and of 4,000 of CIFAR-10: dropout leaves
    neighbours' clusters with less in common (1.12 nats against 1.23) and two seeds less alike
    (ARI 0.51 against 0.64), and splits large planted groups; "l2" leaves clusters of a few rows.
    A kind with fewer than k points in a batch is drawn to the one next to it: the weakness.

    `PRESETS` has table 5. `transform` returns the trunk's output (n, hidden[-1]).

    Parameters
    ----------
    n_clusters : int, default=10
        K.
    scaling : {"none", "l2", "standard", "pca"}, default="pca"
        See `imageherd.heads.scaling.Scaler`. Table 5's rows for images: "none".
    pca_variance : float, default=0.8
        Share of the variance that scaling="pca" keeps.
    blocks : tuple of int, optional
        Columns of each feature space where X holds several side by side; each is scaled on its own.
    labeling : {"knn", "sne", "cosine", "l2"}, default="knn"
        What makes two points of a batch connected (table 1).
    label_space : {"features", "predictions"}, default="features"
        Where: the trunk's output, or the logits (table 4's ablation).
    k : int, optional
        Of "knn". By default m - 1 - √m, at least 1, for a batch of B and m = B/K: of K equal
        kinds it holds m ± √m points each, and most then have k others of their own: 20 and 8 on
        CIFAR-10 and -20. The paper: 20 and 10; MNIST 10 (m = 26), Reuters 5 (m = 64).
    released_count : bool, default=False
        Count k as the authors' program does: with the point itself, and those strictly nearer
        than the k-th, which leaves k - 2 others.
    threshold, temperature : float, optional
        τ of "sne", "cosine" and "l2", and T of "sne". By default τ connects the closest 1/K of a
        batch's pairs, and T² is their mean squared distance.
    composition : {"mixup", None}, default="mixup"
        Whether rows are compared with composites or with single second views.
    mixup_alpha : float, default=0.3
        The weight of a batch's composites is drawn from Beta(mixup_alpha, mixup_alpha).
    second_view : {"neighbor", "dropout"}, default="neighbor"
        See above; without effect where views are given.
    noise : float, default=0.2
        Share, in [0, 1), of the trunk's outputs that "dropout" drops, and of the columns that the
        autoencoder masks.
    n_neighbors : int, default=20
        Of "neighbor": how many it draws from; at most max(5, n / 3K) are used.
    balance : float, default=1
        Strength of the push to equal sizes: weight of eq. 5's term for points not connected,
        which also keeps clusters apart: at 0 they merge. The paper: 1.
    consistency : float, optional
        λ of eq. 8, by default K/2, as its mean over clusters falls as 1/K. The paper: 5 and 25.
    ramp_epochs : float, optional
        T of eq. 8, by default half of `epochs`. Like `milestones` it stretches with the epochs
        where `min_steps` adds some.
    hidden : sequence of int, default=(512,)
        Widths of the trunk's layers. Reuters: (500, 500, 2000).
    classifier_layers : {1, 2}, default=1
        2 is the ablation of table 6.
    init : {"mirrored", "random"}, default="mirrored"
        How the trunk starts, see `Classified.start`.
    pretraining : {"autoencoder", None}, default=None
        Whether it first learns to restore masked rows, for as many steps again; see
        `imageherd.heads.autoencoder.pretrain`.
    optimizer : {"adam", "sgd"}, default="adam"
        SGD has momentum 0.9. The paper: "sgd" on images, "adam" on vectors.
    lr : float, default=1e-3
        The paper: 1e-3 with "adam", 0.1 with "sgd".
    milestones : sequence of float, default=(19, 25)
        Epochs after which the rate is divided by 10.
    weight_decay : float, default=1e-4
        The paper: 1e-4 with MixUp, 5e-4 else, 2e-3 on Reuters.
    batch_size : int, optional
        At most n / 4 is used. By default 256 or, if that is more, 8 rows a cluster, at most 4096.
        The paper: 256.
    epochs : int, default=30
        The paper: 15 to 220.
    min_steps : int, default=1000
        Epochs are added until at least so many steps are taken.
    random_state : int, RandomState or None, default=None
        Seed.
    device : str, default="auto"
        See `imageherd.device.resolve_device`.

    Attributes
    ----------
    history_ : list of dict
        By epoch: epoch, loss, marginal_entropy, conditional_entropy, used_clusters.

    Notes
    -----
    A step costs 18 B operations a weight (12 without composition) and 10 B² K or so for the
    pairs. Memory: X scaled, the network four times, and about ten B² matrices.
    """

    uses_views: ClassVar[bool] = True
    keeps_dtypes: ClassVar[tuple[str, ...]] = ("float32",)
    against_collapse: ClassVar[str] = "raise balance, or lower n_clusters or k"
    starts_warm: ClassVar[bool] = True
    takes_constraints: ClassVar[bool] = True

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        scaling: str = "pca",
        pca_variance: float = 0.8,
        blocks: tuple[int, ...] | None = None,
        labeling: str = "knn",
        label_space: str = "features",
        k: int | None = None,
        released_count: bool = False,
        threshold: float | None = None,
        temperature: float | None = None,
        composition: str | None = "mixup",
        mixup_alpha: float = 0.3,
        second_view: str = "neighbor",
        noise: float = 0.2,
        n_neighbors: int = 20,
        balance: float = 1.0,
        consistency: float | None = None,
        ramp_epochs: float | None = None,
        hidden: Sequence[int] = (512,),
        classifier_layers: int = 1,
        init: str = "mirrored",
        pretraining: str | None = None,
        optimizer: str = "adam",
        lr: float = 1e-3,
        milestones: Sequence[float] = (19, 25),
        weight_decay: float = 1e-4,
        batch_size: int | None = None,
        epochs: int = 30,
        min_steps: int = 1000,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.scaling = scaling
        self.pca_variance = pca_variance
        self.blocks = blocks
        self.labeling = labeling
        self.label_space = label_space
        self.k = k
        self.released_count = released_count
        self.threshold = threshold
        self.temperature = temperature
        self.composition = composition
        self.mixup_alpha = mixup_alpha
        self.second_view = second_view
        self.noise = noise
        self.n_neighbors = n_neighbors
        self.balance = balance
        self.consistency = consistency
        self.ramp_epochs = ramp_epochs
        self.hidden = hidden
        self.classifier_layers = classifier_layers
        self.init = init
        self.pretraining = pretraining
        self.optimizer = optimizer
        self.lr = lr
        self.milestones = milestones
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.min_steps = min_steps
        self.random_state = random_state
        self.device = device

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the trunk's output: ndarray (n, hidden[-1]) of float32."""
        X, _ = self._ready(X)
        found = np.empty((len(X), self.hidden[-1]), dtype=np.float32)
        for start in range(0, len(X), BLOCK_ROWS):
            rows = found[start : start + BLOCK_ROWS]
            rows[:] = self.network_.trunk(self.scaler_(padded_block(X, start)))[: len(rows)]
        return found

    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        wanted = self.batch_size or min(max(256, 8 * self.n_clusters), 4096)
        length = plan(len(Z), batch_size=wanted, epochs=self.epochs, min_steps=self.min_steps)
        network = self._network(Z.shape[1], {})
        network.start(self.init, generator(run.seed, stream=0))
        network.to(run.device)
        if run.start is not None:
            network.load_state_dict(run.start.state_dict())
        # An interrupted clustering holds the trunk already.
        anew = run.start is None and (run.checkpoint is None or not run.checkpoint.exists())
        if self.pretraining == "autoencoder" and anew:
            pretrain(
                network.trunk,
                Z,
                run,
                noise=self.noise,
                epochs=self.epochs,
                min_steps=self.min_steps,
                batch_size=length.batch_size,
            )
        rates: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay}
        optimizer: torch.optim.Optimizer
        if self.optimizer == "sgd":
            optimizer = torch.optim.SGD(network.parameters(), momentum=0.9, **rates)
        else:
            optimizer = torch.optim.Adam(network.parameters(), **rates)
        draws = generator(run.seed, stream=1)
        usage = Usage(self.n_clusters, run.device)
        second_view = second_views(Z, neighbors, run.views, draws)
        dropout = self.noise if neighbors is None and run.views is None else 0.0
        # Milestones and ramp stretch with the epochs.
        stretch = self.epochs / length.epochs
        ramp_epochs = self.epochs / 2 if self.ramp_epochs is None else self.ramp_epochs
        weight = self.n_clusters / 2 if self.consistency is None else self.consistency

        def step(rows: Tensor, epoch: int) -> Tensor:
            first, others = Z[rows], [second_view(rows)]
            order, share = rows, 1.0
            if self.composition == "mixup":
                order = torch.randperm(len(rows), generator=draws).to(rows.device)
                share = beta(self.mixup_alpha, draws)
                if not dropout:  # which makes two of one, behind the trunk
                    others.append(second_view(rows))
                others = [share * other + (1 - share) * other[order] for other in others]
            f = network.trunk(torch.cat([first, *others]))
            if dropout:
                again = f[len(rows) :].repeat(2 if self.composition == "mixup" else 1, 1)
                f = torch.cat([f[: len(rows)], mask(again, dropout, draws)])
            logits = network.classifier(f)
            p = logits.softmax(1).split(len(rows))
            space = f if self.label_space == "features" else logits
            A = self._connections(space[: len(rows)].detach())
            if self.composition == "mixup":
                A = mixed_targets(A, order, share)
            omega = ramp_up(epoch * stretch, ramp_epochs, weight)
            loss = clustering_loss(p[0], p[1], A, self.balance)
            loss = loss + omega * consistency_loss(p[-2], p[-1])
            if run.constraints is not None:
                known = run.constraints.draw(draws, run.device)
                asked = torch.cat([Z[known.rows], second_view(known.labelled)])
                loss = loss + known.losses(network(asked).log_softmax(1)[None])[0]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            usage.add(p[0].detach())
            return loss.detach()

        self.history_ = train(
            step,
            length,
            run,
            state={"network": network, "draws": draws},
            optimizer=optimizer,
            schedule=lambda epoch: 0.1 ** sum(epoch * stretch > m for m in self.milestones),
            report=usage.report,
            description="Training LSD-C",
            advice=f"lower lr (now {self.lr:g})",
        )
        self.n_iter_ = len(self.history_)
        return network

    def _connections(self, f: Tensor) -> Tensor:
        """Return A (B, B) of a batch's features (B, D), by `labeling`."""
        asked = ("k", "released_count", "threshold", "temperature")
        options = {name: getattr(self, name) for name in asked}
        return connections(f, self.labeling, self.n_clusters, **options)

    def _network(self, d: int, facts: dict[str, Any]) -> Classified:
        return Classified((d, *self.hidden), self.n_clusters, self.classifier_layers)

    def _neighbors(
        self, X: Features, graph: NeighborGraph | None, device: torch.device
    ) -> Tensor | None:
        if self.second_view == "neighbor":
            return super()._neighbors(X, graph, device)
        return None

    def _check_params(self) -> None:
        super()._check_params()
        check_choice(self.labeling, "labeling", ("knn", "sne", "cosine", "l2"))
        check_choice(self.label_space, "label_space", ("features", "predictions"))
        check_choice(self.second_view, "second_view", ("neighbor", "dropout"))
        check_choice(self.init, "init", ("mirrored", "random"))
        check_choice(self.optimizer, "optimizer", ("adam", "sgd"))
        for name, only in (("composition", "mixup"), ("pretraining", "autoencoder")):
            if getattr(self, name) not in (only, None):
                raise ValueError(f"{name}={getattr(self, name)!r} must be {only!r} or None.")
        check_scalar(self.classifier_layers, "classifier_layers", Integral, min_val=1, max_val=2)
        check_scalar(self.epochs, "epochs", Integral, min_val=1)
        check_scalar(self.min_steps, "min_steps", Integral, min_val=0)
        for name in ("lr", "mixup_alpha"):
            check_scalar(getattr(self, name), name, Real, min_val=0, include_boundaries="neither")
        for name in ("balance", "weight_decay"):
            check_scalar(getattr(self, name), name, Real, min_val=0)
        optional = {"k": 1, "batch_size": 1, "consistency": 0, "ramp_epochs": 0}
        for name, least in {**optional, "threshold": None, "temperature": 1e-12}.items():
            if getattr(self, name) is not None:
                kind = Integral if least == 1 else Real
                check_scalar(getattr(self, name), name, kind, min_val=least)
        check_scalar(self.noise, "noise", Real, min_val=0, max_val=1, include_boundaries="left")
        if not isinstance(self.hidden, tuple | list) or not self.hidden:
            raise ValueError(f"hidden={self.hidden!r} must hold the width of one layer or more.")
        for width in self.hidden:
            check_scalar(width, "each of hidden", Integral, min_val=1)
        for epoch in self.milestones:
            check_scalar(epoch, "each of milestones", Real, min_val=0)
