"""Training that goes on from a head fitted before."""

import numpy as np
import pytest
import torch

from imageherd.errors import ImageherdError
from imageherd.heads import HEADS
from imageherd.heads.base import CollapseWarning

K, D = 4, 12
RNG = np.random.default_rng(0)
CENTERS = RNG.normal(size=(K, D)) * 3
KINDS = RNG.integers(K, size=480)
X = (CENTERS[KINDS] + RNG.normal(size=(480, D))).astype(np.float32)
OLD, GROWN = X[:400], X
TRAINED = ("tsp", "temi", "scp", "infonce", "lsdc", "turtle")
WARM = (*TRAINED, "kmeans", "spherical-kmeans")
HARDLY = {"epochs": 1, "min_steps": 1, "lr": 1e-6}


def make(method, seed=0, **params):
    if method in ("tsp", "temi"):
        params["n_heads"] = 2
    return HEADS[method](K, random_state=seed, device="cpu", **params)


@pytest.mark.parametrize("method", WARM)
def test_it_begins_where_the_other_ended(method, tmp_path):
    params = {"epochs": 20, "min_steps": 60} if method in TRAINED else {}
    before = make(method, **params).fit(OLD)
    before.save(tmp_path)
    start = HEADS[method].load(tmp_path, device="cpu")
    again = make(method, seed=5, **(HARDLY if method in TRAINED else {})).fit(GROWN, start=start)
    assert len(np.unique(before.labels_)) == K
    assert (again.labels_ == start.predict(GROWN)).mean() > 0.98
    for name, value in start.scaler_.state_dict().items():
        torch.testing.assert_close(again.scaler_.state_dict()[name], value, rtol=0, atol=0)
    # What was begun with is not what was trained on.
    np.testing.assert_array_equal(start.predict(OLD), HEADS[method].load(tmp_path).predict(OLD))


def test_without_it_another_seed_calls_the_clusters_otherwise():
    before = make("tsp").fit(OLD)
    other = make("tsp", seed=5).fit(GROWN)
    assert (other.labels_ == before.predict(GROWN)).mean() < 0.9


def test_only_the_like_can_be_begun_with():
    before = make("kmeans").fit(OLD)
    with pytest.raises(ValueError, match=r"of 4 clusters and 12 features is nothing TSP of 4"):
        make("tsp").fit(X, start=before)
    with pytest.raises(ValueError, match="nothing KMeans of 4 and 11 can start from"):
        make("kmeans").fit(X[:, 1:], start=before)
    few = HEADS["kmeans"](3, random_state=0).fit(OLD)
    with pytest.raises(ValueError, match="of 3 clusters and 12 features"):
        make("kmeans").fit(X, start=few)
    spectral = make("spectral").fit(OLD)
    with pytest.raises(ValueError, match="can start from"):
        make("spectral").fit(X, start=spectral)


@pytest.mark.filterwarnings("ignore", category=CollapseWarning)
def test_a_checkpoint_of_a_cold_run_is_not_taken_up_by_a_warm_one(tmp_path, monkeypatch):
    class StopError(Exception):
        pass

    def stop(info):
        if info["epoch"] == 2:
            raise StopError

    monkeypatch.setattr("imageherd.heads.loop.CHECKPOINT_SECONDS", 0)
    before = make("scp", epochs=3, min_steps=3).fit(OLD)
    with pytest.raises(StopError):
        make("scp", epochs=3).fit(GROWN, callback=stop, checkpoint=tmp_path / "c")
    with pytest.raises(ImageherdError, match="other parameters or other data"):
        make("scp", epochs=3).fit(GROWN, start=before, checkpoint=tmp_path / "c")
