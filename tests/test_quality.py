"""What is said of each image's place, against loops; what is set aside; what old herds lack."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from imageherd.errors import ImageherdError
from imageherd.heads import HEADS
from imageherd.herd import Herd
from imageherd.neighbors import knn_graph
from imageherd.quality import farther_out, judge, set_aside, similarity_to_nearest, votes
from imageherd.sources import sources_of


def made(n=120, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6)).astype(np.float32)
    uids = rng.integers(0, 4, n).astype(np.int32) * 3 - 1
    return X, uids, knn_graph(X, 15)


def test_quality_is_what_a_loop_over_images_finds(monkeypatch):
    monkeypatch.setattr("imageherd.quality.BLOCK", 50)
    X, uids, graph = made()
    found = judge(uids, graph, np.full(120, -1))
    unit = X.astype(np.float64) / np.linalg.norm(X.astype(np.float64), axis=1, keepdims=True)
    S = unit @ unit.T
    np.fill_diagonal(S, -2)
    nearest = np.argsort(-S, axis=1)[:, :10]
    mean = np.take_along_axis(S, nearest, 1).mean(1)
    for i in range(120):
        near = uids[nearest[i]].tolist()
        assert found.agreement[i] == np.float32(near.count(uids[i]) / 10)
        most = max(near.count(u) for u in near)
        tied = [u for u in near if near.count(u) == most]
        assert found.around[i] == (uids[i] if uids[i] in tied else tied[0])
        assert found.outlier[i] == pytest.approx((mean > mean[i]).sum() / 119)
    assert found.outlier.min() == 0
    assert found.outlier.max() == 1
    assert {a.dtype.name for a in vars(found).values()} == {"int64", "float32", "int32"}


def test_ties_go_to_the_own_cluster_then_to_the_nearest():
    near = np.array([[5, 7, 7, 5], [5, 7, 7, 5], [7, 5, 5, 7], [9, 5, 5, 7]], dtype=np.int32)
    agreement, around = votes(near, np.array([5, 7, 9, 9], dtype=np.int32))
    assert around.tolist() == [5, 7, 7, 5]
    assert agreement.tolist() == [0.5, 0.5, 0.0, 0.25]


def test_without_a_graph_nothing_is_said():
    uids = np.array([3, 4], dtype=np.int32)
    found = judge(uids, None, np.array([-1, 0]))
    assert np.isnan(found.agreement).all()
    assert np.isnan(found.outlier).all()
    assert found.around.tolist() == [3, 4]


def test_new_ones_are_compared_with_those_there():
    there = np.array([0.2, 0.4, 0.4, 0.9], dtype=np.float32)
    new = np.array([0.1, 0.4, 1.0], dtype=np.float32)
    np.testing.assert_allclose(farther_out(new, there), [1, 0.25, 0])


def test_this_share_is_set_aside_the_farthest():
    _, _, graph = made()
    similarity = similarity_to_nearest(graph)
    for reject in (0.05, 0.25, 0.9):
        out = set_aside(graph, reject)
        assert out.sum() == pytest.approx(120 * reject, abs=1)
        assert similarity[out].max() < similarity[~out].min()
    assert not set_aside(graph, 0).any()


@pytest.fixture(scope="module")
def fifty_three(template, photos, tmp_path_factory):
    """The herd of 48 with a copy, three others saved anew, and an image like none."""
    new = tmp_path_factory.mktemp("more") / "copies"
    new.mkdir()
    herd = Herd(shutil.copytree(template, new.parent / "clothes.herd"))
    (new / "copy.jpg").write_bytes((photos / "left" / "0.jpg").read_bytes())
    for i in (3, 5, 7):
        Image.open(photos / "left" / f"{i}.jpg").save(new / f"{i}.jpg", quality=60)
    Image.effect_noise((64, 64), 90).convert("RGB").save(new / "noise.png")
    herd.embed(new)
    herd.neighbors()
    return herd.path


@pytest.fixture
def with_copies(fifty_three, tmp_path):
    return Herd(shutil.copytree(fifty_three, tmp_path / "more.herd"))


def of_paths(herd):
    paths = herd.items()["path"].to_pylist()
    quality = herd.clustering().quality
    rows = herd.clustering().rows.tolist()
    return {
        paths[row]: paths[of] if of >= 0 else None
        for row, of in zip(rows, quality.duplicate_of.tolist(), strict=True)
    }


def test_copies_are_fitted_once_and_all_are_placed(with_copies):
    herd = with_copies
    found = herd.cluster("kmeans", 4)
    known = {path: of for path, of in of_paths(herd).items() if of}
    assert known["copy.jpg"] == "left/0.jpg"
    assert known.items() <= {
        ("copy.jpg", "left/0.jpg"),
        ("3.jpg", "left/3.jpg"),
        ("5.jpg", "left/5.jpg"),
        ("7.jpg", "left/7.jpg"),
    }
    assert len(known) >= 3
    assert (found.uids > 0).all()
    assert sum(c.size for c in found.clusters) == 53
    where = dict(zip(found.rows.tolist(), found.uids.tolist(), strict=True))
    paths = herd.items()["path"].to_pylist()
    assert where[paths.index("copy.jpg")] == where[paths.index("left/0.jpg")]
    # The head saw what it would have seen had the others never been there.
    features = herd.features()
    once = [row for row, path in enumerate(paths) if path not in known]
    X = features.X[np.isin(features.rows, once)]
    alone = HEADS["kmeans"](n_clusters=4, random_state=0).fit(X)
    head = herd.path / "clusterings" / "default" / found.version
    alone.save(head.parent / "alone")
    written = (head / "head.safetensors").read_bytes()
    assert written == (head.parent / "alone" / "head.safetensors").read_bytes()
    kept = herd.cluster("kmeans", 4, keep_duplicates=True)
    assert (kept.quality.duplicate_of == -1).all()
    other = herd.path / "clusterings" / "default" / kept.version / "head.safetensors"
    assert other.read_bytes() != written


def test_a_method_with_a_graph_gets_that_of_the_images_fitted(with_copies, monkeypatch):
    seen = []
    fit = HEADS["tsp"].fit

    def watched(head, X, neighbors=None, **facts):
        seen.append((X, neighbors))
        return fit(head, X, neighbors=neighbors, **facts)

    monkeypatch.setattr(HEADS["tsp"], "fit", watched)
    with_copies.cluster("tsp", 3, epochs=2, min_steps=5)
    (X, graph), n_copies = seen[0], sum(of is not None for of in of_paths(with_copies).values())
    assert len(X) == 53 - n_copies
    np.testing.assert_array_equal(graph.ids, knn_graph(X, graph.k).ids)


def test_what_a_method_leaves_out_its_copies_are_left_out_with(with_copies, monkeypatch):
    fit = HEADS["kmeans"].fit

    def leaving_all_but_ten(head, X, **facts):
        fit(head, X, **facts)
        head.labels_[:-10] = -1
        return head

    monkeypatch.setattr(HEADS["kmeans"], "fit", leaving_all_but_ten)
    found = with_copies.cluster("kmeans", 4)
    assert (found.uids >= 0).sum() == 10


def test_without_copies_it_makes_no_difference(herd):
    first = herd.cluster("kmeans", 4)
    again = herd.cluster("kmeans", 4, keep_duplicates=True)
    folder = herd.path / "clusterings" / "default"
    for name in ("assignments.parquet", "head.safetensors"):
        one, other = (folder / v / name for v in (first.version, again.version))
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.filterwarnings("ignore::imageherd.heads.base.CollapseWarning")
def test_more_clusters_than_different_images(with_copies):
    herd = with_copies
    herd.cluster("kmeans", 4)
    n = 53 - sum(of is not None for of in of_paths(herd).values())
    with pytest.raises(ImageherdError, match=rf"{n} different images"):
        herd.cluster("kmeans", 53)
    assert len(herd.cluster("kmeans", 53, keep_duplicates=True).rows) == 53


def test_what_lies_farthest_out_fits_nowhere_if_that_is_wanted(with_copies):
    herd = with_copies
    assert (herd.cluster("kmeans", 4).uids > 0).all()
    found = herd.cluster("kmeans", 4, reject=0.04)
    out = found.rows[found.uids < 0]
    paths = herd.items()["path"].to_pylist()
    assert len(out) == 3
    assert "noise.png" in [paths[row] for row in out]
    assert (found.quality.outlier[found.uids < 0] > 1 - 0.04 - 1 / 52).all()
    assert not any(set(c.medoids) & set(out.tolist()) for c in found.clusters)
    for wrong in (-0.1, 1):
        with pytest.raises(ImageherdError, match="out of range"):
            herd.cluster("kmeans", 4, reject=wrong)


def test_quality_is_kept_exported_and_extended(with_copies, photos, tmp_path):
    herd = with_copies
    herd.cluster("kmeans", 4)
    quality = herd.clustering().quality
    table = pyarrow.csv.read_csv(herd.export(tmp_path / "out.csv"))
    table = table.filter(pa.compute.equal(table["status"], "ok"))
    np.testing.assert_allclose(table["agreement"].to_numpy(), quality.agreement, rtol=1e-6)
    np.testing.assert_allclose(table["outlier"].to_numpy(), quality.outlier, rtol=1e-6)
    of = table["duplicate_of"].fill_null(-1).to_numpy()
    np.testing.assert_array_equal(of, quality.duplicate_of)
    new = tmp_path / "new"
    new.mkdir()
    Image.open(photos / "right" / "1.jpg").rotate(5).save(new / "turned.jpg")
    assert len(herd.assign(new, reject=0).rows) == 1
    more = herd.clustering()
    assert len(more.rows) == len(more.quality.agreement) == 54
    for name in ("agreement", "around", "outlier", "duplicate_of"):
        np.testing.assert_array_equal(getattr(more.quality, name)[:53], getattr(quality, name))
    uid, near = more.uids[53], knn_graph(herd.features().X, 10).ids[53]
    assert more.quality.agreement[53] == np.float32((more.uids[near] == uid).mean())
    assert 0 <= more.quality.outlier[53] <= 1


def test_a_copy_of_a_copy_that_is_placed_stands_behind_what_was_fitted(with_copies, tmp_path):
    herd = with_copies
    old = herd.cluster("kmeans", 4)
    at = int(np.flatnonzero(old.quality.duplicate_of >= 0)[0])
    item = herd.items().slice(int(old.rows[at]), 1).to_pylist()[0]
    new = tmp_path / "new"
    new.mkdir()
    source = sources_of(herd.path)[item["source"]]
    (new / "again.jpg").write_bytes(source.read(item["key"]))
    # So strict that everything but a copy is set aside.
    found = herd.assign(new, reject=0.99)
    assert found.uids.tolist() == [old.uids[at]]
    assert found.clustering.quality.duplicate_of[-1] == old.quality.duplicate_of[at]


def test_a_clustering_of_before_is_still_read(herd, tmp_path):
    path = herd.path / "clusterings" / "default" / "v0001" / "assignments.parquet"
    table = pq.read_table(path).select(["row", "uid", "probability", "second"])
    pq.write_table(table, path)
    assert herd.clustering().quality is None
    exported = pyarrow.csv.read_csv(herd.export(tmp_path / "out.csv"))
    assert exported["agreement"].null_count == len(exported)
    with pytest.raises(ImageherdError, match="make it anew"):
        herd.export(tmp_path / "review.csv", review=5)
    assert not (tmp_path / "review.csv").exists()
