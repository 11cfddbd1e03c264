import contextlib
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import save_file
from sklearn.neighbors import NearestNeighbors

from imageherd.errors import ImageherdError
from imageherd.neighbors import NeighborGraph, exact, halves, knn_graph, knn_query
from imageherd.neighbors.units import unit_rows
from imageherd.progress import reporting
from reference.neighbors import neighbors_by_full_sort, query_by_full_sort


def make_features(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def assert_same(graph, ids, similarities):
    np.testing.assert_array_equal(graph.ids, ids)
    np.testing.assert_array_equal(graph.similarities, similarities)


# Small whole numbers make ties, zero rows and multiples of one another common.
tied_features = st.tuples(st.integers(2, 40), st.integers(1, 5)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.integers(-2, 2).map(float))
)
any_features = st.tuples(st.integers(2, 25), st.integers(1, 12)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-1e300, 1e300))
)


@given(X=tied_features | any_features, data=st.data())
@settings(max_examples=150, deadline=None)
def test_graph_agrees_with_a_full_sort_of_exact_integers(X, data):
    k = data.draw(st.integers(1, len(X) - 1))
    block_size = data.draw(st.none() | st.integers(1, len(X) + 1))
    graph = knn_graph(X, k, block_size=block_size)
    assert_same(graph, *neighbors_by_full_sort(X, k))
    assert graph.ids.dtype == np.int32
    assert graph.similarities.dtype == np.float32


@given(X=tied_features, data=st.data())
@settings(max_examples=100, deadline=None)
def test_query_agrees_with_a_full_sort_of_exact_integers(X, data):
    queries = data.draw(
        arrays(
            np.float32,
            (data.draw(st.integers(1, 8)), X.shape[1]),
            elements=st.floats(-3, 3, width=32),
        )
    )
    k = data.draw(st.integers(1, len(X)))
    ids, similarities = knn_query(X, queries, k, block_size=data.draw(st.integers(1, 9)))
    expected_ids, expected = query_by_full_sort(X, queries, k)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_array_equal(similarities, expected)


@pytest.mark.parametrize("k", [1, 20, 60])
def test_graph_agrees_with_a_full_sort_where_most_rows_are_never_candidates(k):
    X = make_features(700, 24)
    assert_same(knn_graph(X, k), *neighbors_by_full_sort(X, k))


@pytest.fixture
def halved(monkeypatch):
    """Let candidates come from products in bfloat16, whatever the processor and the number."""
    used = []
    propose = halves.candidates
    monkeypatch.setattr(halves, "candidates", lambda *a: used.append(a[2]) or propose(*a))
    monkeypatch.setattr(exact, "_worth_halving", lambda bank: True)
    monkeypatch.setattr(exact, "_ROWS_WORTH_PROGRESS", 0)
    return used


@given(X=tied_features | any_features, data=st.data())
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_products_in_bfloat16_change_no_bit(halved, X, data):
    k = data.draw(st.integers(1, max(1, (len(X) - 1) // 4)))
    assert_same(knn_graph(X, k, block_size=7), *neighbors_by_full_sort(X, k))


@pytest.mark.parametrize(("k", "columns"), [(1, 65_536), (20, 65_536), (20, 130), (100, 300)])
def test_most_rows_are_never_candidates_of_bfloat16(halved, monkeypatch, k, columns):
    monkeypatch.setattr(halves, "_COLUMNS", columns)
    X = make_features(900, 24)
    # Near ties and repeats, which only exact products can tell apart.
    X[300:420] = X[0] + 1e-3 * X[300:420]
    X[500:560] = X[1]
    assert_same(knn_graph(X, k, block_size=250), *neighbors_by_full_sort(X, k))
    assert len(halved) >= 4
    found = knn_query(X, X[290:310] + 0.01, k)
    np.testing.assert_array_equal(found, query_by_full_sort(X, X[290:310] + 0.01, k))
    assert halved[-1] is None


def test_no_product_in_bfloat16_is_farther_off_than_is_said():
    X, Y = make_features(300, 200), make_features(40, 200, seed=1)
    X[:40] = Y + 0.1 * X[:40]
    cpu = torch.device("cpu")
    bank, rows = unit_rows(X, "X", cpu), unit_rows(Y, "Y", cpu)
    cosines = rows.vectors.double() @ bank.vectors.double().T
    ids, counts, missed = halves.candidates(halves.halves(bank), halves.halves(rows), None, 10, 30)
    others = cosines.scatter(1, ids, -1)
    assert (others.amax(1) <= missed).all()
    assert (missed - cosines.gather(1, ids)[:, -1]).max() < 0.02
    best = cosines.topk(10).indices
    for row in range(40):
        assert set(best[row].tolist()) <= set(ids[row, : counts[row]].tolist())


def test_similarities_are_cosines():
    X = make_features(400, 96).astype(np.float64)
    graph = knn_graph(X, 5)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    expected = np.einsum("id,ikd->ik", unit, unit[graph.ids])
    np.testing.assert_allclose(graph.similarities, expected, rtol=0, atol=1e-7)


def test_agrees_with_scikit_learn_where_there_are_no_near_ties():
    X = make_features(600, 32)
    _, ids = NearestNeighbors(n_neighbors=11, metric="cosine").fit(X).kneighbors()
    assert (knn_graph(X, 11).ids == ids).mean() > 0.999


@pytest.mark.parametrize("block_size", [1, 3, 64, 500, 10_000])
def test_block_size_changes_no_bit(block_size):
    # Repeats among the rows bring the exact comparison with all rows into play as well.
    X = np.concatenate(
        [make_features(400, 48), np.repeat(make_features(3, 48, seed=1), 40, axis=0)]
    )
    whole = knn_graph(X, 20)
    assert_same(knn_graph(X, 20, block_size=block_size), whole.ids, whole.similarities)


@pytest.mark.parametrize("columns", [1, 10, 64, 519, 520])
def test_blocks_of_columns_change_no_bit(monkeypatch, columns):
    X = np.concatenate(
        [make_features(400, 48), np.repeat(make_features(3, 48, seed=1), 40, axis=0)]
    )
    whole = knn_graph(X, 20)
    monkeypatch.setattr(exact, "_COLUMNS", {"cpu": columns})
    monkeypatch.setattr(exact, "_COLUMNS_EXACT", columns)
    assert_same(knn_graph(X, 20, block_size=100), whole.ids, whole.similarities)
    few = knn_graph(X[:5], 4)
    assert_same(few, *neighbors_by_full_sort(X[:5], 4))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_order_of_rows_only_renumbers(seed):
    X = make_features(150, 16)
    order = np.random.default_rng(seed).permutation(len(X))
    graph, shuffled = knn_graph(X, 10), knn_graph(X[order], 10)
    np.testing.assert_array_equal(order[shuffled.ids], graph.ids[order])
    np.testing.assert_array_equal(shuffled.similarities, graph.similarities[order])


def test_more_repeats_than_candidates_come_by_id():
    X = np.repeat(make_features(2, 8), 200, axis=0)
    graph = knn_graph(X, 5)
    assert (graph.similarities == 1).all()
    np.testing.assert_array_equal(graph.ids[0], [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(graph.ids[3], [0, 1, 2, 4, 5])
    np.testing.assert_array_equal(graph.ids[399], [200, 201, 202, 203, 204])


def test_a_near_tie_beyond_float32_products_is_settled():
    # All lie within 1e-5 of each other, closer than the bound on a float32 product's error.
    rng = np.random.default_rng(0)
    X = 1 + 1e-3 * rng.standard_normal((300, 512))
    assert_same(knn_graph(X, 10), *neighbors_by_full_sort(X, 10))


def test_rows_of_zeros_are_similar_to_none():
    X = make_features(100, 6)
    X[[4, 40]] = 0
    graph = knn_graph(X, 7)
    np.testing.assert_array_equal(graph.ids[4], [0, 1, 2, 3, 5, 6, 7])
    np.testing.assert_array_equal(graph.similarities[[4, 40]], 0)
    assert not np.signbit(graph.similarities[[4, 40]]).any()
    assert np.isfinite(graph.similarities).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16])
def test_dtype_and_memory_map_change_nothing(tmp_path, dtype):
    X = np.random.default_rng(0).integers(-50, 50, (120, 20)).astype(dtype)
    np.save(tmp_path / "X.npy", X)
    graph = knn_graph(np.load(tmp_path / "X.npy", mmap_mode="r"), 9)
    assert_same(graph, *neighbors_by_full_sort(X, 9))


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 3.0, 1e30, 1e300])
def test_scale_of_a_row_does_not_matter(scale):
    X = make_features(80, 12).astype(np.float64)
    graph = knn_graph(X, 6)
    scaled = knn_graph(X * scale, 6)
    np.testing.assert_array_equal(scaled.ids, graph.ids)
    np.testing.assert_allclose(scaled.similarities, graph.similarities, atol=1e-7)


def test_result_does_not_depend_on_a_lowered_matmul_precision():
    X = make_features(300, 64)
    graph = knn_graph(X, 10)
    torch.set_float32_matmul_precision("medium")
    try:
        assert_same(knn_graph(X, 10), graph.ids, graph.similarities)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_query_equal_to_a_row_finds_it():
    X = make_features(200, 10)
    ids, similarities = knn_query(X, 7 * X[50:60], 3)
    np.testing.assert_array_equal(ids[:, 0], np.arange(50, 60))
    np.testing.assert_array_equal(similarities[:, 0], 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_named(bad):
    X = make_features(90, 4)
    X[57, 2] = bad
    with pytest.raises(ValueError, match="X holds a NaN or an infinity in row 57"):
        knn_graph(X, 3)
    with pytest.raises(ValueError, match="queries holds a NaN or an infinity in row 57"):
        knn_query(make_features(10, 4), X, 3, block_size=20)


@pytest.mark.parametrize(
    ("X", "k", "message"),
    [
        (make_features(10, 3), 10, "k=10 must be at least 1 and at most 9"),
        (make_features(10, 3), 0, "k=0"),
        (make_features(1, 3), 1, "k=1 must be"),
        (np.zeros(5), 1, "2-D"),
        (np.zeros((0, 3)), 1, "not empty"),
        (np.zeros((3, 0)), 1, "not empty"),
        (np.array([["a"], ["b"]]), 1, "real numbers"),
        (np.ones((3, 2), dtype=complex), 1, "real numbers"),
    ],
)
def test_what_cannot_be_searched_is_refused(X, k, message):
    with pytest.raises(ValueError, match=message):
        knn_graph(X, k)


def test_query_of_another_width_or_too_many_neighbors_is_refused():
    with pytest.raises(ValueError, match="queries has 4 features, X has 3"):
        knn_query(make_features(5, 3), make_features(2, 4), 1)
    with pytest.raises(ValueError, match="k=6 must be at least 1 and at most 5"):
        knn_query(make_features(5, 3), make_features(2, 3), 6)
    with pytest.raises(ValueError, match="block_size=0"):
        knn_graph(make_features(5, 3), 2, block_size=0)


def test_a_device_that_is_not_there_is_said_so():
    with pytest.raises(ImageherdError, match="not known"):
        knn_graph(make_features(5, 3), 2, device="abacus")


def test_a_gpus_batches_give_the_same_bytes_on_the_cpu(monkeypatch):
    X = make_features(500, 64)
    graph = knn_graph(X, 10)
    by_batch = exact._products_by_batch
    monkeypatch.setattr(exact, "_products_by_row", lambda *a: by_batch(*a[:3]))
    monkeypatch.setattr(exact, "_BATCH_ELEMENTS", 26 * 64 * 7)
    assert_same(knn_graph(X, 10), graph.ids, graph.similarities)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_gives_the_same_bytes():
    X = np.concatenate([make_features(3000, 256), np.repeat(make_features(2, 256, 1), 200, axis=0)])
    graph = knn_graph(X, 50)
    assert_same(knn_graph(X, 50, device="cuda"), graph.ids, graph.similarities)


def test_progress_is_reported_for_many_rows_only(monkeypatch):
    monkeypatch.setattr(exact, "_ROWS_WORTH_PROGRESS", 100)
    told = []

    def reporter(description, total, unit):
        told.append((description, total, unit))
        return contextlib.nullcontext(told.append)

    with reporting(reporter):
        knn_graph(make_features(99, 4), 3)
        assert told == []
        knn_graph(make_features(100, 4), 3, block_size=60)
    assert told == [("Finding neighbours", 100, "images"), 60, 40]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's peak memory")
def test_memory_is_bounded_by_the_block():
    # All 20,000² similarities would be 1.6 GB; X and its unit copy are 2.6 MB each.
    code = """
        import re
        from pathlib import Path
        import numpy as np
        from imageherd.neighbors import knn_graph
        def peak():
            # Not getrusage: its peak starts from the parent's.
            return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
        X = np.random.default_rng(0).standard_normal((20_000, 32), dtype=np.float32)
        knn_graph(X[:500], 5)
        before = peak()
        knn_graph(X, 5, block_size=200)
        print((peak() - before) // 1024)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 150


def test_slice_keeps_the_nearest():
    graph = knn_graph(make_features(60, 5), 12)
    nearest = graph.slice(4)
    assert nearest.k == 4
    assert_same(nearest, graph.ids[:, :4], graph.similarities[:, :4])
    for k in (0, 13):
        with pytest.raises(ValueError, match="at most 12"):
            graph.slice(k)


def test_a_saved_graph_comes_back_whole(tmp_path):
    graph = knn_graph(make_features(60, 5), 12).slice(7)
    graph.save(tmp_path / "new" / "graph.safetensors")
    back = NeighborGraph.load(tmp_path / "new" / "graph.safetensors")
    assert_same(back, graph.ids, graph.similarities)
    assert (back.k, back.metric) == (7, "cosine")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["graph.safetensors"]


def damaged(**changes):
    ids = np.array([[1, 2], [0, 2], [0, 1]], dtype=np.int32)
    similarities = np.array([[0.9, 0.1], [0.9, 0.5], [0.5, 0.1]], dtype=np.float32)
    tensors = {"ids": ids, "similarities": similarities} | changes
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        (damaged(), {"metric": "cosine", "k": "3"}, "k is '3'"),
        (damaged(), {"metric": "euclidean", "k": "2"}, "metric is 'euclidean'"),
        (damaged(), None, "k is ''"),
        (damaged(ids=np.zeros((3, 2))), None, "ids are float64"),
        (damaged(ids=np.array([[1, 3], [0, 2], [0, 1]], np.int32)), None, "points to no row"),
        (damaged(ids=np.array([[1, 0], [0, 2], [0, 1]], np.int32)), None, "its own neighbour"),
        (damaged(similarities=np.float32([[0, 1], [1, 0], [1, 0]])), None, "do not descend"),
        (damaged(similarities=np.float32([[1, np.nan]] * 3)), None, "not finite"),
        (damaged(similarities=None), None, "cannot be read as a neighbour graph"),
    ],
)
def test_a_file_that_is_no_sound_graph_is_refused(tmp_path, tensors, metadata, message):
    path = tmp_path / "graph.safetensors"
    if metadata is None and message != "k is ''":
        metadata = {"metric": "cosine", "k": "2"}
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ImageherdError, match=message):
        NeighborGraph.load(path)


def test_a_truncated_or_missing_file_is_refused(tmp_path):
    path = tmp_path / "graph.safetensors"
    knn_graph(make_features(60, 5), 12).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    for bad in (path, tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(ImageherdError, match="cannot be read as a neighbour graph"):
            NeighborGraph.load(bad)
