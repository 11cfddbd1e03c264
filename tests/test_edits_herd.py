"""A herd whose clustering was edited: what every verb sees, and what becomes of edits after."""

import csv
import json
import shutil
import warnings

import numpy as np
import pytest
from typer.testing import CliRunner

from edited_herds import CENTERS, made, rows_in
from imageherd.cli import app
from imageherd.errors import ImageherdError
from imageherd.herd import Herd


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return made(tmp_path_factory.mktemp("edits")).path


@pytest.fixture
def herd(template, tmp_path):
    return Herd(shutil.copytree(template, tmp_path / "small.herd"))


def uid_of(herd, blob):
    """The cluster of a blob: vector i is of blob i % 4."""
    return int(herd.clustering(as_trained=True).uids[blob])


def assign(herd, tmp_path, vectors, name="new.npy"):
    np.save(tmp_path / name, np.asarray(vectors, dtype=np.float32))
    return herd.assign(tmp_path / name, reject=0)


def run(*words):
    result = CliRunner().invoke(app, [str(w) for w in words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_herd_gives_the_edited_state_and_on_request_the_trained_one(herd):
    before = herd.clustering()
    moved = rows_in(before, 1)[:3]
    entry = herd.edit(author="Ann").move(moved)
    now, trained = herd.clustering(), herd.clustering(as_trained=True)
    assert rows_in(now, entry.payload["to"]) == moved
    assert now.cluster(entry.payload["to"]).name == "cluster 5"
    np.testing.assert_array_equal(trained.uids, before.uids)
    assert trained.clusters == before.clusters


def test_a_new_cluster_never_gets_a_number_that_was_in_use(herd):
    edits = herd.edit()
    first = edits.move([0]).payload["to"]
    edits.undo()
    second = edits.merge([1, 2]).payload["to"]
    assert (first, second) == (5, 6)
    with pytest.warns(
        UserWarning, match=r"starts without the 1 edit by hand of v0001, .* names .* stay"
    ):
        refit = herd.cluster("kmeans", 7)
    assert len(refit.clusters) == 7
    # 5 and 6 were handed out; 6, the union, may be found again.
    assert all(uid in (1, 2, 3, 4, 6) or uid > 6 for uid in refit.config["uids"])
    assert herd.edit().move([0]).payload["to"] >= refit.config["next_uid"]


def test_a_refit_finds_a_union_again_by_its_images_and_keeps_its_name(herd):
    fine = herd.cluster("kmeans", 8)
    pieces = {blob: set(fine.uids[blob::4].tolist()) for blob in range(4)}
    blob = max(pieces, key=lambda blob: len(pieces[blob]))
    edits = herd.edit()
    union = edits.merge(sorted(pieces[blob])).payload["to"]
    edits.rename(union, "both")
    edits.move(rows_in(edits.clustering(), union)[:1])
    with pytest.warns(UserWarning, match="without the 2 edits by hand of v0002"):
        herd.cluster("kmeans", 4)
    now = herd.clustering()
    assert (now.version, now.as_trained) == ("v0003", None)
    assert rows_in(now, union) == list(range(blob, 48, 4))
    assert now.cluster(union).name == "both"
    assert [e.kind for e in herd.edit().log()] == ["merge", "rename", "move"]
    assert herd.edit().undoable() == ([], [])
    with pytest.raises(ImageherdError, match="nothing to undo in version v0003"):
        herd.edit().undo()


def test_names_are_in_the_journal_over_those_of_old(herd):
    folder = herd.path / "clusterings" / "default"
    (folder / "names.json").write_text('{"1": "shirts", "2": "shoes"}')
    assert herd.clustering().cluster(1).name == "shirts"
    herd.rename(1, " T-shirts ")
    assert herd.clustering().cluster(1).name == "T-shirts"
    assert herd.clustering(as_trained=True).cluster(1).name == "T-shirts"
    assert json.loads((folder / "names.json").read_text()) == {"1": "shirts", "2": "shoes"}
    herd.cluster("kmeans", 4, random_state=1)
    assert {herd.clustering().cluster(uid).name for uid in (1, 2)} == {"T-shirts", "shoes"}


def test_a_name_taken_back_is_the_one_before(herd):
    edits = herd.edit()
    edits.rename(1, "shirts")
    edits.rename(1, "hats")
    edits.undo()
    assert edits.clustering().cluster(1).name == herd.clustering().cluster(1).name == "shirts"
    edits.undo()
    assert edits.clustering().cluster(1).name == herd.clustering().cluster(1).name == "cluster 1"
    edits.redo()
    assert herd.edit().clustering().cluster(1).name == "shirts"


def test_new_images_follow_the_edits(herd, tmp_path):
    edits = herd.edit()
    a, b, c = (uid_of(herd, blob) for blob in (0, 1, 2))
    union = edits.merge([a, b]).payload["to"]
    rows = np.array(rows_in(herd.clustering(), c))
    X = herd.features().X[rows]
    left = X[:, 7] < 0
    parts = edits.split(c, [rows[left].tolist(), rows[~left].tolist()]).payload["uids"]
    new = CENTERS[[0, 1, 2, 2, 3]].astype(np.float32)
    new[2, 7], new[3, 7] = -2, 2
    found = assign(herd, tmp_path, new)
    assert found.uids.tolist() == [union, union, *parts, uid_of(herd, 3)]
    now = herd.clustering()
    assert now.version == "v0002"
    assert now.uids[found.rows].tolist() == found.uids.tolist()
    assert found.clustering.clusters == now.clusters
    assert herd.clustering(as_trained=True).uids[found.rows].tolist() == [
        *(a, b, c, c),
        uid_of(herd, 3),
    ]
    # The nearest by the mean of the members' directions, worked out plainly.
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    means = np.stack([unit[left].sum(0), unit[~left].sum(0)]).astype(np.float64)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert (new[2:4] @ means.T).argmax(1).tolist() == [0, 1]
    # The edits before go on to be undone; what came since goes back with the others.
    again = herd.edit()
    again.undo()
    assert again.clustering().uids[found.rows].tolist() == [union, union, c, c, uid_of(herd, 3)]
    again.redo()
    again.undo()
    again.undo()
    np.testing.assert_array_equal(again.clustering().uids, herd.clustering(as_trained=True).uids)
    # And with nothing new.
    assert len(herd.assign(tmp_path / "new.npy", reject=0).rows) == 0


def test_merging_by_number_starts_from_what_was_trained(herd):
    before = herd.clustering().merge(2)
    herd.edit().move([0, 1, 2])
    sizes = [c.size for c in herd.clustering().merge(2).clusters]
    assert sizes == [c.size for c in before.clusters]
    with pytest.warns(UserWarning, match="without the 1 edit"):
        merged = herd.merge(2)
    assert [c.size for c in merged.clusters] == [c.size for c in before.clusters]
    assert 5 not in {c.uid for c in merged.clusters}
    assert herd.clustering().as_trained is None


def test_export_report_and_evaluate_see_the_edits(herd, tmp_path):
    edits = herd.edit()
    wrong = [0, 4]
    union = edits.merge([uid_of(herd, 0), uid_of(herd, 1)]).payload["to"]
    edits.rename(union, "both")
    edits.move(wrong, uid_of(herd, 3))
    labels = tmp_path / "labels.csv"
    paths = herd.items()["path"].to_pylist()
    labels.write_text("path,label\n" + "".join(f"{p},{i % 4}\n" for i, p in enumerate(paths)))

    def table(*options):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.csv"
        run("export", herd.path, out, *options)
        return list(csv.DictReader(out.open()))

    now, trained = table(), table("--as-trained")
    assert [r["name"] for r in now].count("both") == 22
    assert {int(r["row"]) for r in now if r["by_hand"] == "true"} == set(wrong)
    assert {r["probability"] for r in now if r["by_hand"] == "true"} == {"1"}
    assert [int(r["uid"]) for r in trained] == herd.clustering(as_trained=True).uids.tolist()
    assert "by_hand" not in trained[0]
    scores = [
        json.loads(run("evaluate", herd.path, "--labels", labels, "--json", *o))["scores"]["ACC"]
        for o in ([], ["--as-trained"])
    ]
    # Of the union one label is right: 12 of the other, 12 and 12, two fewer for those moved.
    assert scores == pytest.approx([36 / 48, 1])
    page = tmp_path / "report.html"
    run("report", herd.path, "--output", page)
    assert "edits by hand" in page.read_text()
    run("report", herd.path, "--output", page, "--as-trained")
    assert "edits by hand" not in page.read_text()


def test_edits_stay_when_the_images_vote_anew(tmp_path):
    # Names are voted for by words here, which needs no model.
    texts = tmp_path / "texts.txt"
    lines = ["apple pear plum fruit", "fruit apple plum", "wheel car road", "road car wheel drive"]
    texts.write_text("\n".join(f"{line} {i}" for i, line in enumerate(lines * 4)))
    herd = Herd(tmp_path / "t.herd")
    herd.embed(texts)
    herd.cluster("kmeans", 2)
    union = herd.edit().merge([c.uid for c in herd.clustering().clusters]).payload["to"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        herd.name()
    now = herd.clustering()
    assert now.version == "v0002"
    assert [c.uid for c in now.clusters] == [union]
