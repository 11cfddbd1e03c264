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


def test_a_herd_that_cannot_be_written_is_read_all_the_same(herd, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    herd.rename(herd.clustering().clusters[0].uid, "mine")
    before = {p: p.stat().st_mtime_ns for p in herd.path.rglob("*")}
    # Not by taking the permission away: root would not notice.
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    monkeypatch.setattr("os.access", lambda path, mode: not str(path).startswith(str(herd.path)))
    assert herd.report(tmp_path / "r.html").exists()
    assert herd.evaluate("folder").n_images == 48
    assert herd.export(tmp_path / "out.csv").exists()
    assert {p: p.stat().st_mtime_ns for p in herd.path.rglob("*")} == before
    with pytest.raises(ImageherdError, match="cannot be written; say where the report is to be"):
        herd.report()
