"""What edits make of a clustering, against a model that keeps sets of rows and snapshots."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imageherd.clustering import Clustering, clusters_of
from imageherd.edits.journal import PLACED, Edit, in_effect, stacks
from imageherd.edits.replay import apply
from imageherd.quality import Quality

N = 20


def trained(uids=None):
    rows = np.arange(N) * 3 + 1
    uids = np.array([1] * 8 + [2] * 6 + [3] * 4 + [-1] * 2 if uids is None else uids, np.int32)
    probability = np.linspace(0.4, 0.9, len(uids)).astype(np.float32)
    X = np.random.default_rng(0).normal(size=(len(uids), 4)).astype(np.float32)
    second = np.where(uids == 1, 2, 1).astype(np.int32)
    clusters = clusters_of(rows[: len(uids)], X, uids, probability)
    clusters = [replace(c, name={1: "shirt", 2: "shoe", 3: "hat"}[c.uid]) for c in clusters]
    quality = Quality(
        np.full(len(uids), -1),
        np.full(len(uids), 0.5, np.float32),
        np.roll(uids, 1),
        np.zeros(len(uids), np.float32),
    )
    config = {"uids": [1, 2, 3], "next_uid": 4}
    return Clustering(
        *("default", "v0001", rows[: len(uids)], uids, probability, second, clusters, config),
        quality=quality,
    )


def entry(seq, kind, **payload):
    return Edit(seq, f"id{seq}", "2026-11-22T12:00:00+00:00", "Ann", "v0001", kind, payload)


def edits(*pairs):
    return [entry(i, kind, **payload) for i, (kind, payload) in enumerate(pairs, 1)]


def groups(clustering):
    return {
        uid: clustering.rows[clustering.uids == uid].tolist()
        for uid in np.unique(clustering.uids).tolist()
    }


def same(a, b):
    for name in ("rows", "uids", "probability", "second"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name in vars(a.quality):
        np.testing.assert_array_equal(getattr(a.quality, name), getattr(b.quality, name))
    assert a.clusters == b.clusters
    assert a.config == b.config


class Model:
    """Which rows each cluster has and what it is called, said as plainly as can be."""

    def __init__(self):
        base = trained()
        self.now = {uid: set(rows) for uid, rows in groups(base).items()}
        self.names = {c.uid: c.name for c in base.clusters}
        self.rows, self.fresh = base.rows.tolist(), 4

    def snapshot(self):
        return {uid: set(rows) for uid, rows in self.now.items()}, dict(self.names)

    def live(self, least=1):
        return sorted(uid for uid, rows in self.now.items() if uid != -1 and len(rows) >= least)

    def new(self, rows, name):
        self.now[self.fresh], self.names[self.fresh] = set(rows), name
        self.fresh += 1
        return self.fresh - 1

    def move(self, draw, to=None):
        rows = draw(st.lists(st.sampled_from(self.rows), min_size=1, unique=True))
        to = draw(st.sampled_from([*self.live(), self.fresh])) if to is None else to
        new = to == self.fresh
        for uid in self.now:
            self.now[uid] -= set(rows)
        if new:
            self.new(rows, f"cluster {to}")
        self.now.setdefault(to, set()).update(rows)
        return {"rows": rows, "to": to, "new": new}

    def outlier(self, draw):
        return {"rows": self.move(draw, to=-1)["rows"]}

    def merge(self, draw):
        uids = sorted(draw(st.lists(st.sampled_from(self.live()), min_size=2, unique=True)))
        name = self.names[max(uids, key=lambda uid: (len(self.now[uid]), -uid))]
        return {"uids": uids, "to": self.new(set().union(*map(self.now.pop, uids)), name)}

    def split(self, draw):
        uid = draw(st.sampled_from(self.live(2)))
        rows = sorted(self.now.pop(uid))
        cut = draw(st.integers(1, len(rows) - 1))
        parts = [rows[:cut], rows[cut:]]
        uids = [self.new(part, f"{self.names[uid]} {i}") for i, part in enumerate(parts, 1)]
        return {"uid": uid, "parts": parts, "uids": uids}

    def rename(self, draw):
        uid, name = draw(st.sampled_from(self.live())), draw(st.sampled_from("abc"))
        self.names[uid] = name
        return {"uid": uid, "name": name}

    def possible(self):
        kinds = ["move", "outlier"] + ["rename"] * (len(self.live()) > 0)
        return kinds + ["merge"] * (len(self.live()) > 1) + ["split"] * (len(self.live(2)) > 0)


@st.composite
def histories(draw):
    """Draw entries as they may follow one another, and the groups that the model comes to."""
    model, done, undone, entries = Model(), [], [], []
    for seq in range(1, draw(st.integers(0, 12)) + 1):
        steps = ["undo"] * 2 * bool(done) + ["redo"] * 2 * bool(undone)
        kind, payload, before = (
            draw(st.sampled_from(model.possible() + steps)),
            {},
            model.snapshot(),
        )
        if kind == "undo":
            undone.append(before)
            model.now, model.names = done.pop()
        elif kind == "redo":
            done.append(before)
            model.now, model.names = undone.pop()
        else:
            payload = getattr(model, kind)(draw)
            done.append(before)
            undone.clear()
        entries.append(entry(seq, kind, **payload))
    return entries, {uid: sorted(rows) for uid, rows in model.now.items() if rows}, model.names


@settings(max_examples=200, deadline=None)
@given(histories())
def test_any_edits_are_a_partition_and_undone_are_as_if_never_made(history):
    entries, expected, names = history
    base = trained()
    before = base.uids.copy()
    found = apply(base, in_effect(entries))
    assert groups(found) == expected
    np.testing.assert_array_equal(base.uids, before)
    assert {c.uid: c.size for c in found.clusters} == {
        uid: len(rows) for uid, rows in expected.items() if uid != -1
    }
    for cluster in found.clusters:
        members = expected[cluster.uid]
        assert cluster.name == names[cluster.uid]
        assert set(cluster.medoids) <= set(members)
        assert len(cluster.medoids) == len(set(cluster.medoids)) == min(12, len(members))
        inside = found.probability[np.isin(found.rows, members)]
        np.testing.assert_allclose(cluster.confidence, inside.mean(), rtol=1e-6)
    same(found, apply(base, in_effect(entries)))
    every = [*entries, *(entry(100 + i, "undo") for i in range(len(stacks(entries)[0])))]
    assert apply(base, in_effect(every)) is base
    again = [*every, *(entry(200 + i, "redo") for i in range(len(stacks(entries)[0])))]
    same(found, apply(base, in_effect(again)))


def test_what_a_person_has_placed_is_sure_and_marked():
    base = trained()
    found = apply(base, edits(("move", {"rows": [1, 4, 52], "to": 3, "new": False})))
    assert found.by_hand.tolist() == [True, True, *[False] * 15, True, False, False]
    assert found.probability[[0, 1, 17]].tolist() == [1, 1, 1]
    np.testing.assert_array_equal(found.probability[2:17], base.probability[2:17])
    # The head's own word is the second choice, for those that were moved away from it.
    assert found.second[[0, 1, 17]].tolist() == [1, 1, 1]
    assert found.as_trained is base
    assert found.config["n_edits"] == 1


def test_an_outlier_keeps_what_the_head_said_of_it():
    found = apply(trained(), edits(("outlier", {"rows": [1]})))
    assert (found.uids[0], found.second[0]) == (-1, 1)
    assert found.probability[0] == trained().probability[0]


def test_a_union_has_the_name_of_the_largest_and_the_best_of_each():
    base = trained()
    found = apply(base, edits(("merge", {"uids": [2, 3], "to": 4})))
    union = found.cluster(4)
    assert (union.name, union.size) == ("shoe", 10)
    a, b = base.cluster(2).medoids, base.cluster(3).medoids
    assert union.medoids[:6] == [a[0], b[0], a[1], b[1], a[2], b[2]]
    assert found.config["uids"] == [1, 4, 4]
    # Images whose second choice was one of the two, and whose neighbors were in the other.
    assert found.second.tolist() == [4] * 8 + [1] * 12
    np.testing.assert_array_equal(
        found.quality.around,
        [-1 if u == -1 else 4 if u in (2, 3) else u for u in base.quality.around.tolist()],
    )


def test_a_union_of_a_union_is_followed_to_the_end():
    found = apply(
        trained(),
        edits(("merge", {"uids": [2, 3], "to": 4}), ("merge", {"uids": [1, 4], "to": 5})),
    )
    assert found.config["uids"] == [5, 5, 5]
    assert set(found.uids.tolist()) == {5, -1}
    assert set(found.second.tolist()) == {5}


def test_images_that_came_after_a_split_go_where_the_journal_says_or_to_the_larger_part():
    log = edits(
        ("split", {"uid": 1, "parts": [[1, 4], [7, 10, 13, 16]], "uids": [4, 5]}),
        (PLACED, {"split": 1, "rows": [19], "parts": [0]}),
    )
    found = groups(apply(trained(), in_effect(log)))
    assert found[4] == [1, 4, 19]
    assert found[5] == [7, 10, 13, 16, 22]
    undone = in_effect([*log, entry(3, "undo")])
    assert apply(trained(), undone).uids.tolist() == trained().uids.tolist()


def test_rows_that_are_not_there_are_passed_over():
    base = trained()
    found = apply(base, edits(("move", {"rows": [2, 1, 1000], "to": 2, "new": False})))
    assert (found.uids != base.uids).tolist() == [True] + [False] * 19


def test_a_new_edit_ends_what_can_be_redone():
    rename = {"uid": 1, "name": "a"}
    log = edits(("rename", rename), ("undo", {}), ("rename", rename | {"name": "b"}))
    assert [[e.seq for e in stack] for stack in stacks(log)] == [[3], []]
    assert [[e.seq for e in stack] for stack in stacks(log[:2])] == [[], [1]]


@pytest.mark.parametrize("n_edits", [0, 1])
def test_the_doubtful_are_those_that_no_person_has_placed(n_edits):
    from imageherd.review import most_doubtful

    found = apply(trained(), edits(("move", {"rows": [1], "to": 2, "new": False}))[:n_edits])
    assert (0 in {d.position for d in most_doubtful(found, 20)}) is (n_edits == 0)
