"""Runs are kept, found again, and told when they fail."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.bench_fakes import do_here, save_blobs
from imageherd.bench import grid
from imageherd.bench.featuresets import FeatureSet, Files
from imageherd.bench.grid import Entry, plan, run_grid
from imageherd.errors import ImageherdError
from imageherd.metrics import neighbor_consistency, scores

KMEANS = Entry("kmeans", "kmeans", {"n_init": 1})


@pytest.fixture
def blobs(tmp_path):
    X, y = save_blobs(tmp_path / "blobs")
    return FeatureSet("blobs", Files((str(X),), str(y)))


@pytest.fixture
def jobs(monkeypatch):
    """Jobs done, in this process."""
    done = []

    def here(job):
        done.append(job)
        return do_here(job)

    monkeypatch.setattr(grid, "_in_a_process", here)
    return done


def test_a_result_says_all_that_was_measured(tmp_path, blobs, jobs):
    (result,) = run_grid(plan([KMEANS], [blobs], [4]), tmp_path / "out", device="cpu")
    assert result["status"] == "ok"
    facts = {k: result[k] for k in ("method", "features", "n", "d", "n_clusters", "seed")}
    assert facts == {
        "method": "kmeans",
        "features": "blobs",
        "n": 90,
        "d": 6,
        "n_clusters": 3,
        "seed": 4,
    }
    assert result["scores"] == dict.fromkeys(("ACC", "NMI", "ARI", "AMI"), 1.0)
    assert result["label_free"]["used_clusters"] == 3
    assert result["label_free"]["generalization"] == 1.0
    assert result["label_free"]["marginal_entropy"] == pytest.approx(np.log(3), abs=1e-3)
    assert result["seconds"] > 0
    assert result["cpu_seconds"] > 0
    assert 50 < result["peak_mb"] < 50_000
    assert result["graph"]["seconds"] > 0


def test_consistency_and_scores_are_those_of_the_labels_found(tmp_path, jobs):
    X, y = save_blobs(tmp_path / "near", apart=1.0)
    near = FeatureSet("near", Files((str(X),), str(y)))
    (result,) = run_grid(plan([KMEANS], [near], [0]), tmp_path / "out", device="cpu")
    from imageherd.baselines import KMeans
    from imageherd.neighbors import knn_graph

    loaded = np.load(X)
    found = KMeans(3, n_init=1, random_state=0, device="cpu").fit(loaded).predict(loaded)
    graph = knn_graph(loaded, 20)
    assert result["label_free"]["consistency"] == neighbor_consistency(graph, found)
    assert result["scores"] == scores(np.load(y), found)
    assert result["graph"]["label_consistency"] == neighbor_consistency(graph, np.load(y))


def test_what_is_there_is_not_done_again(tmp_path, blobs, jobs):
    out = tmp_path / "out"
    first = run_grid(plan([KMEANS], [blobs], [0, 1]), out, device="cpu")
    assert [job["task"] for job in jobs] == ["graph", "run", "run"]
    seen = []
    again = run_grid(
        plan([KMEANS], [blobs], [0, 1, 2]),
        out,
        device="cpu",
        on_result=lambda result, was_there: seen.append(was_there),
    )
    assert seen == [True, True, False]
    assert [job["task"] for job in jobs] == ["graph", "run", "run", "run"]
    assert again[:2] == first


@pytest.mark.parametrize("change", ["param", "data", "k", "version"])
def test_another_run_is_not_taken_for_it(tmp_path, blobs, jobs, monkeypatch, change):
    out = tmp_path / "out"
    run_grid(plan([KMEANS], [blobs], [0]), out, device="cpu")
    jobs.clear()
    entry, k = KMEANS, None
    if change == "param":
        entry = Entry("kmeans", "kmeans", {"n_init": 2})
    elif change == "data":
        save_blobs(tmp_path / "blobs", seed=1)
    elif change == "k":
        k = 4
    else:
        monkeypatch.setattr(grid, "version", lambda name: "99")
    run_grid(plan([entry], [blobs], [0], k), out, device="cpu")
    assert "run" in [job["task"] for job in jobs]


def test_a_damaged_file_is_a_missing_run(tmp_path, blobs, jobs):
    out = tmp_path / "out"
    run_grid(plan([KMEANS], [blobs], [0]), out, device="cpu")
    (file,) = (out / "runs").iterdir()
    file.write_text(file.read_text()[:40])
    jobs.clear()
    (result,) = run_grid(plan([KMEANS], [blobs], [0]), out, device="cpu")
    assert [job["task"] for job in jobs] == ["run"]
    assert result["status"] == "ok"


def test_a_run_that_fails_is_a_row_and_is_tried_again(tmp_path, blobs, jobs):
    wrong = Entry("wrong", "kmeans", {"max_iter": 0})
    runs = plan([wrong, KMEANS], [blobs], [0])
    for _ in range(2):
        failed, good = run_grid(runs, tmp_path / "out", device="cpu")
        assert failed["status"] == "failed"
        assert "max_iter == 0" in failed["reason"]
        assert good["status"] == "ok"
    assert [job["params"] for job in jobs if job["task"] == "run"] == [
        {"max_iter": 0},
        {"n_init": 1},
        {"max_iter": 0},
    ]


def test_features_that_are_not_finite_fail_their_runs_and_no_others(tmp_path, blobs, jobs):
    X, y = save_blobs(tmp_path / "broken")
    broken = np.load(X)
    broken[7, 1] = np.nan
    np.save(X, broken)
    sets = [FeatureSet("broken", Files((str(X),), str(y))), blobs]
    results = run_grid(plan([KMEANS], sets, [0]), tmp_path / "out", device="cpu")
    assert [r["status"] for r in results] == ["failed", "ok"]
    assert "NaN" in results[0]["reason"]


def test_fit_on_one_split_score_the_other(tmp_path, jobs):
    (X, y), (X2, y2) = (save_blobs(tmp_path / s, seed=i) for i, s in enumerate(("fit", "score")))
    # The rows to fit have labels that would score badly: they are not to be looked at.
    np.save(y, np.random.default_rng(0).permutation(np.load(y)))
    split = FeatureSet("split", Files((str(X),), str(y)), Files((str(X2),), str(y2)))
    (result,) = run_grid(plan([KMEANS], [split], [0]), tmp_path / "out", device="cpu")
    assert (result["n"], result["n_scored"]) == (90, 90)
    assert result["scores"]["ACC"] == 1.0
    assert result["graph"]["label_consistency"] > 0.9


def test_a_fraction_is_drawn_the_same_for_every_seed(tmp_path, blobs):
    split = FeatureSet("blobs", blobs.fit, train_fraction=0.8)
    (fit, score), (fit2, _) = split.load(), split.load()
    assert (len(fit.X), len(score.X)) == (72, 18)
    assert np.array_equal(fit.X, fit2.X)
    rows = {row.tobytes() for part in (fit, score) for row in part.X}
    assert rows == {row.tobytes() for row in np.load(tmp_path / "blobs" / "X.npy")}
    assert split.digest() != blobs.digest()


def test_without_labels_only_what_needs_none(tmp_path, jobs):
    X, _ = save_blobs(tmp_path / "blobs")
    bare = FeatureSet("bare", Files((str(X),)))
    with pytest.raises(ImageherdError, match="no labels to count the classes of; give --n-clus"):
        plan([KMEANS], [bare], [0])
    (result,) = run_grid(plan([KMEANS], [bare], [0], 3), tmp_path / "out", device="cpu")
    assert result["scores"] == {}
    assert result["label_free"]["consistency"] > 0.9


def test_two_backbones_side_by_side_are_blocks(tmp_path, jobs):
    X, y = save_blobs(tmp_path / "one")
    X2, _ = save_blobs(tmp_path / "two", d=4)
    both = FeatureSet("both", Files((str(X), str(X2)), str(y)))
    tsp = Entry("tsp", "tsp", {"epochs": 1, "min_steps": 0, "n_heads": 1})
    (result,) = run_grid(plan([tsp], [both], [0]), tmp_path / "out", device="cpu")
    assert result["status"] == "ok", result
    assert both.load()[0].blocks == (6, 4)
    assert result["d"] == 10


def test_a_feature_set_survives_the_way_to_the_process(tmp_path, blobs):
    split = FeatureSet("s", blobs.fit, blobs.fit, None)
    assert FeatureSet.from_json(json.loads(json.dumps(split.to_json()))) == split


def write(path: Path, array: np.ndarray) -> str:
    np.save(path, array)
    return str(path)


def test_files_that_do_not_fit_are_named(tmp_path):
    X = write(tmp_path / "X.npy", np.zeros((5, 2)))
    short = write(tmp_path / "short.npy", np.zeros(4, dtype=int))
    flat = write(tmp_path / "flat.npy", np.zeros(5))
    wide = write(tmp_path / "wide.npy", np.zeros((5, 3)))
    text = tmp_path / "text.npy"
    text.write_text("not an array")
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([{}], dtype=object), allow_pickle=True)
    for files, expected in (
        (Files((X,), short), "short.npy has 4 labels, .*X.npy has 5 rows"),
        (Files((X,), flat), "flat.npy holds float64 of shape \\(5,\\); labels are integers"),
        (Files((flat,)), "flat.npy holds float64 of shape \\(5,\\); features are numbers"),
        (Files((str(tmp_path / "none.npy"),)), "none.npy does not exist"),
        (Files((str(text),)), "text.npy is no plain NumPy file"),
        (Files((str(objects),)), "objects.npy is no plain NumPy file"),
        (Files((X, write(tmp_path / "long.npy", np.zeros((6, 2))))), "long.npy has 6 rows"),
    ):
        with pytest.raises(ImageherdError, match=expected):
            FeatureSet("s", files).facts()
    with pytest.raises(ImageherdError, match="have 2 columns, the rows to score 3"):
        FeatureSet("s", Files((X,)), Files((wide,))).facts()
    with pytest.raises(ImageherdError, match="leaves 0 to fit and 5 to score"):
        FeatureSet("s", Files((X,)), train_fraction=0.05).facts()


def test_a_process_that_dies_is_a_failed_run(tmp_path, monkeypatch):
    job = {"output": str(tmp_path / "r.json"), "result": {"format": grid.FORMAT}}
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert grid._in_a_process(job)["reason"] == "its process ended with code 1"
    kill = tmp_path / "kill"
    kill.write_text("#!/bin/sh\nkill -9 $$\n")
    kill.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(kill))
    assert "for want of memory" in grid._in_a_process(job)["reason"]
    assert json.loads(Path(job["output"]).read_text())["status"] == "failed"


def test_ctrl_c_loses_only_the_run_in_hand(tmp_path):
    """A program of its own, interrupted as a terminal does it, and run again."""
    X, y = save_blobs(tmp_path / "blobs")
    # The second run would take minutes.
    command = [
        *(sys.executable, "-m", "imageherd", "bench", f"blobs={X},{y}", "--seeds", "1"),
        *("--method", "kmeans", "--method", "tsp", "--param", "tsp.epochs=1000000"),
    ]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    runs = tmp_path / "bench-results" / "runs"
    assert "kmeans on blobs, seed 0: ACC 100.0" in process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "1 of 2 runs are kept in bench-results" in err
    assert "Traceback" not in err
    assert [json.loads(f.read_text())["status"] for f in runs.iterdir()] == ["ok"]
