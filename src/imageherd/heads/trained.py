"""The classifier that was trained together with a network, as a head on that network's features."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from imageherd.errors import ImageherdError
from imageherd.files import write_atomically
from imageherd.heads.base import Head
from imageherd.heads.loop import Run
from imageherd.heads.trunk import linear, linear_layers

FILE = "classifier.safetensors"


def classifier_of(widths: Sequence[int]) -> nn.Sequential:
    """Make Linear layers with ReLU between them, whose weights are still to be set.

    Parameters
    ----------
    widths : sequence of int
        Of the features, of what is between, and K.
    """
    parts: list[nn.Module] = []
    for n_inputs, n_outputs in pairwise(widths):
        parts += [nn.ReLU(), linear(n_inputs, n_outputs)]
    return nn.Sequential(*parts[1:])


def save_classifier(classifier: nn.Sequential, history: list[dict[str, Any]], folder: Path) -> None:
    """Write ``classifier.safetensors`` into a network's folder, its history in the header."""
    tensors = {name: value.cpu() for name, value in classifier.state_dict().items()}
    data = to_safetensors(tensors, metadata={"history": json.dumps(history)})
    write_atomically(folder / FILE, lambda file: file.write(data))


def load_classifier(folder: Path) -> tuple[nn.Sequential, list[dict[str, Any]]]:
    """Read what `save_classifier` wrote.

    Raises
    ------
    ImageherdError
        If it is not there, or damaged.
    """
    path = folder / FILE
    try:
        with safe_open(path, framework="pt") as file:
            history = json.loads(file.metadata()["history"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        # Layers are numbered with the ReLUs between them.
        matrices = [tensors[f"{i}.weight"] for i in range(0, len(tensors), 2)]
        classifier = classifier_of([matrices[0].shape[1], *(len(m) for m in matrices)])
        classifier.load_state_dict(tensors)
    except Exception as error:
        raise ImageherdError(
            f"{folder} holds no readable classifier ({error}); `imageherd train-lsdc` writes one "
            "beside its network."
        ) from error
    return classifier, history


class TrainedClassifier(Head):
    """The classifier of LSD-C trained on images, on the features of the network trained with it.

    Fitting trains nothing: it takes the classifier from the network's folder and says what it finds
    in X, which are to be features of that network, as they are.

    Parameters
    ----------
    network : str
        Folder that `imageherd train-lsdc` wrote; not needed any more once fitted.
    random_state : ignored
        Nothing is drawn.
    device : str, default="auto"
        See `imageherd.device.resolve_device`.

    Attributes
    ----------
    history_ : list of dict
        Of the training of network and classifier.
    """

    _saved: ClassVar[tuple[str, ...]] = (*Head._saved, "widths_")
    counts_itself: ClassVar[bool] = True
    against_collapse: ClassVar[str] = "train again with fewer clusters or more epochs"
    scaling: str = "none"
    pca_variance: float = 1.0
    blocks: tuple[int, ...] | None = None

    def __init__(
        self, network: str = "", *, random_state: int | None = None, device: str = "auto"
    ) -> None:
        self.network = network
        self.random_state = random_state
        self.device = device

    def transform(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Return X (n, d): the features are what the paper's labels are made from."""
        return self._ready(X)[0]

    def _fit(self, Z: Tensor, neighbors: Tensor | None, run: Run) -> nn.Module:
        classifier, self.history_ = load_classifier(Path(self.network))
        layers = linear_layers(classifier)
        self.widths_ = [layers[0].in_features, *(layer.out_features for layer in layers)]
        if self.widths_[0] != Z.shape[1]:
            raise ImageherdError(
                f"The classifier in {self.network} takes {self.widths_[0]} features, and there are "
                f"{Z.shape[1]} here; embed the images with --backbone {self.network}."
            )
        self.n_clusters_ = self.widths_[-1]
        self.n_iter_ = len(self.history_)
        return classifier

    def _network(self, d: int, facts: dict[str, Any]) -> nn.Module:
        return classifier_of(facts["widths_"])
