"""Every family that has a preset: saved, loaded with the network off, embedded, each output."""

import socket

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from tiny_families import FAMILIES, SIDE, save_family

from imageherd.backbones import load_backbone
from imageherd.backbones.outputs import choose_output
from imageherd.backbones.presets import PRESETS
from imageherd.errors import ImageherdError

SIXTEEN_PATCHES = (SIDE // 8) ** 2


@pytest.fixture(autouse=True)
def _network_off(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def pixels(n=3):
    return torch.from_numpy(
        np.random.default_rng(0).normal(size=(n, 3, SIDE, SIDE)).astype(np.float32)
    )


def tokens(model, x, before):
    """The last hidden state, parted into the class token and the patches."""
    hidden = model(pixel_values=x).last_hidden_state
    assert hidden.shape[1] == before + SIXTEEN_PATCHES
    return hidden[:, 0], hidden[:, before:].mean(1)


def of_a_vit(before):
    return {
        "cls": lambda m, x: tokens(m, x, before)[0],
        "mean-patch": lambda m, x: tokens(m, x, before)[1],
        "mean-patch+cls": lambda m, x: torch.cat(tokens(m, x, before)[::-1], dim=1),
    }


def unmasked(model, x):
    """A masked autoencoder's hidden state without its masking: its layers, one after the other."""
    hidden = model.embeddings.patch_embeddings(x) + model.embeddings.position_embeddings[:, 1:]
    first = model.embeddings.cls_token + model.embeddings.position_embeddings[:, :1]
    hidden = torch.cat([first.expand(len(x), -1, -1), hidden], dim=1)
    for layer in model.layers:
        hidden = layer(hidden)
    return model.layernorm(hidden)


def patches_of(model, x):
    """What SigLIP 2's own processor makes of square images that need no resizing."""
    processor = transformers.Siglip2ImageProcessorPil(
        patch_size=8, max_num_patches=16, do_rescale=False, do_normalize=False, do_resize=False
    )
    made = [processor(images=[image.numpy()], return_tensors="pt") for image in x]
    joined = {key: torch.cat([m[key] for m in made]) for key in made[0]}
    return model.get_image_features(**joined)


POOLED = {"pooled": lambda m, x: m(pixel_values=x).pooler_output}
MAP = {"mean-patch": lambda m, x: m(pixel_values=x).last_hidden_state.mean((2, 3))}
# What each output must be, by a direct call of transformers; the first is the default.
EXPECTED = {
    "dino": of_a_vit(1),
    "vit": {**of_a_vit(1), **POOLED},
    "vit_msn": of_a_vit(1),
    "dinov2": {**of_a_vit(1), **POOLED},
    "dinov2_with_registers": {**of_a_vit(4), **POOLED},
    "dinov3_vit": {**of_a_vit(4), **POOLED},
    "deit": of_a_vit(2),
    "vit_mae": {
        "cls": lambda m, x: unmasked(m, x)[:, 0],
        "mean-patch": lambda m, x: unmasked(m, x)[:, 1:].mean(1),
    },
    "clip": {
        "pooled": lambda m, x: m.visual_projection(m.vision_model(x).pooler_output),
        "cls": lambda m, x: m.vision_model(x).pooler_output,
        "mean-patch": lambda m, x: m.vision_model(x).last_hidden_state[:, 1:].mean(1),
    },
    "siglip": {
        "pooled": lambda m, x: m.vision_model(x).pooler_output,
        "mean-patch": lambda m, x: m.vision_model(x).last_hidden_state.mean(1),
    },
    "siglip2": {
        "pooled": lambda m, x: patches_of(m, x).pooler_output,
        "mean-patch": lambda m, x: patches_of(m, x).last_hidden_state.mean(1),
    },
    "convnext": {**POOLED, **MAP},
    "dinov3_convnext": {
        **POOLED,
        "mean-patch": lambda m, x: m.layer_norm(m.model(x).last_hidden_state.flatten(2).mT).mean(1),
    },
}
WITHOUT_CLASS_TOKEN = ("siglip", "siglip2", "convnext", "dinov3_convnext")


@pytest.mark.parametrize("family", FAMILIES)
def test_each_output_is_what_transformers_gives(tmp_path, family):
    model = save_family(tmp_path / "tiny", family)
    expected, x = EXPECTED[family], pixels()
    backbone = load_backbone(str(tmp_path / "tiny"), device="cpu")
    assert backbone.preprocessing.size == SIDE
    two_sided = family in ("clip", "siglip", "siglip2")
    known_as = "image_embedding" if two_sided else next(iter(expected))
    assert backbone.identity["output"] == known_as
    for output, direct in expected.items():
        # The loaded model and the output asked for, as a backbone embeds with them.
        backbone.extract = choose_output(backbone.model, output)[1]
        features = backbone.embed(x.numpy())["features"]
        with torch.no_grad():
            reference = direct(model, x).numpy()
        assert features == pytest.approx(reference, abs=2e-5)
        assert np.ptp(features, axis=0).max() > 1e-3


@pytest.mark.parametrize("family", WITHOUT_CLASS_TOKEN)
def test_a_class_token_is_not_made_up(tmp_path, family):
    save_family(tmp_path, family)
    with pytest.raises(ImageherdError, match="no class token; choose the output pooled"):
        load_backbone(str(tmp_path), device="cpu", output="pooled+cls")


def test_the_pooled_vector_before_a_map_is_no_patch(tmp_path):
    model = save_family(tmp_path, "dinov3_convnext")
    large = torch.nn.functional.interpolate(pixels(), size=(3 * 32, 3 * 32))
    _, extract = choose_output(model, "mean-patch")
    with torch.no_grad():
        expected = model.layer_norm(model.model(large).last_hidden_state.flatten(2).mT).mean(1)
        assert extract(large).numpy() == pytest.approx(expected.numpy(), abs=1e-5)


def test_a_pooling_without_weights_is_refused(tmp_path):
    save_family(tmp_path, "dino")
    with pytest.raises(ImageherdError, match="pooled features would be partly random"):
        load_backbone(str(tmp_path), device="cpu", output="pooled")


def test_presets_name_the_default_output_of_their_family():
    for name, preset in PRESETS.items():
        assert preset.output == next(iter(EXPECTED[preset.family])), name


def test_names_may_carry_the_output(tmp_path):
    save_family(tmp_path / "tiny", "dinov2_with_registers")
    whole = f"{tmp_path / 'tiny'},output=cls+mean-patch"
    backbone = load_backbone(whole, device="cpu")
    assert (backbone.name, backbone.dim) == (whole, 32)
    apart = load_backbone(str(tmp_path / "tiny"), device="cpu", output="cls+mean-patch")
    assert (apart.name, apart.key) == (whole, backbone.key)
    others = (load_backbone(str(tmp_path / "tiny"), device="cpu", output=o) for o in ("cls", None))
    cls, default = (other.key for other in others)
    assert cls == default != backbone.key
