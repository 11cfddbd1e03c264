"""TSP: Zhou and Zhang, "Deep Clustering with Features from Self-Supervised Pretraining" (2022).

One linear layer on frozen features, started from k-means, trained so that neighbours fall in the
same cluster (secs. 3.2 and 4.1, app. A). Equation numbers are the paper's.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from sklearn.utils import check_scalar
from torch import Tensor, nn

from imageherd.heads.base import Head, check_choice
from imageherd.heads.kmeans import kmeans_starts
from imageherd.heads.loop import Run, generator, plan, train
from imageherd.heads.scaling import BLOCK_ROWS, Features
from imageherd.heads.usage import Usage

INITS = ("kmeans", "random")
OBJECTIVES = ("pmi", "tsp")

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "scaling": "none",
        "objective": "tsp",
        "balance": 3.0,
        "n_heads": 1,
        "n_neighbors": 20,
        "lr": 1e-4,
        "batch_size": 256,
        "epochs": 100,
    },
}


class LinearHeads(nn.Module):
    """H linear layers side by side, their softmaxes averaged (the paper has one)."""

    def __init__(self, n_heads: int, n_clusters: int, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_heads, n_clusters, d))
        self.bias = nn.Parameter(torch.zeros(n_heads, n_clusters))

    def each(self, Z: Tensor) -> Tensor:
        """Return log P(y|x) of every head: (b, d) to (H, b, K)."""
        H, K, d = self.weight.shape
        logits = torch.addmm(self.bias.view(-1), Z, self.weight.view(H * K, d).T)
        return logits.view(-1, H, K).log_softmax(2).transpose(0, 1)

    def forward(self, Z: Tensor) -> Tensor:
        """Return the log of the heads' mean probabilities: (b, d) to (b, K)."""
        log_p: Tensor = self.each(Z).logsumexp(0) - math.log(len(self.bias))
        return log_p


def neighbor_probabilities(Z: Tensor, neighbors: Tensor) -> Tensor:
    """Eq. 4: P(j|i) ∝ exp(-‖zi - zj‖² / (2σi²)) over i's neighbours.

    σi is half the distance from zi to its third nearest neighbour, or where there are fewer than
    three, to the last. Copies of one point leave σi = 0: then its copies share the probability,
    as in the limit σi → 0.

    Parameters
    ----------
    Z : Tensor of shape (n, d)
        Features.
    neighbors : Tensor of shape (n, k), int32 or int64
        Rows of each one's neighbours, in any order.

    Returns
    -------
    Tensor of shape (n, k)
        Rows add to 1. O(n k d) time, one block of rows at a time.
    """
    found = torch.empty(neighbors.shape, dtype=Z.dtype, device=Z.device)
    for start in range(0, len(Z), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        distances = torch.stack(
            [torch.linalg.vector_norm(Z[j] - Z[rows], dim=1) for j in neighbors[rows].T], dim=1
        )
        third = min(3, distances.shape[1])
        sigma = distances.kthvalue(third, dim=1, keepdim=True).values / 2
        # Guards σ = 0 and leaves everything else untouched: 0/tiny = 0, and the rest vanish.
        ratio = distances / sigma.clamp_min(1e-18)
        found[rows] = (-ratio.square() / 2).softmax(1)
    return found


def entropy(p: Tensor) -> Tensor:
    """H(p) in nats over the last axis; 0 log 0 = 0."""
    return -torch.xlogy(p, p).sum(-1)


def tsp_loss(log_pi: Tensor, log_pj: Tensor, balance: float) -> Tensor:
    """Eq. 5 of every head: -E log⟨p(xi), p(xj)⟩ - λ H(E p(xi)).

    Parameters
    ----------
    log_pi, log_pj : Tensor of shape (H, b, K)
        Log probabilities of the points and of a neighbour of each, drawn by eq. 4.
    balance : float
        λ, the strength of the push towards equal cluster sizes.

    Returns
    -------
    Tensor of shape (H,)
    """
    agreement = (log_pi + log_pj).logsumexp(2).mean(1)
    return -agreement - balance * entropy(log_pi.exp().mean(1))


def pmi_loss(log_pi: Tensor, log_pj: Tensor, balance: float) -> Tensor:
    """Eq. 5 with agreement measured against chance: -E log Σc pc(xi) pc(xj) / p̄c - λ H(E p(xi)).

    p̄ is the mean of p over both halves of the batch. Two points of one small cluster agree less
    by chance than two of a large one, and dividing by the clusters' sizes says so. Where
    assignments are certain, minus this loss (λ = 0) is at most the mutual information of
    neighbours' clusters, so sizes follow the data instead of being pushed to be equal. (TEMI's
    eq. 8 with β = 1 is this between two networks. Its running mean for p̄ will not do here: a
    single layer still near uniform probabilities outruns it, and clusters die.)

    Parameters and result as for `tsp_loss`.
    """
    p_i = log_pi.exp()
    sizes = (p_i.mean(1, keepdim=True) + log_pj.exp().mean(1, keepdim=True)) / 2
    against_chance = log_pi + log_pj - sizes.clamp_min(torch.finfo(sizes.dtype).tiny).log()
    return -against_chance.logsumexp(2).mean(1) - balance * entropy(p_i.mean(1))


def centers_to_weights(centers: Tensor) -> Tensor:
    """Appendix A: row c is C_c / (‖C_c‖ √d), for centres (..., K, d)."""
    length: Tensor = torch.linalg.vector_norm(centers, dim=-1, keepdim=True)
    return centers / (
        length.clamp_min(torch.finfo(centers.dtype).tiny) * math.sqrt(centers.shape[-1])
    )


class TSP(Head):
    """TSP: one linear layer started from k-means, neighbours pulled into the same cluster.

    The defaults are ours, for folders of unknown balance: `n_heads` layers from different k-means
    starts, trained as one batched operation on the agreement of neighbours against chance, matched
    to each other (Hungarian) and averaged. ``benchmarks/tsp_default.py`` chose objective, push and
    scaling without labels: the most stable over starts of what never collapses. The paper's
    settings, which push towards equal sizes, are ``TSP(**PRESETS["paper"])``.

    `transform` returns X itself, which is what the paper searches with.

    Parameters
    ----------
    n_clusters : int, default=10
        K.
    scaling : {"none", "l2", "standard", "pca"}, default="standard"
        See `imageherd.heads.scaling.Scaler`. The paper: "none".
    pca_variance : float, default=0.8
        Share of the variance that scaling="pca" keeps.
    blocks : tuple of int, optional
        Columns of each feature space where X holds several side by side; each is scaled on its own.
    objective : {"pmi", "tsp"}, default="pmi"
        "tsp" is eq. 5, see `tsp_loss`; "pmi" divides by the clusters' sizes, see `pmi_loss`.
    balance : float, default=0.0
        λ, the strength of the push towards equal cluster sizes. The paper: 3.
    n_heads : int, default=10
        Layers trained from different starts and averaged. The paper: 1.
    init : {"kmeans", "random"}, default="kmeans"
        Where the layers start (app. A). "random" is the paper's ablation.
    n_neighbors : int, default=20
        k of eq. 4; at most max(5, n / 3K) are used.
    lr : float, default=3e-4
        Of Adam. The paper: 1e-4.
    batch_size : int, optional
        At most n / 4 is used. By default 256 or, if that is more, 8 rows a cluster: the loss
        takes the clusters' sizes from the batch. The paper: 256.
    epochs : int, default=30
        The paper: 100.
    min_steps : int, default=1000
        Epochs are added until at least so many steps are taken.
    random_state : int, RandomState or None, default=None
        Seed.
    device : str, default="auto"
        See `imageherd.device.resolve_device`.

    Attributes
    ----------
    agreement_ : float
        Mean share of rows on which a head and the average agree; 1 for one head. A low value says
        that the clusters depend on the start.

    Notes
    -----
    O(n k d) for eq. 4 once, then O(n d K n_heads) an epoch. Memory: the scaled features and
    8 n k bytes, the neighbours and their chances.
    """

    _saved: ClassVar[tuple[str, ...]] = ("n_iter_", "history_", "agreement_")
    against_collapse: ClassVar[str] = "raise balance or lower n_clusters"
    starts_warm: ClassVar[bool] = True
    takes_constraints: ClassVar[bool] = True

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        scaling: str = "standard",
        pca_variance: float = 0.8,
        blocks: tuple[int, ...] | None = None,
        objective: str = "pmi",
        balance: float = 0.0,
        n_heads: int = 10,
        init: str = "kmeans",
        n_neighbors: int = 20,
        lr: float = 3e-4,
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
        self.objective = objective
        self.balance = balance
        self.n_heads = n_heads
        self.init = init
        self.n_neighbors = n_neighbors
        self.lr = lr
        self.batch_size = batch_size
        self.epochs = epochs
        self.min_steps = min_steps
        self.random_state = random_state
        self.device = device

    def transform(self, X: ArrayLike) -> Features:
        """Return X (n, d) itself, checked: the paper searches with the features."""
        return self._ready(X)[0]

    def _check_params(self) -> None:
        super()._check_params()
        check_choice(self.objective, "objective", OBJECTIVES)
        check_choice(self.init, "init", INITS)
        check_scalar(self.balance, "balance", Real, min_val=0)
        check_scalar(self.lr, "lr", Real, min_val=0, include_boundaries="neither")
        if self.batch_size is not None:
            check_scalar(self.batch_size, "batch_size", Integral, min_val=1)
        for name in ("n_heads", "epochs"):
            check_scalar(getattr(self, name), name, Integral, min_val=1)
        check_scalar(self.min_steps, "min_steps", Integral, min_val=0)

    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        ids = cast(Tensor, neighbors)
        chances = neighbor_probabilities(Z, ids).cumsum(1)
        network = self._network(Z.shape[1], {}).to(Z.device)
        if run.start is None:
            network.weight.data.copy_(self._start(Z, run.seed))
        else:
            network.load_state_dict(run.start.state_dict())
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
        loss = tsp_loss if self.objective == "tsp" else pmi_loss
        pairs = generator(run.seed, stream=1)
        usage = Usage(self.n_clusters, Z.device, self.n_heads)

        def partners(rows: Tensor) -> Tensor:
            draw = torch.rand((len(rows), 1), generator=pairs).to(Z.device)
            mine = chances[rows]
            drawn = torch.searchsorted(mine, draw * mine[:, -1:], right=True)
            drawn = drawn.clamp_max(ids.shape[1] - 1)
            return ids[rows].gather(1, drawn).squeeze(1)

        def step(rows: Tensor, epoch: int) -> Tensor:
            log_p = network.each(Z[torch.cat([rows, partners(rows)])])
            log_pi, log_pj = log_p.chunk(2, dim=1)
            losses = loss(log_pi, log_pj, self.balance)
            if run.constraints is not None:
                known = run.constraints.draw(pairs, Z.device)
                asked = torch.cat([known.rows, partners(known.labelled)])
                losses = losses + known.losses(network.each(Z[asked]))
            optimizer.zero_grad(set_to_none=True)
            usage.add(log_pi.detach().exp())
            losses.sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            return losses.detach()

        batch_size = self.batch_size or max(256, 8 * self.n_clusters)
        length = plan(len(Z), batch_size=batch_size, epochs=self.epochs, min_steps=self.min_steps)
        self.history_ = train(
            step,
            length,
            run,
            state={"network": network, "pairs": pairs},
            optimizer=optimizer,
            report=usage.report,
            description="Training TSP",
            advice=f"lower lr (now {self.lr:g}) or use scaling='standard'",
        )
        self.n_iter_ = len(self.history_)
        self.agreement_ = match_heads(network, Z)
        return network

    def _start(self, Z: Tensor, seed: int) -> Tensor:
        shape = (self.n_heads, self.n_clusters, Z.shape[1])
        if self.init == "random":
            # torch.nn.Linear's own range.
            uniform = torch.rand(shape, generator=generator(seed, stream=2)) * 2 - 1
            return uniform / math.sqrt(Z.shape[1])
        centers = kmeans_starts(Z, self.n_clusters, seed=seed, n_init=max(10, self.n_heads))
        return centers_to_weights(centers[: self.n_heads])

    def _network(self, d: int, facts: dict[str, Any]) -> LinearHeads:
        return LinearHeads(self.n_heads, self.n_clusters, d)


@torch.no_grad()
def match_heads(network: LinearHeads, Z: Tensor) -> float:
    """Renumber the clusters of all heads to fit each other; return how far they then agree.

    The reference is the head that agrees most with the others; each other head's clusters are
    assigned to its (Hungarian, on expected shared rows), then once more to the mean of all.

    Returns
    -------
    float
        Mean share of rows that a head puts where the mean of all puts them.
    """
    H, K, _ = network.weight.shape
    if H == 1:
        return 1.0
    joint = torch.zeros((H, K, H, K), dtype=torch.float64, device=Z.device)
    for start in range(0, len(Z), BLOCK_ROWS):
        p = network.each(Z[start : start + BLOCK_ROWS]).exp().transpose(0, 1).double()
        flat = p.reshape(len(p), H * K)
        joint += (flat.T @ flat).view(H, K, H, K)
    shared = joint.cpu().numpy()
    matched = np.zeros((H, H))
    for a in range(H):
        for b in range(H):
            rows, columns = linear_sum_assignment(-shared[a, :, b])
            matched[a, b] = shared[a, rows, b, columns].sum()
    reference = int(matched.sum(1).argmax())
    orders = [linear_sum_assignment(-shared[reference, :, h])[1] for h in range(H)]
    for _ in range(2):
        mean = sum(shared[h][orders[h]] for h in range(H))
        orders = [linear_sum_assignment(-mean[:, h])[1] for h in range(H)]
    for h, order in enumerate(orders):
        chosen = torch.from_numpy(order).to(Z.device)
        network.weight.data[h] = network.weight.data[h, chosen]
        network.bias.data[h] = network.bias.data[h, chosen]
    agreeing = 0.0
    for start in range(0, len(Z), BLOCK_ROWS):
        block = Z[start : start + BLOCK_ROWS]
        same = network.each(block).argmax(2) == network(block).argmax(1)
        agreeing += float(same.double().mean(0).sum())
    return agreeing / len(Z)
