"""Randomly initialised CLIP and SigLIP models of a few thousand weights, with real tokenizers.

The default seeds give images and texts cosines above 0, as trained models do.
"""

from pathlib import Path

import tokenizers
import torch
import transformers

SIDE, LENGTH = 32, 12
TOWER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
VISION = {**TOWER, "image_size": SIDE, "patch_size": 8}
TEXT = {**TOWER, "max_position_embeddings": LENGTH}
MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]


def save_clip(folder: Path, *, seed: int = 1) -> Path:
    """Save a CLIP whose tokenizer spells every word; returns the folder."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    words = [start, end, *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = transformers.CLIPTokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=LENGTH
    )
    text = {**TEXT, "vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 1}
    torch.manual_seed(seed)
    model = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=12)
    )
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=MEAN,
        image_std=STD,
    )
    return _save(folder, model, tokenizer, processor)


def save_siglip(folder: Path, *, seed: int = 0) -> Path:
    """Save a SigLIP whose tokenizer knows a dozen words; returns the folder."""
    words = ["</s>", "<unk>", "a", "photo", "of", "cat", "dog", "red", "shoe", "hat"]
    ids = {word: i for i, word in enumerate(words)}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="<unk>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 0)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="</s>", eos_token="</s>", unk_token="<unk>"
    )
    text = {**TEXT, "vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 0}
    torch.manual_seed(seed)
    model = transformers.SiglipModel(
        transformers.SiglipConfig(text_config=text, vision_config=VISION)
    )
    processor = transformers.SiglipImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, image_mean=MEAN, image_std=STD
    )
    return _save(folder, model, tokenizer, processor)


def _save(folder, model, tokenizer, processor) -> Path:
    for part in (model.eval(), tokenizer, processor):
        part.save_pretrained(folder)
    return folder
