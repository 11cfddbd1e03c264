"""Texts to vectors, in the space where a CLIP, SigLIP or kindred model has its images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from imageherd.backbones import Backbone, load_backbone
from imageherd.backbones.base import BATCH_SIZE, files_sha256
from imageherd.backbones.hub import TIMEOUT_SECONDS, find_model
from imageherd.backbones.huggingface import quiet
from imageherd.backbones.outputs import IMAGE_EMBEDDING, vector
from imageherd.backbones.spec import parse_spec
from imageherd.backbones.torch_backbone import TorchBackbone
from imageherd.errors import ImageherdError
from imageherd.progress import progress

TOKENIZER = "tokenizer.json"
TOKENIZER_FILES = (
    *(TOKENIZER, "tokenizer_config.json", "special_tokens_map.json"),
    *("vocab.json", "merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model"),
)
# CLIP's own length; the models that could read on are given names and short sentences too.
LONGEST = 77


def text_features(model: str, texts: Sequence[str], *, device: str = "auto") -> NDArray[np.float32]:
    """Load a model by name and turn texts into vectors; see `encode_texts`.

    Parameters
    ----------
    model : str
        A hub name such as "openai/clip-vit-base-patch32", or a folder; see `load_backbone`.
    texts : sequence of str
        Any number, as they are: no prompt is put around them.
    device : {"auto", "cpu", "cuda", "cuda:N", "mps"}, default="auto"
        Where it runs.
    """
    return encode_texts(load_backbone(model, device=device), texts)


def encode_texts(backbone: Backbone, texts: Sequence[str]) -> NDArray[np.float32]:
    """Turn texts into vectors that can be compared with the backbone's features by cosine.

    Texts run in batches of 32, each padded to the model's own length, so that a text's vector
    depends on the others by rounding only. A text too long for the model loses its end.

    Parameters
    ----------
    backbone : Backbone
        A model of images and texts, as `load_backbone` gives it.
    texts : sequence of str
        Any number, as they are.

    Returns
    -------
    ndarray of float32, shape (m, d)
        Not normalised, as the features of images are not.

    Raises
    ------
    ImageherdError
        If the backbone has no side for texts, or its tokenizer cannot be had.
    """
    backbone = _two_sided(backbone)
    model: Any = backbone.model
    tokenizer = _tokenizer(backbone.name, _with_tokenizer(backbone.place))
    siglip = model.config.model_type.startswith("siglip")
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", LONGEST)
    out = np.empty((len(texts), backbone.dim), dtype=np.float32)
    with progress("Reading texts", len(texts), "texts") as advance:
        for start in range(0, len(texts), BATCH_SIZE):
            batch = list(texts[start : start + BATCH_SIZE])
            # SigLIP was trained on lower-case texts with their padding in plain sight: no mask.
            tokens = tokenizer(
                [text.lower() for text in batch] if siglip else batch,
                padding="max_length",
                max_length=min(LONGEST, positions),
                truncation=True,
                return_attention_mask=not siglip,
                return_token_type_ids=False,
                return_tensors="pt",
            ).to(model.device)
            with torch.inference_mode():
                found = vector(model.get_text_features(**tokens))
            out[start : start + len(batch)] = found.float().cpu().numpy()
            advance(len(batch))
    return out


def text_identity(backbone: Backbone) -> dict[str, Any]:
    """Return all that the vectors of texts depend on but the texts: plain JSON values.

    Raises
    ------
    ImageherdError
        As `encode_texts`.
    """
    backbone = _two_sided(backbone)
    folder = _with_tokenizer(backbone.place)
    tokenizer = files_sha256(folder / file for file in TOKENIZER_FILES if (folder / file).is_file())
    same = {part: backbone.identity[part] for part in ("model", "revision", "weights", "dtype")}
    return {**same, "tokenizer": tokenizer}


def _two_sided(backbone: Backbone) -> TorchBackbone:
    """Return the backbone with its side for texts, or say why there is none."""
    spec = parse_spec(backbone.name)
    if spec.runtime != "torch":
        # The exported file holds the images' side only.
        backbone = load_backbone(spec.model, output=spec.output)
    if not isinstance(backbone, TorchBackbone) or not hasattr(backbone.model, "get_text_features"):
        raise ImageherdError(
            f"{backbone.name} reads no texts; give a model of images and texts, such as "
            "clip-vit-b32 or siglip2-base, by name or folder."
        )
    if backbone.identity["output"] != IMAGE_EMBEDDING:
        raise ImageherdError(
            f"{backbone.name} gives another output than the one that texts can be compared with, "
            "pooled; embed with that."
        )
    return backbone


def _with_tokenizer(name: str) -> Path:
    """Return the model's folder, after its tokenizer has been fetched if it was not there."""
    found = find_model(name)
    if found.revision is not None and not _has_tokenizer(found.folder):
        try:
            # A hub that does not answer would be tried for a minute and a half.
            huggingface_hub.HfApi().model_info(name, timeout=TIMEOUT_SECONDS)
            huggingface_hub.snapshot_download(
                name, revision=found.revision, allow_patterns=list(TOKENIZER_FILES)
            )
        except Exception as error:  # every HTTP library the hub's client has used has its own
            raise ImageherdError(
                f"The tokenizer of {name} is not on this machine and the Hugging Face hub cannot "
                f"be reached: run `hf download {name}` while there is a network."
            ) from error
    if not _has_tokenizer(found.folder):
        raise ImageherdError(
            f"{found.folder} has no tokenizer; copy {TOKENIZER} of the model it was made from "
            "into it."
        )
    return found.folder


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / file).is_file() for file in TOKENIZER_FILES)


def _tokenizer(name: str, folder: Path) -> Any:
    # The file says all there is to do; the classes that are named beside it may want more packages.
    whole = (folder / TOKENIZER).is_file()
    kind = transformers.PreTrainedTokenizerFast if whole else transformers.AutoTokenizer
    try:
        with quiet():
            tokenizer = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers and tokenizers raise all kinds
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ImageherdError(f"The tokenizer of {name} cannot be loaded: {first}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
