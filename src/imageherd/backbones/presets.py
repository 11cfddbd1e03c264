"""Short names of well-known models, and what their makers published about them.

A preset's facts are a check and a fallback: a model's own ``preprocessor_config.json`` decides how
its images are prepared. The hub could not be asked while this table was written, so each entry says
where its preprocessing was read instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

NON_COMMERCIAL_CODE = "apache-2.0 (code: cc-by-nc-4.0)"
HUB = "https://huggingface.co"

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
OPENAI = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}

# A test holds this against `outputs.default_output`, which needs the model.
POOLED = ("clip", "convnext", "dinov3_convnext", "siglip")

# Where the published file was read: a public repository that quotes it or keeps a copy of it.
AUDIT = "a copy of the published file in github.com/hlky/dinoml_v2, agents/plans/transformers/"
ALIKE = "; taken to be the same for this size"
DINO_READ = (
    "the published file of dino-vits16 as printed in github.com/WuTao-CS/CustomCrafter, "
    "eval/eval_dino.py"
)
DINOV2_READ = (
    "the published file of dinov2-small quoted in github.com/espetro/dinov2.cpp, docs/superpowers/"
    "specs, and dinov2-base's as printed in transformers' tutorials"
)
DINOV3_READ = (
    "transformers' conversion script and defaults (the published file is gated); the same values "
    "stand in public code that checks the published file of dinov3-vits16"
)
LAION_READ = (
    "open_clip's pretrained.py, version 3.3.0, which names this repository; its "
    "preprocessor_config.json was not read"
)


class Preset(NamedTuple):
    """A model known by a short name.

    Attributes
    ----------
    repo : str
        Its name on the Hugging Face hub.
    family : str
        transformers' model type.
    dim : int
        Length of a feature vector of the default output.
    size : int
        Side of its input in pixels.
    megabytes : int
        Its weights on disk, in 10^6 bytes: float32 for all the parameters that transformers builds
        for its architecture (a text side or decoder that the features do not need included).
    licence : str
        Of the weights, as its model card says, to the best of our knowledge; where the makers' code
        is under narrower terms, those too.
    processor : dict
        The fields of its ``preprocessor_config.json`` that matter.
    evidence : str
        Where those were read.
    gated : bool
        Whether its makers must be asked for access.
    """

    repo: str
    family: str
    dim: int
    size: int
    megabytes: int
    licence: str
    processor: Mapping[str, Any]
    evidence: str
    gated: bool = False

    @property
    def url(self) -> str:
        """Its model card."""
        return f"{HUB}/{self.repo}"

    @property
    def output(self) -> str:
        """What stands for an image where nothing else is asked for."""
        return "pooled" if self.family in POOLED else "cls"

    @property
    def config_url(self) -> str:
        """What its makers say about its input."""
        return f"{self.url}/blob/main/preprocessor_config.json"


def _vit(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {"feature_extractor_type": "ViTFeatureExtractor", "size": 224, "resample": 2, **numbers}


def _clip(size: int, numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "feature_extractor_type": "CLIPFeatureExtractor",
        **{"size": size, "crop_size": size, "do_center_crop": True, "resample": 3},
        **numbers,
    }


def _siglip2(size: int) -> dict[str, Any]:
    square = {"height": size, "width": size}
    return {"image_processor_type": "SiglipImageProcessor", "size": square, "resample": 2, **HALF}


BIT = {
    "image_processor_type": "BitImageProcessor",
    **{"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}},
    **{"do_center_crop": True, "resample": 3},
    **IMAGENET,
}
CONVNEXT = {
    "feature_extractor_type": "ConvNextFeatureExtractor",
    **{"size": 224, "crop_pct": 0.875, "resample": 3},
    **IMAGENET,
}
DINOV3 = {
    "image_processor_type": "DINOv3ViTImageProcessorFast",
    **{"size": {"height": 224, "width": 224}, "resample": 2},
    **{"crop_size": None, "do_center_crop": None},
    **IMAGENET,
}


def _dino() -> dict[str, Preset]:
    sizes = {"vits16": (384, 87), "vits8": (384, 87), "vitb16": (768, 343), "vitb8": (768, 343)}
    return {
        f"dino-{size}": Preset(
            *(f"facebook/dino-{size}", "vit", dim, 224, megabytes, "apache-2.0", _vit(IMAGENET)),
            DINO_READ + ("" if size == "vits16" else ALIKE),
        )
        for size, (dim, megabytes) in sizes.items()
    }


def _dinov2() -> dict[str, Preset]:
    presets = {}
    sizes = {"small": (384, 88), "base": (768, 346), "large": (1024, 1217), "giant": (1536, 4546)}
    for size, (dim, megabytes) in sizes.items():
        rest = (dim, 224, megabytes, "apache-2.0", BIT)
        plain = DINOV2_READ + ("" if size in ("small", "base") else ALIKE)
        presets[f"dinov2-{size}"] = Preset(f"facebook/dinov2-{size}", "dinov2", *rest, plain)
        presets[f"dinov2-{size}-reg"] = Preset(
            *(f"facebook/dinov2-with-registers-{size}", "dinov2_with_registers", *rest),
            f"{AUDIT}dinov2_with_registers/report.md",
        )
    return presets


def _dinov3() -> dict[str, Preset]:
    sizes = {
        **{"vits16": (384, 86), "vits16plus": (384, 115), "vitb16": (768, 343)},
        **{"vitl16": (1024, 1213), "vith16plus": (1280, 3362)},
        **{"convnext-tiny": (768, 111), "convnext-small": (768, 198)},
        **{"convnext-base": (1024, 350), "convnext-large": (1536, 785)},
    }
    return {
        f"dinov3-{size}": Preset(
            f"facebook/dinov3-{size}-pretrain-lvd1689m",
            "dinov3_convnext" if "convnext" in size else "dinov3_vit",
            *(dim, 224, megabytes, "dinov3-license", DINOV3, DINOV3_READ),
            gated=True,
        )
        for size, (dim, megabytes) in sizes.items()
    }


def _clips() -> dict[str, Preset]:
    openai = {
        "b32": ("base-patch32", 512, 224, 605),
        "b16": ("base-patch16", 512, 224, 598),
        "l14": ("large-patch14", 768, 224, 1711),
        "l14-336": ("large-patch14-336", 768, 336, 1712),
    }
    laion = {
        "b32": ("CLIP-ViT-B-32-laion2B-s34B-b79K", 512, 605, OPENAI),
        "b16": ("CLIP-ViT-B-16-laion2B-s34B-b88K", 512, 598, OPENAI),
        # The one of the three that was trained on pixels from -1 to 1.
        "l14": ("CLIP-ViT-L-14-laion2B-s32B-b82K", 768, 1711, HALF),
    }
    presets = {
        f"clip-vit-{size}": Preset(
            *(
                f"openai/clip-vit-{repo}",
                "clip",
                dim,
                side,
                megabytes,
                "not stated (code: mit)",
            ),
            *(_clip(side, OPENAI), f"{AUDIT}clip/report.md"),
        )
        for size, (repo, dim, side, megabytes) in openai.items()
    }
    return presets | {
        f"clip-vit-{size}-laion2b": Preset(
            *(f"laion/{repo}", "clip", dim, 224, megabytes, "mit"),
            *(_clip(224, numbers), LAION_READ),
        )
        for size, (repo, dim, megabytes, numbers) in laion.items()
    }


def _siglip2s() -> dict[str, Preset]:
    read = f"{AUDIT}siglip2/_sources (siglip2-large-patch16-512){ALIKE}"
    sizes = {
        "base": ("base-patch16-224", 768, 224, 1501),
        "large": ("large-patch16-256", 1024, 256, 3526),
        "so400m": ("so400m-patch14-384", 1152, 384, 4544),
    }
    return {
        f"siglip2-{size}": Preset(
            *(f"google/siglip2-{repo}", "siglip", dim, side, megabytes, "apache-2.0"),
            *(_siglip2(side), read),
        )
        for size, (repo, dim, side, megabytes) in sizes.items()
    }


def _masked() -> dict[str, Preset]:
    mae = {"base": (768, 448), "large": (1024, 1318), "huge": (1280, 2628)}
    msn = {"small": (384, 87), "base": (768, 343), "large": (1024, 1213)}
    return {
        f"mae-{size}": Preset(
            *(f"facebook/vit-mae-{size}", "vit_mae", dim, 224, megabytes, NON_COMMERCIAL_CODE),
            *(_vit(IMAGENET), f"{AUDIT}vit_mae/report.md"),
        )
        for size, (dim, megabytes) in mae.items()
    } | {
        f"msn-{size}": Preset(
            *(f"facebook/vit-msn-{size}", "vit_msn", dim, 224, megabytes, NON_COMMERCIAL_CODE),
            *(_vit(IMAGENET), f"{AUDIT}vit_msn/config_sweep.json"),
        )
        for size, (dim, megabytes) in msn.items()
    }


def _supervised() -> dict[str, Preset]:
    vit_read = f"{AUDIT}vit/report.md, and transformers' documentation"
    vit = {
        "base": ("base-patch16-224", 768, 346),
        "base-in21k": ("base-patch16-224-in21k", 768, 346),
        "large": ("large-patch16-224", 1024, 1217),
        "large-in21k": ("large-patch16-224-in21k", 1024, 1217),
    }
    convnext = {"tiny": (768, 114), "small": (768, 201), "base": (1024, 354), "large": (1536, 791)}
    return {
        f"vit-{size}": Preset(
            *(f"google/vit-{repo}", "vit", dim, 224, megabytes, "apache-2.0", _vit(HALF)),
            vit_read + (ALIKE if size == "large-in21k" else ""),
        )
        for size, (repo, dim, megabytes) in vit.items()
    } | {
        f"convnext-{size}": Preset(
            *(f"facebook/convnext-{size}-224", "convnext", dim, 224, megabytes, "apache-2.0"),
            *(CONVNEXT, f"{AUDIT}convnext/report.md"),
        )
        for size, (dim, megabytes) in convnext.items()
    }


PRESETS: dict[str, Preset] = {
    **_dino(),
    **_dinov2(),
    **_dinov3(),
    **_clips(),
    **_siglip2s(),
    **_masked(),
    **_supervised(),
}


def preset_of(name: str) -> Preset | None:
    """Find the preset that a short name, a hub name or a folder called like either stands for."""
    if name in PRESETS:
        return PRESETS[name]
    folder = Path(name).name
    for short, preset in PRESETS.items():
        if name == preset.repo or folder in (short, preset.repo.split("/")[-1]):
            return preset
    return None
