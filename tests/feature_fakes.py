"""A source in memory, a tiny backbone, and a world that a run can be killed in."""

import hashlib
import io
import itertools
import json
import os
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from imageherd.features.items import Items
from imageherd.features.pipeline import embed_source
from imageherd.features.store import FeatureSet
from imageherd.images.decode import UnreadableImageError, decode
from imageherd.images.source import Entry

SIDE = 4
PART_ROWS = 5


def picture(number: int) -> bytes:
    """A small PNG, another one for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


class FakePreprocessing(SimpleNamespace):
    size = SIDE
    resize = SIDE

    def apply(self, image):
        small = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        return np.asarray(small, np.float32).transpose(2, 0, 1)


class FakeBackbone:
    """A random projection, row by row; `mixing` makes a vector depend on its whole batch."""

    dim = 6

    def __init__(self, name="fake", batch_size=3, mixing=False, logits=True):
        self.name, self.batch_size, self.mixing, self.logits = name, batch_size, mixing, logits
        self.preprocessing = FakePreprocessing()
        self.identity = {"model": name, "mixing": mixing}
        self.key = name + "-" + hashlib.sha256(json.dumps(self.identity).encode()).hexdigest()[:12]
        rng = np.random.default_rng(0)
        self.weights = rng.normal(size=(3 * SIDE * SIDE, self.dim)).astype(np.float32)
        self.classifier = rng.normal(size=(self.dim, 7)).astype(np.float32)
        self.n_images = 0

    def embed(self, batch):
        assert batch.dtype == np.float32
        rows = [(x.reshape(-1, 1) * self.weights).sum(axis=0) for x in batch]
        features = np.stack(rows).astype(np.float32)
        self.n_images += int(batch.any(axis=(1, 2, 3)).sum())
        if self.mixing:
            features += np.arange(len(batch), dtype=np.float32)[:, None] + features.mean()
        outputs = {"features": features}
        if self.logits:
            outputs["logits"] = np.stack([(f[:, None] * self.classifier).sum(0) for f in features])
        return outputs

    def of_bytes(self, data):
        """What one picture's features must be, the straight way."""
        pixels = self.preprocessing.apply(decode(data).image)
        return (pixels.reshape(-1, 1) * self.weights).sum(axis=0).astype(np.float32)


class FakeSource:
    """Files in memory: key -> (bytes or the reason why they cannot be read, mtime)."""

    def __init__(self):
        self.files: dict[bytes, tuple[bytes | str, int]] = {}
        self.reasons: dict[bytes, str] = {}
        self.n_reads = 0
        self.threads: set[str] = set()

    def put(self, name, content, mtime=1):
        self.files[os.fsencode(name)] = (content, mtime)

    def scan(self):
        return [
            Entry(key, len(content), mtime, self.reasons.get(key, ""))
            for key, (content, mtime) in sorted(self.files.items())
        ]

    def read(self, key):
        self.n_reads += 1
        self.threads.add(threading.current_thread().name)
        content, _ = self.files[key]
        if isinstance(content, str):
            raise UnreadableImageError(content)
        return content


class World:
    """A herd's folder with its source; every run opens everything anew."""

    def __init__(self, folder, source=None):
        self.folder = Path(folder)
        self.source = source if source is not None else FakeSource()

    def set_folder(self, backbone):
        return self.folder / "features" / backbone.key

    def items(self):
        return Items(self.folder / "items", part_rows=PART_ROWS)

    def embed(self, backbone=None, source=None, source_index=0, workers=2):
        backbone = backbone or FakeBackbone()
        source = source or self.source
        return embed_source(
            self.items(),
            source,
            source_index,
            backbone,
            self.set_folder(backbone),
            workers=workers,
        )

    def rows(self):
        return self.items().table().to_pylist()

    def features(self, backbone=None):
        return FeatureSet(self.set_folder(backbone or FakeBackbone()))

    def snapshot(self):
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }

    def check(self, backbone=None):
        """Every fact about rows, files and vectors, recomputed file by file."""
        backbone = backbone or FakeBackbone()
        assert not [name for name in self.snapshot() if name.endswith((".tmp", ".next"))]
        rows, features = self.rows(), self.features(backbone)
        features.verify()
        assert [item["row"] for item in rows] == list(range(len(rows)))
        assert features.n_rows == len(rows)
        present = set(features.rows_present().tolist())
        live = {item["key"]: item for item in rows if item["status"] != "deleted"}
        assert len(live) == sum(item["status"] != "deleted" for item in rows)
        assert set(live) == set(self.source.files)
        # A row stands for one content of one item: no content has two rows.
        contents = [(item["key"], item["content_hash"]) for item in rows if item["content_hash"]]
        assert len(contents) == len(set(contents))
        for key, (content, mtime) in self.source.files.items():
            item = live[key]
            assert (item["bytes"], item["mtime_ns"]) == (len(content), mtime)
            assert item["path"] == os.fsdecode(key)
            good = isinstance(content, bytes) and content.startswith(b"\x89PNG")
            assert item["status"] == ("ok" if good else "unreadable"), item
            assert (item["row"] in present) == good
            if isinstance(content, bytes):
                assert item["content_hash"] == hashlib.sha256(content).hexdigest()
            vector = features.read(np.array([item["row"]]))[0]
            classes, _ = features.top5(np.array([item["row"]]))
            if good:
                assert (item["width"], item["height"], item["reason"]) == (7, 6, "")
                np.testing.assert_array_equal(vector, backbone.of_bytes(content))
                assert classes[0, 0] == (vector @ backbone.classifier).argmax()
            else:
                assert np.isnan(vector).all()
                assert (classes == -1).all()
                assert item["reason"]


_processes = itertools.count(10**6)


class Killed(BaseException):
    """Stands for SIGKILL: nothing that touches the disk works any more."""


@contextmanager
def killed_at(n):
    """Let `n` operations on the disk through, then die; yields a counter of operations."""
    counter = SimpleNamespace(n=0)
    process = next(_processes)
    originals = {(os, "fsync"): os.fsync, (os, "getpid"): os.getpid}
    originals |= {(Path, name): getattr(Path, name) for name in ("replace", "unlink")}

    def mortal(original):
        def call(*args, **kwargs):
            if n is not None and counter.n >= n:
                raise Killed
            counter.n += 1
            return original(*args, **kwargs)

        return call

    for (owner, name), original in originals.items():
        setattr(owner, name, mortal(original))
    os.getpid = lambda: process
    try:
        yield counter
    except Killed:
        pass
    finally:
        for (owner, name), original in originals.items():
            setattr(owner, name, original)
