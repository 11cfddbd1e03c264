"""What a run does with files: batches, copies, unreadable ones, errors, threads."""

import errno
import os
import random
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_fakes import FakeBackbone, FakeSource, World, picture
from imageherd.errors import ImageherdError
from imageherd.features import pipeline, reading
from imageherd.features.batching import top5_of
from imageherd.features.estimate import estimate
from imageherd.features.prefetch import map_ahead
from imageherd.images.decode import UnreadableImageError
from imageherd.progress import reporting


def fill(source, n, first=0):
    for number in range(first, first + n):
        source.put(f"{number:03d}.png", picture(number))


def test_vectors_follow_their_files(world):
    fill(world.source, 17)
    summary = world.embed()
    world.check()
    assert (summary.n_images, summary.n_embedded, summary.n_copied) == (17, 17, 0)
    assert (summary.n_unreadable, summary.n_deleted, summary.reasons) == (0, 0, [])
    assert summary.seconds > 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 12), st.randoms(), st.integers(1, 5), st.integers(1, 7))
def test_order_threads_and_batches_change_no_byte(tmp_path_factory, n, rng, workers, batch_size):
    plain, other = (World(tmp_path_factory.mktemp("world")) for _ in range(2))
    numbers = list(range(n))
    fill(plain.source, n)
    rng.shuffle(numbers)
    for number in numbers:
        other.source.put(f"{number:03d}.png", picture(number))
    plain.embed()
    other.embed(FakeBackbone(batch_size=batch_size), workers=workers)
    assert plain.snapshot() == other.snapshot()


def test_slow_files_change_no_byte(tmp_path):
    class Unsteady(FakeSource):
        def read(self, key):
            time.sleep(random.uniform(0, 0.01))
            return super().read(key)

    worlds = [
        World(tmp_path / str(i), source) for i, source in enumerate([FakeSource(), Unsteady()])
    ]
    for world in worlds:
        fill(world.source, 12)
        world.source.put("005.png", picture(1))
        world.embed(FakeBackbone(mixing=True), workers=4)
    assert worlds[0].snapshot() == worlds[1].snapshot()


def test_each_file_is_read_once_and_none_when_nothing_changed(world):
    fill(world.source, 12)
    world.embed()
    assert world.source.n_reads == 12
    before = world.snapshot()
    summary = world.embed()
    assert world.source.n_reads == 12
    assert (summary.n_embedded, summary.n_copied) == (0, 0)
    assert world.snapshot() == before


def test_equal_files_go_through_the_model_once(world):
    for number in range(12):
        world.source.put(f"{number:03d}.png", picture(number % 4))
    backbone = FakeBackbone()
    summary = world.embed(backbone)
    assert backbone.n_images == summary.n_embedded == 4
    assert summary.n_copied == 8
    world.check()


def test_a_moved_file_keeps_its_vector_without_the_model(world):
    fill(world.source, 7)
    world.embed(FakeBackbone(mixing=True))
    vector = world.features(FakeBackbone(mixing=True)).read(np.array([2]))[0].copy()
    world.source.put("elsewhere/x.png", world.source.files.pop(b"002.png")[0], mtime=9)
    backbone = FakeBackbone(mixing=True)
    summary = world.embed(backbone)
    assert (backbone.n_images, summary.n_copied, summary.n_deleted) == (0, 1, 1)
    rows = world.rows()
    assert (rows[2]["status"], rows[2]["reason"]) == ("deleted", "no longer in the source")
    assert (rows[7]["key"], rows[7]["status"]) == (b"elsewhere/x.png", "ok")
    features = world.features(backbone)
    np.testing.assert_array_equal(features.read(np.array([7]))[0], vector)
    np.testing.assert_array_equal(features.read(np.array([2]))[0], vector)
    assert features.top5(np.array([7]))[0].tolist() == features.top5(np.array([2]))[0].tolist()


def test_unreadable_images_in_the_middle_stop_nothing(world):
    fill(world.source, 12)
    world.source.put("004.png", b"text")
    world.source.put("005.png", "permission denied")
    world.source.put("006.png", b"")
    world.source.reasons[b"006.png"] = "empty file"
    summary = world.embed()
    world.source.files[b"006.png"] = ("", 1)
    assert summary.n_embedded == 9
    assert [path for path, _ in summary.reasons] == ["004.png", "005.png", "006.png"]
    assert [reason for _, reason in summary.reasons][1:] == ["permission denied", "empty file"]
    assert summary.n_unreadable == 3
    world.check()
    assert world.embed().reasons == summary.reasons


def test_what_could_not_be_opened_is_tried_again_what_is_no_picture_is_not(world):
    fill(world.source, 6)
    world.source.put("001.png", "permission denied")
    world.source.put("002.png", b"text")
    world.embed()
    n_reads = world.source.n_reads
    world.embed()
    assert world.source.n_reads == n_reads + 1
    world.source.files[b"001.png"] = (picture(1), 1)
    assert world.embed().n_embedded == 1
    assert len(world.rows()) == 6
    world.source.put("002.png", picture(2), mtime=5)
    assert world.embed().n_embedded == 1
    rows = world.rows()
    assert (rows[2]["status"], rows[2]["reason"]) == ("deleted", "replaced by row 6")
    world.check()


def test_an_unreadable_row_stays_without_a_vector_when_its_shard_grows(world):
    fill(world.source, 4)
    world.source.put("001.png", b"text")
    world.embed()
    world.source.put("new.png", picture(9))
    world.embed()
    assert world.features().rows_present().tolist() == [0, 2, 3, 4]
    world.check()


@pytest.mark.parametrize("n", [0, 7])
def test_no_readable_image_at_all(world, n):
    for number in range(n):
        world.source.put(f"{number}.png", b"text")
    summary = world.embed()
    assert (summary.n_embedded, summary.n_unreadable) == (0, n)
    features = world.features()
    assert (features.n_rows, len(features.rows_present())) == (n, 0)
    assert features.read().shape == (n, FakeBackbone.dim)
    assert np.isnan(features.read()).all()
    world.embed()
    world.check()


def test_a_second_backbone_has_its_own_folder_and_the_same_rows(world):
    fill(world.source, 7)
    world.source.put("003.png", b"text")
    world.embed()
    before = world.snapshot()
    second = FakeBackbone("second", logits=False)
    summary = world.embed(second)
    assert summary.n_embedded == 6
    after = world.snapshot()
    assert {name: after[name] for name in before} == before
    features = world.features(second)
    assert not features.has_top5
    np.testing.assert_array_equal(features.read(), world.features().read())


def test_two_sources_share_rows_shards_and_copies(world):
    other = FakeSource()
    fill(world.source, 7)
    fill(other, 4, first=5)
    world.embed()
    summary = world.embed(source=other, source_index=1)
    assert (summary.n_images, summary.n_embedded, summary.n_copied) == (4, 2, 2)
    rows = world.rows()
    assert [item["source"] for item in rows] == [0] * 7 + [1] * 4
    assert all(item["status"] == "ok" for item in rows)
    second = FakeBackbone("second")
    assert world.embed(second, source=other, source_index=1).n_embedded == 4
    assert world.features(second).rows_present().tolist() == [7, 8, 9, 10]
    assert world.embed(second).n_embedded == 5
    np.testing.assert_array_equal(world.features(second).read(), world.features().read())


def test_a_file_that_changes_under_our_hands_gets_no_vector_of_the_wrong_content(world):
    fill(world.source, 6)
    world.embed()
    world.source.files[b"002.png"] = (picture(50), 1)
    scan = world.source.scan
    old = [entry for entry in scan() if entry.key != b"002.png"]
    item = world.rows()[2]
    stale = type(old[0])(b"002.png", item["bytes"], item["mtime_ns"], "")
    world.source.scan = lambda: sorted([*old, stale], key=lambda entry: entry.key)
    second = FakeBackbone("second")
    assert world.embed(second).reasons == [("002.png", pipeline.CHANGED)]
    assert np.isnan(world.features(second).read(np.array([2]))).all()
    world.source.scan = scan
    assert world.embed(second).n_embedded == 1
    world.check(second)


def test_features_that_are_not_finite_are_no_vectors(world):
    class Overflowing(FakeBackbone):
        def embed(self, batch):
            outputs = super().embed(batch)
            outputs["features"][1, 0] = np.inf
            return outputs

    fill(world.source, 4)
    world.source.put("003.png", picture(1))
    world.source.put("009.png", picture(1))
    world.source.put("008.png", picture(8))
    summary = world.embed(Overflowing())
    assert dict(summary.reasons) == dict.fromkeys(
        ["001.png", "003.png", "009.png"], pipeline.NOT_FINITE
    )
    assert [item["status"] for item in world.rows()] == ["ok"] * 6
    assert world.features().rows_present().tolist() == [0, 2, 4]
    assert world.embed().n_embedded == 1
    world.check()


def test_other_errors_name_the_file_and_leave_no_thread(world, monkeypatch):
    fill(world.source, 12)
    original = reading.decode

    def broken(data, **kwargs):
        if data == picture(4):
            raise ZeroDivisionError("surprise")
        return original(data, **kwargs)

    monkeypatch.setattr(reading, "decode", broken)
    with pytest.raises(ZeroDivisionError) as caught:
        world.embed()
    assert caught.value.__notes__ == ["while reading 004.png"]
    assert not [t for t in threading.enumerate() if t.name.startswith("imageherd")]
    monkeypatch.undo()
    world.embed()
    world.check()


def test_a_full_disk_is_said_with_the_folder_and_can_be_taken_up(world, monkeypatch):
    fill(world.source, 12)

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    world.embed(FakeBackbone())
    world.source.put("new.png", picture(99))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ImageherdError, match=r"No space left while writing to .*items"):
        world.embed()
    world.source.files.pop(b"new.png")
    with pytest.raises(ImageherdError, match=r"No space left while writing to .*second"):
        world.embed(FakeBackbone("second"))
    monkeypatch.undo()
    world.source.put("new.png", picture(99))
    world.embed()
    world.check()


def test_progress_counts_every_image(world):
    fill(world.source, 8)
    world.source.put("003.png", b"text")
    world.source.put("004.png", picture(1))
    seen = []

    class Reporter:
        def __init__(self, *task):
            seen.append(task)

        def __enter__(self):
            return seen.append

        def __exit__(self, *args):
            pass

    with reporting(Reporter):
        world.embed()
    assert seen[0] == ("Embedding", 8, "images")
    assert sum(seen[1:]) == 8


def test_a_wrong_shape_from_a_backbone_is_an_error(world):
    fill(world.source, 3)
    backbone = FakeBackbone()
    backbone.dim = 7
    with pytest.raises(ValueError, match=r"\(3, 6\), not \(3, 7\)"):
        world.embed(backbone)


def test_another_backbones_features_are_never_mixed(world):
    fill(world.source, 3)
    world.embed()
    impostor = FakeBackbone()
    impostor.identity = {"model": "fake", "mixing": False, "revision": "newer"}
    with pytest.raises(ImageherdError, match="never mixed"):
        world.embed(impostor)


def test_older_items_than_features_are_refused(world):
    fill(world.source, 8)
    world.embed()
    (world.folder / "items" / "part-00001.parquet").unlink()
    world.source.files = {key: value for key, value in world.source.files.items() if key < b"005"}
    with pytest.raises(ImageherdError, match="older copy"):
        world.embed()


def test_map_ahead_is_ordered_bounded_and_raises_in_turn():
    started = []

    def work(n):
        started.append(n)
        time.sleep(random.uniform(0, 0.003))
        if n == 30:
            raise UnreadableImageError("thirty")
        return n

    results = map_ahead(work, iter(range(100)), workers=3, ahead=7)
    for n in range(30):
        assert next(results) == n
        assert len(started) <= n + 7
    with pytest.raises(UnreadableImageError):
        next(results)
    n_started = len(started)
    time.sleep(0.02)
    assert len(started) == n_started <= 37


def test_closing_map_ahead_drops_what_has_not_begun():
    started = []

    def work(n):
        started.append(n)
        time.sleep(0.02)

    results = map_ahead(work, range(100), workers=2, ahead=60)
    next(results)
    results.close()
    assert len(started) < 10


def test_reading_goes_on_across_the_border_of_a_shard(world):
    """While the model has the last batch of a shard, files of the next are read already."""
    fill(world.source, 10)
    reads = []

    class Watching(FakeBackbone):
        def embed(self, batch):
            time.sleep(0.05)
            reads.append(world.source.n_reads)
            return super().embed(batch)

    world.embed(Watching(batch_size=5))
    assert reads == [10, 10]


def test_top5():
    logits = np.array([[0, 3, 1, 3, 2, -1, 0], [1, 0, 0, 0, 0, 0, 0]], np.float32)
    top5 = top5_of(logits)
    assert top5["classes"].tolist() == [[1, 3, 4, 2, 0], [0, 1, 2, 3, 4]]
    softmax = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(1, keepdims=True)
    expected = np.take_along_axis(softmax, top5["classes"].astype(int), axis=1)
    np.testing.assert_allclose(top5["probabilities"], expected, rtol=1e-6)
    assert top5_of(np.array([[1e4, 0.0]]))["classes"].tolist() == [[0, 1, -1, -1, -1]]


def test_estimate_is_near_the_truth_shrinks_with_what_is_left_and_writes_nothing(world):
    class Slow(FakeBackbone):
        def embed(self, batch):
            time.sleep(0.1)  # whatever the batch holds, as a backbone that pads it
            return super().embed(batch)

    fill(world.source, 40)

    def remaining():
        backbone = Slow(batch_size=5)
        folder = world.set_folder(backbone)
        return estimate(world.items(), world.source, 0, backbone, folder, workers=2)

    everything = remaining()
    assert not world.folder.exists()
    truth = world.embed(Slow(batch_size=5)).seconds
    assert truth / 3 < everything < truth * 3
    assert remaining() == 0.0
    fill(world.source, 4, first=40)
    assert 0 < remaining() < everything / 2
