import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError

from imageherd.baselines import KMeans
from imageherd.errors import ImageherdError
from imageherd.heads import HEADS, load_head
from imageherd.heads.tsp import TSP

QUICK = {"epochs": 1, "min_steps": 10, "n_heads": 2, "device": "cpu", "random_state": 0}


@pytest.fixture(scope="module")
def X():
    return make_blobs(2500, 10, centers=4, cluster_std=4, random_state=0)[0].astype(np.float32)


@pytest.fixture(scope="module")
def head(X):
    return TSP(4, scaling="pca", **QUICK).fit(X)


@pytest.fixture
def saved(head, tmp_path):
    head.save(tmp_path / "head")
    return tmp_path / "head"


def test_labels_are_what_predict_says_and_proba_agrees(head, X):
    np.testing.assert_array_equal(head.labels_, head.predict(X))
    P = head.predict_proba(X)
    assert P.dtype == np.float32
    np.testing.assert_allclose(P.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(P.argmax(1), head.labels_)


def test_a_row_gets_the_same_bytes_whoever_comes_with_it(head, X):
    whole = head.predict_proba(X)
    for start, stop in ((0, 1), (1000, 1030), (2499, 2500)):
        np.testing.assert_array_equal(head.predict_proba(X[start:stop]), whole[start:stop])


def test_memory_map_and_float64_do_the_same(X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    plain = TSP(4, **QUICK).fit(X)
    for other in (mapped, X.astype(np.float64)):
        assert torch.equal(TSP(4, **QUICK).fit(other).network_.weight, plain.network_.weight)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(head, X, bad):
    broken = X.copy()
    broken[7, 3] = bad
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        TSP(4, **QUICK).fit(broken)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        head.predict(broken)


def test_more_clusters_than_rows():
    with pytest.raises(ValueError, match="n_samples=3 should be >= n_clusters=10"):
        KMeans(10).fit(np.eye(3))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_clusters": 0}, "n_clusters"),
        ({"scaling": "max"}, "scaling='max'"),
        ({"pca_variance": 0.0}, "pca_variance"),
        ({"pca_variance": 1.5}, "pca_variance"),
    ],
)
def test_bad_parameters_are_named(X, params, message):
    with pytest.raises(ValueError, match=message):
        KMeans(**params).fit(X)


def test_random_state_objects_and_none_work(X):
    a, b = (KMeans(4, random_state=np.random.RandomState(3)).fit(X).labels_ for _ in range(2))
    np.testing.assert_array_equal(a, b)
    KMeans(4, random_state=None).fit(X)


def test_round_trip(head, saved, X):
    for again in (TSP.load(saved), load_head(saved, device="cpu")):
        np.testing.assert_array_equal(again.predict_proba(X), head.predict_proba(X))
        assert again.get_params() == {**head.get_params(), "device": again.device}
        assert again.history_ == head.history_
        assert again.agreement_ == head.agreement_
        assert again.n_features_in_ == 10
    again.save(saved.parent / "second")
    bytes_of = [(f / "head.safetensors").read_bytes() for f in (saved, saved.parent / "second")]
    assert bytes_of[0] == bytes_of[1]


def test_nothing_pickled_and_two_files(saved):
    assert sorted(p.name for p in saved.iterdir()) == ["config.json", "head.safetensors"]
    assert json.loads((saved / "config.json").read_text())["class"] == "TSP"


def test_saved_random_state_that_is_no_integer(X, tmp_path):
    KMeans(4, random_state=np.random.RandomState(0)).fit(X).save(tmp_path)
    assert KMeans.load(tmp_path).random_state is None


def test_save_before_fit(tmp_path):
    with pytest.raises(NotFittedError):
        TSP().save(tmp_path)
    assert not any(tmp_path.iterdir())


def test_another_class_is_refused(saved):
    with pytest.raises(ImageherdError, match="holds a TSP head, not KMeans"):
        KMeans.load(saved)


def edit(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_newer_format_is_refused(saved):
    edit(saved, format=99)
    with pytest.raises(ImageherdError, match=r"newer imageherd \(format 99"):
        load_head(saved)


def test_unknown_class_is_refused(saved):
    edit(saved, **{"class": "Mystery"})
    with pytest.raises(ImageherdError, match="Mystery head, which this imageherd does not know"):
        load_head(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": "x"}'])
def test_garbled_config_is_a_clear_error(saved, text):
    (saved / "config.json").write_text(text)
    with pytest.raises(ImageherdError, match="config"):
        load_head(saved)


def test_missing_folder(tmp_path):
    with pytest.raises(ImageherdError, match="holds no saved head"):
        load_head(tmp_path / "nothing")


def test_flipped_byte_and_missing_weights(saved):
    path = saved / "head.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ImageherdError, match="damaged"):
        TSP.load(saved)
    path.unlink()
    with pytest.raises(ImageherdError, match=r"no readable head\.safetensors"):
        TSP.load(saved)


def test_config_that_does_not_fit_the_weights(saved):
    config = json.loads((saved / "config.json").read_text())
    edit(saved, params={**config["params"], "n_clusters": 9})
    with pytest.raises(ImageherdError, match="not hold a whole TSP head"):
        TSP.load(saved)


def test_checkpoint_of_other_data_is_refused(X, tmp_path, monkeypatch):
    monkeypatch.setattr("imageherd.heads.loop.CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "checkpoint"

    def stop(info):
        if info["epoch"] == 2:
            raise KeyboardInterrupt

    X, params = X[:200], {**QUICK, "epochs": 3, "min_steps": 0}
    with pytest.raises(KeyboardInterrupt):
        TSP(4, **params).fit(X, callback=stop, checkpoint=path)
    with pytest.raises(ImageherdError, match="other parameters or other data"):
        TSP(4, **params).fit(X + 1, checkpoint=path)
    with pytest.raises(ImageherdError, match="other parameters or other data"):
        TSP(4, **{**params, "random_state": 1}).fit(X, checkpoint=path)


def test_heads_are_found_by_name_and_nothing_heavy_is_imported():
    assert {"tsp", "temi", "kmeans"} <= set(HEADS)
    assert HEADS["tsp"] is TSP
    assert "nothing" not in HEADS
    code = "import sys, imageherd.heads; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
