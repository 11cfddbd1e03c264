from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import make_blobs
from sklearn.metrics import mutual_info_score

from imageherd import choosing, choosing_trials
from imageherd.choosing import (
    CANDIDATES,
    choose_beta,
    choose_method,
)
from imageherd.choosing_beta import BetaChoice, lowest_enough
from imageherd.choosing_trials import neighbor_information
from imageherd.errors import ImageherdError
from imageherd.files import read_json, write_json
from imageherd.heads import HEADS
from imageherd.metrics import ari
from imageherd.neighbors import knn_graph


@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs(240, 8, centers=4, cluster_std=0.6, random_state=0)
    return X.astype(np.float32), y


# ---- what neighbours tell


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 5))
def test_information_is_the_mutual_information_of_the_pairs(seed, k, n_clusters):
    rng = np.random.default_rng(seed)
    labels, ids = rng.integers(0, n_clusters, 30), rng.integers(0, 30, (30, k))
    here, there = np.repeat(labels, k), labels[ids].ravel()
    expected = mutual_info_score(np.r_[here, there], np.r_[there, here])
    assert neighbor_information(labels, ids) == pytest.approx(expected, abs=1e-12)


def test_degenerate_clusterings_tell_next_to_nothing(blobs):
    X, y = blobs
    ids = knn_graph(X, 10).ids
    assert neighbor_information(y, ids) > 0.9 * np.log(4)
    swallowed = np.zeros(len(y), dtype=int)
    assert neighbor_information(swallowed, ids) == 0
    # Two clusters, one of five rows: nearly all neighbours agree, and it says nothing.
    swallowed[np.r_[0, ids[0, :4]]] = 1
    assert (swallowed[ids] == swallowed[:, None]).mean() > 0.95
    assert neighbor_information(swallowed, ids) < 0.1 * np.log(4)


def test_rows_in_no_cluster_tell_nothing():
    ids = np.array([[1], [0], [3], [2]])
    assert neighbor_information([0, 0, 1, 1], ids) == pytest.approx(np.log(2))
    # A row alone with -1 costs both pairs it is in.
    assert neighbor_information([0, 0, 1, -1], ids) == 0
    assert neighbor_information([-1] * 4, ids) == 0
    ids = np.array([[1], [0], [3], [2], [5], [4]])
    assert neighbor_information([0, 0, 1, 1, -1, 5], ids) == pytest.approx(np.log(2) * 2 / 3)


@pytest.mark.parametrize("labels", [[0, 1], [[0], [1], [0]]])
def test_shapes_must_fit(labels):
    with pytest.raises(ValueError, match=r"must be \(n,\) and \(n, k\)"):
        neighbor_information(labels, [[1], [2], [0]])


# ---- methods


def told(labels_by_seed):
    """A method that returns these labels, whatever the features."""

    class Told:
        counts_itself = False

        def __init__(self, n_clusters, random_state, device):
            self.random_state = random_state

        def fit(self, X, *, neighbors=None):
            self.labels_ = labels_by_seed(self.random_state)
            return self

    return Told


def with_methods(monkeypatch, methods):
    for module in (choosing, choosing_trials):
        monkeypatch.setattr(module, "HEADS", methods)


def test_the_best_method_is_chosen_and_its_best_seed(blobs, monkeypatch):
    X, y = blobs
    rng = np.random.default_rng(0)

    def noisy(share):
        wrong = rng.random(len(y)) < share
        return np.where(wrong, rng.integers(0, 4, len(y)), y)

    by_seed = {5: noisy(0.1), 6: noisy(0.02), 7: noisy(0.05)}
    lump = np.where(np.arange(len(y)) < 5, 1, 0)
    methods = {
        "lump": told(lambda seed: lump),
        "half": told(lambda seed: y // 2),
        "right": told(by_seed.__getitem__),
    }
    with_methods(monkeypatch, methods)
    found = choose_method(X, 4, candidates=tuple(methods), random_state=5)
    assert (found.method, found.random_state) == ("right", 6)
    assert [(r.method, r.random_state) for r in found.runs][2:5] == [
        ("lump", 7),
        ("half", 5),
        ("half", 6),
    ]
    assert list(found.means()) == ["right", "half", "lump"]
    assert found.reason.startswith("Chosen without labels: right, ")
    # Of equal ones the first named, from the lowest seed.
    with_methods(monkeypatch, dict.fromkeys("ba", told(lambda seed: y)))
    found = choose_method(X, 4, candidates=("b", "a"))
    assert (found.method, found.random_state) == ("b", 0)


def test_nearly_as_good_as_the_best_is_good_enough_for_the_first_named(blobs, monkeypatch):
    X, y = blobs

    def moved(n):
        return np.where(np.arange(len(y)) < n, (y + 1) % 4, y)

    for n, expected in ((1, "default"), (len(y) // 5, "other")):
        methods = {"default": told(lambda seed, n=n: moved(n)), "other": told(lambda seed: y)}
        with_methods(monkeypatch, methods)
        assert choose_method(X, 4, candidates=tuple(methods), n_seeds=1).method == expected


def test_methods_as_they_are(blobs):
    X, _ = blobs
    found = choose_method(X, 4, candidates=("spherical-kmeans", "spectral"), n_seeds=2, sample=200)
    assert found.n_rows == 200
    assert len(found.runs) == 4
    for run in found.runs:
        assert 0 < run.information <= np.log(4)
        assert 0 < run.generalization <= 1
        assert run.score == pytest.approx(run.information * run.generalization)
    again = choose_method(X, 4, candidates=("spherical-kmeans", "spectral"), n_seeds=2, sample=200)
    for a, b in zip(found.runs, again.runs, strict=True):
        assert (a.information, a.generalization) == (b.information, b.generalization)


def test_too_few_rows_try_nothing_and_say_so(blobs):
    found = choose_method(blobs[0][:59], 4, random_state=3)
    assert (found.method, found.random_state, found.runs) == ("tsp", 3, ())
    assert found.reason == (
        "Not chosen: 59 images are too few to compare methods on, which takes 15 a cluster; tsp "
        "is the default"
    )
    assert found.means() == {}
    found = choose_method(blobs[0][:60], 4, candidates=("spherical-kmeans",), n_seeds=1)
    assert len(found.runs) == 1


def test_what_was_tried_before_a_kill_is_not_tried_again(blobs, monkeypatch, tmp_path):
    X, y = blobs
    fits = []

    def labels(seed):
        fits.append(seed)
        if len(fits) == 4:
            raise KeyboardInterrupt
        return np.where(np.arange(len(y)) < seed, (y + 1) % 4, y)

    with_methods(monkeypatch, dict.fromkeys("ab", told(labels)))
    kept = tmp_path / "trials.json"
    with pytest.raises(KeyboardInterrupt):
        choose_method(X, 4, candidates=("a", "b"), random_state=5, kept=kept)
    again = choose_method(X, 4, candidates=("a", "b"), random_state=5, kept=kept)
    assert fits == [5, 6, 7, 5, 5, 6, 7]
    assert choose_method(X, 4, candidates=("a", "b"), random_state=5, kept=kept) == again
    assert len(fits) == 7
    fresh = choose_method(X, 4, candidates=("a", "b"), random_state=5)
    assert [(r.method, r.score) for r in again.runs] == [(r.method, r.score) for r in fresh.runs]
    # Half of a file is no file.
    kept.write_text('{"a 5": [0.1')
    found = choose_method(X, 4, candidates=("a", "b"), random_state=5, kept=kept)
    assert (found.method, found.random_state) == (fresh.method, fresh.random_state)


def test_every_candidate_is_told_a_number():
    for method in CANDIDATES:
        assert not HEADS[method].counts_itself


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": ("hdbscan",)}, "told a number of clusters"),
        ({"candidates": ("nonsense",)}, "told a number of clusters"),
        ({"candidates": ()}, "told a number of clusters"),
        ({"n_seeds": 0}, "n_seeds=0"),
        ({"n_clusters": 1}, "n_clusters=1"),
        ({"n_clusters": 241}, "n_clusters=241"),
        ({"sample": 3}, "sample=3"),
    ],
)
def test_what_cannot_be_chosen(blobs, options, message):
    with pytest.raises(ValueError, match=message):
        choose_method(blobs[0], **{"n_clusters": 4, **options})


# ---- β


@pytest.mark.parametrize(
    ("entropies", "expected"),
    [
        # Unsure below 0.7: 0.8 and 1.8 nats of at most 2.0.
        ([(2.3, 1.5), (2.3, 0.5), (2.3, 0.3), (2.2, 0.2)], 0.7),
        # All are sure; clusters are lost from 0.7 on.
        ([(2.3, 0.1), (2.3, 0.1), (1.0, 0.0), (0.0, 0.0)], 0.5),
        # 95 % of 2 is 1.9.
        ([(2.0, 0.2), (2.0, 0.1), (2.0, 0.0), (2.0, 0.0)], 0.6),
        ([(0.0, 0.0)] * 4, 0.5),
    ],
)
def test_the_lowest_beta_that_is_even_and_sure(entropies, expected):
    assert lowest_enough((0.5, 0.6, 0.7, 0.8), entropies) == expected


def test_betas_are_tried(blobs, tmp_path):
    fast = {"epochs": 1, "min_steps": 5, "n_heads": 2}
    kept = tmp_path / "betas.json"
    found = choose_beta(blobs[0], 4, (1.0, 0.6), sample=100, kept=kept, **fast)
    assert list(read_json(kept)) == ["0.6", "1"]
    write_json(kept, read_json(kept) | {"0.6": [1.25, 0.5]})
    again = choose_beta(blobs[0], 4, (1.0, 0.6), sample=100, kept=kept, **fast)
    assert (again.clusters[0], again.clusters[1]) == (1.25, found.clusters[1])
    assert found.betas == (0.6, 1.0)
    assert found.beta == lowest_enough(
        found.betas, list(zip(found.clusters, found.images, strict=True))
    )
    for clusters, images in zip(found.clusters, found.images, strict=True):
        assert 0 <= images <= clusters <= np.log(4) + 1e-6
    assert f"β = {found.beta:g}, the lowest of 2" in found.reason


@pytest.mark.parametrize("betas", [(), (0.5,), (0.6, 1.1)])
def test_betas_out_of_range(blobs, betas):
    with pytest.raises(ValueError, match="betas="):
        choose_beta(blobs[0], 4, betas)


# ---- in a herd


def test_a_herd_fits_what_was_chosen(herd, monkeypatch):
    asked = []

    def choose(X, n_clusters, **options):
        asked.append((len(X), n_clusters, options["random_state"]))
        run = choosing.Run("spherical-kmeans", 8, 1.0, 0.9, 0.1)
        return choosing.Choice("spherical-kmeans", 8, (run,), len(X))

    monkeypatch.setattr(choosing, "choose_method", choose)
    found = herd.cluster("auto", 4, random_state=7, keep_duplicates=True)
    assert asked == [(48, 4, 7)]
    assert found.config["method"] == "spherical-kmeans"
    assert found.config["params"]["random_state"] == 8
    chosen = herd.clustering().config["chosen"]
    assert (
        "spherical-kmeans 0.90; less than 5 % apart says nothing; 1 seeds of each on 48 "
        in chosen["reason"]
    )
    assert chosen["runs"][0]["score"] == pytest.approx(0.9)
    same = herd.cluster("spherical-kmeans", 4, random_state=8, name="same", keep_duplicates=True)
    assert ari(found.uids, same.uids) == 1
    assert chosen["asked"] == {"method": "auto", "random_state": 7}
    with pytest.raises(ImageherdError, match="epochs: a method that is chosen takes no parameters"):
        herd.cluster("auto", 4, epochs=3)


def test_beta_auto_is_chosen_with_the_other_parameters(herd, monkeypatch):
    asked = []

    def choose(X, n_clusters, **options):
        asked.append(options)
        return BetaChoice(0.7, (0.7,), (1.3,), (0.2,))

    monkeypatch.setattr(choosing, "choose_beta", choose)
    settings = SimpleNamespace(epochs=1, min_steps=5, n_heads=2)
    found = herd.cluster("temi", 4, beta="auto", **vars(settings))
    assert {k: asked[0][k] for k in vars(settings)} == vars(settings)
    assert "beta" not in asked[0]
    assert found.config["params"]["beta"] == 0.7
    assert found.config["chosen"]["betas"] == (0.7,)
