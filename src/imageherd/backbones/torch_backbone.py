"""A frozen PyTorch network, wherever it comes from, behind the interface of `Backbone`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from imageherd.backbones.base import BATCH_SIZE, PIXELS_VERSION, Outputs, identity_key, run_padded
from imageherd.backbones.outputs import Extract
from imageherd.backbones.preprocess import Preprocessing
from imageherd.errors import ImageherdError


class TorchBackbone:
    """A frozen PyTorch network; see `Backbone` for the attributes.

    Half precision (float16) on a GPU, float32 on the CPU.

    Parameters
    ----------
    model : torch.nn.Module
        On its device, in evaluation mode, all weights of one dtype.
    extract : callable
        From pixels (b, 3, size, size) to features (b, d), through `model`.
    preprocessing : Preprocessing
        Its input.
    name : str
        What the user called it.
    facts : mapping
        What the features depend on besides preprocessing and dtype: "model", "revision",
        "weights" (sha256), "output". Plain JSON values.
    place : str, optional
        The folder or hub name that `name` stands for, where the model's other files are. Default:
        `name`.

    Attributes
    ----------
    model : torch.nn.Module
        As given; a model of images and texts has its other side there.
    extract : callable
        As given.
    place : str
        As given.

    Raises
    ------
    ImageherdError
        If the network does not run on one image, or answers it differently each time.
    """

    def __init__(
        self,
        model: Any,
        extract: Extract,
        preprocessing: Preprocessing,
        *,
        name: str,
        facts: Mapping[str, Any],
        place: str | None = None,
    ) -> None:
        self.name, self.place = name, name if place is None else place
        self.preprocessing = preprocessing
        self.batch_size = BATCH_SIZE
        self.model, self.extract = model, extract
        parameter = next(model.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype
        self.dim = self._probe()
        self.identity: dict[str, Any] = {
            **facts,
            "preprocessing": {**preprocessing.to_dict(), "version": PIXELS_VERSION},
            "dtype": str(self._dtype).removeprefix("torch."),
        }
        self.key = identity_key(self.identity)

    def embed(self, batch: NDArray[np.float32]) -> Outputs:
        """Turn a batch (b, 3, size, size) into features; see `Backbone.embed`."""
        return run_padded(batch, self.preprocessing, self.batch_size, self._run)

    def _run(self, block: NDArray[np.float32]) -> Outputs:
        images = torch.from_numpy(block).to(self._device, self._dtype)
        with torch.inference_mode(), torch.backends.cudnn.flags(deterministic=True):
            features = self.extract(images)
        return {"features": features.float().cpu().numpy()}

    def _probe(self) -> int:
        """Run one image twice, to see that the model runs and always answers the same."""
        size = self.preprocessing.size
        ramp = np.linspace(-1, 1, 3 * size * size, dtype=np.float32).reshape(1, 3, size, size)
        try:
            first, second = self._run(ramp)["features"], self._run(ramp)["features"]
        except Exception as error:  # whatever a model of any family raises
            raise ImageherdError(
                f"{self.name} does not turn one {size} x {size} image into features: {error}"
            ) from error
        if first.ndim != 2 or not np.array_equal(first, second):
            raise ImageherdError(
                f"{self.name} answers the same image differently each time, as models trained by "
                "masking do: it is no backbone as it stands."
            )
        return int(first.shape[1])
