"""The journal of edits: what was acknowledged is there, whoever else writes and whatever dies."""

import json
import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from contextlib import closing

import numpy as np
import pytest

from edited_herds import made, rows_in
from imageherd.edits.carrying import before_another
from imageherd.edits.editing import Edits
from imageherd.edits.journal import Edit, EditConflictError, Journal
from imageherd.errors import ImageherdError
from imageherd.herd import Herd
from imageherd.versions import versions_of


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return made(tmp_path_factory.mktemp("edits")).path


@pytest.fixture
def herd(template, tmp_path):
    return Herd(shutil.copytree(template, tmp_path / "small.herd"))


def journal(herd):
    return Journal(herd.path / "clusterings" / "default")


def any_edit(edits: Edits, rng: random.Random, **how) -> Edit:
    """Make one edit of those possible now."""
    now = edits.clustering()
    uids = [c.uid for c in now.clusters]
    done, undone = edits.undoable()
    kind = rng.choice(["rename", "move", "outlier", "merge", "split", "undo", "redo"])
    if kind == "merge" and len(uids) > 1:
        return edits.merge(rng.sample(uids, 2), **how)
    uid = rng.choice(uids)
    if kind == "split" and len(rows := rows_in(now, uid)) > 1:
        return edits.split(uid, [rows[:1], rows[1:]], **how)
    if (kind == "undo" and done) or (kind == "redo" and undone):
        return getattr(edits, kind)(**how)
    rows = rng.sample(now.rows.tolist(), 2)
    if kind == "outlier" and len(uids) > 2:
        return edits.outlier(rows, **how)
    if kind == "rename":
        return edits.rename(uid, rng.choice(["a", "b", "c"]), **how)
    return edits.move(rows, rng.choice([uid, None]), **how)


def forked(work):
    """Run `work` in another process, given a function that tells this one; returns pid and pipe."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work(lambda value: os.write(writer, (json.dumps(value) + "\n").encode()))
        except BaseException:
            os._exit(1)
        os._exit(0)
    os.close(writer)
    return pid, reader


def told(reader):
    with os.fdopen(reader, "rb") as pipe:
        return [json.loads(line) for line in pipe]


def is_partition(clustering):
    assert sum(c.size for c in clustering.clusters) == (clustering.uids >= 0).sum()
    assert {c.uid for c in clustering.clusters} == set(clustering.uids.tolist()) - {-1}


def test_what_was_acknowledged_outlives_being_killed_at_any_moment(herd):
    acknowledged = {}
    rng = random.Random(0)
    for life in range(24):

        def work(tell, life=life):
            edits, mine = herd.edit(author=f"life {life}"), random.Random(life)
            while True:
                made = any_edit(edits, mine, id=f"{life}-{time.monotonic_ns()}")
                tell([made.seq, made.id, made.kind, made.payload])

        pid, reader = forked(work)
        with os.fdopen(reader) as pipe:
            answers = [json.loads(pipe.readline()) for _ in range(rng.randint(1, 16))]
            time.sleep(rng.random() * 0.02)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            answers += [json.loads(line) for line in pipe]
        acknowledged |= {seq: [id, kind, payload] for seq, id, kind, payload in answers}
        entries = journal(herd).read()
        there = {e.seq: [e.id, e.kind, e.payload] for e in entries}
        assert acknowledged.items() <= there.items()
        # Of each life at most the last edit was made and not answered.
        assert len(there) <= len(acknowledged) + life + 1
        is_partition(herd.clustering())
    assert len(acknowledged) > 200
    with closing(sqlite3.connect(journal(herd).path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    new = [u for e in journal(herd).read() for u in made_by(e)]
    assert len(new) == len(set(new))
    edits = herd.edit()
    for _ in edits.undoable()[0]:
        edits.undo()
    original = herd.clustering(as_trained=True)
    np.testing.assert_array_equal(edits.clustering().uids, original.uids)
    assert herd.clustering().clusters == herd.clustering(as_trained=True).clusters


def made_by(entry):
    """Uids of the clusters that an entry made."""
    if entry.kind == "split":
        return entry.payload["uids"]
    made = entry.kind == "merge" or (entry.kind == "move" and entry.payload["new"])
    return [entry.payload["to"]] if made else []


def test_several_processes_see_each_other(herd):
    def work(tell):
        edits = herd.edit(author=str(os.getpid()))
        mine, done = random.Random(os.getpid()), 0
        while done < 8:
            try:
                made = any_edit(edits, mine, expected=edits.state)
            except EditConflictError:
                tell(None)
                continue
            tell(made.seq)
            done += 1

    # None of the three finds the file there.
    running = [forked(work) for _ in range(3)]
    answers = [told(reader) for _, reader in running]
    assert [os.waitpid(pid, 0)[1] for pid, _ in running] == [0, 0, 0]
    seqs = [seq for answer in answers for seq in answer if seq is not None]
    assert sorted(seqs) == [e.seq for e in journal(herd).read()] == list(range(1, 25))
    is_partition(herd.clustering())


def test_threads_share_one_object(herd):
    edits = herd.edit()
    row = herd.clustering().rows
    threads = [threading.Thread(target=edits.move, args=([int(row[i])], None)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(edits.log()) == 6
    same = herd.edit().clustering()
    np.testing.assert_array_equal(edits.clustering().uids, same.uids)


def test_an_edit_meant_for_another_state_is_refused_and_says_who_was_there(herd):
    ann, bob = herd.edit(author="Ann"), herd.edit(author="Bob")
    seen = bob.state
    entered = ann.merge([1, 2])
    with pytest.raises(EditConflictError, match="edited meanwhile by Ann") as error:
        bob.rename(1, "shirts", expected=seen)
    assert error.value.since == [entered]
    assert [e.author for e in bob.log()] == ["Ann"]
    # Without a word of what it was meant for it is checked against what is there now.
    with pytest.raises(ImageherdError, match=r"no cluster 1; its clusters are 3, 4, 5"):
        bob.rename(1, "shirts")
    assert bob.rename(5, "shirts", expected=bob.state).author == "Bob"


def test_an_edit_meant_for_another_version_is_refused(herd):
    edits = herd.edit()
    seen = edits.state
    herd.cluster("kmeans", 3)
    with pytest.raises(EditConflictError, match=r"is at version v0002 by now, .* meant for v0001"):
        edits.merge([1, 2], expected=seen)


def test_an_edit_while_a_refit_is_under_way_takes_none_of_its_numbers(herd):
    edits = herd.edit()
    union = edits.merge([1, 2]).payload["to"]
    with pytest.warns(UserWarning, match="without the 1 edit by hand"):
        previous = before_another(versions_of(herd.path, "default"), 7)
    assert previous.config["next_uid"] == union + 1
    assert {c.uid for c in previous.clusters} == {3, 4, union}
    assert edits.move([0]).payload["to"] == union + 1 + 7
    # What was set aside is no edit: it is not shown, and nothing to undo.
    assert [e.kind for e in edits.log()] == ["merge", "move"]
    assert [e.kind for e in edits.undoable()[0]] == ["merge", "move"]


def test_the_first_edit_of_all_takes_none_of_them_either(herd):
    previous = before_another(versions_of(herd.path, "default"), 7)
    assert herd.edit().move([0]).payload["to"] == previous.config["next_uid"] + 7


def test_any_name_and_folder_will_do(template, tmp_path):
    herd = Herd(shutil.copytree(template, tmp_path / "50 % of #1?.herd"))
    herd.cluster("kmeans", 3, name="by hand")
    herd.edit("by hand").merge([1, 2])
    assert len(herd.clustering("by hand").clusters) == 2
    assert len(herd.clustering().clusters) == 4


def test_the_same_id_is_entered_once(herd):
    edits = herd.edit()
    rows = herd.clustering().rows[:2].tolist()
    first = edits.move(rows, id="a", expected=edits.state)
    assert edits.move(rows, id="a", expected="v0001.0") == first
    assert herd.edit().move(rows, id="a") == first
    assert len(edits.log()) == 1
    with pytest.raises(ImageherdError, match="'a' is that of another edit, a move"):
        edits.undo(id="a")


def test_what_is_refused_leaves_nothing_behind(herd):
    edits = herd.edit()
    rows = herd.clustering().rows.tolist()
    mine = rows_in(herd.clustering(), 1)
    for wrong, message in (
        (lambda: edits.rename(9, "x"), r"no cluster 9; its clusters are 1, 2, 3, 4\."),
        (lambda: edits.rename(1, "  "), "has 0 characters"),
        (lambda: edits.move([], 1), "name at least one row"),
        (lambda: edits.move([10**6], 1), "Row 1000000 is not an image of clustering 'default'"),
        (lambda: edits.move(rows[:1], 9), "no cluster 9"),
        (lambda: edits.move([0.5], 1), "a list of whole numbers"),
        (lambda: edits.outlier([[1]]), "a list of whole numbers"),
        (lambda: edits.merge([]), "There are no clusters to merge"),
        (lambda: edits.merge([2, 2]), "1 cluster cannot be merged"),
        (lambda: edits.split(1, [mine]), "cannot be split in 1"),
        (lambda: edits.split(1, [mine[:1], mine[2:]]), "must be in exactly one part"),
        (lambda: edits.split(1, [mine[:2], mine[1:]]), "must be in exactly one part"),
        (lambda: edits.split(1, [mine, []]), "name at least one row"),
        (edits.undo, "There is nothing to undo in version v0001"),
        (edits.redo, "There is nothing to redo in version v0001"),
    ):
        with pytest.raises(ImageherdError, match=message):
            wrong()
    assert edits.log() == []
    assert herd.clustering().as_trained is None


def test_the_journal_only_grows(herd):
    herd.edit(author="Ann").rename(1, "shirts")
    with closing(sqlite3.connect(journal(herd).path)) as connection:
        for change in ("DELETE FROM edits", "UPDATE edits SET author = 'Bob'"):
            with pytest.raises(sqlite3.IntegrityError, match="only grows"):
                connection.execute(change)
    (entry,) = journal(herd).read()
    assert (entry.author, entry.kind, entry.version) == ("Ann", "rename", "v0001")
    assert entry.payload == {"uid": 1, "name": "shirts"}
    assert entry.time.endswith("+00:00")


def test_a_journal_that_cannot_be_read_is_named(herd):
    herd.edit().rename(1, "shirts")
    path = journal(herd).path
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(ImageherdError, match=r"newer imageherd \(format 2"):
        herd.clustering()
    path.write_bytes(b"no database at all " * 100)
    with pytest.raises(ImageherdError, match=r"edits.sqlite cannot be read .*move it away"):
        herd.clustering()
    path.unlink()
    assert herd.clustering().as_trained is None


def test_an_empty_file_is_an_empty_journal(herd):
    # What is left where one was killed while it made the file.
    journal(herd).path.touch()
    assert herd.clustering().as_trained is None
    herd.edit().merge([1, 2])
    assert len(herd.clustering().clusters) == 3


def test_edits_are_read_where_nothing_can_be_written(herd, monkeypatch):
    edits = herd.edit()
    edits.merge([1, 2])
    connection = sqlite3.connect(journal(herd).path)
    connection.execute("SELECT * FROM edits").fetchall()
    # With a reader there this edit is in the write-ahead log alone.
    edits.rename(3, "hats")
    folder = journal(herd).path.parent
    assert (folder / "edits.sqlite-wal").stat().st_size > 0
    connect = sqlite3.connect

    def read_only(name, **how):
        if str(folder) in name:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(name, **how)

    monkeypatch.setattr("imageherd.edits.journal.sqlite3.connect", read_only)
    found = herd.clustering()
    assert len(found.clusters) == 3
    assert found.cluster(3).name == "hats"
    with pytest.raises(ImageherdError, match="unable to open database file; are its folder's"):
        edits.undo()
    connection.close()
