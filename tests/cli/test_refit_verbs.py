"""--train-on and --warm-start from the command line, on a herd of vectors."""

import json

import numpy as np
import pytest

from imageherd.herd import Herd

RNG = np.random.default_rng(0)
CENTERS = RNG.normal(size=(3, 8)) * 4
X = (CENTERS[np.arange(90) % 3] + RNG.normal(size=(90, 8))).astype(np.float32)


@pytest.fixture
def herd(run, tmp_path):
    np.save(tmp_path / "v.npy", X)
    assert run("embed", tmp_path / "v.npy", "--herd", tmp_path / "v.herd").exit_code == 0
    return tmp_path / "v.herd"


def test_a_sample_is_said_and_told_apart(run, herd):
    options = ("--method", "kmeans", "--n-clusters", 3, "--seed", 5)
    result = run("cluster", herd, *options, "--train-on", 60)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "60 of 90 vectors were fitted, drawn with seed 5;" in said
    config = json.loads((herd / "clusterings/default/v0001/clusters.json").read_text())
    assert config["train_on"] == 60
    wrong = run("cluster", herd, *options, "--train-on", 1)
    assert wrong.exit_code == 2
    assert "--train-on 1 is too few to fit; give 2 or more." in wrong.output
    few = run("cluster", herd, *options, "--train-on", 2)
    assert "n_clusters=3 does not suit 2 images" in " ".join(few.output.split())


def test_what_fits_nowhere_is_told_the_farthest_first(run, herd, tmp_path):
    run("cluster", herd, "--method", "kmeans", "--n-clusters", 3)
    away = -CENTERS.sum(0)
    strangers = [CENTERS[0] + 3 * away / np.linalg.norm(away) * np.linalg.norm(CENTERS[0]), away]
    np.save(tmp_path / "v.npy", np.concatenate([X, CENTERS, strangers]).astype(np.float32))
    result = run("assign", herd, tmp_path / "v.npy", "--json")
    assert result.exit_code == 0, result.output
    placed = json.loads(result.stdout)["images"]
    assert [image["uid"] == -1 for image in placed] == [False] * 3 + [True] * 2
    assert placed[3]["similarity"] > placed[4]["similarity"]
    again = strangers + RNG.normal(size=(2, 8)) / 9
    np.save(tmp_path / "v.npy", np.concatenate([X, CENTERS, strangers, again]).astype(np.float32))
    said = run("assign", herd, tmp_path / "v.npy").output
    assert "2 vectors fit nowhere" in said
    assert said.index("0000096 (") < said.index("0000095 (")


def test_a_warm_start_needs_no_more_than_the_name(run, herd):
    first = run("cluster", herd, "--method", "kmeans", "--n-clusters", 3, "--name", "mine")
    assert first.exit_code == 0, first.output
    again = run("cluster", herd, "--warm-start", "mine", "--json")
    assert again.exit_code == 0, again.output
    found = json.loads(again.stdout)["clustering"]
    assert (found["name"], found["version"]) == ("mine", "v0002")
    said = run("cluster", herd, "--warm-start", "mine").output
    assert "kmeans went on from version v0002." in said
    for wrong, message in (
        (("--name", "other"), "--warm-start mine makes mine anew; leave --name other out."),
        (("--method", "tsp"), "method=kmeans, so method=tsp cannot start from it"),
        (("--n-clusters", 4), "n_clusters=3, so n_clusters=4"),
        (("--param", "n_heads=2"), "kmeans has no parameter"),
    ):
        result = run("cluster", herd, "--warm-start", "mine", *wrong)
        assert result.exit_code == 2
        assert message in " ".join(result.output.split())
    nobody = run("cluster", herd, "--warm-start", "yours")
    assert "has no clustering 'yours' (it has mine)" in " ".join(nobody.output.split())


def test_learning_from_edits_says_what_it_went_on_from(run, herd):
    quick = ("--param", "n_heads=1", "--param", "epochs=2", "--param", "min_steps=20")
    none = run("cluster", herd, "--learn-edits")
    assert none.exit_code == 2
    assert "has no clustering 'default'" in " ".join(none.output.split())
    run("cluster", herd, "--n-clusters", 3, *quick)
    nothing = run("cluster", herd, "--learn-edits")
    assert nothing.exit_code == 2
    assert "has no edits to learn from; move images" in " ".join(nothing.output.split())
    kept = Herd(herd)
    to = int(kept.clustering().uids[1])
    kept.edit().move([0, 3], to)
    for wrong, message in (
        (("--warm-start", "default"), "by itself; leave --warm-start out."),
        (("--unfreeze", "mine"), "by itself; leave --unfreeze out."),
        (("--method", "temi"), "method=temi cannot start from it; leave method out"),
        (("--name", "other"), "has no clustering 'other'"),
    ):
        result = run("cluster", herd, "--learn-edits", *wrong)
        assert result.exit_code == 2
        assert message in " ".join(result.output.split())
    said = run("cluster", herd, "--learn-edits")
    assert said.exit_code == 0, said.output
    expected = "tsp went on from version v0001 and learned its 1 edit by hand; 2 vectors that you"
    assert expected in " ".join(said.output.split())
    assert kept.clustering().uids[[0, 3]].tolist() == [to, to]
    kept.edit().move([6], to)
    again = json.loads(run("cluster", herd, "--learn-edits", "--json").stdout)["clustering"]
    assert again["version"] == "v0003"
    assert kept.clustering().uids[[0, 3, 6]].tolist() == [to] * 3
