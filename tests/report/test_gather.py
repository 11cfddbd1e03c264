"""What of a clustering is shown where."""

import base64
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from report_fakes import fake_report

from imageherd.clustering import describe
from imageherd.features.items import ITEMS_SCHEMA
from imageherd.images.folder import FolderSource
from imageherd.report.gather import N_MEDOIDS, N_STRIP, gather, strips
from imageherd.report.payload import _map


@pytest.mark.parametrize("n", [0, 1, 2, 5, 24, 100])
def test_no_member_is_in_both_strips_and_few_are_all_shown(n):
    members = np.random.default_rng(0).permutation(1000)[:n]
    probability = np.random.default_rng(1).uniform(size=n).astype(np.float32)
    typical, doubtful = strips(members, probability)
    assert not set(typical) & set(doubtful)
    assert len(typical) + len(doubtful) == min(n, 2 * N_STRIP)
    order = members[np.argsort(probability, kind="stable")]
    assert doubtful.tolist() == order[: len(doubtful)].tolist()
    assert typical.tolist() == [m for m in members if m not in doubtful][: len(typical)]


def gathered(sizes, nowhere=0):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    n = len(labels)
    X = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    P = np.full((n, len(sizes)), 0.1, dtype=np.float32)
    P[np.arange(n), labels] = np.random.default_rng(1).uniform(0.5, 1, n)
    config = {"method": "tsp", "features": "f", "params": {}}
    found = describe(np.arange(n), X, P, name="default", config=config)
    if nowhere:
        found.uids[-nowhere:] = -1
    columns = {
        "row": range(n),
        "source": [0] * n,
        "key": [b"%d.jpg" % i for i in range(n)],
        "path": [f"{i}.jpg" for i in range(n)],
        "status": ["ok"] * n,
    }
    items = pa.table(
        [pa.array(columns.get(f.name, [None] * n), f.type) for f in ITEMS_SCHEMA],
        schema=ITEMS_SCHEMA,
    )
    source = FolderSource.from_uri("folder:/nowhere")
    return gather(found, found.rows, X, X[:, :2], items, [source])


def test_a_cluster_shows_each_image_once():
    for cluster in gathered([3, 7, 16, 200]).clusters:
        shown = cluster.medoids + cluster.typical + cluster.doubtful
        assert len(shown) == len(set(shown)) == min(cluster.size, N_MEDOIDS + 2 * N_STRIP)


def test_of_what_fits_nowhere_none_is_called_doubtful():
    nowhere = next(c for c in gathered([9, 12], nowhere=10).clusters if c.uid == -1)
    assert nowhere.doubtful == []
    assert sorted(nowhere.medoids + nowhere.typical) == sorted(nowhere.members)


def test_the_map_holds_more_clusters_than_two_bytes_count():
    n = 70_000
    data = fake_report(n=n, n_clusters=1)
    data.labels = np.arange(n)
    clusters = [SimpleNamespace(uid=uid) for uid in range(n)]
    packed = _map(data, clusters, np.arange(n, dtype=np.uint32))["cluster"]
    assert np.frombuffer(base64.b64decode(packed), "<u4").tolist() == list(range(n))
