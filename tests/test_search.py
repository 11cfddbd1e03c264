"""Searching a herd, and the index for large ones, against brute force in float64."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from backbones.tiny_clip import save_clip
from imageherd import search_space
from imageherd.errors import ImageherdError
from imageherd.heads import load_head
from imageherd.search import cluster_names, position_of
from imageherd.search_index import build_index, load_index, nearest, save_index
from imageherd.search_space import Space

EXAMPLES = Path(__file__).parents[1] / "examples" / "clothing"


def brute(X, query, n):
    """The n nearest by cosine: positions and similarities, ties by position."""
    X, query = np.asarray(X, np.float64), np.asarray(query, np.float64)
    lengths = np.linalg.norm(X, axis=1) * np.linalg.norm(query)
    similarity = np.divide(X @ query, lengths, out=np.zeros(len(X)), where=lengths > 0)
    order = np.lexsort((np.arange(len(X)), -similarity.astype(np.float32)))[:n]
    return order, similarity.astype(np.float32)[order]


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 70),
    scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e25]),
    dtype=st.sampled_from([np.float32, np.float16]),
)
@settings(max_examples=25, deadline=None)
def test_nearest_is_brute_force(seed, n, scale, dtype):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(3000, 12)).astype(dtype)
    if dtype == np.float32:
        X *= np.float32(scale)
    # Copies across blocks, and a vector of zeros.
    X[1500:1540], X[2999], X[7] = X[3], X[4], 0
    queries = np.concatenate([X[[3, 4]], rng.normal(size=(1, 12))])
    at, similarity = nearest(lambda rows: X[rows], len(X), queries, n)
    for i, query in enumerate(queries):
        expected = brute(X, query, n)
        assert np.array_equal(at[i], expected[0])
        assert similarity[i] == pytest.approx(expected[1], abs=1e-7)


def test_a_herd_is_searched_by_item(herd):
    data = herd.features()
    hits = herd.search(item=5, n=10)
    at, similarity = brute(data.X, data.X[5], 11)
    assert at[0] == 5
    assert np.array_equal(hits.rows, data.rows[at[1:]])
    assert hits.similarity == pytest.approx(similarity[1:], abs=1e-7)
    assert (hits.item, hits.recall, hits.key) == (5, None, data.key)
    path = herd.items()["path"][5].as_py()
    assert np.array_equal(herd.search(item=path, n=10).rows, hits.rows)
    assert len(herd.search(item=5).rows) == 47


def test_an_image_of_the_herd_finds_itself(herd, photos):
    file = photos / herd.items()["path"][8].as_py()
    hits = herd.search(image=file, n=3)
    assert hits.rows[0] == 8
    assert hits.similarity[0] == 1
    assert np.array_equal(hits.rows[1:], herd.search(item=8, n=2).rows)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "Give one thing to search for"),
        ({"item": 1, "text": "hat"}, "Give one thing to search for"),
        ({"item": 1, "by": "heads"}, "by='heads' is not known; choose features or head"),
        ({"item": 1, "n": 0}, "n=0 is too few"),
        ({"item": -1}, "The herd has no row -1"),
        ({"item": 99}, "The herd has no row 99; images with features are in 0 to "),
        ({"item": "no.jpg"}, "Nothing in the herd has the path 'no.jpg'.*such as 'left/0.jpg'"),
        (
            {"item": "left/empty.jpg"},
            r"'left/empty.jpg' \(row \d+\) is known to the herd, but cannot be read: ",
        ),
        ({"image": "no.jpg"}, "There is no image file no.jpg"),
        ({"text": "hat"}, "features of a CLIP or SigLIP model only.*are of efficientnet-lite0"),
        ({"text": "hat", "by": "head"}, "no input for a head"),
        ({"item": 1, "by": "head"}, "made by kmeans, which has no features of its own"),
        ({"item": 1, "by": "head", "name": "x"}, "has no clustering 'x'"),
    ],
)
def test_what_cannot_be_searched_is_said(herd, options, expected):
    with pytest.raises(ImageherdError, match=expected):
        herd.search(**options)


def nearest_rows(herd, vectors, row, n):
    """Rows of the n images nearest to one, itself left out; `vectors` is one for each image."""
    rows = herd.features().rows
    at = int(np.flatnonzero(rows == row)[0])
    found, _ = brute(vectors, vectors[at], n + 1)
    return rows[found[found != at]]


def mixture(n, d, seed=0, n_queries=50):
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(60, d))
    which = rng.integers(60, size=n + n_queries)
    X = (centers[which] + 0.5 * rng.normal(size=(n + n_queries, d))).astype(np.float32)
    return X[:n], X[n:]


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    """An index of 6,000 vectors, saved; the vectors and queries that it has not seen."""
    X, queries = mixture(6_000, 24)
    index = build_index(lambda at: X[at], *X.shape)
    path = tmp_path_factory.mktemp("index") / "features-0.faiss"
    save_index(index, path)
    return index, path, X, queries


def test_the_index_finds_what_it_says(indexed):
    index, path, X, queries = indexed
    assert 0 < index.n_probe < index.ivf.nlist / 2
    space = Space(np.arange(len(X)) + 10, 24, lambda at: X[at], "key", load_index(path, *X.shape))
    shares = []
    for query in queries:
        hits = space.nearest(query)
        expected, similarity = brute(X, query, 64)
        shares.append(np.isin(expected + 10, hits.rows).mean())
        assert hits.recall == index.recall
        # What it finds has its exact similarity, in order.
        assert np.array_equal(hits.similarity, np.sort(hits.similarity)[::-1])
        known = dict(zip((expected + 10).tolist(), similarity.tolist(), strict=True))
        for row, value in zip(hits.rows.tolist(), hits.similarity.tolist(), strict=True):
            assert value == pytest.approx(known.get(row, value), abs=1e-7)
            assert row in known or value <= similarity[-1]
    assert np.mean(shares) >= 0.95
    assert np.mean(shares) == pytest.approx(index.recall, abs=0.03)


def test_more_than_64_and_on_request_are_exact(indexed):
    index, _, X, queries = indexed
    space = Space(np.arange(len(X)), 24, lambda at: X[at], "key", index)
    for hits, n in (
        (space.nearest(queries[0], 65), 65),
        (space.nearest(queries[0], exact=True), 64),
    ):
        assert hits.recall is None
        assert np.array_equal(hits.rows, brute(X, queries[0], n)[0])
    without = space.nearest(X[17], 64, without=17)
    assert 17 not in without.rows
    assert len(without.rows) == 64
    assert (without.item, without.recall) == (17, index.recall)
    with pytest.raises(ValueError, match="vector of 24 finite numbers"):
        space.nearest(queries[0][:5])
    with pytest.raises(ValueError, match="vector of 24 finite numbers"):
        space.nearest(queries[0] * np.float32(np.nan))


def test_lists_that_hold_too_few_are_not_all_there_is(indexed):
    index, _, X, queries = indexed
    # About 40 vectors a list.
    space = Space(np.arange(len(X)), 24, lambda at: X[at], "key", replace(index, n_probe=1))
    hits = space.nearest(queries[0])
    assert np.array_equal(hits.rows, brute(X, queries[0], 64)[0])
    assert hits.recall is None


def test_where_no_number_of_lists_is_enough_the_search_stays_exact(tmp_path):
    # So alike that every cosine rounds to 1: which 64 are nearest is decided by position alone.
    noise = np.random.default_rng(0).normal(size=(2_000, 6))
    X = (1 + 1e-6 * noise).astype(np.float32)
    index = build_index(lambda at: X[at], *X.shape)
    assert index.n_probe == 0
    save_index(index, tmp_path / "features-0.faiss")
    assert [p.name for p in tmp_path.iterdir()] == ["features-0.json"]
    kept = load_index(tmp_path / "features-0.faiss", *X.shape)
    assert kept == index
    hits = Space(np.arange(2_000), 6, lambda at: X[at], "key", kept).nearest(X[0], 3)
    assert hits.rows.tolist() == [0, 1, 2]
    assert hits.recall is None
    with pytest.raises(ValueError, match="n_vectors=1 must be at least 2"):
        build_index(lambda at: X[at], 1, 6)


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.with_suffix(".json").unlink(),
        lambda path: path.with_suffix(".json").write_text("[]"),
        lambda path: path.with_suffix(".json").write_text('{"format": 99}'),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: flip(path, 60),
    ],
)
def test_a_damaged_index_is_not_used(indexed, tmp_path, damage):
    _, path, X, _ = indexed
    copy = tmp_path / path.name
    for file in (path, path.with_suffix(".json")):
        shutil.copy(file, tmp_path)
    assert load_index(copy, *X.shape).n_probe > 0
    with pytest.raises(ImageherdError, match="other vectors"):
        load_index(copy, len(X) - 1, 24)
    damage(copy)
    with pytest.raises(ImageherdError, match="cannot be used as a search index"):
        load_index(copy, *X.shape)


@pytest.fixture
def large(monkeypatch):
    """Let 48 images count as many."""
    monkeypatch.setattr(search_space, "LARGE", 40)
    monkeypatch.setattr(search_space, "_LARGE_NUMBERS", 0)
    built = []
    build = search_space.build_index
    monkeypatch.setattr(
        search_space, "build_index", lambda *args: built.append(args[1:]) or build(*args)
    )
    return built


def files(herd):
    return sorted(p.name for p in herd.path.glob("search/*/*"))


def test_a_large_herd_keeps_its_index_until_its_rows_change(herd, photos, tmp_path, large):
    exact = nearest_rows(herd, herd.features().X, 5, 10)
    hits = herd.search(item=5, n=10)
    assert hits.recall >= 0.95
    assert np.isin(hits.rows, exact).mean() >= 0.8
    again = herd.search(item=5, n=10)
    assert np.array_equal(again.rows, hits.rows)
    assert large == [(48, 1280)]
    name, facts = files(herd)
    assert facts == name.replace(".faiss", ".json")
    next(herd.path.glob("search/*/*.faiss")).write_bytes(b"damaged")
    assert np.array_equal(herd.search(item=5, n=10).rows, hits.rows)
    assert len(large) == 2
    mine = next(herd.path.glob("search/*")) / "notes.txt"
    mine.write_text("mine")
    (mine.parent / ".features-0.faiss.1.tmp").write_text("half")
    more = tmp_path / "more"
    more.mkdir()
    shutil.copy(sorted(EXAMPLES.glob("*.jpg"))[70], more)
    herd.embed(more)
    herd.search(item=5)
    assert large[2:] == [(49, 1280)]
    assert len(files(herd)) == 3
    assert name not in files(herd)
    assert mine.read_text() == "mine"


def test_a_large_herd_that_cannot_be_written_is_searched_exactly(herd, large, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    hits = herd.search(item=5, n=10)
    assert np.array_equal(hits.rows, nearest_rows(herd, herd.features().X, 5, 10))
    assert hits.recall is None
    assert large == []
    assert files(herd) == []


def test_an_index_that_another_keeps_from_being_written_is_used_all_the_same(herd, large):
    with FileLock(herd.path / ".lock"):
        assert herd.search(item=5).recall is not None
    assert files(herd) == []


def test_a_head_is_searched_by_what_it_makes_of_the_features(herd, photos):
    herd.cluster("temi", 4, name="t", epochs=1, min_steps=1, n_heads=2, device="cpu")
    clustering = herd.clustering("t")
    Z = load_head(herd.path / "clusterings" / "t" / clustering.version).transform(herd.features().X)
    hits = herd.search(item=5, by="head", name="t", n=10)
    assert np.array_equal(hits.rows, nearest_rows(herd, Z, 5, 10))
    assert not np.array_equal(hits.rows, herd.search(item=5, n=10).rows)
    found = herd.search(image=photos / herd.items()["path"][5].as_py(), by="head", name="t", n=2)
    assert found.rows[0] == 5
    assert found.similarity[0] == pytest.approx(1)
    (kept,) = herd.path.glob("search/*/head-*.npy")
    stamp = kept.stat().st_mtime_ns
    kept.write_bytes(kept.read_bytes()[:-3])
    assert np.array_equal(herd.search(item=5, by="head", name="t", n=10).rows, hits.rows)
    assert kept.stat().st_mtime_ns > stamp
    assert np.load(kept) == pytest.approx(Z)


def test_a_text_is_searched_with_a_model_of_images_and_texts(herd, photos, tmp_path):
    model = save_clip(tmp_path / "tiny-clip")
    herd.embed(photos, backbone=str(model), device="cpu")
    with torch.no_grad():
        inputs = transformers.CLIPTokenizer.from_pretrained(model)(["red hat"], return_tensors="pt")
        text = transformers.CLIPModel.from_pretrained(model).get_text_features(**inputs)
        text = getattr(text, "pooler_output", text)[0].numpy()
    key = herd.features().key
    expected, similarity = brute(herd.features(key).X, text, 5)
    hits = herd.search(text="red hat", n=5, device="cpu")
    assert np.array_equal(hits.rows, herd.features().rows[expected])
    assert hits.similarity == pytest.approx(similarity, abs=1e-5)
    # The features used last are others; those that texts can be compared with are found.
    herd.embed(photos)
    assert herd.features().key != key
    assert herd.search(text="red hat", n=5, device="cpu").key == key
    with pytest.raises(ImageherdError, match="text to search for is empty"):
        herd.search(text="  ", device="cpu")
    # Another model of the same name is not taken for it.
    save_clip(model, seed=7)
    with pytest.raises(ImageherdError, match="now gives"):
        herd.search(text="red hat", device="cpu")


def test_a_file_that_is_no_image_is_told(herd, tmp_path):
    (tmp_path / "letter.jpg").write_text("Dear photograph,")
    with pytest.raises(ImageherdError, match=r"letter.jpg cannot be read: no image"):
        herd.search(image=tmp_path / "letter.jpg")


def test_a_path_of_two_sources_is_told_apart_by_row():
    items = pa.table({"row": [0, 1, 2], "path": ["a.jpg"] * 3, "status": ["ok", "deleted", "ok"]})
    with pytest.raises(ImageherdError, match=r"in 2 of the herd's sources; give a row: 0, 2"):
        position_of("a.jpg", np.array([0, 2]), items)
    assert position_of(2, np.array([0, 2]), items) == 1


def test_why_a_known_image_cannot_be_searched_for():
    items = pa.table(
        {
            "row": [0, 1, 2, 3],
            "path": ["a.jpg", "b.jpg", "c.jpg", "b.jpg"],
            "status": ["ok", "deleted", "pending", "unreadable"],
            "reason": ["", "", "", "zero bytes"],
        }
    )
    rows = np.array([0])
    for item, why in [
        (1, r"'b.jpg' \(row 1\) .* was gone from its source"),
        ("c.jpg", r"\(row 2\) .* has no features of this kind yet"),
        ("b.jpg", r"\(row 3\) .* cannot be read: zero bytes\.$"),
    ]:
        with pytest.raises(ImageherdError, match=why):
            position_of(item, rows, items)


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("caf\udce9/1.jpg", r"caf\xe9/1.jpg"),
        (r"caf\xe9/1.jpg", r"caf\xe9/1.jpg"),
        (r"back\slash.jpg", r"back\\slash.jpg"),
        (r"back\\slash.jpg", r"back\\slash.jpg"),
    ],
)
def test_a_path_is_found_as_typed_and_as_shown(typed, shown):
    items = pa.table({"row": [0, 1], "path": ["a.jpg", shown], "status": ["ok", "ok"]})
    assert position_of(typed, np.array([0, 1]), items) == 1
    with pytest.raises(ImageherdError, match="Nothing in the herd has the path"):
        position_of("no\udce9.jpg", np.array([0, 1]), items)


def test_rows_that_a_clustering_lacks_have_no_cluster(herd):
    clustering = herd.clustering()
    (missing,) = set(range(49)) - set(clustering.rows.tolist())
    names = cluster_names(np.array([48, missing, 0, 999]), clustering)
    assert names[1] is names[3] is None
    assert names[::2] == [clustering.names()[clustering.uids[i]] for i in (-1, 0)]
