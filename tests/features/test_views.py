"""Augmented views: drawn by content and number alone, stored and taken up again like features."""

import hashlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from feature_fakes import PART_ROWS, FakeBackbone, World, killed_at
from imageherd.backbones.preprocess import Preprocessing
from imageherd.errors import ImageherdError
from imageherd.features import views
from imageherd.features.store import FeatureSet
from imageherd.features.views import (
    Augmentation,
    augmentation,
    embed_views,
    read_views,
    view_name,
    view_pixels,
    view_sets,
)
from imageherd.images.decode import decode

SIDE = 32
PLACE = st.floats(0, 1, exclude_max=True)
PREPROCESSING = Preprocessing(size=SIDE, resize=36)


class Seeing(FakeBackbone):
    """A random projection of pictures large enough to be cropped and blurred."""

    def __init__(self, batch_size=3):
        super().__init__(batch_size=batch_size)
        self.preprocessing = PREPROCESSING
        rng = np.random.default_rng(1)
        self.weights = rng.normal(size=(3 * SIDE * SIDE, self.dim)).astype(np.float32)


def photograph(number, size=(60, 44)):
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    file = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def world_of(folder, n=12):
    world = World(folder)
    for number in range(n):
        world.source.put(f"{number:02d}.png", photograph(number))
    world.source.put("bad.png", b"no picture")
    world.source.put("copy.png", photograph(3))
    return world


def run(world, n_views, backbone=None, workers=2):
    backbone = backbone or Seeing()
    world.embed(backbone)
    folder = world.set_folder(backbone)
    return embed_views(world.items(), world.source, 0, backbone, folder, n_views, workers=workers)


def test_crop_and_blur_are_each_in_half_of_many_views_and_independent():
    drawn = [
        augmentation(hashlib.sha256(b"%d" % i).hexdigest(), v) for i in range(400) for v in (0, 9)
    ]
    crop = np.array([how.crop is not None for how in drawn])
    blur = np.array([how.sigma is not None for how in drawn])
    # Four standard errors.
    for share, expected in ((crop, 0.5), (blur, 0.5), (crop & blur, 0.25)):
        assert share.mean() == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(800))
    area, aspect, across, down = np.array([how.crop for how in drawn if how.crop]).T
    sigma = np.array([how.sigma for how in drawn if how.sigma])
    for values, (low, high) in (
        (area, (0.6, 1)),
        (np.log(aspect), (np.log(3 / 4), np.log(4 / 3))),
        (across, (0, 1)),
        (down, (0, 1)),
        (sigma, (0.1, 2)),
    ):
        assert low <= values.min() < values.max() <= high
        uniform = (low + high) / 2
        assert values.mean() == pytest.approx(uniform, abs=4 * (high - low) / np.sqrt(12 * 350))


def test_a_view_is_drawn_by_content_and_number_alone():
    content = hashlib.sha256(b"x").hexdigest()
    assert augmentation(content, 3) == augmentation(content, 3)
    others = [augmentation(content, v) for v in range(60)]
    assert len({how.crop for how in others} | {how.sigma for how in others}) > 40
    # Fixed for good: views kept by an earlier version must be those of this one.
    first, second, third, fourth = (augmentation("00" * 32, v) for v in range(4))
    expected = (0.9967850069298939, 0.958617815523352, 0.6844062801782951, 0.27510744925152764)
    assert first.crop == pytest.approx(expected, abs=1e-15)
    assert first.sigma == pytest.approx(0.9985738121396256, abs=1e-15)
    assert second == Augmentation(None, None)
    assert (third.sigma, fourth.crop) == (None, None)


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    crop=st.tuples(st.floats(0.6, 1), st.floats(3 / 4, 4 / 3), PLACE, PLACE),
)
def test_a_crop_lies_within_the_image_and_is_no_strip(size, crop):
    left, top, right, bottom = views._box(size, crop)
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    width, height = right - left, bottom - top
    assert width <= 4 / 3 * height + 2
    assert height <= 4 / 3 * width + 2
    if max(size) <= 1.3 * min(size) and min(size) > 30:
        assert width * height >= 0.55 * size[0] * size[1]


def test_what_a_view_does_to_the_pixels():
    image = decode(photograph(5)).image
    plain = PREPROCESSING.apply(image)
    np.testing.assert_array_equal(
        view_pixels(image, PREPROCESSING, Augmentation(None, None)), plain
    )
    # 0.75 of 60 x 44 pixels, as wide as high: 44 x 44, at the right end.
    found = view_pixels(image, PREPROCESSING, Augmentation((0.75, 1.0, 0.999, 0.5), None))
    square = image.crop((16, 0, 60, 44)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    expected = np.asarray(square, np.float32).transpose(2, 0, 1)
    np.testing.assert_allclose(found, (expected - 127.5) / 127.5, atol=1e-6)
    # Against Pillow's own blur, an approximation, away from the edge; σ is for 224 pixels.
    sigma = 1.5
    blurred = view_pixels(image, PREPROCESSING, Augmentation(None, sigma * 224 / SIDE))
    square = Image.fromarray(((plain.transpose(1, 2, 0) * 127.5) + 127.5).round().astype(np.uint8))
    theirs = np.asarray(square.filter(ImageFilter.GaussianBlur(sigma)), np.float32)
    ours = blurred.transpose(1, 2, 0) * 127.5 + 127.5
    assert np.abs(ours - theirs)[5:-5, 5:-5].mean() < 2
    assert np.abs(ours - (plain.transpose(1, 2, 0) * 127.5 + 127.5)).mean() > 4


def test_views_are_what_they_are_one_by_one(tmp_path):
    world, backbone = world_of(tmp_path), Seeing()
    assert run(world, 4, backbone) == 13 * 4
    sets = view_sets(world.set_folder(backbone))
    rows = {item["path"]: item for item in world.rows()}
    plain = FeatureSet(world.set_folder(backbone))
    n_plain = 0
    for path, item in rows.items():
        if item["status"] != "ok":
            continue
        image = decode(world.source.files[path.encode()][0]).image
        for v, one in enumerate(sets):
            how = augmentation(item["content_hash"], v)
            pixels = view_pixels(image, PREPROCESSING, how)
            expected = (pixels.reshape(-1, 1) * backbone.weights).sum(axis=0)
            found = one.read(np.array([item["row"]]))[0]
            np.testing.assert_array_equal(found, expected)
            if how == Augmentation(None, None):
                n_plain += 1
                np.testing.assert_array_equal(found, plain.read(np.array([item["row"]]))[0])
    assert 3 <= n_plain <= 26
    assert not sets[0].has_top5
    bad = rows["bad.png"]["row"]
    assert np.isnan(sets[0].read(np.array([bad]))).all()
    ok = np.array([item["row"] for item in rows.values() if item["status"] == "ok"])
    assert read_views(sets, ok).shape == (13, 4, backbone.dim)
    assert read_views(sets, np.append(ok, bad)) is None
    assert np.array_equal(
        *(read_views(sets, np.array([rows[p]["row"]])) for p in ("03.png", "copy.png"))
    )


def bytes_of(world, *, without=""):
    return {
        name: data
        for name, data in world.snapshot().items()
        if "view-" in name and not (without and without in name)
    }


def test_neither_batches_nor_workers_nor_the_order_of_runs_change_a_byte(tmp_path):
    calm = world_of(tmp_path / "calm")
    run(calm, 3)
    for i, (batch, workers) in enumerate(((1, 1), (5, 3), (32, 2))):
        world = world_of(tmp_path / f"{i}")
        run(world, 3, Seeing(batch), workers)
        assert bytes_of(world) == bytes_of(calm)
    grown = world_of(tmp_path / "grown")
    assert run(grown, 1) == 13
    backbone = Seeing()
    world_reads = grown.source.n_reads
    assert run(grown, 3, backbone) == 26
    assert backbone.n_images == 26
    assert grown.source.n_reads - world_reads == 13
    assert run(grown, 3) == 0
    assert run(grown, 2) == 0
    assert bytes_of(grown) == bytes_of(calm)


def test_new_images_get_only_their_own_and_other_names_the_same(tmp_path):
    world = world_of(tmp_path / "a", n=7)
    run(world, 2)
    for number in range(7, 12):
        world.source.put(f"{number:02d}.png", photograph(number))
    backbone = Seeing()
    assert run(world, 2, backbone) == 10
    other = World(tmp_path / "b")
    for number in range(12):
        other.source.put(f"{99 - number}.png", photograph(number))
    run(other, 2)

    def by_content(world):
        sets = view_sets(world.set_folder(backbone))
        items = [item for item in world.rows() if item["status"] == "ok"]
        found = read_views(sets, np.array([item["row"] for item in items]))
        return {item["content_hash"]: v.tobytes() for item, v in zip(items, found, strict=True)}

    assert by_content(world) == by_content(other)


def test_a_kill_at_every_disk_operation_ends_with_the_same_bytes(tmp_path):
    calm = world_of(tmp_path / "calm")
    calm.embed(Seeing())
    with killed_at(None) as counter:
        run(calm, 2)
    assert counter.n > 10
    for n in range(0, counter.n, 2):
        world = world_of(tmp_path / f"{n}")
        world.embed(Seeing())
        with killed_at(n):
            run(world, 2)
        run(world, 2)
        assert world.snapshot() == calm.snapshot(), n


def test_what_has_changed_or_gone_since_gets_no_view(tmp_path):
    world, backbone = world_of(tmp_path), Seeing()
    world.embed(backbone)
    world.source.put("01.png", photograph(50), mtime=1)
    world.source.put("02.png", "permission denied", mtime=1)
    folder = world.set_folder(backbone)
    items = world.items()
    assert embed_views(items, world.source, 0, backbone, folder, 2, workers=1) == 22
    missing = set(range(14)) - set(view_sets(folder)[1].rows_present().tolist())
    paths = items.table()["path"].to_pylist()
    assert {paths[row] for row in missing} == {"01.png", "02.png", "bad.png"}
    # Both are looked at again by the next run, and no source else is touched.
    assert embed_views(items, world.source, 1, backbone, folder, 2, workers=1) == 0


def test_views_are_not_mixed_with_those_of_other_ranges(tmp_path, monkeypatch):
    world = world_of(tmp_path)
    run(world, 1)
    monkeypatch.setattr(views, "CROP", (0.2, 1.0))
    with pytest.raises(ImageherdError, match="features of another kind: identity"):
        run(world, 2)


def test_shards_of_views_are_those_of_the_features(tmp_path):
    world, backbone = world_of(tmp_path), Seeing()
    run(world, 1, backbone)
    folder = world.set_folder(backbone) / view_name(0)
    manifest = FeatureSet(folder).manifest
    plain = FeatureSet(world.set_folder(backbone)).manifest
    assert [s["rows"] for s in manifest["shards"]] == [s["rows"] for s in plain["shards"]]
    assert manifest["shard_rows"] == PART_ROWS
    assert manifest["identity"]["view"] == 0
