"""Editing over HTTP: what is answered, what is refused, and what others see."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from imageherd.herd import Herd

BASE = "/api/clusterings/default"


@pytest.fixture
def edit(client):
    """Ask for an edit; returns the answer."""

    def ask(headers=None, **change):
        return client.post(f"{BASE}/edits", json=change, headers=headers or {})

    return ask


@pytest.fixture
def known(herd):
    """The clustering before anything was edited."""
    return herd.clustering()


def rows_of(clustering, uid):
    return clustering.rows[clustering.uids == uid].tolist()


def test_every_kind_of_edit_is_in_the_journal_and_told(edit, herd, known, client):
    a, b, c, d = (cluster.uid for cluster in known.clusters)
    name = {cluster.uid: cluster.name for cluster in known.clusters}
    two = rows_of(known, a)[:2]
    said = [
        edit(kind="rename", uid=a, name=" red  things ").json()["edit"]["said"],
        edit(kind="move", rows=two, to=b).json()["edit"]["said"],
        edit(kind="move", rows=two[:1]).json()["edit"]["said"],
        edit(kind="outlier", rows=two).json()["edit"]["said"],
        edit(kind="merge", uids=[c, d]).json()["edit"]["said"],
        edit(kind="split", uid=b, parts=[rows_of(known, b)[:1], rows_of(known, b)[1:]]).json()[
            "edit"
        ]["said"],
        client.post(f"{BASE}/undo").json()["edit"]["said"],
    ]
    assert said == [
        f"Renamed “{name[a]}” to “red things”",
        f"Moved 2 images to “{name[b]}”",
        "Moved 1 image to a new cluster",
        "Said that 2 images fit nowhere",
        f"Merged “{name[min(c, d)]}” and “{name[max(c, d)]}”",
        f"Split “{name[b]}” in 2",
        f"Undid: split “{name[b]}” in 2",
    ]
    log = client.get(f"{BASE}/edits").json()
    assert [entry["said"] for entry in log["edits"]] == said[::-1]
    assert {entry["author"] for entry in log["edits"]} == {"Ann"}
    assert [e.kind for e in herd.edit().log()] == [e["kind"] for e in log["edits"]][::-1]


def test_what_is_answered_is_what_a_look_would_show(edit, known, client):
    a, b = (cluster.uid for cluster in known.clusters[:2])
    row = rows_of(known, a)[0]
    shown = {c["uid"]: c for c in client.get(BASE).json()["clusters"]}
    for change in (
        {"kind": "rename", "uid": a, "name": "red"},
        {"kind": "move", "rows": [row], "to": a},
        {"kind": "move", "rows": [row], "to": b},
        {"kind": "move", "rows": [row]},
        {"kind": "outlier", "rows": [row]},
        {"kind": "merge", "uids": [a, b]},
        {"kind": "undo"},
        {"kind": "redo"},
    ):
        path = change["kind"] if change["kind"] in ("undo", "redo") else "edits"
        answer = client.post(f"{BASE}/{path}", json=change).json()
        for uid, card in answer["changed"].items():
            shown.pop(int(uid), None)
            if card is not None:
                shown[int(uid)] = card
        now = client.get(BASE).json()
        assert shown == {c["uid"]: c for c in now["clusters"]}, change
        for fact in ("state", "undo", "redo", "n_clusters", "nowhere"):
            assert now[fact] == answer[fact]
        assert answer["edit"]["kind"] == change["kind"]


def test_clusters_that_a_person_has_shaped_are_marked(edit, known, client):
    a, b = (cluster.uid for cluster in known.clusters[:2])
    edit(kind="rename", uid=a, name="red")
    marked = [c["uid"] for c in client.get(BASE).json()["clusters"] if c["by_hand"]]
    assert marked == [a]
    client.post(f"{BASE}/undo")
    new = edit(kind="move", rows=rows_of(known, b)[:1]).json()["edit"]["payload"]["to"]
    assert [c["uid"] for c in client.get(BASE).json()["clusters"] if c["by_hand"]] == [new]


def test_an_edit_decided_on_another_state_is_refused_with_what_came_between(edit, known, herd):
    uid = known.clusters[0].uid
    assert edit({"If-Match": '"v0001.0"'}, kind="rename", uid=uid, name="one").status_code == 201
    herd.edit(author="Bob").rename(uid, "two")
    answer = edit({"If-Match": '"v0001.1"'}, kind="rename", uid=uid, name="three")
    told = answer.json()
    assert answer.status_code == 409
    assert answer.headers["etag"] == '"v0001.2"' == f'"{told["state"]}"'
    assert [(e["author"], e["said"]) for e in told["since"]] == [("Bob", "Renamed “one” to “two”")]
    assert "Bob" in told["detail"]
    assert edit({"If-Match": "*"}, kind="rename", uid=uid, name="three").status_code == 201
    assert edit({"If-Match": "yesterday"}, kind="rename", uid=uid, name="x").status_code == 422
    assert edit({"If-Match": '"v0009.1"'}, kind="rename", uid=uid, name="x").status_code == 409


def test_asked_for_twice_with_one_key_an_edit_is_made_once(edit, known):
    asked = {"kind": "move", "rows": rows_of(known, known.clusters[0].uid)[:1]}
    first, second = (edit({"Idempotency-Key": "k1"}, **asked).json() for _ in range(2))
    assert first["edit"] == second["edit"]
    assert first["state"] == second["state"] == "v0001.1"
    assert second["changed"] == {}
    other = edit({"Idempotency-Key": "k1"}, kind="outlier", rows=[0])
    assert other.status_code == 400


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"kind": "rename", "uid": 999, "name": "x"}, 404),
        ({"kind": "rename", "uid": 1, "name": "   "}, 400),
        ({"kind": "rename", "uid": 1, "name": "x" * 201}, 400),
        ({"kind": "rename", "uid": -1, "name": "x"}, 422),
        ({"kind": "rename", "uid": "1", "name": "x"}, 422),
        ({"kind": "move", "rows": [0, 10**9], "to": None}, 404),
        ({"kind": "move", "rows": [0], "to": 999}, 404),
        ({"kind": "move", "rows": [], "to": 1}, 422),
        ({"kind": "move", "rows": [1.5], "to": 1}, 422),
        ({"kind": "move", "rows": [True], "to": 1}, 422),
        ({"kind": "move", "rows": [2**64], "to": 1}, 422),
        ({"kind": "outlier", "rows": [-1]}, 422),
        ({"kind": "merge", "uids": [1]}, 422),
        ({"kind": "merge", "uids": [1, 1]}, 400),
        ({"kind": "merge", "uids": [1, 999]}, 404),
        ({"kind": "split", "uid": 1, "parts": [[0], [0]]}, 400),
        ({"kind": "rename", "uid": 1, "name": "x", "colour": "red"}, 422),
        ({"kind": "delete"}, 422),
        ({}, 422),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(edit, herd, change, status):
    answer = edit(**change)
    assert (answer.status_code, answer.json()["detail"][-1:]) == (status, ".")
    assert herd.edit().log() == []


def test_there_is_an_end_to_undoing(client):
    answer = client.post(f"{BASE}/undo")
    assert answer.status_code == 400
    assert "nothing to undo" in answer.json()["detail"]


def test_edits_of_other_processes_are_seen_and_so_is_a_refit(client, herd, known):
    uid = known.clusters[0].uid
    before = client.get(BASE).json()["state"]
    Herd(herd.path).edit(author="Bob").rename(uid, "by Bob")
    now = client.get(BASE).json()
    assert (before, now["state"]) == ("v0001.0", "v0001.1")
    assert now["clusters"][0]["name"] == "by Bob"
    Herd(herd.path).cluster("kmeans", 3)
    assert client.get(BASE).json()["state"] == "v0002.0"
    assert client.get("/api/herd").json()["clusterings"][0]["n_clusters"] == 3


def test_the_log_comes_in_pages_newest_first_with_the_names_of_its_time(client, edit, known, herd):
    uid = known.clusters[0].uid
    for i in range(5):
        edit(kind="rename", uid=uid, name=f"name {i}")
    Herd(herd.path).cluster("kmeans", 4)
    edit(kind="rename", uid=uid, name="last")
    first = client.get(f"{BASE}/edits", params={"limit": 4}).json()
    rest = client.get(f"{BASE}/edits", params={"limit": 4, "offset": first["next"]}).json()
    said = [entry["said"] for entry in first["edits"] + rest["edits"]]
    assert said[:2] == ["Renamed “name 4” to “last”", "Renamed “name 3” to “name 4”"]
    assert len(said) == 6
    assert rest["next"] is None


def test_many_at_once_lose_nothing_and_read_what_is_so(edit, known, client, herd):
    def move(row):
        told = edit(kind="move", rows=[row]).json()
        seen = client.get(BASE).json()
        assert sum(c["size"] for c in seen["clusters"]) == 24
        return told["edit"]["payload"]["to"], told["state"]

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(move, range(16)))
    assert len({uid for uid, _ in made}) == 16
    assert {state for _, state in made} == {f"v0001.{seq}" for seq in range(1, 17)}
    assert len(herd.edit().log()) == 16


def test_of_two_that_saw_the_same_one_is_refused(edit, known):
    uid = known.clusters[0].uid

    def rename(name):
        answer = edit({"If-Match": '"v0001.0"'}, kind="rename", uid=uid, name=name)
        return answer.status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(rename, "abcd")) == [201, 409, 409, 409]
