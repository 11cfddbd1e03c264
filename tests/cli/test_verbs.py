"""Each verb asks the herd for the right thing and says what came of it."""

import csv
import json
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from imageherd.images.folder import FolderSource
from imageherd.quality import Quality


def test_sort_goes_the_whole_way(run, herd, photos):
    result = run("sort", photos)
    assert result.exit_code == 0, result.output
    assert [verb for verb, _, _ in herd.calls] == ["estimate", "embed", "cluster", "report"]
    assert herd.path.name == "photos.herd"
    lines = result.stdout.splitlines()
    assert lines[0].startswith("6 images in ")
    assert "2 files that cannot be read" in lines[0]
    assert "about 2 min" in lines[1]
    assert any(line.split() == ["sneaker", "3", "50.0%", "0.91"] for line in lines)
    assert lines[-1] == str(herd.path / "report" / "index.html")


@pytest.mark.parametrize("verb", ["sort", "embed"])
def test_the_folder_is_looked_through_once(run, herd, photos, monkeypatch, verb):
    calls = []
    scan = FolderSource.scan
    monkeypatch.setattr(FolderSource, "scan", lambda self: calls.append(1) or scan(self))
    herd.estimate = lambda source, **options: len(source.scan())
    assert run(verb, photos).exit_code == 0
    assert len(calls) == 1


def test_sort_lists_unreadable_files_by_reason(run, herd, photos):
    out = run("sort", photos).stdout
    assert "12 files could not be read:" in out
    assert "11  zero bytes: bad-0.jpg, bad-1.jpg, bad-2.jpg and 8 more" in out
    assert "1  dangling link: bad-11.jpg" in out


def test_sort_hands_its_options_on(run, herd, photos, tmp_path):
    where = tmp_path / "elsewhere.herd"
    arguments = "--n-clusters 3 --method kmeans --seed 7 --backbone b --device cpu --workers 3"
    arguments += " --keep-duplicates --no-report --neighbors approx"
    result = run("sort", photos, "--herd", where, *arguments.split())
    assert result.exit_code == 0, result.output
    calls = {verb: (arguments, options) for verb, arguments, options in herd.calls}
    assert "report" not in calls
    embedding = {"backbone": "b", "device": "cpu", "workers": 3, "moved_from": None}
    assert calls["estimate"][1] == calls["embed"][1] == embedding
    assert calls["embed"][0][0].uri == FolderSource(photos).uri
    assert calls["cluster"] == (
        ("kmeans", 3),
        {
            "name": "default",
            "random_state": 7,
            "device": "cpu",
            "keep_duplicates": True,
            "neighbors": "approx",
        },
    )
    assert herd.path == where


def test_sorting_again_does_only_what_is_missing(run, herd, photos):
    run("sort", photos, "--herd", "photos.herd")
    herd.calls.clear()
    result = run("sort", photos, "--herd", "photos.herd")
    assert [verb for verb, _, _ in herd.calls] == ["estimate", "embed"]
    assert result.exit_code == 0


@pytest.mark.parametrize("method", ["lsdc", "hdbscan"])
def test_sorting_again_knows_tuples_and_methods_that_count_themselves(run, herd, photos, method):
    arguments = ("sort", photos, "--herd", "photos.herd", "--method", method)
    assert run(*arguments).exit_code == 0
    herd.config = json.loads(json.dumps(herd.config))
    herd.calls.clear()
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "cluster" not in [verb for verb, _, _ in herd.calls]


def test_sort_chooses_the_method_once_and_says_why(run, herd, photos):
    arguments = ("sort", photos, "--herd", "photos.herd", "--method", "auto", "--seed")
    result = run(*arguments, 4)
    assert result.exit_code == 0, result.output
    assert "Chosen without labels: kmeans.\n" in result.stdout
    for seed, again in ((4, False), (5, True)):
        herd.calls.clear()
        assert run(*arguments, seed).exit_code == 0
        assert ("cluster" in [verb for verb, _, _ in herd.calls]) is again


def test_what_has_features_already_is_told_after_looking(run, herd, photos):
    herd.estimate = lambda source, **options: 0.0
    out = run("sort", photos).stdout
    assert "will take" not in out
    assert "8 images: 6 embedded now, 2 unreadable." in out


def test_an_empty_cluster_is_told_once(run, herd, photos, monkeypatch):
    from imageherd.heads.base import CollapseWarning

    def collapsing(method, n_clusters, **options):
        warnings.warn("TSP used 2 of 5 clusters", CollapseWarning, stacklevel=2)
        return type(herd).cluster(herd, method, n_clusters, **options)

    monkeypatch.setattr(herd, "cluster", collapsing)
    for verb, where in (("sort", photos), ("cluster", herd.path)):
        told = run(verb, where, "--n-clusters", "5").stderr
        assert told.count("clusters") == 3, told
        assert "5 clusters were to be made; 3 clusters stayed empty. To use more, " in told


def test_two_more_images_are_enough_for_a_herd_that_is_there(run, made, tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    for i in range(2):
        Image.new("RGB", (8, 8), (40 * i, 9, 9)).save(new / f"{i}.jpg")
    assert "at least 3" in run("sort", new).stderr
    assert run("sort", new, "--herd", made.path).exit_code == 0


def test_what_other_parameters_gave_is_not_taken_for_the_default(run, herd, photos):
    run("sort", photos, "--herd", "photos.herd")
    herd.config["params"]["epochs"] = 1
    herd.calls.clear()
    run("sort", photos, "--herd", "photos.herd")
    assert "cluster" in [verb for verb, _, _ in herd.calls]


@pytest.mark.parametrize("change", [["--seed", "1"], ["--method", "temi"], ["--n-clusters", "3"]])
def test_sorting_again_with_another_setting_clusters_anew(run, herd, photos, change):
    run("sort", photos, "--herd", "photos.herd")
    herd.calls.clear()
    run("sort", photos, "--herd", "photos.herd", *change)
    assert "cluster" in [verb for verb, _, _ in herd.calls]


def test_sort_opens_the_report(run, herd, photos, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda uri: opened.append(uri) or True)
    run("sort", photos, "--open")
    assert opened == [(herd.path / "report" / "index.html").resolve().as_uri()]


def test_quiet_sort_prints_the_report_and_nothing_else(run, herd, photos):
    result = run("sort", photos, "--quiet")
    assert result.stdout == f"{herd.path / 'report' / 'index.html'}\n"
    assert result.stderr == ""


def test_embed(run, herd, photos):
    result = run("embed", photos, "--workers", 3)
    assert result.exit_code == 0, result.output
    verb, (folder,), options = herd.calls[-1]
    assert (verb, folder.uri) == ("embed", FolderSource(photos).uri)
    backbone = {"backbone": "efficientnet-lite0", "device": "auto", "dtype": "float32"}
    assert options == backbone | {"workers": 3, "moved_from": None, "views": 0, "engine": None}
    assert "8 images: 6 embedded now, 2 unreadable." in result.stdout


@pytest.mark.parametrize("verb", ["sort", "embed"])
def test_a_folder_that_moved_is_found_again_in_its_herd(run, herd, photos, verb):
    run(verb, photos)
    moved = photos.rename(photos.with_name("holiday"))
    result = run(verb, moved, "--herd", "new.herd", "--moved-from", photos)
    assert result.exit_code == 2
    assert "new.herd is not a herd, so nothing in it has moved" in result.stderr
    herd.calls.clear()
    assert run(verb, moved, "--moved-from", photos).exit_code == 0
    assert herd.path.name == "photos.herd"
    assert [c[2]["moved_from"] for c in herd.calls[:2]] == [photos, photos]
    # A folder of the same name elsewhere might be it.
    same_name = moved.rename(moved.parents[0] / "x").parent / "y" / "photos"
    same_name.parent.mkdir()
    (photos.parent / "x").rename(same_name)
    assert f"--moved-from {photos}" in run(verb, same_name).stderr


def test_neighbors_that_are_not_exact_are_told_and_found_exactly_on_demand(run, herd, photos):
    arguments = ("sort", photos, "--herd", "photos.herd")
    assert "nearest" not in run(*arguments).stdout
    herd.config["neighbors"] = {"k": 50, "recall": 0.9617}
    herd.calls.clear()
    out = run(*arguments).stdout
    assert "Of each image's 50 nearest, 96.2% were found" in out
    assert run(*arguments, "--neighbors", "exact").exit_code == 0
    assert [verb for verb, _, _ in herd.calls].count("cluster") == 1
    wrong = run("cluster", herd.path, "--neighbors", "aprox")
    assert wrong.exit_code == 2
    assert "--neighbors aprox is not known. Did you mean approx?" in wrong.stderr


def test_cluster_hands_parameters_to_the_head(run, made):
    arguments = "--method temi --n-clusters 4 --name t --param n_heads=8 --param objective=wpmi"
    arguments += " --keep-duplicates --reject 0.02 --neighbors exact"
    result = run("cluster", made.path, *arguments.split())
    assert result.exit_code == 0, result.output
    _, arguments, options = made.calls[-1]
    assert arguments == ("temi", 4)
    assert options == {
        "name": "t",
        "random_state": 0,
        "device": "auto",
        "keep_duplicates": True,
        "reject": 0.02,
        "neighbors": "exact",
        "train_on": None,
        "warm_start": False,
        "learn_edits": False,
        "n_heads": 8,
        "objective": "wpmi",
    }
    assert f"imageherd report {made.path} --name t" in result.stdout


def test_name_shows_the_votes(run, made):
    out = run("name", made.path).stdout.splitlines()
    assert out[0].split() == ["uid", "name", "images", "share", "lift", "runner-up"]
    assert out[1].split() == ["1", "sneaker", "3", "80%", "boot"]
    assert out[2].split() == ["2", "umbrella", "2"]


def test_name_renames(run, made):
    result = run("name", made.path, "--rename", "2= Rain =\n wet", "--rename", "1=Shoes")
    assert [c[1] for c in made.calls if c[0] == "rename"] == [(2, "Rain = wet"), (1, "Shoes")]
    assert "Rain = wet" in result.stdout


def test_a_wrong_uid_renames_nothing(run, made):
    result = run("name", made.path, "--rename", "1=Shoes", "--rename", "9=Hats")
    assert result.exit_code == 2
    assert "no cluster 9" in result.stderr
    assert made.calls == []


def test_report_writes_where_it_is_told(run, made, tmp_path):
    result = run("report", made.path, "--output", tmp_path / "r.html")
    assert result.stdout.strip() == str(tmp_path / "r.html")


def test_assign_counts_and_lists_what_fits_nowhere(run, made, photos):
    result = run("assign", made.path, photos, "--reject", 0.05, "--output", "placed.csv")
    assert result.exit_code == 0, result.output
    assert made.calls[0][2]["reject"] == 0.05
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["sneaker", "2"] in rows
    assert ["fits", "nowhere", "1"] in rows
    assert "5.jpg (similarity 0.10)" in result.stdout
    with Path("placed.csv").open(encoding="utf-8") as file:
        placed = list(csv.DictReader(file))
    assert [p["path"] for p in placed] == ["3.jpg", "4.jpg", "5.jpg"]
    assert [p["cluster"] for p in placed] == ["sneaker", "sneaker", "fits nowhere"]


def evaluation(n: int) -> SimpleNamespace:
    return SimpleNamespace(
        scores={"ACC": 0.5, "NMI": 0.25, "ARI": 0.125, "AMI": 0.0625},
        confusion=np.diag(np.arange(1, n + 1)),
        classes=[f"class {i}" for i in range(n)],
        clusters=[f"cluster {i}" for i in range(n)],
        consistency={"clusters": 0.875, "labels": 0.5},
        entropies={"clusters": 0.9, "images": 0.1, "most": 1.0},
        n_images=10,
        n_unlabelled=2,
        n_nowhere=1,
    )


def test_evaluate_prints_scores_and_matrix(run, made):
    made.evaluation = evaluation(3)
    result = run("evaluate", made.path, "--labels", "folder")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["ACC", "50.0"] in rows
    assert ["class", "1", "·", "2", "·"] in rows
    assert "2 images without a label" in result.stdout
    assert ["of", "the", "clusters", "87.5"] in rows
    assert ["of", "the", "labels", "50.0"] in rows
    assert ["of", "the", "clusters", "0.90"] in rows
    assert "features that do not tell" in " ".join(result.stdout.split())


@pytest.mark.parametrize("width", ["60", "200"])
def test_evaluate_stays_readable_with_many_clusters(run, made, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    made.evaluation = evaluation(100)
    out = run("evaluate", made.path, "--labels", "folder").stdout
    assert max(len(line.rstrip()) for line in out.splitlines()) <= int(width)
    assert any(
        line.split() == ["class", "99", "100", "cluster", "99", "100"] for line in out.splitlines()
    )


def test_export_takes_the_format_from_the_ending(run, made):
    for destination, given, expected in (
        ("a.parquet", [], "parquet"),
        ("a.csv", [], "csv"),
        ("sorted", ["--to", "folders", "--link", "symlink"], "folders"),
    ):
        result = run("export", made.path, destination, *given)
        assert result.exit_code == 0, result.output
        assert made.calls[-1][2]["to"] == expected
        assert result.stdout.strip() == destination
    assert made.calls[-1][2]["link"] == "symlink"


def test_every_verb_speaks_json_and_nothing_but(run, made, photos):
    made.evaluation = evaluation(3)
    for arguments in (
        ["sort", photos, "--herd", made.path],
        ["embed", photos, "--herd", made.path],
        ["cluster", made.path],
        ["name", made.path],
        ["report", made.path],
        ["assign", made.path, photos],
        ["evaluate", made.path, "--labels", "folder"],
        ["export", made.path, "a.csv"],
    ):
        result = run(*arguments, "--json")
        assert result.exit_code == 0, (arguments, result.output)
        value = json.loads(result.stdout)
        assert value["herd"] == str(made.path), arguments
    assert value == {"herd": str(made.path), "to": "csv", "destination": "a.csv"}


def test_clusters_that_stayed_empty_are_mentioned(run, made):
    result = run("cluster", made.path, "--n-clusters", "5")
    assert "5 clusters were to be made; 3 clusters stayed empty." in result.stderr


def test_views_are_asked_for_and_told(run, made, photos, monkeypatch):
    embed = type(made).embed

    def with_views(source, **options):
        return replace(embed(made, source, **options), n_views=12)

    monkeypatch.setattr(made, "embed", with_views)
    result = run("embed", photos, "--views", 2)
    assert "12 views made now, 2 an image.\n" in result.stdout
    assert "about 6 min" in result.stdout
    assert made.calls[-1][2]["views"] == 2
    assert (
        json.loads(run("embed", photos, "--views", 2, "--json").stdout)["images"]["n_views"] == 12
    )
    assert run("embed", photos, "--views", -1).exit_code == 2
    for option, expected in (((), None), (("--views",), True), (("--no-views",), False)):
        assert run("cluster", made.path, "--method", "scp", *option).exit_code == 0
        assert made.calls[-1][2].get("views") is expected
    clustering = made.clustering()
    clustering.config["views"] = 4
    monkeypatch.setattr(made, "cluster", lambda *a, **k: clustering)
    out = run("cluster", made.path).stdout
    assert "Trained on 4 augmented views of each image.\n" in out


def test_json_counts_the_copies(run, made, monkeypatch):
    told = json.loads(run("cluster", made.path, "--json").stdout)
    assert told["clustering"]["n_duplicates"] is None
    quality = Quality(*np.array([[-1, 0, -1, -1, 3, 3]] * 4))
    with_quality = replace(made.clustering(), quality=quality)
    monkeypatch.setattr(made, "cluster", lambda *a, **k: with_quality)
    told = json.loads(run("cluster", made.path, "--json").stdout)
    assert told["clustering"]["n_duplicates"] == 3


def test_a_table_of_very_many_clusters_is_cut_and_says_so(run, made, monkeypatch):
    from imageherd.clustering import Cluster, Clustering

    many = Clustering(
        "default",
        "v0001",
        np.arange(200),
        np.arange(200, dtype=np.int32),
        np.ones(200, dtype=np.float32),
        np.ones(200, dtype=np.int32),
        [Cluster(i, f"name {i}", 1, 1.0, [i]) for i in range(200)],
    )
    monkeypatch.setattr(made, "cluster", lambda *a, **k: many)
    monkeypatch.setattr(
        made, "features", lambda: SimpleNamespace(rows=np.arange(200), key="lite0-abc")
    )
    out = run("cluster", made.path).stdout
    assert "... and 160 smaller clusters with 160 images: imageherd name" in out
