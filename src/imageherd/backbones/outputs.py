"""What of a network stands for an image: class token, its own pooling, the mean of its patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from imageherd.backbones.spec import parse_output
from imageherd.errors import ImageherdError

# Families whose first token was trained to stand for the image, after the last layer norm. Their
# makers' k-NN and retrieval use it: DINO eval_knn.py and eval_image_retrieval.py, DINOv2
# eval/knn.py, DINOv3 eval/knn, MSN logistic_eval.py; MAE main_linprobe.py ("--cls_token").
CLASS_TOKEN = frozenset(
    {"beit", "data2vec-vision", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit"}
    | {"vit", "vit_mae", "vit_msn"}
)
# Models of images and texts whose image side has a class token too. It is what CLIP's paper fits
# its linear probes on ("before the linear projection", A.3); its retrieval uses the projection.
TWO_SIDED_CLASS_TOKEN = frozenset(
    {"altclip", "blip", "chinese_clip", "clip", "clipseg", "metaclip_2"}
)
# Families whose own pooling is what their classifier, or their partner for texts, was fed.
POOLED = frozenset(
    {"beit", "bit", "clip_vision_model", "convnext", "convnextv2", "data2vec-vision"}
    | {"dinov3_convnext", "efficientnet", "focalnet", "levit", "mobilenet_v1", "mobilenet_v2"}
    | {
        "mobilevit",
        "mobilevitv2",
        "regnet",
        "resnet",
        "siglip_vision_model",
        "siglip2_vision_model",
    }
    | {"swin", "swinv2"}
)

IMAGE_EMBEDDING = "image_embedding"
NO_POOLING = frozenset({"vit_mae", "vit_msn"})

Extract = Callable[[torch.Tensor], torch.Tensor]


def default_output(model: Any) -> str:
    """Name what stands for the image where nothing is asked for: what the family's makers use.

    "pooled" for models of images and texts (the projected embedding) and for convolutional
    families, "cls" for vision transformers with a class token, else "mean-patch".
    """
    family = model.config.model_type
    if hasattr(model, "get_image_features") or family in POOLED:
        return "pooled"
    return "cls" if family in CLASS_TOKEN else "mean-patch"


def choose_output(model: Any, output: str | None = None) -> tuple[str, Extract]:
    """Choose what stands for the image.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Any vision model, or the model of images and texts that it is a side of.
    output : str, optional
        "cls", "pooled", "mean-patch", or several joined by +. Default: `default_output`.

    Returns
    -------
    output : str
        As given, or the default.
    extract : callable
        From pixels (b, 3, size, size) to features (b, d); several parts stand one after the other.

    Raises
    ------
    ImageherdError
        If the family has no such output.
    """
    output = default_output(model) if output is None else output
    parts = [_part(model, name) for name in parse_output(output)]

    def extract(pixels: torch.Tensor) -> torch.Tensor:
        answer = _forward(model, pixels)
        found = [part(answer, pixels.shape[-1]) for part in parts]
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    return output, extract


def identity_output(model: Any, output: str) -> str:
    """Say what `output` is, for the identity of the features.

    The pooled output of a model of images and texts is its "image_embedding": with no other can
    texts be compared.
    """
    if hasattr(model, "get_image_features"):
        return output.replace("pooled", IMAGE_EMBEDDING)
    return output


def vector(output: Any) -> torch.Tensor:
    """Return the embedding, shape (b, d), from what a model of images and texts answers."""
    # Transformers 5 returns an object where version 4 returned the embedding.
    found: torch.Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return found


def mean_patch(hidden: torch.Tensor, n_patches: int | None) -> torch.Tensor:
    """Average patches only: class, distillation and register tokens stand before them.

    Parameters
    ----------
    hidden : tensor, shape (b, tokens, d) or (b, d, h, w)
        The last hidden state.
    n_patches : int or None
        How many tokens, at the end, are patches; None, or more than there are tokens (families
        that merge patches on the way and have no other tokens): all.
    """
    if hidden.ndim == 4:
        return hidden.flatten(2).mean(2)
    before = 0 if n_patches is None else max(0, hidden.shape[1] - n_patches)
    return hidden[:, before:].mean(1)


def _forward(model: Any, pixels: torch.Tensor) -> Any:
    family = model.config.model_type
    if family == "siglip2":
        return model.get_image_features(**_as_patches(model, pixels))
    if hasattr(model, "get_image_features"):
        return model.get_image_features(pixel_values=pixels)
    if family == "vit_mae":
        # Nothing is masked (see `see_all`), and patches are not shuffled.
        n = _n_patches(model, pixels.shape[-1]) or 0
        order = torch.arange(n, dtype=torch.float32, device=pixels.device)
        return model(pixel_values=pixels, noise=order.expand(len(pixels), -1))
    return model(pixel_values=pixels)


def see_all(model: Any) -> None:
    """Let a masked autoencoder see every patch: three quarters are hidden while it is trained."""
    if model.config.model_type == "vit_mae":
        model.config.mask_ratio = 0.0


def _part(model: Any, name: str) -> Callable[[Any, int], torch.Tensor]:
    family = model.config.model_type
    two_sided = hasattr(model, "get_image_features")
    if name == "pooled":
        if not (two_sided or family in (POOLED | CLASS_TOKEN) - NO_POOLING):
            raise _has_no(model, name)
        return lambda answer, _: vector(answer).flatten(1)
    if name == "mean-patch":
        return lambda answer, side: mean_patch(answer.last_hidden_state, _n_patches(model, side))
    if two_sided and family in TWO_SIDED_CLASS_TOKEN:
        norm = model.vision_model.post_layernorm
        return lambda answer, _: norm(answer.last_hidden_state[:, 0])
    if family not in CLASS_TOKEN:
        raise _has_no(model, name)
    return lambda answer, _: answer.last_hidden_state[:, 0]


def _n_patches(model: Any, side: int) -> int | None:
    if model.config.model_type == "dinov3_convnext":
        # Its pooled vector stands before the map, whose cells are 32 pixels wide.
        return (side // 32) ** 2
    config = getattr(model.config, "vision_config", model.config)
    patch = getattr(config, "patch_size", None)
    if isinstance(patch, Sequence) and not isinstance(patch, str) and len(set(patch)) == 1:
        patch = patch[0]
    return (side // patch) ** 2 if isinstance(patch, int) else None


def _as_patches(model: Any, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Cut a square image into the list of patches that SigLIP 2's models of any size take."""
    patch = model.config.vision_config.patch_size
    b, channels, side, _ = pixels.shape
    n = side // patch
    grid = pixels.reshape(b, channels, n, patch, n, patch).permute(0, 2, 4, 3, 5, 1)
    return {
        "pixel_values": grid.reshape(b, n * n, patch * patch * channels),
        "pixel_attention_mask": torch.ones(b, n * n, dtype=torch.int32, device=pixels.device),
        "spatial_shapes": torch.full((b, 2), n, dtype=torch.int64, device=pixels.device),
    }


def _has_no(model: Any, name: str) -> ImageherdError:
    what = {"cls": "class token", "pooled": "pooling of its own"}[name]
    return ImageherdError(
        f"A {model.config.model_type} model has no {what}; choose the output "
        f"{default_output(model)}."
    )
