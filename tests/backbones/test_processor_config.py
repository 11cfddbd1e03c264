import json

import pytest
import transformers

from imageherd.backbones.preprocess import Preprocessing
from imageherd.backbones.processor_config import KINDS, parse_preprocessing, read_preprocessing
from imageherd.errors import ImageherdError

NUMBERS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.5]}
MEAN, STD = (127.5, 102.0, 76.5), (51.0, 63.75, 127.5)


def parsed(**values):
    return parse_preprocessing({**NUMBERS, **values})


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"DINOv3ViT"}))
def test_what_is_left_out_is_as_in_transformers(name):
    processor = getattr(transformers, f"{name}ImageProcessorPil")
    assert KINDS[name].square == processor.default_to_square
    assert KINDS[name].resample == processor.resample
    assert KINDS[name].center_crop == bool(getattr(processor, "do_center_crop", None))


# The files as the hub has them, the old ones with sizes as plain numbers.
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {
                "feature_extractor_type": "CLIPFeatureExtractor",
                "crop_size": 224,
                "do_center_crop": True,
                "resample": 3,
                "size": 224,
            },
            Preprocessing(224, 224, "crop", "bicubic", MEAN, STD),
        ),
        (
            {"feature_extractor_type": "ViTFeatureExtractor", "resample": 2, "size": 224},
            Preprocessing(224, 224, "squash", "bilinear", MEAN, STD),
        ),
        (
            {"image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224}},
            Preprocessing(224, 224, "squash", "bilinear", MEAN, STD),
        ),
        (
            {
                "image_processor_type": "BitImageProcessor",
                "size": {"shortest_edge": 256},
                "crop_size": {"height": 224, "width": 224},
                "do_center_crop": True,
                "resample": 3,
            },
            Preprocessing(224, 256, "crop", "bicubic", MEAN, STD),
        ),
        (
            {
                "image_processor_type": "DINOv3ViTImageProcessorFast",
                "size": {"height": 224, "width": 224},
                "crop_size": None,
                "do_center_crop": None,
                "resample": 2,
            },
            Preprocessing(224, 224, "squash", "bilinear", MEAN, STD),
        ),
        (
            {"feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 0.875, "size": 224},
            Preprocessing(224, 256, "crop", "bicubic", MEAN, STD),
        ),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}},
            Preprocessing(384, 384, "squash", "bicubic", MEAN, STD),
        ),
        (
            {
                "image_processor_type": "DeiTImageProcessor",
                "size": 256,
                "crop_size": 224,
                "resample": 3,
            },
            Preprocessing(224, 256, "squash", "bicubic", MEAN, STD),
        ),
        (
            {
                "image_processor_type": "SiglipImageProcessor",
                "size": {"height": 384, "width": 384},
            },
            Preprocessing(384, 384, "squash", "bicubic", MEAN, STD),
        ),
        (
            {
                "image_processor_type": "CLIPImageProcessor",
                "size": {"shortest_edge": 224},
                "do_center_crop": False,
            },
            Preprocessing(224, 224, "squash", "bicubic", MEAN, STD),
        ),
    ],
)
def test_files_of_the_hub(values, expected):
    got = parsed(**values)
    assert got.mean == pytest.approx(expected.mean)
    assert got.std == pytest.approx(expected.std)
    fields = ("size", "resize", "mode", "interpolation")
    assert all(getattr(got, field) == getattr(expected, field) for field in fields)


def test_rescale_and_normalise_can_be_off():
    vit = {"image_processor_type": "ViTImageProcessor", "size": 8}
    assert parsed(**vit, do_normalize=False).std == pytest.approx((255, 255, 255))
    assert parsed(**vit, do_rescale=False).mean == (0.5, 0.4, 0.3)
    assert parsed(**vit, rescale_factor=1 / 127.5).mean == pytest.approx((63.75, 51, 38.25))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image_processor_type": "PoolFormerImageProcessor"}, "PoolFormerImageProcessor"),
        ({"image_processor_type": None}, r"processor \?"),
        ({"do_resize": False}, "do_resize"),
        ({"do_pad": True}, "do_pad"),
        ({"size": {"height": 224, "width": 196}}, "not square"),
        ({"size": {"shortest_edge": 224, "longest_edge": 500}}, "longest_edge"),
        ({"size": None}, "size=None"),
        ({"size": {"shortest_edge": "224"}}, "'224'"),
        ({"resample": 9}, "resample=9"),
        ({"image_mean": [0.5]}, "image_mean"),
        ({"image_std": None}, "image_std"),
        ({"do_center_crop": True, "crop_size": None}, "crop_size=None"),
        ({"do_center_crop": True, "crop_size": 300}, "resize=224"),
    ],
)
def test_other_steps_are_refused_by_name(change, says):
    with pytest.raises(ImageherdError, match=says):
        parsed(**{"image_processor_type": "ViTImageProcessor", "size": 224, **change})


def test_the_combined_file_of_a_model_of_images_and_texts(tmp_path):
    inner = {**NUMBERS, "image_processor_type": "CLIPImageProcessorFast", "size": 8, "crop_size": 8}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": inner}))
    assert read_preprocessing(tmp_path).size == 8
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "CLIP"}))
    with pytest.raises(ImageherdError, match="holds no preprocessor_config"):
        read_preprocessing(tmp_path)
