"""A tiny model of every family, with random weights, saved as the hub has them."""

import torch
import transformers

SIDE = 32
TOWER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": SIDE,
    "patch_size": 8,
}
TEXT = {**TOWER, "vocab_size": 50, "max_position_embeddings": 8, "projection_size": 16}
SQUARE = {"height": SIDE, "width": SIDE}
STAGES = {"hidden_sizes": [4, 4, 8, 8], "depths": [1, 1, 1, 1]}
# DINOv2's positions are those of a larger image than its processor makes, and are interpolated.
LARGER = {**TOWER, "image_size": 72}
REGISTERS = {"num_register_tokens": 3}

VIT = (transformers.ViTImageProcessorPil, {"size": SQUARE, "resample": 2})
BIT = (
    transformers.BitImageProcessorPil,
    {"size": {"shortest_edge": 40}, "crop_size": SQUARE, "resample": 3},
)
CLIP = (
    transformers.CLIPImageProcessorPil,
    {"size": {"shortest_edge": SIDE}, "crop_size": SQUARE},
)
SIGLIP = (transformers.SiglipImageProcessorPil, {"size": SQUARE})
CONVNEXT = (
    transformers.ConvNextImageProcessorPil,
    {"size": {"shortest_edge": SIDE}, "crop_pct": 0.8},
)
# The processor of DINOv3 itself cannot be made without torchvision; its file is written by hand.
SIGLIP2 = (transformers.Siglip2ImageProcessorPil, {"patch_size": 8, "max_num_patches": 16})

# Model class, config, processor class and settings.
FAMILIES = {
    "dino": (
        lambda: transformers.ViTModel(transformers.ViTConfig(**TOWER), add_pooling_layer=False),
        VIT,
    ),
    "vit": (lambda: transformers.ViTModel(transformers.ViTConfig(**TOWER)), VIT),
    "dinov2": (lambda: transformers.Dinov2Model(transformers.Dinov2Config(**LARGER)), BIT),
    "dinov2_with_registers": (
        lambda: transformers.Dinov2WithRegistersModel(
            transformers.Dinov2WithRegistersConfig(**LARGER, **REGISTERS)
        ),
        BIT,
    ),
    "dinov3_vit": (
        lambda: transformers.DINOv3ViTModel(transformers.DINOv3ViTConfig(**TOWER, **REGISTERS)),
        VIT,
    ),
    "dinov3_convnext": (
        lambda: transformers.DINOv3ConvNextModel(transformers.DINOv3ConvNextConfig(**STAGES)),
        VIT,
    ),
    "clip": (
        lambda: transformers.CLIPModel(
            transformers.CLIPConfig(
                text_config={**TEXT, "bos_token_id": 0, "eos_token_id": 1},
                vision_config=TOWER,
                projection_dim=12,
            )
        ),
        CLIP,
    ),
    "siglip": (
        lambda: transformers.SiglipModel(
            transformers.SiglipConfig(
                text_config={**TEXT, "bos_token_id": 0, "eos_token_id": 1}, vision_config=TOWER
            )
        ),
        SIGLIP,
    ),
    "siglip2": (
        lambda: transformers.Siglip2Model(
            transformers.Siglip2Config(
                text_config={**TEXT, "bos_token_id": 0, "eos_token_id": 1},
                vision_config={**TOWER, "num_patches": 16},
            )
        ),
        SIGLIP2,
    ),
    "vit_mae": (lambda: transformers.ViTMAEModel(transformers.ViTMAEConfig(**TOWER)), VIT),
    "vit_msn": (lambda: transformers.ViTMSNModel(transformers.ViTMSNConfig(**TOWER)), VIT),
    "deit": (lambda: transformers.DeiTModel(transformers.DeiTConfig(**TOWER)), VIT),
    "convnext": (
        lambda: transformers.ConvNextModel(
            transformers.ConvNextConfig(**STAGES, layer_scale_init_value=1.0)
        ),
        CONVNEXT,
    ),
}


def save_family(folder, family, *, seed=0):
    """Save a model with random weights and its processor; return the model."""
    make, (processor, settings) = FAMILIES[family]
    torch.manual_seed(seed)
    model = make().eval()
    model.save_pretrained(folder)
    processor(**settings).save_pretrained(folder)
    return model
