"""What edits teach, and a herd whose clustering learns them."""

import csv
import shutil
import warnings

import numpy as np
import pytest

from edited_herds import CENTERS, blobs, rows_in
from imageherd.clustering import Clustering, clusters_of
from imageherd.edits.journal import Edit
from imageherd.edits.learning import Lesson, across, lesson
from imageherd.errors import ImageherdError
from imageherd.herd import Herd

# ---- from edits to labels and pairs: twelve images in three clusters of two columns and more

ROWS = np.arange(12) * 2 + 1
UIDS = np.repeat([1, 2, 3], 4).astype(np.int32)


def trained(uids=UIDS, columns=(1, 2, 3), by_hand=None) -> Clustering:
    p = np.linspace(0.4, 0.9, len(uids)).astype(np.float32)
    X = np.random.default_rng(0).normal(size=(len(uids), 4)).astype(np.float32)
    clusters = clusters_of(ROWS, X, uids, p)
    config = {"uids": list(columns), "next_uid": 4, "method": "tsp"}
    about = (ROWS, uids, p, np.where(uids == 1, 2, 1).astype(np.int32), clusters, config)
    return Clustering("default", "v0001", *about, by_hand=by_hand)


def taught(*edits, base=None, given=()) -> Lesson:
    entries = [
        Edit(i, f"id{i}", "", "Ann", "v0001", kind, payload)
        for i, (kind, payload) in enumerate(edits, 1)
    ]
    return lesson(base or trained(), entries, dict(given))


def move(rows, to, new=False):
    return "move", {"rows": rows, "to": to, "new": new}


MERGE = ("merge", {"uids": [1, 2], "to": 4})
SPLIT = ("split", {"uid": 3, "parts": [[17, 19], [21, 23]], "uids": [5, 6]})


def fixed(found: Lesson, rows=ROWS, place=None):
    known = found.constraints(rows, np.arange(len(rows)) if place is None else place)
    return {(int(i), found.columns[c]) for i, c in known.fixed}


def test_moves_are_labels_and_their_clusters_begin_as_they_are():
    found = taught(move([1, 9], 3))
    assert found.columns == [1, 2, 3]
    np.testing.assert_array_equal(found.parents, np.eye(3))
    assert fixed(found) == {(0, 3), (4, 3)}
    assert (len(found.must), len(found.cannot), len(found.typical)) == (0, 0, 0)
    labels = found.held(np.zeros(12, dtype=np.int32), ROWS)
    assert labels.tolist() == [2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]


def test_a_union_is_one_column_whose_images_must_be_together():
    found = taught(MERGE)
    assert found.columns == [3, 4]
    np.testing.assert_array_equal(found.parents, [[0, 0, 1], [0.5, 0.5, 0]])
    one, other = ROWS[:4], ROWS[4:8]
    assert sorted(found.must[:, 0]) == sorted(ROWS[:8])
    assert all((a in one) == (b in other) for a, b in found.must)
    assert len(found.cannot) == 0
    typical = {tuple(pair) for pair in found.typical.tolist()}
    assert typical == {*((row, 4) for row in ROWS[:8]), *((row, 3) for row in ROWS[8:])}
    assert len(found.rows) == 0


def test_parts_are_columns_of_one_parent_whose_images_cannot_be_together():
    found = taught(SPLIT)
    assert found.columns == [1, 2, 5, 6]
    np.testing.assert_array_equal(found.parents[2:], [[0, 0, 1], [0, 0, 1]])
    assert sorted(found.cannot[:, 0]) == [17, 19, 21, 23]
    assert all((a in (17, 19)) == (b in (21, 23)) for a, b in found.cannot)
    known = found.constraints(ROWS, np.arange(12))
    assert {(8, 2), (9, 2), (10, 3), (11, 3)} < {tuple(pair) for pair in known.typical.tolist()}
    assert len(known.fixed) == 0


def test_an_outlier_is_held_and_kept_from_the_typical_of_where_it_was():
    found = taught(("outlier", {"rows": [1]}))
    assert fixed(found) == set()
    assert {tuple(pair) for pair in found.cannot.tolist()} == {(1, 3), (1, 5), (1, 7)}
    assert found.held(np.zeros(12, dtype=np.int32), ROWS)[0] == -1


def test_a_cluster_of_a_persons_own_has_a_column_and_an_empty_one_has_none():
    found = taught(move([1, 3, 9], 4, new=True), move(ROWS[8:].tolist(), 2))
    assert found.columns == [1, 2, 4]
    np.testing.assert_array_equal(found.parents[2], [0.5, 0.5, 0])
    assert fixed(found) == {(0, 4), (1, 4), (4, 4), *((i, 2) for i in range(8, 12))}
    # What the clusters that gave some have left tells them from the new one.
    known = found.constraints(ROWS, np.arange(12))
    assert known.typical.tolist() == [[2, 0], [3, 0], [5, 1], [6, 1], [7, 1]]


def test_what_was_done_and_undone_in_between_does_not_matter():
    direct = taught(MERGE, move([17], 4))
    merged_late = taught(move([17], 1), MERGE)
    for name in ("columns", "parents", "rows", "uids"):
        np.testing.assert_array_equal(getattr(direct, name), getattr(merged_late, name))


def test_columns_that_were_merged_before_become_one():
    uids = np.where(UIDS == 2, 1, UIDS).astype(np.int32)
    found = taught(move([1], 3), base=trained(uids, columns=(1, 1, 3)))
    assert found.columns == [1, 3]
    np.testing.assert_array_equal(found.parents, [[0.5, 0.5, 0], [0, 0, 1]])


def test_what_a_person_placed_in_an_earlier_round_is_still_theirs():
    found = taught(move([9], 3), base=trained(by_hand=ROWS == 1))
    assert fixed(found) == {(0, 1), (4, 3)}


def test_a_copy_teaches_through_the_image_fitted_for_it():
    found = taught(move([1, 5], 3), move([9], 1))
    # 1 and 5 are fitted as 3 is, 9 as 11 is; rows from 13 on are not there.
    place = np.array([0, 0, 0, 1, 2, 2])
    known = found.constraints(ROWS[:6], place)
    assert known.fixed.tolist() == [[0, 2], [2, 0]]
    # An image's own label is before that of its copies.
    known = taught(move([3], 2), move([1], 1)).constraints(ROWS[:2], np.array([0, 0]))
    assert known.fixed.tolist() == [[0, 0]]


def test_pairs_that_are_one_image_or_not_there_are_left_out():
    found = taught(MERGE, SPLIT)
    known = found.constraints(ROWS[:10], np.array([0, 0, 0, 0, 0, 1, 2, 3, 4, 5]))
    assert known.must.max() <= 3
    assert (known.must[:, 0] != known.must[:, 1]).all()
    assert len(known.cannot) == 0


def test_pairs_are_drawn_evenly_from_all_other_parts():
    groups, parts = np.array([0] * 6 + [1] * 3), np.array([5, 6, 6, 7, 7, 7, 5, 5, 5])
    shuffle = np.random.default_rng(1).permutation(9)
    drawn = [across(groups[shuffle], parts[shuffle], np.random.default_rng(s)) for s in range(400)]
    pairs = shuffle[np.concatenate(drawn)]
    assert sorted(pairs[:6, 0].tolist()) == list(range(6))
    assert (parts[pairs[:, 0]] != parts[pairs[:, 1]]).all()
    for i in range(6):
        partners, counts = np.unique(pairs[pairs[:, 0] == i, 1], return_counts=True)
        assert partners.tolist() == np.flatnonzero(parts[:6] != parts[i]).tolist()
        assert counts.min() > 400 / len(partners) / 2


def test_names_of_what_was_made_come_from_names_that_were_given():
    found = taught(MERGE, SPLIT, given={2: "shirts", 1: "tops"})
    assert found.names == {4: "cluster 1"}


def test_one_cluster_left_teaches_nothing():
    with pytest.raises(ImageherdError, match=r"1 cluster left.*undo a merge"):
        taught(("merge", {"uids": [1, 2, 3], "to": 4}))


# ---- a herd

QUICK = {
    "tsp": {"n_heads": 2, "lr": 5e-3},
    "temi": {"n_heads": 2, "scaling": "standard"},
    "lsdc": {"scaling": "standard"},
}
LENGTH = {"epochs": 8, "min_steps": 160}


def with_a_part(n, seed=0):
    """Four blobs that take turns; every fourth vector of the third is of a part apart."""
    X = blobs(n, seed) - 0.4 * CENTERS[np.arange(n) % 4]
    X[2::16, 4] += 5
    return X.astype(np.float32)


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    """A herd for each method, made when first asked for."""
    made = {}

    def of(method):
        if method not in made:
            folder = tmp_path_factory.mktemp(method)
            np.save(folder / "x.npy", with_a_part(240))
            herd = Herd(folder / "small.herd")
            herd.embed(folder / "x.npy")
            herd.cluster(method, 4, **LENGTH, **QUICK[method])
            made[method] = herd.path
        return made[method]

    return of


@pytest.fixture(params=QUICK)
def herd(request, templates, tmp_path):
    return Herd(shutil.copytree(templates(request.param), tmp_path / "small.herd"))


@pytest.fixture
def tsp_herd(templates, tmp_path):
    return Herd(shutil.copytree(templates("tsp"), tmp_path / "small.herd"))


def of_blob(herd, blob):
    return int(herd.clustering().uids[blob])


def test_few_moves_take_the_others_along_and_stay_where_they_were_put(herd):
    a, b, whole = (of_blob(herd, blob) for blob in range(3))
    columns = herd.clustering().config["uids"]
    edits, apart = herd.edit(), np.arange(2, 240, 16)
    edits.rename(a, "good ones")
    made = edits.move(apart[:6].tolist()).payload["to"]
    edits.move([1], a)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = herd.cluster(learn_edits=True)
    now = herd.clustering()
    assert (now.version, now.as_trained) == ("v0002", None)
    np.testing.assert_array_equal(found.uids, now.uids)
    assert now.config["uids"] == [*columns, made]
    assert (now.uids[apart[:6]] == made).all()
    assert now.uids[1] == a
    # The rest of the part came along, and nothing else.
    assert (now.uids[apart[6:]] == made).mean() > 0.8
    assert (now.uids[6::16] == whole).mean() > 0.9
    assert (now.uids[5::4] == b).mean() > 0.8
    assert now.cluster(a).name == "good ones"
    assert np.flatnonzero(now.by_hand).tolist() == [1, *apart[:6]]
    assert (now.probability[now.by_hand] == 1).all()
    learned = now.config["learned"]
    assert (learned["version"], learned["n_edits"], learned["n_images"]) == ("v0001", 2, 7)
    assert herd.edit().undoable() == ([], [])


def test_merging_and_splitting_are_learned_in_one_go(herd):
    a, b, c = (of_blob(herd, blob) for blob in (0, 1, 2))
    edits = herd.edit()
    edits.rename(c, "shirts")
    union = edits.merge([a, b]).payload["to"]
    rows = np.array(rows_in(herd.clustering(), c))
    left = herd.features().X[rows, 4] < 2.5
    parts = edits.split(c, [rows[left].tolist(), rows[~left].tolist()]).payload["uids"]
    before = herd.clustering()
    now = herd.cluster(learn_edits=True)
    assert sorted(c.uid for c in now.clusters) == sorted([of_blob(herd, 3), union, *parts])
    assert (now.uids[0::4] == union).mean() > 0.9
    assert (now.uids[1::4] == union).mean() > 0.9
    same = now.uids[rows] == before.uids[rows]
    assert same.mean() > 0.8
    assert {now.cluster(uid).name for uid in parts} == {"shirts 1", "shirts 2"}
    assert now.by_hand is None
    assert herd.clustering().cluster(parts[0]).name == "shirts 1"


def test_a_second_round_keeps_what_was_placed_in_the_first(tsp_herd):
    a, b = of_blob(tsp_herd, 0), of_blob(tsp_herd, 1)
    tsp_herd.edit().move([0], b)
    first = tsp_herd.cluster(learn_edits=True)
    edits = tsp_herd.edit()
    edits.outlier([4])
    edits.move([1], a)
    assert edits.clustering().by_hand.sum() == 3
    second = tsp_herd.cluster(learn_edits=True)
    assert second.uids[[0, 4, 1]].tolist() == [b, -1, a]
    assert second.config["uids"] == first.config["uids"]
    assert second.config["learned"]["n_images"] == 3
    with pytest.warns(UserWarning, match="without the 3 images placed by hand in v0003"):
        tsp_herd.cluster("kmeans", 4)
    assert tsp_herd.clustering().by_hand is None


def test_new_images_and_number_of_clusters_go_on_from_what_was_learned(tsp_herd, tmp_path):
    b = of_blob(tsp_herd, 1)
    tsp_herd.edit().move([0], b)
    tsp_herd.cluster(learn_edits=True)
    np.save(tmp_path / "more.npy", with_a_part(8, seed=1))
    found = tsp_herd.assign(tmp_path / "more.npy", reject=0)
    now = tsp_herd.clustering()
    assert now.uids[0] == b
    assert now.by_hand.sum() == 1
    assert not now.by_hand[np.isin(now.rows, found.rows)].any()
    merged = tsp_herd.merge(2)
    assert np.flatnonzero(merged.by_hand).tolist() == [0]
    assert merged.probability[0] == 1
    tsp_herd.export(tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        assert [row["row"] for row in csv.DictReader(file) if row["by_hand"] == "true"] == ["0"]


def test_the_same_edits_and_seed_give_the_same_bytes(tsp_herd, tmp_path):
    a, b, c = (of_blob(tsp_herd, blob) for blob in (0, 1, 2))
    edits = tsp_herd.edit()
    edits.move([0, 4], c)
    edits.merge([a, b])
    twin = Herd(shutil.copytree(tsp_herd.path, tmp_path / "twin.herd"))
    for herd in (tsp_herd, twin):
        herd.cluster(learn_edits=True, random_state=3)
    for file in ("assignments.parquet", "head.safetensors", "clusters.json"):
        first, second = (
            (herd.path / "clusterings/default/v0002" / file).read_bytes()
            for herd in (tsp_herd, twin)
        )
        assert first == second


def test_images_placed_by_hand_are_in_every_sample(tsp_herd):
    moved, b = [0, 4, 8], of_blob(tsp_herd, 1)
    tsp_herd.edit().move(moved, b)
    found = tsp_herd.cluster(learn_edits=True, train_on=40, random_state=2)
    drawn = np.random.default_rng(2).choice(240, 40, replace=False)
    assert found.config["train_on"] == len(np.union1d(drawn, moved))
    assert (found.uids[moved] == b).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Version v0001 of clustering 'default' has no edits to learn from; move"),
        ({"name": "other"}, "has no clustering 'other'"),
        ({"method": "temi"}, "as edited has method=tsp, so method=temi cannot start from it"),
        ({"n_clusters": 9}, "as edited has n_clusters=3, so n_clusters=9"),
        ({"features": "x"}, "so features=x cannot start from it; leave features out"),
    ],
)
def test_what_cannot_be_learned(tsp_herd, options, message):
    edits = tsp_herd.edit()
    edits.rename(1, "ones")
    if set(options) - {"name"}:
        edits.merge([1, 2])
    with pytest.raises(ImageherdError, match=message):
        tsp_herd.cluster(learn_edits=True, **options)
    assert tsp_herd.clustering().version == "v0001"


def test_a_method_that_cannot_learn_names_those_that_can(tsp_herd):
    tsp_herd.cluster("kmeans", 4, name="plain")
    tsp_herd.edit("plain").move([0], 1)
    with pytest.raises(ImageherdError, match=r"kmeans.* cannot learn.* can: tsp, temi, lsdc"):
        tsp_herd.cluster(learn_edits=True, name="plain")
    assert tsp_herd.clustering("plain").by_hand.sum() == 1


def test_edits_made_meanwhile_are_said_to_be_left_out(tsp_herd, monkeypatch):
    tsp_herd.edit().move([0], of_blob(tsp_herd, 1))
    neighbors = Herd.neighbors

    def meanwhile(self, *given, **how):
        self.edit().move([5], of_blob(self, 0))
        return neighbors(self, *given, **how)

    monkeypatch.setattr(Herd, "neighbors", meanwhile)
    with pytest.warns(UserWarning, match="starts without the 1 edit by hand of v0001"):
        found = tsp_herd.cluster(learn_edits=True)
    assert found.by_hand.sum() == 1
