import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imageherd import memory
from imageherd.errors import ImageherdError
from imageherd.neighbors import (
    NeighborGraph,
    Rows,
    approximate,
    approximate_knn_graph,
    knn_graph,
    units,
)
from reference.neighbors import exact_cosines


def mixture(n, d=24, k=60, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(k, d))
    return (centers[rng.integers(k, size=n)] + 0.5 * rng.normal(size=(n, d))).astype(dtype)


def true_recall(graph, exact):
    return float((graph.similarities >= exact.similarities[:, -1:]).mean())


def assert_sound(X, graph):
    """Every similarity is the exact one; equal ones come by row; no row twice, none its own."""
    n, k = graph.ids.shape
    cosines = exact_cosines(X)
    np.testing.assert_array_equal(np.take_along_axis(cosines, graph.ids, 1), graph.similarities)
    order = np.lexsort((graph.ids, -graph.similarities), axis=1)
    np.testing.assert_array_equal(order, np.broadcast_to(np.arange(k), (n, k)))
    assert all(len(set(row)) == k for row in graph.ids.tolist())
    assert not (graph.ids == np.arange(n)[:, None]).any()


def assert_same(graph, other):
    np.testing.assert_array_equal(graph.ids, other.ids)
    np.testing.assert_array_equal(graph.similarities, other.similarities)
    assert graph.recall == other.recall


def test_as_much_is_found_as_is_said_and_asked_for():
    X = mixture(6_000)
    exact = knn_graph(X, 20)
    for wanted in (0.8, 0.95, 0.99):
        graph = approximate_knn_graph(X, 20, recall=wanted)
        assert graph.recall >= wanted
        assert true_recall(graph, exact) == pytest.approx(graph.recall, abs=0.02)
    assert 0.8 <= approximate_knn_graph(X, 20, recall=0.8).recall < 0.95


@given(seed=st.integers(0, 999), n_lists=st.integers(4, 60), k=st.integers(1, 12))
@settings(max_examples=15, deadline=None)
def test_what_is_found_is_exact_in_value_and_order(seed, n_lists, k):
    # Of up to 1,000 rows all are in the sample: the recall is no estimate.
    X = mixture(400, d=6, k=20, seed=seed)
    X[100:140], X[7] = X[:40], 0
    graph = approximate_knn_graph(X, k, recall=0.6, n_lists=n_lists, random_state=seed)
    assert_sound(X, graph)
    exact = knn_graph(X, k)
    if graph.recall is None:
        assert_same(graph, exact)
    else:
        assert graph.recall == true_recall(graph, exact)


def test_the_seed_decides_and_blocks_do_not(monkeypatch):
    X = mixture(3_000)
    graph = approximate_knn_graph(X, 10)
    assert_same(approximate_knn_graph(X, 10), graph)
    other = approximate_knn_graph(X, 10, random_state=1)
    assert (other.ids != graph.ids).any()
    monkeypatch.setattr(approximate, "_GROUP", 700)
    monkeypatch.setattr(approximate, "_BLOCK", 300)
    monkeypatch.setattr(approximate, "_MOST_PRODUCTS", 1_000)
    assert_same(approximate_knn_graph(X, 10), graph)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rows_read_on_demand_or_from_a_file_change_nothing(tmp_path, monkeypatch, dtype):
    X = mixture(2_000, dtype=dtype)
    np.save(tmp_path / "X.npy", X)
    asked = []
    rows = Rows(lambda at: asked.append(len(at)) or X[at], X.shape)
    for find in (knn_graph, approximate_knn_graph):
        graph = find(X, 10)
        assert_same(find(np.load(tmp_path / "X.npy", mmap_mode="r"), 10), graph)
        monkeypatch.setattr(units, "_BLOCK_ELEMENTS", 100 * X.shape[1])
        monkeypatch.setattr(approximate, "_BLOCK", 100)
        assert_same(find(rows, 10), graph)
        assert max(asked) == 100
        monkeypatch.undo()
        monkeypatch.setattr(memory, "MOST_IN_MEMORY", 0)
        (scratch := tmp_path / find.__name__).mkdir()
        assert_same(find(X, 10, scratch=scratch), graph)
        assert list(scratch.iterdir()) == []
        monkeypatch.undo()


def test_where_lists_are_of_no_use_all_are_compared():
    X = np.random.default_rng(0).normal(size=(1_500, 64)).astype(np.float32)
    graph = approximate_knn_graph(X, 30)
    assert graph.recall is None
    assert_same(graph, knn_graph(X, 30))


def test_rows_all_alike_are_neighbours_of_each_other():
    graph = approximate_knn_graph(np.ones((50, 3)), 4)
    assert graph.recall == 1
    assert_sound(np.ones((50, 3)), graph)


def test_no_more_lists_are_looked_into_than_is_bearable(monkeypatch):
    X = mixture(900, d=40)
    monkeypatch.setattr(approximate, "_MOST_LISTS", 1)
    graph = approximate_knn_graph(X, 30)
    assert graph.recall == true_recall(graph, knn_graph(X, 30)) < 0.9
    assert_sound(X, graph)


def test_rows_whose_lists_hold_too_few_are_compared_with_all(monkeypatch):
    X = mixture(600, d=4)
    X[-3:] = 100 * np.eye(4)[0] * [[1], [2], [3]] - X[-3:]
    monkeypatch.setattr(approximate, "_MOST_LISTS", 2)
    graph, exact = approximate_knn_graph(X, 25, n_lists=200), knn_graph(X, 25)
    assert_sound(X, graph)
    # Two lists of three rows on average hold no 25.
    assert true_recall(graph, exact) > 0.9


def test_recall_is_kept_and_told_from_exact(tmp_path):
    path = tmp_path / "graph.safetensors"
    for graph in (approximate_knn_graph(mixture(2_000), 10, recall=0.7), knn_graph(mixture(60), 5)):
        graph.save(path)
        assert_same(NeighborGraph.load(path), graph)
        assert NeighborGraph.load(path).slice(3).recall == graph.recall
    NeighborGraph(graph.ids, graph.similarities, recall=1.5).save(path)
    with pytest.raises(ImageherdError, match=r"its recall is 1\.5"):
        NeighborGraph.load(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 90}, "k=90 must be at least 1 and at most 89"),
        ({"recall": 0}, "recall=0 must be above 0"),
        ({"recall": 1.1}, "recall=1.1 must be"),
        ({"n_lists": 0}, "n_lists=0 must be at least 1 and at most 90"),
        ({"n_lists": 91}, "n_lists=91"),
    ],
)
def test_what_cannot_be_done_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        approximate_knn_graph(mixture(90), **{"k": 3} | options)


def test_a_row_that_is_not_finite_is_named():
    X = mixture(500)
    X[217, 3] = np.nan
    with pytest.raises(ValueError, match="X holds a NaN or an infinity in row 217"):
        approximate_knn_graph(X, 3)
    with pytest.raises(ValueError, match="2-D and not empty"):
        approximate_knn_graph(Rows(lambda at: X[at], (0, 24)), 3)
