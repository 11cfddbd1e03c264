"""SCP: Li et al., "Keep it Light! Simplifying Image Clustering via Text-Free Adapters" (2025).

A small network on frozen features, trained so that two views of an image fall into the same
cluster, surely, and all clusters are used (sec. 3). Equation numbers are the paper's.
"""

from __future__ import annotations

import math
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from imageherd.heads.base import Head, check_choice
from imageherd.heads.kmeans import kmeans
from imageherd.heads.loop import Run, generator, plan, train
from imageherd.heads.networks import stacked_linear
from imageherd.heads.usage import Usage

HIDDEN = (1024, 786, 512, 1024)
INITS = ("kmeans", "random")
WARM_STEPS = 50

_PAPER: dict[str, Any] = {"scaling": "none", "init": "random", "balance": 1.0, "min_steps": 0}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": _PAPER,
    "cifar10": _PAPER,
    "stl10": _PAPER,
    "imagenet10": _PAPER,
    "cifar20": {**_PAPER, "balance": 2.0},
    "imagenet-dogs": {**_PAPER, "balance": 2.0},
    "cifar100": {**_PAPER, "balance": 3.0},
}


class ClusterHead(nn.Module):
    """The cluster head g: five linear layers, ReLU between them (sec. 4.1.2).

    Layers d → 1024 → 786 → 512 → 1024 → K. The paper does not name the activation, nor how the
    weights start: here, as PyTorch's Linear does, uniform within ±1/√inputs.

    Parameters
    ----------
    d : int
        Columns of h.
    n_clusters : int
        K.
    """

    def __init__(self, d: int, n_clusters: int) -> None:
        super().__init__()
        sizes = pairwise((d, *HIDDEN, n_clusters))
        # Uninitialised, so that making one leaves PyTorch's global generator alone.
        make: Any = nn.utils.skip_init
        self.layers = nn.ModuleList(make(_Linear, a, b) for a, b in sizes)

    def start(self, seed: int) -> None:
        """Draw all weights anew."""
        numbers = generator(seed)
        for layer in self.layers:
            linear = cast(nn.Linear, layer)
            bound = 1 / math.sqrt(linear.in_features)
            for parameter in (linear.weight, linear.bias):
                nn.init.uniform_(parameter, -bound, bound, generator=numbers)

    def forward(self, h: Tensor) -> Tensor:
        """Map features (b, d) to logits (b, K)."""
        *hidden, last = self.layers
        for layer in hidden:
            h = layer(h).relu()
        logits: Tensor = last(h)
        return logits


class _Linear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return stacked_linear(x[None], self.weight[None], self.bias[None, None])[0]


def cross_entropy(log_ya: Tensor, log_yb: Tensor) -> Tensor:
    """Eq. 3 as a mean over the batch: L_e = -(1/N) Σi Σk ya log yb, from log y (N, K)."""
    return -(log_ya.exp() * log_yb).sum(1).mean()


def confidence(log_ya: Tensor, log_yb: Tensor) -> Tensor:
    """Eq. 4 with a mean in the logarithm: L_con = -log (1/N) Σi yaᵀyb, from log y (N, K).

    The mean leaves the gradient as it is and makes 0 the least value.
    """
    return -(log_ya.exp() * log_yb.exp()).sum(1).mean().log()


def size_entropy(log_ya: Tensor, log_yb: Tensor) -> Tensor:
    """Eq. 5: H = -Σk (Pa log Pa + Pb log Pb), P the mean of y over the batch; at most 2 log K."""
    total = log_ya.new_zeros(())
    for log_y in (log_ya, log_yb):
        P = log_y.exp().mean(0)
        # A cluster with no mass left adds nothing; the clamp keeps its gradient finite.
        total = total - (P * P.clamp_min(torch.finfo(P.dtype).tiny).log()).sum()
    return total


def scp_loss(
    log_ya: Tensor,
    log_yb: Tensor,
    cross_entropy_weight: float = 1.0,
    confidence_weight: float = 1.0,
    balance: float = 1.0,
) -> Tensor:
    """Eq. 6: L = L_e + L_con - α H, each term with a weight.

    Parameters
    ----------
    log_ya, log_yb : Tensor of shape (N, K)
        Log soft assignments of two views of the same rows.
    cross_entropy_weight, confidence_weight : float
        Of L_e and L_con; 1 in the paper.
    balance : float
        α, the strength of the push towards equal cluster sizes.

    Returns
    -------
    Tensor of shape ()
    """
    loss = cross_entropy_weight * cross_entropy(log_ya, log_yb)
    loss = loss + confidence_weight * confidence(log_ya, log_yb)
    return loss - balance * size_entropy(log_ya, log_yb)


def draw_views(Z: Tensor, views: Tensor, rows: Tensor, numbers: torch.Generator) -> Tensor:
    """Draw two different views of each row; of one view, take the row itself and that view.

    Parameters
    ----------
    Z : Tensor of shape (n, d)
        The rows without augmentation.
    views : Tensor of shape (n, V, d)
        Their views.
    rows : Tensor of shape (b,), int64
        Which rows.
    numbers : Generator
        On the CPU.

    Returns
    -------
    Tensor of shape (2 b, d)
        All first views, then all second ones.
    """
    b, V = len(rows), views.shape[1]
    if V == 1:
        return torch.cat([Z[rows], views[rows, 0]])
    first = torch.randint(V, (b,), generator=numbers)
    second = (first + torch.randint(1, V, (b,), generator=numbers)) % V
    return views[rows.repeat(2), torch.cat([first, second]).to(rows.device)]


def draw_neighbors(Z: Tensor, neighbors: Tensor, rows: Tensor, numbers: torch.Generator) -> Tensor:
    """Return the rows and, for each, one of its neighbours (n, k): (2 b, d) as `draw_views`."""
    choice = torch.randint(neighbors.shape[1], (len(rows),), generator=numbers)
    return Z[torch.cat([rows, neighbors[rows, choice.to(rows.device)]])]


class SCP(Head):
    """SCP: five layers trained on pairs of views of one image.

    Give ``fit(X, views=V)`` the features of augmented views, V (n, number of views, d): two
    different ones of each row make a pair at every step (of a single view: the row and its view).
    The paper crops and blurs each image at random, anew every time.

    Without views, the second of a pair is one of the row's `n_neighbors` nearest neighbours. That
    is another method, close to SCAN: a view shows what an augmentation leaves as it is and is
    never wrong; a neighbour says what belongs together, and is wrong as often as neighbours are of
    another kind. Clusters then follow the neighbour graph, assignments stay less sure where it is
    wrong, and neighbours (not crops) decide what counts as alike.

    The defaults are ours, free of labels. For sure assignments L_e and L_con are each about the
    uncertainty of a row's cluster, H twice that of a random row's: with `balance` 1 the loss is
    minus twice the mutual information of a row and its cluster, with a lowest value of -2 log K.
    Below 0.5 even L_e alone outweighs H and training does not converge (sec. 4.5). The paper
    raises it with K, see `PRESETS`. Training starts at k-means because a random start loses
    clusters on small data: on 3,781 photographs three such runs ended at losses of -2.7, -2.5 and
    -1.9 (the last with 5 of 10 clusters), three from k-means at -3.1, -3.1 and -3.2 with all ten,
    and the latter agreed more with each other (ARI 0.60 to 0.72, not 0.31 to 0.55).

    `transform` returns the logits with unit rows, (n, n_clusters), which the paper searches with
    (app. A.1.2).

    Parameters
    ----------
    n_clusters : int, default=10
        K.
    scaling : {"none", "l2", "standard", "pca"}, default="standard"
        See `imageherd.heads.scaling.Scaler`. The paper: "none".
    pca_variance : float, default=0.8
        Share of the variance that scaling="pca" keeps.
    blocks : tuple of int, optional
        Columns of each feature space where X holds several side by side; each is scaled on its
        own. The network takes them together, which is the paper's SCP-MIX.
    cross_entropy_weight : float, default=1.0
        Weight of L_e, see `cross_entropy`. 0 is the paper's ablation.
    confidence_weight : float, default=1.0
        Weight of L_con, see `confidence`. 0 is the paper's ablation.
    balance : float, default=1.0
        α, the strength of the push towards equal cluster sizes, see `size_entropy`. With 0 and
        init="random" all rows collapse into few clusters, as in the paper (table 4).
    init : {"kmeans", "random"}, default="kmeans"
        "kmeans" first teaches the network, for 50 steps, the k-means cluster of the other one of a
        pair. The paper: "random", and the best of 50 runs.
    n_neighbors : int, default=20
        Neighbours to draw from when there are no views; at most max(5, n / 3K) are used. The
        paper has none.
    lr : float, default=1e-3
        Of Adam, falling to 0 along a cosine.
    batch_size : int, default=512
        At most n / 4 is used.
    epochs : int, default=30
    min_steps : int, default=300
        Epochs are added until at least so many steps are taken. The paper: none; its shortest
        run (STL-10) is 270 steps, and its fig. 2 shows little change after step 100.
    random_state : int, RandomState or None, default=None
        Seed.
    device : str, default="auto"
        See `imageherd.device.resolve_device`.

    Attributes
    ----------
    history_ : list of dict
        By epoch: epoch, loss, marginal_entropy, conditional_entropy (nats) and used_clusters, see
        `imageherd.heads.usage.Usage`.

    Notes
    -----
    A step costs ``12 B (1024 d + 1.7 million)`` operations. Memory: X scaled, the views scaled,
    and four numbers for each of the network's ``1024 d + 1.7 million`` parameters.
    """

    keeps_dtypes: ClassVar[tuple[str, ...]] = ("float32",)
    against_collapse: ClassVar[str] = "raise balance or lower n_clusters"
    starts_warm: ClassVar[bool] = True
    uses_views: ClassVar[bool] = True

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        scaling: str = "standard",
        pca_variance: float = 0.8,
        blocks: tuple[int, ...] | None = None,
        cross_entropy_weight: float = 1.0,
        confidence_weight: float = 1.0,
        balance: float = 1.0,
        init: str = "kmeans",
        n_neighbors: int = 20,
        lr: float = 1e-3,
        batch_size: int = 512,
        epochs: int = 30,
        min_steps: int = 300,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.scaling = scaling
        self.pca_variance = pca_variance
        self.blocks = blocks
        self.cross_entropy_weight = cross_entropy_weight
        self.confidence_weight = confidence_weight
        self.balance = balance
        self.init = init
        self.n_neighbors = n_neighbors
        self.lr = lr
        self.batch_size = batch_size
        self.epochs = epochs
        self.min_steps = min_steps
        self.random_state = random_state
        self.device = device

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return the logits with unit rows: ndarray (n, n_clusters) of float32."""
        X, device = self._ready(X)
        found = np.empty((len(X), self.n_clusters), dtype=np.float32)
        for rows, logits in self._logits(X, device):
            found[rows] = F.normalize(logits, dim=1).numpy()
        return found

    def _check_params(self) -> None:
        super()._check_params()
        check_choice(self.init, "init", INITS)
        for name in ("cross_entropy_weight", "confidence_weight", "balance"):
            check_scalar(getattr(self, name), name, Real, min_val=0)
        check_scalar(self.lr, "lr", Real, min_val=0, include_boundaries="neither")
        for name in ("batch_size", "epochs"):
            check_scalar(getattr(self, name), name, Integral, min_val=1)
        check_scalar(self.min_steps, "min_steps", Integral, min_val=0)

    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        network = self._network(Z.shape[1], {})
        network.start(run.seed)
        network.to(Z.device)
        if run.start is not None:
            network.load_state_dict(run.start.state_dict())
        elif self.init == "kmeans":
            self._learn_kmeans(network, Z, neighbors, run)
        optimizer = self._optimizer(network)
        pairs = generator(run.seed, stream=1)
        usage = Usage(self.n_clusters, Z.device)
        weights = (self.cross_entropy_weight, self.confidence_weight, self.balance)
        length = plan(
            len(Z), batch_size=self.batch_size, epochs=self.epochs, min_steps=self.min_steps
        )

        def step(rows: Tensor, epoch: int) -> Tensor:
            h = self._pairs(Z, neighbors, run, rows, pairs)
            log_y = network(h).log_softmax(1)
            log_ya, log_yb = log_y.chunk(2)
            loss = scp_loss(log_ya, log_yb, *weights)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            usage.add(log_y.detach().exp())
            return loss.detach()

        self.history_ = train(
            step,
            length,
            run,
            state={"network": network, "pairs": pairs},
            optimizer=optimizer,
            schedule=lambda epoch: (1 + math.cos(math.pi * epoch / length.epochs)) / 2,
            report=usage.report,
            description="Training SCP",
            advice=f"lower lr (now {self.lr:g}) or use scaling='standard'",
        )
        self.n_iter_ = len(self.history_)
        return network

    def _pairs(
        self,
        Z: Tensor,
        neighbors: Tensor | None,
        run: Run,
        rows: Tensor,
        numbers: torch.Generator,
    ) -> Tensor:
        if run.views is None:
            return draw_neighbors(Z, cast(Tensor, neighbors), rows, numbers)
        return draw_views(Z, run.views, rows, numbers)

    def _learn_kmeans(
        self, network: nn.Module, Z: Tensor, neighbors: Tensor | None, run: Run
    ) -> None:
        # A row learns the cluster of its partner, so it starts as sure as pairs agree. Sure of its
        # own, the first false pairs cost so much that all rows flee into one cluster.
        centers, _, _ = kmeans(Z, self.n_clusters, seed=run.seed)
        optimizer = self._optimizer(network)
        numbers = generator(run.seed, stream=2)
        for _ in range(WARM_STEPS):
            rows = torch.randint(len(Z), (self.batch_size,), generator=numbers).to(Z.device)
            first, second = self._pairs(Z, neighbors, run, rows, numbers).chunk(2)
            nearest = torch.cdist(second, centers).argmin(1)
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(network(first), nearest).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    def _optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        fused = next(network.parameters()).device.type in ("cpu", "cuda")
        return torch.optim.Adam(network.parameters(), lr=self.lr, fused=fused)

    def _network(self, d: int, facts: dict[str, Any]) -> ClusterHead:
        return ClusterHead(d, self.n_clusters)
