import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from imageherd.errors import ImageherdError
from imageherd.export import folder_names, safe_name
from imageherd.herd import Herd

EXAMPLES = Path(__file__).parents[1] / "examples" / "clothing"
FAST = {"epochs": 2, "min_steps": 20}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "clothes"
    for i, path in enumerate(sorted(EXAMPLES.glob("*.jpg"))[:48]):
        inside = folder / ("left" if i % 2 else "right")
        inside.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, inside / f"{i // 2}.jpg")
    (folder / "left" / "empty.jpg").touch()
    return folder


@pytest.fixture(scope="module")
def template(photos, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("herds") / "clothes.herd"
    herd = Herd(path)
    herd.embed(photos)
    herd.cluster("kmeans", 4)
    return path


@pytest.fixture
def herd(template, tmp_path) -> Herd:
    return Herd(shutil.copytree(template, tmp_path / "clothes.herd"))


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


def test_only_methods_that_use_neighbors_get_them_and_enough(herd, monkeypatch):
    asked = []
    neighbors = Herd.neighbors
    monkeypatch.setattr(
        Herd, "neighbors", lambda *a, k, **kw: asked.append(k) or neighbors(*a, k=k, **kw)
    )
    herd.cluster("kmeans", 4)
    assert asked == []
    herd.cluster("tsp", 2, n_neighbors=60, **FAST)
    assert asked == [60]


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


def test_export_tables(herd, tmp_path):
    found = herd.clustering()
    rows = pyarrow.csv.read_csv(herd.export(tmp_path / "out.csv")).to_pylist()
    assert len(rows) == 49
    unreadable = next(r for r in rows if r["path"] == "left/empty.jpg")
    assert unreadable["status"] == "unreadable"
    assert not unreadable["name"]
    names = {row: found.names()[uid] for row, uid in zip(found.rows, found.uids, strict=True)}
    assert {r["row"]: r["name"] for r in rows if r["status"] == "ok"} == names
    table = pq.read_table(herd.export(tmp_path / "out.parquet", to="parquet"))
    vectors = table.filter(pa.compute.equal(table["status"], "ok"))["features"]
    np.testing.assert_array_equal(np.stack(vectors.to_numpy()), herd.features().X)
    assert table["features"].null_count == 1


@pytest.mark.parametrize("link", ["copy", "symlink", "hardlink"])
def test_export_folders_holds_every_image_once(herd, photos, tmp_path, link):
    out = herd.export(tmp_path / "out", to="folders", link=link)
    files = [p for p in out.rglob("*") if not p.is_dir()]
    assert len(files) == 48
    # Files of the same name from different folders stay apart, and have the right contents.
    assert sorted(p.read_bytes() for p in files) == sorted(
        p.read_bytes() for p in photos.rglob("*.jpg") if p.stat().st_size
    )
    assert {p.is_symlink() for p in files} == {link == "symlink"}
    assert {p.stat().st_nlink > 1 for p in files} == {link == "hardlink"}
    names = {safe_name(c.name) for c in herd.clustering().clusters}
    assert {p.name for p in out.iterdir()} == names


def test_an_image_put_in_anothers_place_is_not_exported_as_that_one(herd, photos, tmp_path):
    mine = shutil.copytree(photos, tmp_path / "mine")
    own = Herd(tmp_path / "own.herd")
    own.embed(mine)
    own.cluster("kmeans", 4)
    shutil.copy(sorted(EXAMPLES.glob("*.jpg"))[70], mine / "left" / "3.jpg")
    (mine / "right" / "5.jpg").unlink()
    own.embed(mine)
    out = own.export(tmp_path / "out", to="folders")
    assert len([p for p in out.rglob("*") if p.is_file()]) == 46


def test_clusters_of_the_same_name_get_folders_of_their_own():
    names = {3: "a/b", 5: "A-b", 9: "a-b", 7: "umbrella"}
    assert folder_names(names) == {3: "a-b", 5: "A-b (5)", 9: "a-b (9)", 7: "umbrella"}


def test_export_of_photos_that_moved_leaves_nothing_in_the_way(herd, photos, tmp_path):
    moved = photos.with_name("moved")
    photos.rename(moved)
    try:
        with pytest.raises(ImageherdError, match="None of the 48 images is where it was"):
            herd.export(tmp_path / "out", to="folders")
    finally:
        moved.rename(photos)
    assert not (tmp_path / "out").exists()
    assert herd.export(tmp_path / "out", to="folders").is_dir()


def test_copies_of_one_image_are_not_counted(photos, tmp_path):
    for i in range(12):
        same = tmp_path / "same" / f"{i}.jpg"
        same.parent.mkdir(exist_ok=True)
        shutil.copy(photos / "left" / "3.jpg", same)
    herd = Herd(tmp_path / "same.herd")
    herd.embed(same.parent)
    with pytest.raises(ImageherdError, match="look alike: no clusters to find"):
        herd.cluster("kmeans")


def test_a_damaged_graph_is_made_again(herd):
    first = herd.neighbors(k=5)
    (kept,) = herd.path.glob("neighbors/*/k5-*")
    kept.write_bytes(b"damaged")
    np.testing.assert_array_equal(herd.neighbors(k=5).ids, first.ids)


def test_export_never_overwrites(herd, tmp_path):
    taken = tmp_path / "out.csv"
    taken.write_text("mine")
    with pytest.raises(ImageherdError, match="never overwrites"):
        herd.export(taken)
    assert taken.read_text() == "mine"
    with pytest.raises(ImageherdError, match="never overwrites"):
        herd.export(tmp_path, to="folders")
    with pytest.raises(ImageherdError, match="to='cvs' is not known"):
        herd.export(tmp_path / "new", to="cvs")
    (tmp_path / "dangling.csv").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ImageherdError, match="never overwrites"):
        herd.export(tmp_path / "dangling.csv")


def test_the_report_outlives_the_photos(herd, photos, tmp_path, template):
    moved = photos.with_name("moved")
    photos.rename(moved)
    try:
        assert herd.report(tmp_path / "r.html").stat().st_size > 10_000
    finally:
        moved.rename(photos)


def test_the_map_is_computed_once_and_again_if_it_is_damaged(herd, monkeypatch):
    import imageherd.report.map as map_module

    calls = []
    layout = map_module.layout
    monkeypatch.setattr(map_module, "layout", lambda X: calls.append(len(X)) or layout(X))
    first = herd.report().read_bytes()
    herd.rename(herd.clustering().clusters[0].uid, "renamed")
    assert herd.report().read_bytes() != first
    assert calls == [48]
    (kept,) = herd.path.glob("report/map-*.npy")
    kept.write_bytes(b"damaged")
    herd.report()
    assert calls == [48, 48]


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


@pytest.mark.parametrize(
    ("name", "folder"),
    [("a/b", "a-b"), ("..", "cluster"), ("swim trunks / shorts", None), ("波" * 300, "波" * 33)],
)
def test_folder_names_are_safe(name, folder):
    made = safe_name(name)
    assert "/" not in made
    assert made not in ("", ".", "..")
    if folder:
        assert made == folder


def test_evaluation_works_on_the_herds_own_head_and_graph(herd, tmp_path):
    found = herd.evaluate("folder")
    assert found.n_images == 48
    assert 0 < found.consistency["labels"] < found.consistency["clusters"] <= 1
    assert 0 <= found.entropies["images"] < found.entropies["clusters"] <= found.entropies["most"]
