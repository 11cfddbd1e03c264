import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from imageherd.cli import app
from imageherd.clustering import Cluster, Clustering
from imageherd.errors import ImageherdError
from imageherd.features.pipeline import EmbedSummary
from imageherd.heads.make import make_head
from imageherd.project import register_source

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Run the command line in this process; arguments may be paths."""
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(a) for a in arguments])


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IMAGEHERD_DEBUG", raising=False)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with six small images and two files that cannot be read."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(6):
        Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(folder / f"{i}.jpg")
    (folder / "empty.jpg").touch()
    (folder / "dangling.jpg").symlink_to(folder / "nowhere.jpg")
    return folder


class FakeHerd:
    """Answers like a herd of six images in two clusters and remembers what it was asked."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.calls: list[tuple[str, tuple, dict]] = []
        self.fails: dict[str, BaseException] = {}
        self.names = {1: "sneaker", 2: "umbrella"}
        self.config: dict = {}
        self.has_clustering = False

    def _called(self, verb: str, *arguments: object, **options: object) -> None:
        self.calls.append((verb, arguments, options))
        if verb in self.fails:
            raise self.fails[verb]

    def make(self, source: Path = Path("photos")) -> None:
        register_source(self.path, f"folder:{source.resolve()}")

    def estimate(self, source, **options):
        self._called("estimate", source, **options)
        return 130.0

    def embed(self, source=None, **options):
        register_source(self.path, source.uri)
        self._called("embed", source, **options)
        return EmbedSummary(n_images=8, n_embedded=6, n_unreadable=2, seconds=1.5)

    def items(self):
        n_bad = 12
        return pa.table(
            {
                "path": [f"{i}.jpg" for i in range(6)] + [f"bad-{i}.jpg" for i in range(n_bad)],
                "status": ["ok"] * 6 + ["unreadable"] * n_bad,
                "reason": [""] * 6 + ["zero bytes"] * (n_bad - 1) + ["dangling link"],
            }
        )

    def features(self):
        return SimpleNamespace(rows=np.arange(6), X=np.zeros((6, 2)), key="lite0-abc")

    def cluster(self, method="tsp", n_clusters="auto", **options):
        self._called("cluster", method, n_clusters, **options)
        self.has_clustering = True
        k = 2 if n_clusters == "auto" else n_clusters
        asked = {"method": method, "random_state": options["random_state"]}
        method = "kmeans" if method == "auto" else method
        self.config = {
            "method": method,
            "features": "lite0-abc",
            "params": make_head(
                method, k, 6, random_state=options["random_state"], device="cpu"
            ).get_params(),
        }
        if asked["method"] == "auto":
            self.config["chosen"] = {"reason": "Chosen without labels: kmeans", "asked": asked}
        if n_clusters == "auto":
            self.config["counted"] = {"ks": [2], "scores": [0.5]}
        return self.clustering()

    def clustering(self, name="default"):
        if not self.has_clustering:
            raise ImageherdError(f"no clustering {name!r}")
        return Clustering(
            name=name,
            version="v0001",
            rows=np.arange(6),
            uids=np.array([1, 1, 1, 2, 2, -1], dtype=np.int32),
            probability=np.full(6, 0.9, dtype=np.float32),
            second=np.full(6, 2, dtype=np.int32),
            clusters=[
                Cluster(1, self.names[1], 3, 0.91, [0, 1], 0.8, "boot", 0.1),
                Cluster(2, self.names[2], 2, 0.72, [3]),
            ],
            config=self.config,
        )

    def rename(self, uid, text, **options):
        self._called("rename", uid, text, **options)
        self.names[uid] = text
        return self.clustering()

    def report(self, path=None, **options):
        self._called("report", path, **options)
        target = Path(path or self.path / "report" / "index.html")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("<html>")
        return target

    def assign(self, source, **options):
        self._called("assign", source, **options)
        return SimpleNamespace(
            rows=np.array([3, 4, 5]),
            uids=np.array([1, 1, -1], dtype=np.int32),
            probability=np.array([0.9, 0.8, 0.3], dtype=np.float32),
            similarity=np.array([0.7, 0.6, 0.1], dtype=np.float32),
            threshold=0.4,
        )

    def evaluate(self, labels, **options):
        self._called("evaluate", labels, **options)
        return self.evaluation

    def export(self, destination, **options):
        self._called("export", destination, **options)
        return Path(destination)


@pytest.fixture
def herd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHerd:
    """What the verbs get for a herd, whatever its path: `photos.herd` in the current folder."""
    fake = FakeHerd(tmp_path / "photos.herd")

    def opened(path: Path) -> FakeHerd:
        fake.path = Path(path)
        return fake

    monkeypatch.setitem(sys.modules, "imageherd.herd", SimpleNamespace(Herd=opened))
    return fake


@pytest.fixture
def made(herd: FakeHerd) -> FakeHerd:
    """The same, on disk and clustered."""
    herd.make()
    herd.cluster(random_state=0)
    herd.calls.clear()
    return herd
