"""TEMI's β, chosen without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from imageherd.choosing_trials import fitted, remembered, sampled
from imageherd.heads import HEADS
from imageherd.metrics import mean_entropies
from imageherd.neighbors import knn_graph

BETAS = (0.55, 0.6, 0.65, 0.7, 0.8, 0.9, 1.0)
# Of the most that any β reaches, the part that is enough.
ENOUGH = 0.95


@dataclass(frozen=True)
class BetaChoice:
    """A β for TEMI and what it was chosen from.

    Attributes
    ----------
    beta : float
        The lowest whose H(q(c)) - H(q(c|x)) is at least 95 % of the greatest.
    betas : tuple of float
        Those tried, ascending.
    clusters, images : tuple of float
        H(q(c)), how even the clusters are, and H(q(c|x)), how unsure the head is of an image, of
        each; nats.
    """

    beta: float
    betas: tuple[float, ...]
    clusters: tuple[float, ...]
    images: tuple[float, ...]

    @property
    def reason(self) -> str:
        """Why this one, in a sentence without its stop."""
        at = self.betas.index(self.beta)
        return (
            f"Chosen without labels: β = {self.beta:g}, the lowest of {len(self.betas)} whose "
            f"clusters are even (entropy {self.clusters[at]:.2f}) while images are sure of theirs "
            f"({self.images[at]:.2f})"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {"reason": self.reason} | asdict(self)


def choose_beta(
    X: ArrayLike,
    n_clusters: int,
    betas: Sequence[float] = BETAS,
    *,
    sample: int = 5000,
    random_state: int = 0,
    device: str = "auto",
    kept: Path | None = None,
    **params: Any,
) -> BetaChoice:
    """Choose TEMI's β without labels: the lowest whose predictions stay both even and sure.

    The paper (sec. 4.2, fig. 2) asks for the lowest β whose H(q(c|x)) stays low while H(q(c)) stays
    high and gives no threshold. Ours: their difference, what a prediction tells of an image, must
    be at least 95 % of the greatest among the βs tried. Below it heads grow unsure, above it they
    leave clusters empty; either way the difference falls.

    Takes one TEMI of 4 heads for each β.

    Parameters
    ----------
    X, n_clusters, sample, random_state, device, kept
        As in `imageherd.choosing.choose_method`.
    betas : sequence of float
        In (0.5, 1].
    **params
        Of `imageherd.TEMI`, for all runs; n_heads is 4 unless said otherwise.

    Raises
    ------
    ValueError
        If there is no β, or one is out of range.
    """
    tried = sorted(set(betas))
    if not tried or not 0.5 < tried[0] <= tried[-1] <= 1:
        raise ValueError(f"betas={tuple(betas)!r} must be numbers in (0.5, 1].")
    rows = sampled(X, n_clusters, sample, random_state)
    graph = knn_graph(rows, min(50, len(rows) - 1), device=device)

    def entropies_with(beta: float) -> tuple[float, ...]:
        settings = {"n_heads": 4, **params, "beta": beta, "n_clusters": n_clusters}
        head = HEADS["temi"](**settings, random_state=random_state, device=device)
        return mean_entropies(fitted(head, rows, graph).predict_proba(rows))

    # Each is kept as it ends.
    pairs = [remembered(kept, f"{b:g}", partial(entropies_with, b)) for b in tried]
    entropies = [(clusters, images) for clusters, images in pairs]
    clusters, images = zip(*entropies, strict=True)
    return BetaChoice(lowest_enough(tried, entropies), tuple(tried), clusters, images)


def lowest_enough(betas: Sequence[float], entropies: Sequence[tuple[float, float]]) -> float:
    """Return the first β whose H(q(c)) - H(q(c|x)), of `entropies`, is 95 % of the greatest."""
    told = [clusters - images for clusters, images in entropies]
    return next(b for b, nats in zip(betas, told, strict=True) if nats >= ENOUGH * max(told))
