"""`imageherd bench` reads what it is given, prints tables, and says what is wrong."""

import csv
import json
from pathlib import Path

import pytest

from bench.bench_fakes import do_here, fill, save_blobs
from imageherd.bench import grid
from imageherd.cli.bench_inputs import _set_names


def text(result) -> str:
    return " ".join(result.stderr.split())


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    monkeypatch.setattr(grid, "_in_a_process", do_here)


@pytest.fixture
def blobs(tmp_path):
    X, y = save_blobs(tmp_path / "blobs")
    return f"blobs={X},{y}"


QUICK = ["--method", "kmeans", "--param", "kmeans.n_init=1", "--seeds", "2", "--device", "cpu"]


def test_a_grid_is_printed_and_written(run, blobs):
    result = run("bench", blobs, *QUICK, "--csv", "t.csv", "--markdown", "t.md")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["method", "ACC", "NMI", "ARI", "AMI", "seconds", "MB"] in lines
    assert any(line[:4] == ["kmeans", "100.0", "±", "0.0"] for line in lines)
    assert "blobs: 90 × 6, 3 clusters, 2 seeds" in result.stdout
    (row,) = csv.DictReader(Path("t.csv").read_text(encoding="utf-8").splitlines())
    assert float(row["ACC"]) == 1.0
    assert "| kmeans | 100.0 ± 0.0 |" in Path("t.md").read_text(encoding="utf-8")
    assert len(list(Path("bench-results/runs").iterdir())) == 2


def test_the_second_time_nothing_is_run_and_the_same_is_printed(run, blobs):
    first = run("bench", blobs, *QUICK).stdout
    again = run("bench", blobs, *QUICK).stdout
    assert "kmeans on blobs, seed 0: ACC 100.0" in first
    assert "seed 0: ACC" not in again
    assert first.endswith(again)


def test_tables_fit_on_a_narrow_terminal(run, blobs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = run("bench", blobs, *QUICK, "--quiet").stdout
    table = [line.rstrip() for line in out.splitlines() if line.startswith(("method", "kmeans"))]
    assert len(table) == 4
    assert max(map(len, table)) <= 80
    assert "…" not in out


def test_json_is_json_and_nothing_but(run, blobs):
    value = json.loads(run("bench", blobs, *QUICK, "--json").stdout)
    assert [r["scores"]["ACC"] for r in value["runs"]] == [1.0, 1.0]
    assert value["table"][0]["numbers"]["ACC"] == {"mean": 1.0, "std": 0.0}


def test_labels_presets_and_parameters(run, blobs):
    result = run(
        *("bench", blobs, "--seeds", "5,", "--device", "cpu"),
        *("--method", "one=tsp:paper", "--method", "two=tsp"),
        *(f"--param={m}.{p}" for m in ("one", "two") for p in ("epochs=1", "min_steps=0")),
        "--json",
    )
    value = json.loads(result.stdout)
    params = {r["method"]: r["known"]["params"] for r in value["runs"]}
    assert params["one"]["objective"] == "tsp"
    assert params["one"]["epochs"] == 1
    assert params["two"]["objective"] == "pmi"
    assert {r["seed"] for r in value["runs"]} == {5}


def test_a_run_that_fails_is_told_and_so_is_the_exit_code(run, blobs):
    wrong = ["--method", "wrong=kmeans", "--param", "wrong.max_iter=0"]
    result = run("bench", blobs, *QUICK, *wrong)
    assert result.exit_code == 3
    assert "wrong, seed 0: max_iter == 0" in text(result)
    assert "2 of 4 runs failed" in text(result)
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["wrong", *["failed"] * 6] in rows


def test_an_npy_file_alone_has_its_own_name_and_no_scores(run, tmp_path):
    X, _ = save_blobs(tmp_path / "blobs")
    result = run("bench", X, "--n-clusters", "3", *QUICK)
    assert result.exit_code == 0, result.output
    assert "X: 90 × 6, 3 clusters" in result.stdout
    assert "ACC" not in result.stdout.split("X: 90")[1].split("percent")[0].replace("ACC,", "")


@pytest.fixture(scope="module")
def real_herd(tmp_path_factory):
    from imageherd.herd import Herd

    root = tmp_path_factory.mktemp("herd")
    fill(root / "photos", ["red", "green", "blue"], n=5)
    Herd(root / "photos.herd").embed(root / "photos")
    return root / "photos.herd"


def test_a_herd_with_its_folders_as_labels(run, real_herd):
    result = run("bench", real_herd, "--labels", "folder", *QUICK, "--json")
    assert result.exit_code == 0, result.output
    runs = json.loads(result.stdout)["runs"]
    assert {(r["features"], r["n"], r["d"], r["n_clusters"]) for r in runs} == {
        ("photos", 15, 1280, 3)
    }
    assert all(0 < r["scores"]["ACC"] <= 1 for r in runs)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--method", "tps"], "Did you mean tsp? Choose from:"),
        (["--method", "tsp:papre"], "tsp has no preset papre. Did you mean paper?"),
        (["--method", "kmeans:paper"], "kmeans has no preset paper. (it has none)"),
        (["--method", "tsp", "--method", "tsp"], "tsp is there twice; tell them apart: LABEL=tsp"),
        (["--param", "epochs=3"], "write it METHOD.KEY=VALUE, such as kmeans.epochs=3"),
        (["--param", "temi.epochs=3"], "--param of temi is not known"),
        (["--param", "tsp.epoch=3"], "tsp has no parameter epoch. Did you mean epochs?"),
        (["--seeds", "0"], "say how many (5) or which ones, each once (0,3,7)"),
        (["--seeds", "1,1"], "say how many (5) or which ones"),
        (["--seeds", "some"], "say how many (5) or which ones"),
        (["--train-fraction", "1.5"], "--train-fraction 1.5 is out of range"),
        (["--n-clusters", "91"], "91 clusters do not suit blobs with its 90 rows"),
        (["--csv", "table.md"], "--csv table.md: give the name of a file in .csv"),
        (["--device", "gpu"], "Choose from: auto, cpu, cuda, mps"),
        (["--labels", "folder"], "--labels is for herds; name the labels of files: NAME=X.npy,y"),
        (["--dataset", "cifar10"], "--dataset goes with --paper"),
        (["--paper", "tsp:1"], "FEATURES is decided by the recipe of --paper; leave it out"),
    ],
)
def test_mistakes_are_told_before_anything_is_run(run, blobs, arguments, expected):
    result = run("bench", blobs, *arguments)
    assert result.exit_code == 2, result.output
    assert expected in text(result)
    assert not Path("bench-results").exists()


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (["a=none.npy"], "none.npy does not exist"),
        (["none.herd"], "none.herd does not exist"),
        (["a=b=c.npy,d.npy"], "c.npy does not exist"),
        (["a=x.npy,y.npy,z.npy,u.npy,v.npy"], "is not read; write NAME=X.npy, NAME=X.npy,y.npy"),
        (["a=x.npy,y.npy,z.csv"], "is not read; write NAME=X.npy"),
        ([], "Give at least one herd or NAME=X.npy,y.npy, or --paper"),
    ],
)
def test_features_that_are_none(run, features, expected):
    result = run("bench", *features, "--seeds", "1")
    assert result.exit_code == 2
    assert expected in text(result)


def test_without_a_method_the_quick_ones_take_part(run, blobs):
    quick = [f"--param={m}.{p}" for m in ("tsp", "infonce") for p in ("epochs=1", "min_steps=0")]
    result = run("bench", blobs, *quick, "--seeds", "1", "--device", "cpu", "--json")
    names = [r["method"] for r in json.loads(result.stdout)["runs"]]
    assert names == ["kmeans", "spherical-kmeans", "tsp", "infonce"]


def test_a_split_of_its_own_is_not_split_again(run, blobs):
    files = blobs.partition("=")[2]
    result = run("bench", f"two={files},{files}", "--train-fraction", "0.5")
    assert result.exit_code == 2
    assert "two has rows to score of its own; leave --train-fraction out" in text(result)


def test_the_feature_sets_of_a_herd_have_names_of_their_own():
    one = {"a-1": "x/a"}
    assert _set_names("h", one) == {"a-1": "h"}
    assert _set_names("h", {**one, "b-1": "b"}) == {"a-1": "h/a", "b-1": "h/b"}
    assert _set_names("h", {**one, "a-2": "y/a"}) == {"a-1": "h/a-1", "a-2": "h/a-2"}


def test_two_sets_of_one_name(run, blobs):
    assert "Two feature sets are called blobs" in text(run("bench", blobs, blobs))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--paper", "tsp:1"], "no folder datasets with the papers' datasets; name it with --data"),
        (["--paper", "tsp:1", "--data", "."], "cifar10 is not there: put its images in cifar10/"),
        (["--paper", "tspp:1"], "Did you mean tsp:1? Choose from: tsp:1, tsp:2, temi:1"),
        (["--paper", "tsp:1", "--dataset", "cifar"], "it has cifar10, cifar20, stl10"),
        (["--paper", "tsp:1", "--method", "tsp"], "--method is decided by the recipe"),
    ],
)
def test_papers_that_cannot_be_run(run, arguments, expected):
    result = run("bench", *arguments)
    assert result.exit_code == 2
    assert expected in text(result)


def test_a_paper_is_run_where_its_dataset_is(run, tmp_path, monkeypatch):
    from imageherd.bench.papers import RECIPES, Step

    monkeypatch.setitem(RECIPES, "tsp:2", {"5 neighbors": Step("kmeans", {"n_init": 1})})
    for split in ("train", "test"):
        fill(tmp_path / "datasets" / "cifar10" / split, ["cat", "ship"])
    result = run(
        *("bench", "--paper", "tsp:2", "--backbone", "efficientnet-lite0", "--seeds", "1"),
        *("--csv", "t.csv", "--device", "cpu"),
    )
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    assert any(row[:3] == ["5", "neighbors", "cifar10"] and "92.4" in row for row in rows)
    assert "Ours are all on efficientnet-lite0" in " ".join(result.stdout.split())
    assert len(Path("t.csv").read_text(encoding="utf-8").splitlines()) == 1 + 3
