import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imageherd import derived
from imageherd.errors import ImageherdError
from imageherd.herd import Herd
from imageherd.neighbors import NeighborGraph, approximate_knn_graph, knn_graph, update_graph
from imageherd.neighbors.update import searched_anew

EXAMPLES = Path(__file__).parents[1] / "examples" / "clothing"


def assert_same(graph, other):
    np.testing.assert_array_equal(graph.ids, other.ids)
    np.testing.assert_array_equal(graph.similarities, other.similarities)
    assert graph.recall == other.recall


def places(old, new):
    """Where each of the old rows is among the new, -1 for nowhere."""
    return np.array([new.tolist().index(r) if r in new else -1 for r in old])


# Small whole numbers make ties, zero rows and multiples of one another common.
@given(
    X=arrays(np.float32, (24, 3), elements=st.integers(-2, 2).map(float)),
    old=st.sets(st.integers(0, 23), min_size=4),
    new=st.sets(st.integers(0, 23), min_size=4),
    k=st.integers(1, 3),
)
@settings(max_examples=150, deadline=None)
def test_an_exact_graph_is_as_made_from_scratch(X, old, new, k):
    old, new = np.array(sorted(old)), np.array(sorted(new))
    updated = update_graph(knn_graph(X[old], k), places(old, new), X[new])
    assert_same(updated, knn_graph(X[new], k))


def test_only_what_is_new_or_touched_is_searched_for_anew(monkeypatch):
    X = np.random.default_rng(0).normal(size=(900, 20)).astype(np.float32)
    old, new = np.arange(800), np.r_[0:300, 310:900]
    graph = knn_graph(X[old], 10)
    place = places(old, new)
    asked, added = searched_anew(graph, place, len(new))
    assert added.tolist() == list(range(790, 890))
    touched = np.isin(graph.ids, np.arange(300, 310)).any(1)
    touched[300:310] = False
    assert asked.tolist() == sorted(place[touched].tolist() + added.tolist())
    assert_same(update_graph(graph, place, X[new]), knn_graph(X[new], 10))


def test_nothing_new_changes_nothing():
    X = np.random.default_rng(0).normal(size=(60, 5))
    graph = knn_graph(X, 7)
    assert_same(update_graph(graph, np.arange(60), X), graph)


def test_what_is_added_to_an_approximate_graph_is_exact_and_its_recall_is_measured():
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(30, 16))
    X = centers[rng.integers(30, size=900)] + 0.5 * rng.normal(size=(900, 16))
    before = approximate_knn_graph(X[:850], 10, recall=0.7)
    graph = update_graph(before, np.arange(850), X)
    exact = knn_graph(X, 10)
    assert_same(NeighborGraph(graph.ids[850:], graph.similarities[850:]),
                NeighborGraph(exact.ids[850:], exact.similarities[850:]))  # fmt: skip
    # Of up to 1,000 rows all are in the sample.
    assert graph.recall == (graph.similarities >= exact.similarities[:, -1:]).mean()
    assert before.recall < graph.recall < 1


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (np.arange(19), "place has shape"),
        (np.arange(20)[::-1], "place must ascend"),
        (np.arange(20) + 1, "place must ascend, apart from -1, and stay below the 20 rows"),
        (np.r_[np.arange(19), 0], "place must ascend"),
    ],
)
def test_places_that_do_not_suit_are_refused(place, message):
    X = np.random.default_rng(0).normal(size=(20, 5))
    graph = knn_graph(X, 3)
    with pytest.raises(ValueError, match=message):
        update_graph(graph, place, X)
    with pytest.raises(ValueError, match="k=3 must be at least 1 and at most 2"):
        update_graph(graph, np.r_[np.arange(3), np.full(17, -1)], X[:3])


@pytest.fixture
def made(monkeypatch):
    """How graphs were made, in turn."""
    calls = []
    for name in ("knn_graph", "approximate_knn_graph", "update_graph"):
        real = getattr(derived, name)
        monkeypatch.setattr(
            derived, name, lambda *a, real=real, **k: calls.append(real.__name__) or real(*a, **k)
        )
    return calls


def test_a_herd_that_grows_and_shrinks_keeps_its_graph_up_to_date(photos, tmp_path, made):
    folder = shutil.copytree(photos / "left", tmp_path / "clothes")
    herd = Herd(tmp_path / "clothes.herd")
    herd.embed(folder)
    herd.neighbors(k=5)
    for i, path in enumerate(sorted(EXAMPLES.glob("*.jpg"))[60:66]):
        shutil.copy(path, folder / f"new-{i}.jpg")
    herd.embed(folder)
    assert len(herd.features().rows) == 30
    assert_same(herd.neighbors(k=5), knn_graph(herd.features().X, 5))
    (folder / "3.jpg").unlink()
    herd.embed(folder)
    assert len(herd.features().rows) == 29
    assert_same(herd.neighbors(k=5), knn_graph(herd.features().X, 5))
    assert made == ["knn_graph", "update_graph", "update_graph"]


def test_exact_or_approximate_as_asked_and_by_number(herd, made, monkeypatch):
    exact = herd.neighbors(k=5)
    # What is exact serves for both.
    assert_same(herd.neighbors(k=5, how="approx"), exact)
    assert made == ["knn_graph"]
    monkeypatch.setitem(derived.MOST_EXACT, "cpu", 47)
    monkeypatch.setattr("imageherd.neighbors.approximate.TARGET", 0.3)
    found = herd.neighbors(k=6, device="cpu")
    assert made[1:] == ["approximate_knn_graph"]
    monkeypatch.setitem(derived.MOST_EXACT, "cpu", 48)
    # A kept one is taken for what it is, unless it must be exact.
    assert_same(herd.neighbors(k=6), found)
    assert herd.neighbors(k=6, how="exact").recall is None
    assert herd.neighbors(k=6).recall is None
    with pytest.raises(ImageherdError, match="neighbors='some' is not known; choose auto, exact"):
        herd.neighbors(how="some")


def test_a_clustering_says_how_many_neighbours_were_found(herd, monkeypatch):
    (kept,) = herd.path.glob("neighbors/*/k*")
    exact = NeighborGraph.load(kept)
    assert "neighbors" not in herd.clustering().config
    NeighborGraph(exact.ids, exact.similarities, recall=0.9).save(kept)
    found = herd.cluster("kmeans", 3)
    assert found.config["neighbors"] == {"k": 47, "recall": 0.9}
    assert "neighbors" not in herd.cluster("kmeans", 3, neighbors="exact").config
    assert_same(NeighborGraph.load(kept), exact)


def test_a_graph_that_was_kept_without_its_rows_is_no_start(herd, photos, tmp_path, made):
    (kept,) = herd.path.glob("neighbors/*/k*")
    NeighborGraph.load(kept).save(kept)
    more = tmp_path / "more"
    more.mkdir()
    shutil.copy(sorted(EXAMPLES.glob("*.jpg"))[70], more)
    herd.embed(more)
    assert_same(herd.neighbors(k=47), knn_graph(herd.features().X, 47))
    assert made == ["knn_graph"]
    assert Herd(herd.path).neighbors(k=47).k == 47
