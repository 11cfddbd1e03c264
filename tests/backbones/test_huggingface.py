import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from pictures import picture
from PIL import Image

from imageherd.backbones import Preprocessing, load_backbone
from imageherd.backbones.torch_backbone import TorchBackbone
from imageherd.errors import ImageherdError

SIDE = 32
TRANSFORMER = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": SIDE,
    "patch_size": 8,
}
TEXT = {**TRANSFORMER, "vocab_size": 50, "max_position_embeddings": 8}
MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
SQUARE = {"height": SIDE, "width": SIDE}


def clip_config():
    return transformers.CLIPConfig(
        text_config={**TEXT, "eos_token_id": 1}, vision_config=TRANSFORMER, projection_dim=12
    )


def siglip_config():
    return transformers.SiglipConfig(text_config=TEXT, vision_config=TRANSFORMER)


def convnext_config():
    return transformers.ConvNextConfig(hidden_sizes=[4, 4, 8, 8], depths=[1, 1, 1, 1])


# Model class, config, processor of transformers, its settings, what stands for the image.
FAMILIES = {
    "vit": (
        transformers.ViTModel,
        lambda: transformers.ViTConfig(**TRANSFORMER),
        transformers.ViTImageProcessorPil,
        {"size": SQUARE, "resample": 2},
        ("cls", lambda model, x: model(x).last_hidden_state[:, 0]),
    ),
    "dinov2": (
        transformers.Dinov2Model,
        lambda: transformers.Dinov2Config(**TRANSFORMER),
        transformers.BitImageProcessorPil,
        {"size": {"shortest_edge": 40}, "crop_size": SQUARE, "resample": 3},
        ("cls", lambda model, x: model(x).pooler_output),
    ),
    "clip": (
        transformers.CLIPModel,
        clip_config,
        transformers.CLIPImageProcessorPil,
        {"size": {"shortest_edge": SIDE}, "crop_size": SQUARE},
        (
            "image_embedding",
            lambda model, x: model.visual_projection(model.vision_model(x).pooler_output),
        ),
    ),
    "siglip": (
        transformers.SiglipModel,
        siglip_config,
        transformers.SiglipImageProcessorPil,
        {"size": SQUARE},
        ("image_embedding", lambda model, x: model.vision_model(x).pooler_output),
    ),
    "convnext": (
        transformers.ConvNextModel,
        convnext_config,
        transformers.ConvNextImageProcessorPil,
        {"size": {"shortest_edge": SIDE}, "crop_pct": 0.8},
        ("pooled", lambda model, x: model(x).pooler_output),
    ),
    "resnet": (
        transformers.ResNetModel,
        lambda: transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1]
        ),
        transformers.ConvNextImageProcessorPil,
        {"size": {"shortest_edge": 48}},
        ("pooled", lambda model, x: model(x).pooler_output.flatten(1)),
    ),
    "pvt": (
        transformers.PvtModel,
        lambda: transformers.PvtConfig(
            image_size=SIDE, hidden_sizes=[8, 8, 8, 8], num_attention_heads=[1, 1, 1, 1]
        ),
        transformers.PvtImageProcessorPil,
        {"size": SQUARE},
        ("mean-patch", lambda model, x: model(x).last_hidden_state.mean(1)),
    ),
}


def save_model(folder, family, *, seed=0):
    """Save a randomly initialised model of the family with its processor; return both."""
    model_class, config, processor_class, settings, _ = FAMILIES[family]
    torch.manual_seed(seed)
    model = model_class(config()).eval()
    model.save_pretrained(folder)
    processor = processor_class(image_mean=MEAN, image_std=STD, **settings)
    processor.save_pretrained(folder)
    return model, processor


@pytest.mark.parametrize("family", FAMILIES)
def test_preprocessing_and_features_are_those_of_transformers(tmp_path, family):
    model, processor = save_model(tmp_path, family)
    output, expected = FAMILIES[family][-1]
    images = [picture(61, 47, seed) for seed in (1, 2)] + [picture(33, 90)]

    backbone = load_backbone(str(tmp_path), device="cpu")
    ours = np.stack([backbone.preprocessing.apply(image) for image in images])
    theirs = np.asarray(processor(images, return_tensors="np")["pixel_values"])
    assert ours == pytest.approx(theirs, abs=1e-5)

    features = backbone.embed(ours)["features"]
    with torch.no_grad():
        reference = expected(model, torch.from_numpy(theirs)).numpy()
    assert features == pytest.approx(reference, abs=1e-4)
    assert np.ptp(features, axis=0).max() > 1e-3
    assert (features.dtype, backbone.dim) == (np.float32, features.shape[1])
    assert (backbone.identity["output"], backbone.identity["dtype"]) == (output, "float32")


def test_a_row_does_not_depend_on_its_company(tmp_path):
    save_model(tmp_path, "vit")
    backbone = load_backbone(str(tmp_path), device="cpu")
    images = np.random.default_rng(0).normal(size=(40, 3, SIDE, SIDE)).astype(np.float32)
    together = backbone.embed(images)["features"]
    assert np.array_equal(backbone.embed(images[:1])["features"][0], together[0])
    assert np.array_equal(backbone.embed(images[32:])["features"], together[32:])


def test_the_key_follows_the_weights(tmp_path):
    keys = []
    for seed, place in [(0, "a"), (0, "b"), (1, "c")]:
        folder = tmp_path / place / "tiny"
        save_model(folder, "vit", seed=seed)
        keys.append(load_backbone(str(folder), device="cpu").key)
    assert keys[0] == keys[1] != keys[2]
    assert keys[0].startswith("tiny-")
    squash = load_backbone(str(tmp_path / "a/tiny"), device="cpu", preprocessing_mode="crop")
    assert squash.key != keys[0]


def test_weights_in_several_files(tmp_path):
    model, processor = save_model(tmp_path / "one", "vit")
    model.save_pretrained(tmp_path / "many", max_shard_size="10KB")
    processor.save_pretrained(tmp_path / "many")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    image = np.ones((1, 3, SIDE, SIDE), np.float32)
    one, many = (load_backbone(str(tmp_path / name), device="cpu") for name in ("one", "many"))
    assert np.array_equal(one.embed(image)["features"], many.embed(image)["features"])
    next((tmp_path / "many").glob("*.safetensors")).unlink()
    with pytest.raises(ImageherdError, match=r"not a whole model: model-0000.*is not there"):
        load_backbone(str(tmp_path / "many"), device="cpu")


def rewrite(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def truncate_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])


def forget_a_layer(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if "layernorm.weight" not in name}
    assert len(kept) < len(tensors)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def pickle_only(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "config.json").unlink(), "not a whole model: config.json"),
        (lambda f: (f / "model.safetensors").unlink(), "not a whole model: model.safetensors"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "holds no preprocessor_config"),
        (lambda f: (f / "preprocessor_config.json").write_text("{"), "not readable as JSON"),
        (lambda f: rewrite(f / "config.json", model_type="no_such"), "cannot load"),
        (lambda f: rewrite(f / "config.json", image_size=64), "cannot load|does not turn"),
        (
            lambda f: rewrite(f / "preprocessor_config.json", size={"height": 40, "width": 40}),
            "does not turn one 40 x 40 image",
        ),
        (truncate_weights, "cannot load"),
        (forget_a_layer, "no weights for .* partly random"),
        (pickle_only, "pickled"),
    ],
)
def test_a_damaged_model_is_explained(tmp_path, damage, says):
    save_model(tmp_path, "vit")
    damage(tmp_path)
    with pytest.raises(ImageherdError, match=says):
        load_backbone(str(tmp_path), device="cpu")


def test_weights_that_the_features_do_not_need_may_be_missing(tmp_path):
    # DINO's checkpoints have no pooler; transformers fills one in at random.
    torch.manual_seed(0)
    model = transformers.ViTModel(transformers.ViTConfig(**TRANSFORMER), add_pooling_layer=False)
    model.save_pretrained(tmp_path)
    processor = transformers.ViTImageProcessorPil(size=SQUARE)
    processor.save_pretrained(tmp_path)
    first, second = (load_backbone(str(tmp_path), device="cpu") for _ in range(2))
    image = processor.preprocess(Image.new("RGB", (9, 9)), return_tensors="np")["pixel_values"]
    image = np.asarray(image, dtype=np.float32)
    assert np.array_equal(first.embed(image)["features"], second.embed(image)["features"])


def test_a_model_that_answers_at_random_is_refused():
    config = transformers.ViTConfig(**TRANSFORMER, hidden_dropout_prob=0.5)
    model = transformers.ViTModel(config).train()
    with pytest.raises(ImageherdError, match="differently each time"):
        TorchBackbone(
            *(model, lambda x: model(x).last_hidden_state[:, 0], Preprocessing(SIDE, SIDE)),
            name="tiny",
            facts={"model": "tiny"},
        )


def test_code_that_comes_with_a_model_is_not_run(tmp_path):
    save_model(tmp_path, "vit")
    trap = tmp_path / "ran"
    (tmp_path / "modeling_x.py").write_text(f"open({str(trap)!r}, 'w')\n")
    (tmp_path / "configuration_x.py").write_text(f"open({str(trap)!r}, 'w')\n")
    auto_map = {"AutoConfig": "configuration_x.X", "AutoModel": "modeling_x.X"}
    rewrite(tmp_path / "config.json", model_type="unheard_of", auto_map=auto_map)
    with pytest.raises(ImageherdError, match="never run"):
        load_backbone(str(tmp_path), device="cpu")
    assert not trap.exists()


def run_in_a_fresh_process(code, cache, *arguments):
    """Run with a Hugging Face cache of its own, where the network leads nowhere."""
    environment = {
        **os.environ,
        "HF_HOME": str(cache),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "PYTHONWARNINGS": "default",
    }
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "TRANSFORMERS_OFFLINE"):
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


LOAD = """
import sys, time
from imageherd.backbones import Preprocessing, load_backbone
from imageherd.backbones.torch_backbone import TorchBackbone
from imageherd.errors import ImageherdError
start = time.monotonic()
try:
    print(load_backbone(sys.argv[1], device="cpu").identity["revision"])
except ImageherdError as error:
    print(error)
assert time.monotonic() - start < 40
"""


def test_offline_and_not_cached_is_one_sentence_that_helps(tmp_path):
    done = run_in_a_fresh_process(LOAD, tmp_path, "facebook/dinov2-small")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert "`hf download facebook/dinov2-small --local-dir dinov2-small`" in done.stdout
    assert "give its path instead of the name" in done.stdout


def test_a_cached_model_needs_no_network_and_makes_no_noise(tmp_path):
    save_model(tmp_path / "model", "dinov2")
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "cache/hub/models--someone--tiny"
    shutil.copytree(tmp_path / "model", repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(revision)
    done = run_in_a_fresh_process(LOAD, tmp_path / "cache", "someone/tiny")
    assert (done.stdout, done.stderr) == (f"{revision}\n", "")


def test_tests_leave_the_real_cache_alone():
    assert not (Path.home() / ".cache/huggingface/hub/models--someone--tiny").exists()
