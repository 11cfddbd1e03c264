"""Any vision model that transformers can load, by hub name or from a folder."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from imageherd.backbones.base import (
    BATCH_SIZE,
    PIXELS_VERSION,
    Outputs,
    files_sha256,
    identity_key,
    run_padded,
)
from imageherd.backbones.hub import ModelFolder, find_model
from imageherd.backbones.preprocess import Mode, Preprocessing
from imageherd.backbones.processor_config import read_preprocessing
from imageherd.device import resolve_device
from imageherd.errors import ImageherdError

# Trained so that the first token stands for the image.
CLASS_TOKEN = {"deit", "dinov2", "dinov2_with_registers", "dinov3_vit", "vit", "vit_msn"}
# Families whose own pooling is what their classifier, or their partner for texts, was fed.
POOLED = {
    "clip_vision_model",
    "siglip_vision_model",
    "beit",
    "data2vec-vision",
    "swin",
    "swinv2",
} | {
    *("bit", "convnext", "convnextv2", "dinov3_convnext", "efficientnet", "focalnet", "levit"),
    *("mobilenet_v1", "mobilenet_v2", "mobilevit", "mobilevitv2", "regnet", "resnet"),
}

Extract = Callable[[torch.Tensor], torch.Tensor]


class HuggingFaceBackbone:
    """A frozen transformers model; see `Backbone` for the attributes.

    Half precision (float16) on a GPU, float32 on the CPU. ``identity["output"]`` says what the
    features are: "image_embedding" (CLIP, SigLIP and other models of images and texts: the
    projected embedding), "class_token" (ViT, DINO, DINOv2, DINOv3: after the last layer norm),
    "pooled" (convolutional families, Swin, BEiT: the family's own pooling) or "mean" (any other:
    the mean of the last hidden state over its positions).

    Parameters
    ----------
    model : transformers.PreTrainedModel
        On its device, in evaluation mode.
    found : ModelFolder
        Where it was loaded from.
    preprocessing : Preprocessing
        Its input.
    name : str
        What the user called it.

    Attributes
    ----------
    model : transformers.PreTrainedModel
        As given; a model of images and texts has its other side there.
    """

    def __init__(
        self, model: Any, found: ModelFolder, preprocessing: Preprocessing, *, name: str
    ) -> None:
        self.name = name
        self.preprocessing = preprocessing
        self.batch_size = BATCH_SIZE
        self.model = model
        self._device, self._dtype = model.device, model.dtype
        output, self._extract = choose_output(model)
        self.dim = self._probe()
        self.identity: dict[str, Any] = {
            # A folder may be moved: what it is called stays, where it lies does not count.
            "model": name if found.revision else found.folder.resolve().name,
            "revision": found.revision,
            "weights": files_sha256(found.weights),
            "output": output,
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
            features = self._extract(images)
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


def load_huggingface(
    name: str, *, device: str = "auto", mode: Mode | None = None
) -> HuggingFaceBackbone:
    """Load a transformers vision model from a folder, the Hugging Face cache or the hub.

    Never runs code that comes with a model, never opens pickled weights.

    Parameters
    ----------
    name : str
        A hub name such as "facebook/dinov2-small", or a folder.
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        Where it runs.
    mode : {"crop", "squash"}, optional
        Overrides the model's own.

    Raises
    ------
    ImageherdError
        If the model cannot be found, is not whole, or is not one that transformers can load.
    """
    where = resolve_device(device)
    found = find_model(name)
    preprocessing = read_preprocessing(found.folder).with_mode(mode)
    dtype = torch.float32 if where.type == "cpu" else torch.float16
    model, missing = _load(name, found.folder, dtype)
    own_pooling = choose_output(model)[0] in ("image_embedding", "pooled")
    unused = ("mask_token",) if own_pooling else ("mask_token", "pooler.")
    if needed := sorted(key for key in missing if not any(part in key for part in unused)):
        raise ImageherdError(
            f"{name} has no weights for {len(needed)} parts of its network, {needed[0]} among "
            "them: its features would be partly random. Get the whole model."
        )
    return HuggingFaceBackbone(model.to(where).eval(), found, preprocessing, name=name)


def choose_output(model: Any) -> tuple[str, Extract]:
    """Choose what stands for the image: the output's name, and a function from pixels to it."""
    family = model.config.model_type
    if hasattr(model, "get_image_features"):
        return "image_embedding", lambda x: vector(model.get_image_features(pixel_values=x))
    if family in CLASS_TOKEN:
        return "class_token", lambda x: model(pixel_values=x).last_hidden_state[:, 0]
    if family in POOLED:
        return "pooled", lambda x: model(pixel_values=x).pooler_output.flatten(1)
    return "mean", lambda x: _mean(model(pixel_values=x).last_hidden_state)


def vector(output: Any) -> torch.Tensor:
    """Return the embedding, shape (b, d), from what a model of images and texts answers."""
    # Transformers 5 returns an object where version 4 returned the embedding.
    found: torch.Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return found


def _mean(hidden: torch.Tensor) -> torch.Tensor:
    # Maps come as (b, d, h, w), sequences as (b, tokens, d).
    return hidden.flatten(2).mean(2) if hidden.ndim == 4 else hidden.mean(1)


def _load(name: str, folder: Path, dtype: torch.dtype) -> tuple[Any, list[str]]:
    """Load the model and list the weights that its files lack."""
    try:
        with quiet():
            model, report = transformers.AutoModel.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # transformers and safetensors raise all kinds
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ImageherdError(
            f"transformers {transformers.__version__} cannot load {name}: {first} (Code that "
            "comes with a model is never run. If the files are damaged, get them again.)"
        ) from error
    return model, list(report["missing_keys"])


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' advice and bars for its own users off the screen."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
