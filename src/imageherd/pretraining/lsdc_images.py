"""LSD-C end to end on images: Rebuffi et al., "LSD-C: Linearly Separable Deep Clusters" (2020).

A network pretrained on the same images (RotNet, say) keeps its first blocks; the last one and a
linear classifier are trained so that images of a batch that are close in its features share a
cluster, and others do not. Against images alone the network would only grow surer of itself; it
is compared with composites of several images. Equation and table numbers are the paper's; where it
is silent, the authors' program ("released") is followed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from hashlib import sha256
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state, check_scalar
from torch import Tensor, nn

from imageherd.device import resolve_device
from imageherd.fabric import make_fabric
from imageherd.heads import lsdc
from imageherd.heads.base import CollapseWarning, check_choice
from imageherd.heads.loop import generator, plan
from imageherd.heads.lsdc_losses import clustering_loss, connections, consistency_loss, ramp_up
from imageherd.heads.saving import plain
from imageherd.heads.usage import Usage
from imageherd.pretraining.clusterer import (
    Clusterer,
    freeze_first_blocks,
    make_classifier,
    restart_last_block,
)
from imageherd.pretraining.composition import (
    PAD,
    compose,
    draw_mixup,
    draw_ricap,
    pair_targets,
    weak_views,
)
from imageherd.pretraining.data import Pixels, normalize
from imageherd.pretraining.loop import Callback, Run, train
from imageherd.pretraining.networks import Network

BLOCK = 256
LEAST_IMAGES = 8

_OF_VECTORS = ("optimizer", "weight_decay", "scaling", "init", "second_view")
PRESETS: dict[str, dict[str, Any]] = {
    name: {key: value for key, value in row.items() if key not in _OF_VECTORS}
    for name, row in lsdc.PRESETS.items()
    if name != "reuters"
}
"""Table 5, for ``LSDCImages(n_clusters, **PRESETS["cifar10"])``; its row for Reuters is of vectors,
in `imageherd.heads.lsdc.PRESETS`. That digits, which MNIST has centred, are compared as they are,
neither moved nor mirrored, is ours: the paper speaks of "raw original images" and says no more."""
PRESETS["mnist"] |= {"flip": False, "pad": 0}


class LSDCImages(BaseEstimator):  # type: ignore[misc]
    """LSD-C: images close in the features of a network in training are to share a cluster.

    Of a batch, A says which images are close: by the features of one weak view of each, shifted and
    mirrored, with no gradient. Eq. 5 compares the view's clusters with those of composites, each
    of a second view of several images (`imageherd.pretraining.composition`), the target of a pair
    being the same mix of A's columns. Eq. 8 keeps alike the clusters of two such composites, of
    the same images cut elsewhere (released). Without composition both compare two weak views.

    All but the network's last block is frozen; batch norms there still follow the batch (released).

    The defaults are one row for unknown images, from 200 up: table 5's for CIFAR-10 at less
    than half its length, what depends on the number of clusters made to follow it.

    Parameters
    ----------
    n_clusters : int, default=10
        K.
    labeling, label_space, k, released_count, threshold, temperature, balance
        As in `imageherd.heads.lsdc.LSDC`; features are the network's.
    composition : {"ricap", "mixup", None}, default="ricap"
        What the composites are.
    alpha : float, default=0.3
        Of the Beta distribution that sizes and weights of a composite's parts are drawn from.
    flip : bool, default=True
        Whether weak views mirror half of the images.
    pad : int, default=4
        Pixels that weak views are moved by at most, what comes in being black (released).
    classifier_layers : {1, 2}, default=1
        2 is the ablation of table 6.
    last_block : {"kept", "fresh"}, default="kept"
        Whether the last block starts as it was pretrained (released), or drawn anew: what it has
        learned may be the pretext alone, and a short run does not undo that.
    consistency : float, optional
        λ of eq. 8, by default K/2, as its mean over clusters falls as 1/K.
    ramp_epochs : float, optional
        T of eq. 8, by default half of `epochs`. Like `milestones` it stretches with the epochs
        where `min_steps` adds some.
    lr : float, default=0.1
        Of SGD with momentum 0.9.
    milestones : sequence of float, default=(64, 82)
        Epochs after which the rate is divided by 10.
    weight_decay : float, optional
        By default the paper's: 5e-4, but 1e-4 with MixUp.
    batch_size : int, optional
        At most n / 4 is used. By default 256 or, if that is more, 8 images a cluster, at most 4096.
    epochs : int, default=100
        Passes over the images.
    min_steps : int, default=2000
        Epochs are added until at least so many steps are taken.
    random_state : int, RandomState or None, default=None
        Seed.
    device : str, default="auto"
        See `imageherd.device.resolve_device`.
    precision : {"32", "bf16-mixed", "16-mixed"}, default="32"
        See `imageherd.fabric.make_fabric`.

    Attributes
    ----------
    network_, classifier_ : nn.Module
        Trained, on the CPU: normalised images to features, features to logits.
    labels_ : ndarray of shape (n,), int32
        Cluster of every image.
    history_ : list of dict
        By epoch: epoch, loss, marginal_entropy, conditional_entropy, used_clusters.

    Notes
    -----
    An image costs three forward passes of the network and three backward ones of its last block an
    epoch (two and two without composition). Memory: the images as bytes, and the activations of
    three batches; frozen blocks keep none.
    """

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        labeling: str = "knn",
        label_space: str = "features",
        k: int | None = None,
        released_count: bool = False,
        threshold: float | None = None,
        temperature: float | None = None,
        composition: str | None = "ricap",
        alpha: float = 0.3,
        flip: bool = True,
        pad: int = PAD,
        balance: float = 1.0,
        classifier_layers: int = 1,
        last_block: str = "kept",
        consistency: float | None = None,
        ramp_epochs: float | None = None,
        lr: float = 0.1,
        milestones: Sequence[float] = (64, 82),
        weight_decay: float | None = None,
        batch_size: int | None = None,
        epochs: int = 100,
        min_steps: int = 2000,
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
        precision: str = "32",
    ) -> None:
        self.n_clusters = n_clusters
        self.labeling = labeling
        self.label_space = label_space
        self.k = k
        self.released_count = released_count
        self.threshold = threshold
        self.temperature = temperature
        self.composition = composition
        self.alpha = alpha
        self.flip = flip
        self.pad = pad
        self.balance = balance
        self.classifier_layers = classifier_layers
        self.last_block = last_block
        self.consistency = consistency
        self.ramp_epochs = ramp_epochs
        self.lr = lr
        self.milestones = milestones
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.min_steps = min_steps
        self.random_state = random_state
        self.device = device
        self.precision = precision

    def fit(
        self,
        pixels: Pixels,
        network: Network,
        *,
        folder: str | Path | None = None,
        callback: Callback | None = None,
    ) -> Self:
        """Train a network to cluster these images.

        Parameters
        ----------
        pixels : Pixels
            The images; `imageherd.pretraining.data.pixels_of_array` makes them of an array.
        network : Network
            Pretrained, of four blocks: a ResNet-18 or VGG-4. It is trained in place.
        folder : str or Path, optional
            Where a checkpoint is kept. Killed, the same call goes on from it to the same weights;
            who keeps the result removes it.
        callback : callable, optional
            See `imageherd.pretraining.loop.Run`.

        Raises
        ------
        ValueError
            If a parameter is not as described, or there are fewer images than clusters or 8.
        ImageherdError
            If the network has no four blocks, or the checkpoint is of another run.
        LossNotFiniteError
            If training diverges.

        Warns
        -----
        CollapseWarning
            If fewer clusters are used than were asked for.
        """
        self.check_params()
        if len(pixels) < max(LEAST_IMAGES, self.n_clusters):
            raise ValueError(f"{len(pixels)} images are too few for {self.n_clusters} clusters.")
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        freeze_first_blocks(network)
        if self.last_block == "fresh":
            restart_last_block(network, seed)
        classifier = make_classifier(
            network.dim, self.n_clusters, self.classifier_layers, generator(seed)
        )
        both = Clusterer(network, classifier)
        self._train(pixels, both, seed, None if folder is None else Path(folder), callback)
        both.cpu().eval().requires_grad_(False)
        self.network_, self.classifier_ = network, classifier
        self.preprocessing_ = pixels.preprocessing
        self.labels_ = self.predict_proba(pixels).argmax(1).astype(np.int32)
        used = len(np.unique(self.labels_))
        if used < self.n_clusters:
            warnings.warn(
                f"LSD-C used {used} of {self.n_clusters} clusters; to use more, "
                f"{lsdc.LSDC.against_collapse}.",
                CollapseWarning,
                stacklevel=2,
            )
        return self

    def predict_proba(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return P(cluster | image) of images of that size: ndarray (n, n_clusters) of float32."""
        device = resolve_device(self.device)
        both = Clusterer(self.network_, self.classifier_).to(device)
        found = np.empty((len(pixels), self.n_clusters), dtype=np.float32)
        with torch.no_grad():
            for start in range(0, len(pixels), BLOCK):
                rows = torch.arange(start, min(start + BLOCK, len(pixels)))
                images = normalize(pixels.batch(rows, device), self.preprocessing_)
                found[start : start + BLOCK] = both(images)[1].softmax(1).cpu().numpy()
        both.cpu()
        return found

    def _train(
        self,
        pixels: Pixels,
        both: Clusterer,
        seed: int,
        folder: Path | None,
        callback: Callback | None,
    ) -> None:
        fabric = make_fabric(self.device, self.precision)
        wanted = self.batch_size or min(max(256, 8 * self.n_clusters), 4096)
        length = plan(len(pixels), batch_size=wanted, epochs=self.epochs, min_steps=self.min_steps)
        usage = Usage(self.n_clusters, fabric.device)
        sums = ("total", "entropy", "used", "rows")
        counts = {f"usage_{name}": getattr(usage, name) for name in sums}
        run = Run(
            *(pixels.to(fabric.device), length.epochs, length.batch_size, seed, fabric),
            rate=self.lr,
            folder=folder,
            identity=self._identity(pixels, both, seed),
            report=lambda epoch: usage.report(),
            callback=callback,
        )
        decay = 1e-4 if self.composition == "mixup" else 5e-4
        network, optimizer = fabric.setup(
            both,
            torch.optim.SGD(
                [weight for weight in both.parameters() if weight.requires_grad],
                run.rate,
                momentum=0.9,
                weight_decay=decay if self.weight_decay is None else self.weight_decay,
            ),
        )
        network.train()

        def step(images: Tensor, index: int) -> Tensor:
            # Milestones and ramp stretch with the epochs.
            epoch = run.epoch(index) * self.epochs / run.epochs
            for group in optimizer.param_groups:
                group["lr"] = run.rate * 0.1 ** sum(epoch >= m for m in self.milestones)
            loss, p = self._loss(network, images, pixels, epoch)
            optimizer.zero_grad(set_to_none=True)
            fabric.backward(loss)
            optimizer.step()
            usage.add(p.detach())
            return loss.detach()

        self.history_ = train(
            step,
            run,
            {"network": both, "optimizer": optimizer, **counts},
            network=both.network,
            description="Training LSD-C",
            advice=f"lower lr (now {self.lr:g})",
        )

    def _loss(
        self, network: nn.Module, images: Tensor, pixels: Pixels, epoch: float
    ) -> tuple[Tensor, Tensor]:
        """Return eq. 7 for a batch, and the clusters' probabilities (B, K) in its first view."""
        draws = torch.default_generator  # which the loop seeds for each step

        def view() -> Tensor:
            return normalize(weak_views(images, draws, flip=self.flip, pad=self.pad), pixels)

        f, logits = network(view())
        p = logits.softmax(1)
        A = self._connections((f if self.label_space == "features" else logits).detach())
        if self.composition is None:
            first, second = p, network(view())[1].softmax(1)
            p_view = second
        else:
            n, _, height, width = images.shape
            recipe = (
                draw_ricap(n, height, width, draws, self.alpha)
                if self.composition == "ricap"
                else draw_mixup(n, draws, self.alpha)
            )
            A = pair_targets(A, recipe)
            composites = torch.cat([compose(view(), recipe, draws) for _ in range(2)])
            first, second = network(composites)[1].softmax(1).chunk(2)
            p_view = first
        ramp_epochs = self.epochs / 2 if self.ramp_epochs is None else self.ramp_epochs
        weight = self.n_clusters / 2 if self.consistency is None else self.consistency
        omega = ramp_up(int(epoch), ramp_epochs, weight)
        loss = clustering_loss(p, p_view, A, self.balance)
        return loss + omega * consistency_loss(first, second), p

    def _connections(self, f: Tensor) -> Tensor:
        asked = ("k", "released_count", "threshold", "temperature")
        options = {name: getattr(self, name) for name in asked}
        return connections(f, self.labeling, self.n_clusters, **options)

    def _identity(self, pixels: Pixels, both: Clusterer, seed: int) -> dict[str, Any]:
        start = sha256()
        for tensor in both.state_dict().values():
            start.update(tensor.numpy().tobytes())
        params = self.get_params()
        for elsewhere in ("random_state", "device"):
            params.pop(elsewhere)
        return {
            "method": "lsdc",
            "params": {name: plain(value) for name, value in params.items()},
            "seed": seed,
            "pixels": pixels.sha256,
            "start": start.hexdigest(),
        }

    def check_params(self) -> None:
        """Raise ValueError or TypeError unless all parameters are as described."""
        check_scalar(self.n_clusters, "n_clusters", Integral, min_val=2)
        check_choice(self.labeling, "labeling", ("knn", "sne", "cosine", "l2"))
        check_choice(self.label_space, "label_space", ("features", "predictions"))
        if self.composition not in ("ricap", "mixup", None):
            raise ValueError(f"composition={self.composition!r} must be 'ricap', 'mixup' or None.")
        check_choice(self.last_block, "last_block", ("kept", "fresh"))
        check_scalar(self.classifier_layers, "classifier_layers", Integral, min_val=1, max_val=2)
        check_scalar(self.epochs, "epochs", Integral, min_val=1)
        for name in ("min_steps", "pad"):
            check_scalar(getattr(self, name), name, Integral, min_val=0)
        for name in ("lr", "alpha"):
            check_scalar(getattr(self, name), name, Real, min_val=0, include_boundaries="neither")
        check_scalar(self.balance, "balance", Real, min_val=0)
        optional = {"k": 1, "batch_size": 1, "weight_decay": 0, "consistency": 0, "ramp_epochs": 0}
        for name, least in {**optional, "threshold": None, "temperature": 1e-12}.items():
            if getattr(self, name) is not None:
                kind = Integral if least == 1 else Real
                check_scalar(getattr(self, name), name, kind, min_val=least)
        for epoch in self.milestones:
            check_scalar(epoch, "each of milestones", Real, min_val=0)
