import json

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from test_huggingface import run_in_a_fresh_process, save_model
from tiny_clip import LENGTH, save_clip, save_siglip

from imageherd.backbones import load_backbone
from imageherd.backbones.text import encode_texts, text_features, text_identity
from imageherd.errors import ImageherdError

TEXTS = ["a photo of a cat", "a photo of a dog", "Red shoe", "hat", "a b c d e f g h i j k l m n"]


def test_clip_texts_are_those_of_transformers(tmp_path):
    folder = save_clip(tmp_path)
    model = transformers.CLIPModel.from_pretrained(folder)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
    inputs = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        expected = model.get_text_features(**inputs).pooler_output.numpy()
    found = text_features(str(folder), TEXTS, device="cpu")
    assert found == pytest.approx(expected, abs=1e-5)
    assert (found.dtype, found.shape) == (np.float32, (5, 12))
    assert np.ptp(found, axis=0).min() > 1e-3


def test_siglip_sees_its_padding_and_small_letters(tmp_path):
    folder = save_siglip(tmp_path)
    model = transformers.SiglipModel.from_pretrained(folder)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    inputs = tokenizer(
        [text.lower() for text in TEXTS],
        padding="max_length",
        max_length=LENGTH,
        truncation=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        expected = model.get_text_features(input_ids=inputs["input_ids"]).pooler_output.numpy()
        masked = model.get_text_features(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).pooler_output.numpy()
    found = text_features(str(folder), TEXTS, device="cpu")
    assert found == pytest.approx(expected, abs=1e-5)
    assert found != pytest.approx(masked, abs=1e-3)


def test_a_tokenizer_class_that_wants_another_package_is_not_needed(tmp_path):
    folder = save_siglip(tmp_path)
    before = text_features(str(folder), TEXTS, device="cpu")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "tokenizer_class": "SiglipTokenizer"}))
    assert np.array_equal(text_features(str(folder), TEXTS, device="cpu"), before)


def test_a_text_depends_on_its_company_by_rounding_only(tmp_path):
    backbone = load_backbone(str(save_clip(tmp_path)), device="cpu")
    texts = [f"{a}{b}" for a in "abcdefg" for b in "hijklm"]
    together = encode_texts(backbone, texts)
    apart = np.concatenate([encode_texts(backbone, [text]) for text in texts])
    assert len(texts) > backbone.batch_size
    assert together == pytest.approx(apart, abs=1e-6)
    assert encode_texts(backbone, []).shape == (0, 12)


def test_the_identity_follows_weights_and_tokenizer(tmp_path):
    def identity(folder):
        return text_identity(load_backbone(str(folder), device="cpu"))

    folders = [
        save_clip(tmp_path / place / "tiny", seed=seed) for place, seed in ["a0", "b0", "c1"]
    ]
    one, same, other = map(identity, folders)
    assert one == same != other
    with (folders[1] / "tokenizer.json").open("a") as file:
        file.write("\n")
    assert identity(folders[1]) != one


def drop_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (drop_tokenizer, "has no tokenizer; copy tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot be loaded"),
    ],
)
def test_a_damaged_tokenizer_is_explained(tmp_path, damage, says):
    damage(save_clip(tmp_path))
    with pytest.raises(ImageherdError, match=says):
        text_features(str(tmp_path), TEXTS, device="cpu")


def test_a_model_without_a_side_for_texts_is_refused(tmp_path):
    save_model(tmp_path, "vit")
    for name in (str(tmp_path), "efficientnet-lite0"):
        with pytest.raises(ImageherdError, match="reads no texts; give a model of images and"):
            text_features(name, TEXTS, device="cpu")


READ = """
import sys
from imageherd.backbones.text import text_features
print(text_features(sys.argv[1], ["a cat"], device="cpu").shape)
"""


def put_in_a_cache(cache):
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = cache / "models--someone--tiny"
    folder = save_clip(repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(revision)
    return folder


def test_a_cached_model_needs_no_network_and_makes_no_noise(tmp_path):
    put_in_a_cache(tmp_path / "hub")
    done = run_in_a_fresh_process(READ, tmp_path, "someone/tiny")
    assert (done.stdout, done.stderr) == ("(1, 12)\n", "")


def test_a_tokenizer_that_is_neither_here_nor_to_be_had_is_one_sentence(tmp_path, monkeypatch):
    drop_tokenizer(put_in_a_cache(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ImageherdError, match="tokenizer of someone/tiny is not on this machine"):
        text_features("someone/tiny", ["a cat"], device="cpu")


def test_texts_are_compared_with_the_pooled_output_only(tmp_path):
    folder = save_clip(tmp_path)
    with pytest.raises(ImageherdError, match="another output than the one that texts"):
        encode_texts(load_backbone(str(folder), device="cpu", output="cls"), TEXTS)


def test_texts_beside_images_that_onnx_runtime_embedded(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEHERD_CACHE", str(tmp_path / "cache"))
    folder = save_clip(tmp_path)
    exported = load_backbone(str(folder), device="cpu", runtime="onnx")
    found = encode_texts(exported, TEXTS)
    assert np.array_equal(found, text_features(str(folder), TEXTS, device="cpu"))
    assert text_identity(exported) == text_identity(load_backbone(str(folder), device="cpu"))
