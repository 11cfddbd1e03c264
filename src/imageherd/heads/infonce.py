"""Debiased InfoNCE clustering: Alshammari et al., "I-Con: A Unifying Framework ..." (ICLR 2025).

One linear layer on frozen features, trained so that a step from a point to another of its cluster
is distributed as a step to one of its neighbours (secs. 3.3 and 4). Names are the paper's.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.sparse import csr_array
from sklearn.utils import check_scalar
from torch import Tensor, nn

from imageherd.heads.base import Head, check_choice
from imageherd.heads.kmeans import kmeans
from imageherd.heads.loop import Run, generator, plan, train
from imageherd.heads.scaling import BLOCK_ROWS, Features
from imageherd.heads.tsp import centers_to_weights
from imageherd.heads.usage import Usage

INITS = ("kmeans", "random")

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "scaling": "none",
        "init": "random",
        "n_neighbors": 3,
        "walk_steps": 1,
        "uniform_mass": 0.6,
        "min_steps": 0,
    },
}


def walk(neighbors: Tensor, walk_steps: int) -> tuple[Tensor, Tensor]:
    """Sec. 3.3.3: where walks on the graph lead, P + P² + … + P^(1 + walk_steps), normalised.

    P steps to each of a row's k neighbours with probability 1/k. The row itself is left out, and
    only the k (1 + walk_steps) rows most often reached are kept, so that memory stays bounded.

    Parameters
    ----------
    neighbors : Tensor of shape (n, k), int32 or int64
        Neighbours of each row, itself not among them.
    walk_steps : int
        Steps after the first; 0 leaves the neighbours as they are, each with 1/k.

    Returns
    -------
    ids : Tensor of shape (n, m), of the same type
        Rows reached; m = k (1 + walk_steps). Where fewer are, the row itself fills up.
    p : Tensor of shape (n, m), float32
        Their probabilities, adding to 1 by row; 0 where the row itself fills up.

    Notes
    -----
    O(n k^(1 + walk_steps)) time; memory O(n m).
    """
    n, k = neighbors.shape
    if not walk_steps:
        return neighbors, torch.full((n, k), 1 / k, device=neighbors.device)
    columns = neighbors.cpu().numpy()
    P = csr_array((np.full(n * k, 1 / k), columns.ravel(), np.arange(0, n * k + 1, k)), (n, n))
    m = k * (1 + walk_steps)
    ids = np.repeat(np.arange(n, dtype=columns.dtype)[:, None], m, axis=1)
    p = np.zeros((n, m), dtype=np.float32)
    for start in range(0, n, BLOCK_ROWS):
        reached = power = P[start : start + BLOCK_ROWS]
        for _ in range(walk_steps):
            power = power @ P
            reached = reached + power
        reached.sort_indices()
        for i in range(reached.shape[0]):
            mine = slice(*reached.indptr[i : i + 2])
            others = reached.indices[mine] != start + i
            there, often = reached.indices[mine][others], reached.data[mine][others]
            most = np.argsort(-often, kind="stable")[:m]
            ids[start + i, : len(most)] = there[most]
            p[start + i, : len(most)] = often[most] / often[most].sum()
    found = torch.from_numpy(ids), torch.from_numpy(p)
    return found[0].to(neighbors.device), found[1].to(neighbors.device)


def cluster_sharing(pi_i: Tensor, pi: Tensor) -> Tensor:
    """Table 1: q(j|i) = Σc π(c|i) π(c|j) / Σl π(c|l), a step to a random member of i's cluster.

    Parameters
    ----------
    pi_i : Tensor of shape (b, K)
        Soft assignments of the points stepped from.
    pi : Tensor of shape (N, K)
        Of all points; j and l run over these. i is one of them: a step may stay where it is.

    Returns
    -------
    Tensor of shape (b, N)
        Rows add to 1.
    """
    return pi_i @ (pi / pi.sum(0).clamp_min(torch.finfo(pi.dtype).tiny)).T


def infonce_loss(
    pi_i: Tensor, pi: Tensor, columns: Tensor, p: Tensor, uniform_mass: float, balance: float
) -> Tensor:
    """Mean over i of KL(p̃(·|i) ‖ q̃(·|i)), and what the push is to be more or less than in it.

    p̃ = (1 - α) p + α/N and q̃ = (1 - α) q + α/N (sec. 3.3.2, "both distributions").

    For sure assignments with neighbours in the same cluster, log 1/q is the logarithm of the
    cluster's size, so -log q has the mean -H(sizes) + log N: this is what pushes towards equal
    sizes in the paper, and its weight is that of the neighbours in p̃, 1 - α. Any other strength
    than the paper's is had by adding what is missing, -(1 - α) (balance - 1) H(mean of π). (An
    exponent on the sizes in q would change nothing: for sure assignments q is uniform over the
    cluster whatever the exponent, once its rows add to 1.)

    Parameters
    ----------
    pi_i : Tensor of shape (b, K)
        Soft assignments of the points i.
    pi : Tensor of shape (N, K)
        Of all points in the batch, those among them.
    columns : Tensor of shape (b, m), int64
        Which rows of `pi` are i's neighbours.
    p : Tensor of shape (b, m)
        p(j|i) of these, rows adding to 1; it is 0 for all others.
    uniform_mass : float
        α, in [0, 1).
    balance : float
        1 is the paper's loss, 0 has no push left.

    Returns
    -------
    Tensor of shape ()
    """
    N, alpha = len(pi), uniform_mass
    tiny = torch.finfo(pi.dtype).tiny
    # Few passes over b × N numbers, where the time goes: q is linear in π(·|i), and α keeps it
    # from 0.
    q = cluster_sharing((1 - alpha) * pi_i, pi).add_(alpha / N)
    log_q = (q if alpha else q.clamp_min(tiny)).log()
    crossed = (1 - alpha) * (p * log_q.gather(1, columns)).sum(1) + alpha * log_q.mean(1)
    mixed = (1 - alpha) * p + alpha / N
    strangers = N - (p > 0).sum(1)
    known = torch.where(p > 0, torch.xlogy(mixed, mixed), 0.0).sum(1)
    known = known + strangers * (alpha / N * math.log(max(alpha / N, tiny)))
    sizes = pi.mean(0)
    push = -torch.xlogy(sizes, sizes.clamp_min(tiny)).sum()
    return (known - crossed).mean() - (1 - alpha) * (balance - 1) * push


class InfoNCE(Head):
    """Debiased InfoNCE clustering: one linear layer whose clusters step as the k-NN graph does.

    A batch is half points drawn without repetition (an epoch draws each once) and, for each, one
    of its neighbours drawn by p, so that none is without one. p of those points is then restricted
    to the neighbours present, on average all equally often; q of a point runs over the whole
    batch, the point itself included, as the paper's sums do: that share of q, 1 in the size of
    its cluster within the batch, has no counterpart in p, which puts a slight cost on very small
    clusters.

    The defaults are ours, free of labels. `uniform_mass` is the share of a point's neighbours that
    are expected to be of another kind: with both p and q mixed alike, a pair held together by
    nothing but chance costs little. The paper, besides, takes augmentations of the images for
    neighbours and averages the weights over training.

    `transform` returns X itself: the paper does not search, and one linear layer has nothing to
    search with but its input.

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
        own.
    n_neighbors : int, default=20
        k; at most max(5, n / 3K) are used. The paper: 3, with walks.
    walk_steps : int, default=0
        Steps on the graph after the first, see `walk`. The paper: 1.
    uniform_mass : float, default=0.4
        α, the share of p and q that is uniform over the batch, in [0, 1). The paper finds 0.6 to
        0.8 best by accuracy.
    balance : float, default=1.0
        Strength of the push towards equal cluster sizes, see `infonce_loss`; 1 is the paper's
        loss.
    init : {"kmeans", "random"}, default="kmeans"
        Where the layer starts: at the k-means centres, as TSP's (its app. A), or as PyTorch's
        Linear does, uniform within ±1/√d, which we take for the paper's.
    lr : float, default=1e-3
        Of Adam, halved after one and after two thirds of the epochs.
    batch_size : int, default=4096
        Points and drawn neighbours together; at most n / 4 points and as many neighbours are used.
    epochs : int, default=30
    min_steps : int, default=1000
        Epochs are added until at least so many steps are taken. The paper: none, 9,400 in all.
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
    A step costs O(B d K + B² K) and holds a few B²/2 numbers; B is `batch_size`. Memory: X scaled
    and the graph with a probability for each neighbour.
    """

    against_collapse: ClassVar[str] = "raise balance or lower n_clusters"
    starts_warm: ClassVar[bool] = True

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        scaling: str = "standard",
        pca_variance: float = 0.8,
        blocks: tuple[int, ...] | None = None,
        n_neighbors: int = 20,
        walk_steps: int = 0,
        uniform_mass: float = 0.4,
        balance: float = 1.0,
        init: str = "kmeans",
        lr: float = 1e-3,
        batch_size: int = 4096,
        epochs: int = 30,
        min_steps: int = 1000,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
    ) -> None:
        self.n_clusters = n_clusters
        self.scaling = scaling
        self.pca_variance = pca_variance
        self.blocks = blocks
        self.n_neighbors = n_neighbors
        self.walk_steps = walk_steps
        self.uniform_mass = uniform_mass
        self.balance = balance
        self.init = init
        self.lr = lr
        self.batch_size = batch_size
        self.epochs = epochs
        self.min_steps = min_steps
        self.random_state = random_state
        self.device = device

    def transform(self, X: ArrayLike) -> Features:
        """Return X (n, d) itself, checked."""
        return self._ready(X)[0]

    def _check_params(self) -> None:
        super()._check_params()
        check_choice(self.init, "init", INITS)
        check_scalar(self.walk_steps, "walk_steps", Integral, min_val=0)
        check_scalar(
            self.uniform_mass,
            "uniform_mass",
            Real,
            min_val=0,
            max_val=1,
            include_boundaries="left",
        )
        check_scalar(self.balance, "balance", Real, min_val=0)
        check_scalar(self.lr, "lr", Real, min_val=0, include_boundaries="neither")
        check_scalar(self.batch_size, "batch_size", Integral, min_val=2)
        check_scalar(self.epochs, "epochs", Integral, min_val=1)
        check_scalar(self.min_steps, "min_steps", Integral, min_val=0)

    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        n, d = Z.shape
        ids, p = walk(cast(Tensor, neighbors), self.walk_steps)
        chances = p.cumsum(1)
        network = self._network(d, {})
        if run.start is None:
            self._start(network, Z, run.seed)
        else:
            network.load_state_dict(run.start.state_dict())
        network.to(Z.device)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
        pairs = generator(run.seed, stream=1)
        usage = Usage(self.n_clusters, Z.device)
        place = torch.full((n,), -1, device=Z.device)
        length = plan(
            n, batch_size=self.batch_size // 2, epochs=self.epochs, min_steps=self.min_steps
        )

        def step(rows: Tensor, epoch: int) -> Tensor:
            draw = torch.rand((len(rows), 1), generator=pairs).to(Z.device)
            mine = chances[rows]
            drawn = torch.searchsorted(mine, draw * mine[:, -1:], right=True)
            drawn = drawn.clamp_max((p[rows] > 0).sum(1, keepdim=True) - 1)
            partners = ids[rows].gather(1, drawn).squeeze(1)
            batch = torch.unique(torch.cat([rows, partners]))
            place[batch] = torch.arange(len(batch), device=Z.device)
            columns = place[ids[rows]]
            p_here = p[rows] * (columns >= 0)
            p_here = p_here / p_here.sum(1, keepdim=True)
            pi = network(Z[batch]).softmax(1)
            loss = infonce_loss(
                pi[place[rows]],
                pi,
                columns.clamp_min(0),
                p_here,
                self.uniform_mass,
                self.balance,
            )
            place[batch] = -1
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            usage.add(pi.detach())
            return loss.detach()

        self.history_ = train(
            step,
            length,
            run,
            state={"network": network, "pairs": pairs},
            optimizer=optimizer,
            schedule=lambda epoch: 0.5 ** min(2, int(3 * (epoch - 1e-6) / length.epochs)),
            report=usage.report,
            description="Training InfoNCE",
            advice=f"lower lr (now {self.lr:g}) or use scaling='standard'",
        )
        self.n_iter_ = len(self.history_)
        return network

    def _start(self, network: nn.Linear, Z: Tensor, seed: int) -> None:
        nn.init.zeros_(network.bias)
        if self.init == "kmeans":
            centers, _, _ = kmeans(Z, self.n_clusters, seed=seed)
            network.weight.data.copy_(centers_to_weights(centers))
        else:
            bound = 1 / math.sqrt(network.in_features)
            nn.init.uniform_(network.weight, -bound, bound, generator=generator(seed, stream=2))

    def _network(self, d: int, facts: dict[str, Any]) -> nn.Linear:
        make: Any = nn.utils.skip_init
        network: nn.Linear = make(nn.Linear, d, self.n_clusters)
        return network
