import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from imageherd.errors import ImageherdError
from imageherd.features.listing import Listed
from imageherd.heads import HEADS
from imageherd.heads.make import make_head
from imageherd.herd import Herd

EXAMPLES = Path(__file__).parents[1] / "examples" / "clothing"
FAST = {"epochs": 2, "min_steps": 20}


def test_what_is_there(herd, photos):
    items = herd.items()
    assert len(items) == 49
    assert items.filter(pa.compute.equal(items["status"], "unreadable"))["path"].to_pylist() == [
        "left/empty.jpg"
    ]
    features = herd.features()
    assert features.X.shape == (48, 1280)
    assert np.isfinite(features.X).all()


def test_neighbors_are_computed_once(herd, monkeypatch):
    first = herd.neighbors(k=5)
    monkeypatch.setattr("imageherd.derived.knn_graph", None)
    again = herd.neighbors(k=5)
    np.testing.assert_array_equal(first.ids, again.ids)


def test_a_forecast_and_the_run_after_it_list_and_load_once(photos, tmp_path, monkeypatch):
    from imageherd import herd as herd_module
    from imageherd.images.folder import FolderSource

    calls = []
    scan, load = FolderSource.scan, herd_module.load_maker
    monkeypatch.setattr(FolderSource, "scan", lambda self: calls.append("scan") or scan(self))
    monkeypatch.setattr(
        herd_module, "load_maker", lambda *a, **k: calls.append("load") or load(*a, **k)
    )
    new, folder = Herd(tmp_path / "new.herd"), Listed(photos)
    assert new.estimate(folder) > 0
    assert new.embed(folder).n_embedded == 48
    assert sorted(calls) == ["load", "scan"]
    # What came since is found by whoever lists the folder again.
    assert new.embed(photos).n_images == 49
    assert sorted(calls) == ["load", "load", "scan", "scan"]


def test_neighbors_are_asked_for_once_and_enough(herd, monkeypatch):
    asked = []
    neighbors = Herd.neighbors
    monkeypatch.setattr(
        Herd, "neighbors", lambda *a, k, **kw: asked.append(k) or neighbors(*a, k=k, **kw)
    )
    herd.cluster("kmeans", 4)
    herd.cluster("tsp", 2, n_neighbors=60, **FAST)
    assert asked == [50, 60]


def test_what_another_process_embedded_is_not_undone(herd, tmp_path):
    # Read before the other one writes.
    assert len(herd.items()) == 49
    for i, other in enumerate((Herd(herd.path), herd)):
        new = tmp_path / f"new{i}"
        new.mkdir()
        shutil.copy(sorted(EXAMPLES.glob("*.jpg"))[60 + i], new / f"{i}.jpg")
        other.embed(new)
    items = Herd(herd.path).items()
    assert items["path"].to_pylist()[-2:] == ["0.jpg", "1.jpg"]
    assert items["row"].to_pylist() == list(range(51))


def test_images_are_not_placed_in_a_clustering_that_was_made_anew_meanwhile(
    herd, photos, tmp_path, monkeypatch
):
    from imageherd import herd as herd_module

    def refit_meanwhile(*args, **kwargs):
        Herd(herd.path).cluster("kmeans", 3)
        return place(*args, **kwargs)

    place = herd_module.place
    monkeypatch.setattr(herd_module, "place", refit_meanwhile)
    shutil.copytree(photos / "left", tmp_path / "new")
    with pytest.raises(ImageherdError, match="made anew while"):
        herd.assign(tmp_path / "new")
    assert herd.clustering().config["params"]["n_clusters"] == 3


def test_the_same_call_gives_the_same_bytes(herd, template):
    again = herd.cluster("kmeans", 4)
    folder = herd.path / "clusterings" / "default"
    assert again.version == "v0002"
    for name in ("assignments.parquet", "head.safetensors"):
        assert (folder / "v0001" / name).read_bytes() == (folder / "v0002" / name).read_bytes()


def test_a_version_never_changes_and_names_outlive_refits(herd):
    first = herd.clustering()
    uid = first.clusters[0].uid
    before = {p: p.read_bytes() for p in herd.path.glob("clusterings/default/v0001/*")}
    herd.rename(uid, "  favourites ")
    refit = herd.cluster("kmeans", 4, random_state=0)
    assert refit.cluster(uid).name == "favourites"
    assert herd.clustering().cluster(uid).name == "favourites"
    assert {p: p.read_bytes() for p in before} == before


def test_a_kill_while_a_version_is_written_leaves_the_old_one(herd, monkeypatch):
    def die(*args):
        raise KeyboardInterrupt

    before = herd.clustering()
    monkeypatch.setattr("imageherd.versions._write_table", die)
    with pytest.raises(KeyboardInterrupt):
        herd.cluster("kmeans", 3)
    after = Herd(herd.path).clustering()
    assert after.version == before.version
    assert not list(herd.path.glob("clusterings/default/.*"))


@pytest.mark.parametrize("name", ["", "  ", "x" * 201])
def test_a_name_is_neither_empty_nor_endless(herd, name):
    with pytest.raises(ImageherdError, match="give 1 to 200"):
        herd.rename(herd.clustering().clusters[0].uid, name)


def test_an_empty_folder_does_not_become_a_source(herd, tmp_path):
    before = (herd.path / "herd.json").read_bytes()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageherdError, match="no image"):
        herd.embed(tmp_path / "empty")
    assert (herd.path / "herd.json").read_bytes() == before


def test_several_clusterings_live_side_by_side(herd):
    herd.cluster("tsp", 3, name="coarse", **FAST)
    assert herd.clustering().version == "v0001"
    assert herd.clustering("coarse").config["method"] == "tsp"
    with pytest.raises(ImageherdError, match=r"no clustering 'fine' \(it has coarse, default\)"):
        herd.clustering("fine")
    with pytest.raises(ImageherdError, match="cannot be the name"):
        herd.clustering("../elsewhere")


@pytest.mark.parametrize(
    ("method", "k", "params", "message"),
    [
        ("tps", 3, {}, r"'tps' is not known \(did you mean 'tsp'\?\)"),
        ("tsp", 3, {"epoch": 3}, r"no parameter 'epoch' \(did you mean 'epochs'\?\)"),
        ("tsp", 49, {}, "does not suit 48 images"),
        ("tsp", 1, {}, "does not suit"),
    ],
)
def test_mistyped_requests_say_what_is_meant(herd, method, k, params, message):
    with pytest.raises(ImageherdError, match=message):
        herd.cluster(method, k, **params)


def test_new_images_are_placed_and_strangers_set_aside(herd, photos, tmp_path):
    from PIL import Image

    old = herd.clustering()
    new = tmp_path / "new"
    new.mkdir()
    for i in range(4):
        shutil.copy(photos / "left" / f"{i}.jpg", new / f"copy{i}.jpg")
    Image.effect_noise((64, 64), 90).convert("RGB").save(new / "noise.png")
    found = herd.assign(new)
    uids = dict(zip(found.rows.tolist(), found.uids.tolist(), strict=True))
    paths = herd.items()["path"].to_pylist()
    by_path = {paths[row]: uid for row, uid in uids.items()}
    assert by_path["noise.png"] == -1
    where = {paths[row]: uid for row, uid in zip(old.rows, old.uids, strict=True)}
    for i in range(4):
        assert by_path[f"copy{i}.jpg"] == where[f"left/{i}.jpg"]
    assert herd.clustering().version == "v0002"
    assert len(herd.clustering().rows) == 53
    now = found.clustering
    repeats = dict(zip(now.rows.tolist(), now.quality.duplicate_of.tolist(), strict=True))
    assert {paths[row]: repeats[row] < 0 or paths[repeats[row]] for row in uids} == {
        "noise.png": True,
        **{f"copy{i}.jpg": f"left/{i}.jpg" for i in range(4)},
    }
    assert len(herd.assign(new).rows) == 0
    assert herd.clustering().version == "v0002"


def test_nothing_can_be_placed_beside_images_that_are_gone(herd, photos, tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(photos / "left" / "0.jpg", new)
    moved = photos.with_name("moved")
    photos.rename(moved)
    photos.mkdir()
    shutil.copy(moved / "right" / "1.jpg", photos / "other.jpg")
    try:
        herd.embed(photos)
        with pytest.raises(ImageherdError, match="is there any more"):
            herd.assign(new)
    finally:
        shutil.rmtree(photos)
        moved.rename(photos)


def test_without_rejection_everything_is_placed(herd, photos, tmp_path):
    from PIL import Image

    new = tmp_path / "new"
    new.mkdir()
    Image.effect_noise((64, 64), 90).convert("RGB").save(new / "noise.png")
    assert herd.assign(new, reject=0).uids.tolist() != [-1]
    with pytest.raises(ImageherdError, match="out of range"):
        herd.assign(new, reject=1)


@pytest.mark.parametrize("method", ["tsp", "kmeans", "auto"])
def test_copies_of_one_image_are_one_cluster(photos, tmp_path, method):
    for i in range(12):
        same = tmp_path / "same" / f"{i}.jpg"
        same.parent.mkdir(exist_ok=True)
        shutil.copy(photos / "left" / "3.jpg", same)
    herd = Herd(tmp_path / "same.herd")
    herd.embed(same.parent)
    found = herd.cluster(method)
    assert [c.size for c in found.clusters] == [12]
    assert found.quality.duplicate_of.tolist() == [-1] + [0] * 11
    assert found.config["counted"]["reason"].endswith("no count: no two images differ")
    if method == "auto":
        assert found.config["chosen"]["reason"].startswith("Not chosen: 12 images are too few")
    assert herd.report().is_file()
    with pytest.raises(ImageherdError, match="does not suit 1 different images"):
        herd.cluster("kmeans", 2)


def test_one_image_makes_no_clusters():
    with pytest.raises(ImageherdError, match=r"does not suit 1 images; it takes two to make clust"):
        make_head("kmeans", 2, 1, random_state=0, device="cpu")


def test_a_damaged_graph_is_made_again(herd):
    first = herd.neighbors(k=5)
    (kept,) = herd.path.glob("neighbors/*/k5-*")
    kept.write_bytes(b"damaged")
    np.testing.assert_array_equal(herd.neighbors(k=5).ids, first.ids)


def test_damaged_names_say_so(herd):
    path = herd.path / "clusterings" / "default" / "names.json"
    for content in ("[", "[]", '{"one": "x"}'):
        path.write_text(content)
        with pytest.raises(ImageherdError, match=r"names\.json is damaged"):
            herd.clustering()


@pytest.mark.parametrize(
    "file", ["v0001/assignments.parquet", "v0001/clusters.json", "current.json"]
)
def test_a_damaged_clustering_says_so(herd, file):
    (herd.path / "clusterings" / "default" / file).write_bytes(b"x")
    with pytest.raises(ImageherdError, match="cannot be read"):
        herd.clustering()


def test_what_was_computed_from_fewer_images_goes_when_clusters_are_made_anew(herd, tmp_path):
    herd.cluster("tsp", 3, **FAST)
    herd.report()
    before = [*herd.path.glob("neighbors/*/k*"), *herd.path.glob("report/map-*")]
    assert len(before) == 2
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(sorted(EXAMPLES.glob("*.jpg"))[60], new)
    herd.embed(new)
    assert all(path.exists() for path in before)
    herd.cluster("tsp", 3, **FAST)
    assert not any(path.exists() for path in before)
    assert len(list(herd.path.glob("neighbors/*/k*"))) == 1


def test_images_that_a_method_leaves_out_fit_nowhere(herd, tmp_path, monkeypatch):
    from imageherd.heads import HEADS

    fit = HEADS["kmeans"].fit

    def leaving_out_five(head, X, **facts):
        fit(head, X, **facts)
        head.labels_[:5] = -1
        head.history_ = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "used": 3}]
        return head

    monkeypatch.setattr(HEADS["kmeans"], "fit", leaving_out_five)
    found = herd.cluster("kmeans", 4)
    assert (found.uids[:5] == -1).all()
    assert (found.uids[5:] > 0).all()
    assert sum(c.size for c in found.clusters) == 43
    assert all(set(c.medoids) <= set(found.rows[5:].tolist()) for c in found.clusters)
    history = pq.read_table(herd.path / "clusterings/default" / found.version / "history.parquet")
    assert history["used"].to_pylist() == [None, 3]
    assert herd.report().exists()
    assert herd.evaluate("folder").n_nowhere == 5
    table = pyarrow.csv.read_csv(herd.export(tmp_path / "out.csv"))
    assert table["name"].to_pylist().count("fits nowhere") == 5


def test_a_method_that_finds_no_cluster_says_so(herd, monkeypatch):
    from imageherd.heads import HEADS

    fit = HEADS["kmeans"].fit

    def leaving_all_out(head, X, **facts):
        fit(head, X, **facts)
        head.labels_[:] = -1
        return head

    monkeypatch.setattr(HEADS["kmeans"], "fit", leaving_all_out)
    with pytest.raises(ImageherdError, match="kmeans found no cluster"):
        herd.cluster("kmeans", 4)
    assert herd.clustering().version == "v0001"


def test_a_method_that_counts_itself_is_not_told_and_nothing_else_counts(herd, monkeypatch):
    monkeypatch.setattr(Herd, "count", None)
    found = herd.cluster("hdbscan", min_cluster_size=4, name="dense")
    assert "counted" not in found.config
    assert len(found.clusters) >= 1
    with pytest.raises(ImageherdError, match="hdbscan counts its clusters itself"):
        herd.cluster("hdbscan", n_clusters=7, name="dense")


def test_scp_trains_on_the_views_that_are_there_and_says_so(herd, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("imageherd.heads.scp.WARM_STEPS", 2)
    few = {"epochs": 1, "min_steps": 2, "batch_size": 12, "n_clusters": 3}
    with pytest.raises(ImageherdError, match=r"scp cannot train on views: not every image has"):
        herd.cluster("scp", views=True, **few)
    assert "views" not in herd.cluster("scp", **few).config
    assert herd.embed(photos, views=2).n_views == 2 * 48
    views = herd.features().views
    assert views.shape == (48, 2, 1280)
    # Those that are neither cropped nor blurred.
    same = (views == herd.features().X[:, None]).all(axis=2)
    assert 0.05 < same.mean() < 0.5
    found = herd.cluster("scp", **few)
    assert found.config["views"] == herd.clustering().config["views"] == 2
    kept = found.quality.duplicate_of < 0
    X = herd.features().X[kept]
    alone = HEADS["scp"](random_state=0, **few)
    alone.fit(X, views=views[kept]).save(tmp_path / "alone")
    written = herd.path / "clusterings" / "default" / found.version / "head.safetensors"
    assert written.read_bytes() == (tmp_path / "alone" / "head.safetensors").read_bytes()
    assert "views" not in herd.cluster("scp", views=False, **few).config
    assert herd.cluster("lsdc", 3, views=True, epochs=1, min_steps=2).config["views"] == 2
    with pytest.raises(ImageherdError, match=r"kmeans does not train on views; these do: scp, "):
        herd.cluster("kmeans", 3, views=True)
    # An image that came without views: they are not used, which is no secret.
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(sorted(EXAMPLES.glob("*.jpg"))[60], new)
    herd.embed(new)
    assert herd.features().views is None
    with pytest.warns(UserWarning, match="scp trains without views: not every image has"):
        herd.cluster("scp", **few)
    with pytest.raises(ImageherdError, match="views=-1 is out of range"):
        herd.embed(new, views=-1)
