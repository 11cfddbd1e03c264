"""The same images from every kind of source: the same keys, the same pixels, the same features."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from table_makers import MAKERS, Maker

from feature_fakes import FakeBackbone, World
from imageherd.features.listing import Listed
from imageherd.images.decode import decode
from imageherd.images.source import open_source, source_from_uri

# Too small for a JPEG to be decoded at half its size, which no array of pixels could be.
SIZE = (6, 7)


def _file(number: int, format: str, **options) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (7, 6, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format, **options)
    return out.getvalue()


IMAGES = {
    "a.jpg": _file(0, "JPEG"),
    "left/b.png": _file(1, "PNG"),
    "left/deep/c.heic": _file(2, "HEIF"),
    "right/d.avif": _file(3, "AVIF"),
    "right/ä ö.webp": _file(4, "WEBP", lossless=True),
    "right/again a.jpg": _file(0, "JPEG"),
}
"""Key below the root, and the file."""


@dataclass
class Made:
    """A source made of `IMAGES`: what to give `open_source`, and the key that each image has."""

    given: str | Path
    keys: dict[str, bytes]


def plain_keys(prefix: str = "") -> dict[str, bytes]:
    return {name: os.fsencode(prefix + name) for name in IMAGES}


def folder(root: Path) -> Made:
    for name, data in IMAGES.items():
        path = root / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Made(root / "photos", plain_keys())


def tar_of(path: Path, images: dict[str, bytes], mode: str = "w", **options) -> Path:
    with tarfile.open(path, mode, **options) as tar:
        for name, data in images.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1_700_000_000
            tar.addfile(member, io.BytesIO(data))
    return path


def tar(mode: str = "w", name: str = "photos.tar", **options) -> Callable[[Path], Made]:
    return lambda root: Made(tar_of(root / name, IMAGES, mode, **options), plain_keys())


def zipped(method: int) -> Callable[[Path], Made]:
    def make(root: Path) -> Made:
        with zipfile.ZipFile(root / "photos.zip", "w", method) as archive:
            for name, data in IMAGES.items():
                archive.writestr(name, data)
        return Made(root / "photos.zip", plain_keys())

    return make


def shards(given: str) -> Callable[[Path], Made]:
    def make(root: Path) -> Made:
        (root / "shards").mkdir()
        keys = {}
        for i, name in enumerate(("s-08.tar", "s-09.tar", "s-10.tar")):
            part = dict(list(IMAGES.items())[2 * i : 2 * i + 2])
            tar_of(root / "shards" / name, part)
            keys |= {key: os.fsencode(f"{name}/{key}") for key in part}
        return Made(f"{root}/{given}", keys)

    return make


def table(make: Maker) -> Callable[[Path], Made]:
    return lambda root: Made(*make(root, IMAGES))


KINDS: dict[str, Callable[[Path], Made]] = {
    "folder": folder,
    "tar": tar(),
    "tar, V7 and ustar": tar(format=tarfile.USTAR_FORMAT),
    "tar, GNU": tar(format=tarfile.GNU_FORMAT),
    "tar by gzip": tar("w:gz", "photos.tar.gz"),
    "tar by bzip2": tar("w:bz2", "photos.tbz2"),
    "tar by xz": tar("w:xz", "photos.tar.xz"),
    "tar by another name": tar(name="photos.zip"),
    "zip, stored": zipped(zipfile.ZIP_STORED),
    "zip, deflated": zipped(zipfile.ZIP_DEFLATED),
    "zip, bzip2": zipped(zipfile.ZIP_BZIP2),
    "shards by pattern": shards("shards/s-{08..10}.tar"),
    "shards by folder": shards("shards"),
    **{name: table(make) for name, make in MAKERS.items()},
}
"""Name of a kind of source, and what makes one of `IMAGES` in a folder."""


@pytest.fixture(params=KINDS)
def made(request, tmp_path) -> Made:
    return KINDS[request.param](tmp_path)


def test_the_same_keys_in_order(made):
    entries = open_source(made.given).scan()
    assert [entry.key for entry in entries] == sorted(made.keys.values())
    assert not [entry for entry in entries if entry.reason]
    assert all(entry.mtime_ns > 0 for entry in entries)
    # A second look finds the same.
    assert open_source(made.given).scan() == entries


def test_the_same_pixels_read_by_many_threads(made):
    source = open_source(made.given)
    source.scan()
    names = list(IMAGES) * 20
    with ThreadPoolExecutor(8) as threads:
        read = list(threads.map(lambda name: source.read(made.keys[name]), names))
    for name, data in zip(names, read, strict=True):
        ours, theirs = decode(data), decode(IMAGES[name])
        assert (ours.width, ours.height) == SIZE
        np.testing.assert_array_equal(np.asarray(ours.image), np.asarray(theirs.image))


def test_the_same_features(made, tmp_path):
    backbone = FakeBackbone()
    world = World(tmp_path / "world", open_source(made.given))
    summary = world.embed(backbone)
    assert (summary.n_images, summary.n_unreadable) == (len(IMAGES), 0)
    assert summary.n_copied == 1
    rows = {row["key"]: row["row"] for row in world.rows()}
    features = world.features(backbone)
    for name, key in made.keys.items():
        vector = features.read(np.array([rows[key]]))[0]
        np.testing.assert_array_equal(vector, backbone.of_bytes(IMAGES[name]))
    # Nothing is read twice.
    again = World(tmp_path / "world", open_source(made.given)).embed(backbone)
    assert (again.n_embedded, again.n_copied, again.n_deleted) == (0, 0, 0)


def test_a_herd_gets_it_back_by_its_uri(made):
    first = open_source(made.given)
    source = source_from_uri(first.uri)
    assert source.uri == first.uri
    assert source.is_there()
    # Without a scan before: a report reads so.
    for name, key in made.keys.items():
        np.testing.assert_array_equal(
            np.asarray(decode(source.read(key)).image),
            np.asarray(decode(IMAGES[name]).image),
        )


def test_it_says_what_it_is_and_where_its_images_are(made):
    listed = Listed(made.given)
    assert listed.description
    assert listed.name
    listed.scan()
    for name, key in made.keys.items():
        shown, path = listed.shown(key), listed.path(key)
        assert os.fsdecode(key) in shown
        assert path is None or (path.read_bytes() == IMAGES[name] and shown == str(path))
