"""Fitting a sample, going on from what was learned, features in a file: one herd of vectors."""

import json
import mmap

import numpy as np
import pytest

from imageherd import memory
from imageherd.errors import ImageherdError
from imageherd.heads import base
from imageherd.herd import Herd

RNG = np.random.default_rng(0)
N, D, K = 240, 16, 4
CENTERS = RNG.normal(size=(K, D)) * 2
KINDS = RNG.integers(K, size=N)
X = (CENTERS[KINDS] + RNG.normal(size=(N, D))).astype(np.float32)
QUICK = {"epochs": 3, "min_steps": 40}


def made(folder, vectors):
    """A herd of these vectors, in a file that may grow."""
    np.save(folder / "v.npy", vectors)
    herd = Herd(folder / "v.herd")
    herd.embed(folder / "v.npy")
    return herd


@pytest.fixture
def herd(tmp_path):
    return made(tmp_path, X)


def in_a_file(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


def head_of(herd, found):
    from imageherd.versions import versions_of

    return versions_of(herd.path, found.name).head(found.version)


def test_a_sample_is_fitted_and_the_head_puts_the_others(herd, monkeypatch):
    asked = []
    neighbors = Herd.neighbors
    monkeypatch.setattr(
        Herd,
        "neighbors",
        lambda self, x, **how: asked.append(x) or neighbors(self, x, **how),
    )
    found = herd.cluster("tsp", K, train_on=100, random_state=3, **QUICK)
    assert found.config["train_on"] == 100
    drawn = np.sort(np.random.default_rng(3).choice(N, 100, replace=False))
    assert [some.rows.tolist() for some in asked] == [drawn.tolist()]
    head = head_of(herd, found)
    uids = np.array(found.config["uids"])
    np.testing.assert_array_equal(found.uids, uids[head.predict(X)])
    np.testing.assert_array_equal(found.probability, head.predict_proba(X).max(1))
    np.testing.assert_array_equal(
        head.scaler_.state_dict()["parts.0.shift"], X[drawn].mean(0, dtype=np.float64).astype("f4")
    )
    again = herd.cluster("tsp", K, train_on=100, random_state=3, **QUICK)
    np.testing.assert_array_equal(again.uids, found.uids)
    assert np.isnan(found.quality.agreement).all()


def test_a_sample_of_all_is_no_sample(herd, tmp_path):
    plain = herd.cluster("kmeans", K)
    sampled = herd.cluster("kmeans", K, train_on=N)
    assert "train_on" not in sampled.config
    folders = [herd.path / "clusterings" / "default" / c.version for c in (plain, sampled)]
    first, second = ((f / "assignments.parquet").read_bytes() for f in folders)
    assert first == second


def test_who_is_not_in_the_sample_may_fit_nowhere(tmp_path):
    far = -5 * CENTERS.sum(0, keepdims=True) + RNG.normal(size=(3, D))
    herd = made(tmp_path, np.concatenate([X, far]).astype(np.float32))
    found = herd.cluster("kmeans", K, train_on=150, reject=0.05, random_state=3)
    drawn = np.random.default_rng(3).choice(N + 3, 150, replace=False)
    outside = np.setdiff1d(np.arange(N, N + 3), drawn)
    assert len(outside)
    assert (found.uids[outside] == -1).all()
    assert 0.02 < (found.uids[drawn] == -1).mean() <= 0.06
    others = np.setdiff1d(np.arange(N), drawn)
    assert (found.uids[others] == -1).mean() < 0.3


def test_a_copy_goes_where_its_image_is_and_merging_knows_no_places(tmp_path):
    herd = made(tmp_path, np.concatenate([X, X[:20]]))
    found = herd.cluster("kmeans", K, train_on=150)
    np.testing.assert_array_equal(found.uids[N:], found.uids[:20])
    merged = herd.merge(2)
    assert len(merged.clusters) == 2
    assert np.isnan(merged.quality.agreement).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_on": 1}, "train_on=1 images are too few"),
        ({"train_on": 3}, "n_clusters=4 does not suit 3 images"),
        ({"warm_start": True}, "has no clustering 'default'"),
    ],
)
def test_what_cannot_be_asked_for(herd, options, message):
    with pytest.raises(ImageherdError, match=message):
        herd.cluster("kmeans", K, **options)


@pytest.mark.parametrize("method", ["tsp", "temi", "kmeans"])
def test_in_a_file_features_give_the_same_bytes(method, monkeypatch, tmp_path):
    # A gap in its rows keeps the one shard from being taken as it is.
    herd = made(tmp_path, np.insert(X, 7, np.nan, axis=0))
    params = {} if method == "kmeans" else QUICK
    plain = herd.cluster(method, K, name="plain", **params)
    assert not in_a_file(herd.features().X)
    monkeypatch.setattr(memory, "MOST_IN_MEMORY", 0)
    mapped = Herd(herd.path)
    assert in_a_file(mapped.features().X)
    found = mapped.cluster(method, K, name="mapped", **params)
    for file in ("assignments.parquet", "head.safetensors"):
        first, second = (
            (herd.path / "clusterings" / c.name / c.version / file).read_bytes()
            for c in (plain, found)
        )
        assert first == second
    assert [c.medoids for c in found.clusters] == [c.medoids for c in plain.clusters]
    left = [path.name for path in (herd.path / "features" / found.config["features"]).iterdir()]
    assert sorted(left) == ["manifest.json", "shard-00000.npy"]


@pytest.mark.parametrize("method", ["tsp", "temi", "kmeans"])
def test_a_warm_refit_after_growth_keeps_numbers_and_names(tmp_path, method):
    herd = made(tmp_path, X[:200])
    params = {} if method == "kmeans" else {"epochs": 20, "min_steps": 100}
    before = herd.cluster(method, K, **params)
    for cluster in before.clusters:
        herd.rename(cluster.uid, f"kind {KINDS[cluster.medoids[0]]}")
    np.save(tmp_path / "v.npy", X)
    herd.assign(tmp_path / "v.npy", reject=0)
    found = herd.cluster(warm_start=True, random_state=9)
    assert found.config["warm_start"] == "v0002"
    assert found.config["method"] == method
    asked = {name: value for name, value in before.config["params"].items() if name != "device"}
    assert found.config["params"] | {"random_state": 0} == found.config["params"] | asked
    assert len(found.rows) == N
    assert (found.uids[:200] == before.uids).mean() > 0.95
    names = found.names()
    assert len(found.clusters) == K
    assert {c.name for c in found.clusters} == {f"kind {kind}" for kind in range(K)}
    right = [names[uid] == f"kind {kind}" for uid, kind in zip(found.uids, KINDS, strict=True)]
    assert np.mean(right) > 0.95


def test_what_was_merged_goes_on_as_it_was_fitted(herd):
    before = herd.cluster("kmeans", K)
    assert len(herd.merge(2).clusters) == 2
    found = herd.cluster(warm_start=True)
    np.testing.assert_array_equal(found.uids, before.uids)


def test_a_warm_start_is_the_same_again_or_none(herd):
    herd.cluster("kmeans", K)
    for wrong, message in (
        ({"method": "tsp"}, "made with method=kmeans, so method=tsp cannot start from it"),
        ({"n_clusters": 5}, "n_clusters=4, so n_clusters=5"),
        ({"features": "others"}, "features=others cannot start"),
    ):
        with pytest.raises(ImageherdError, match=message):
            herd.cluster(warm_start=True, **wrong)
    assert len(herd.cluster("kmeans", K, warm_start=True).clusters) == K
    herd.cluster("agglomerative", K, name="tree")
    with pytest.raises(ImageherdError, match="agglomerative, which gave clustering 'tree', cannot"):
        herd.cluster(name="tree", warm_start=True)


def test_of_a_warm_start_and_a_sample_config_tells(herd):
    herd.cluster("tsp", K, **QUICK)
    found = herd.cluster(warm_start=True, train_on=150)
    config = json.loads((found.folder / found.version / "clusters.json").read_text())
    assert (config["train_on"], config["warm_start"]) == (150, "v0001")


def test_devices_are_handed_to_the_head_and_not_kept(herd, monkeypatch):
    asked = []

    def alone(head, Z, neighbors, run, devices):
        asked.append(devices)
        return head._fit(Z, neighbors, run)

    monkeypatch.setattr(base, "fit_shared", alone)
    found = herd.cluster("temi", K, devices=2, device="cpu", n_heads=2, **QUICK)
    assert asked == [2]
    assert "devices" not in found.config["params"]
    with pytest.raises(ValueError, match="TSP trains on one"):
        herd.cluster("tsp", K, devices=2, device="cpu")
