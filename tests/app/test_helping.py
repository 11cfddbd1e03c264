"""Help with names and splits, and the file that comes out."""

import csv
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from imageherd.app import splitting
from imageherd.herd import Herd

BASE = "/api/clusterings/default"


def whole(herd):
    """Make one cluster of all images; returns its uid."""
    uids = [c.uid for c in herd.clustering().clusters]
    return herd.edit().merge(uids).payload["to"]


def test_a_cluster_of_four_colours_is_split_into_them(herd, client):
    uid = whole(herd)
    found = client.get(f"{BASE}/clusters/{uid}/split", params={"n": 4}).json()
    assert "4 parts by k-means" in found["how"]
    by_name = {int(name[-7:-4]): row for row, name in enumerate(herd.items()["path"].to_pylist())}
    of_row = {row: number % 4 for number, row in by_name.items()}
    colours = [{of_row[row] for row in part["rows"]} for part in found["parts"]]
    assert sorted(map(sorted, colours)) == [[0], [1], [2], [3]]
    assert [part["size"] for part in found["parts"]] == [6] * 4
    assert found == client.get(f"{BASE}/clusters/{uid}/split", params={"n": 4}).json()
    parts = [part["rows"] for part in found["parts"]]
    made = client.post(f"{BASE}/edits", json={"kind": "split", "uid": uid, "parts": parts}).json()
    names = {card["name"] for card in made["changed"].values() if card}
    assert names == {part["name"] for part in found["parts"]}


def test_a_large_cluster_is_split_on_some_of_it_and_every_image_is_placed(
    herd, client, monkeypatch
):
    uid = whole(herd)
    exact = client.get(f"{BASE}/clusters/{uid}/split", params={"n": 4}).json()["parts"]
    monkeypatch.setattr(splitting, "SAMPLE", 13)
    found = client.get(f"{BASE}/clusters/{uid}/split", params={"n": 4}).json()
    assert found["how"].endswith("found on 13 images.")
    assert {frozenset(p["rows"]) for p in found["parts"]} == {frozenset(p["rows"]) for p in exact}


def test_how_many_parts_can_be_left_to_the_count(herd, client):
    uid = whole(herd)
    found = client.get(f"{BASE}/clusters/{uid}/split", params={"n": "auto"}).json()
    assert "as many as were counted" in found["how"]
    assert sorted(r for p in found["parts"] for r in p["rows"]) == list(range(24))


@pytest.mark.parametrize("n", ["1", "21", "many"])
def test_other_numbers_of_parts_are_refused(client, n):
    assert client.get(f"{BASE}/clusters/1/split", params={"n": n}).status_code == 422


def test_one_image_cannot_be_split(herd, client):
    uid = herd.edit().move([0]).payload["to"]
    answer = client.get(f"{BASE}/clusters/{uid}/split")
    assert (answer.status_code, "too few" in answer.json()["detail"]) == (400, True)
    uid = herd.edit().move([0, 1]).payload["to"]
    assert client.get(f"{BASE}/clusters/{uid}/split", params={"n": 3}).status_code == 400


def test_equal_images_cannot_be_split(tmp_path, client_of):
    np.save(tmp_path / "x.npy", np.tile(np.eye(2, 4, dtype=np.float32), (10, 1)))
    herd = Herd(tmp_path / "same.herd")
    herd.embed(tmp_path / "x.npy")
    herd.cluster("kmeans", 2, keep_duplicates=True)
    for n in ("2", "auto"):
        answer = client_of(herd).get(f"{BASE}/clusters/1/split", params={"n": n})
        assert (answer.status_code, "do not differ" in answer.json()["detail"]) == (400, True)


def test_names_come_from_what_the_images_vote_for(herd, client):
    cluster = herd.clustering().clusters[0]
    names = client.get(f"{BASE}/clusters/{cluster.uid}/suggestions").json()["names"]
    assert cluster.runner_up in names
    assert cluster.name not in names
    assert len(set(names)) == len(names) <= 8


def test_a_union_can_have_the_names_of_its_parts(herd, client):
    a, b = herd.clustering().clusters[:2]
    herd.edit().rename(a.uid, "one name")
    herd.edit().rename(b.uid, "another")
    union = herd.edit().merge([a.uid, b.uid]).payload["to"]
    names = client.get(f"{BASE}/clusters/{union}/suggestions").json()["names"]
    assert {"one name", "another"} & set(names)


def test_the_file_says_what_the_screen_does(herd, client):
    uid = herd.clustering().clusters[0].uid
    client.post(f"{BASE}/edits", json={"kind": "rename", "uid": uid, "name": "größer, “rot”"})
    client.post(f"{BASE}/edits", json={"kind": "move", "rows": [0, 5], "to": None})
    client.post(f"{BASE}/edits", json={"kind": "outlier", "rows": [7]})
    screen = {}
    for card in client.get(BASE).json()["clusters"]:
        members = client.get(f"{BASE}/clusters/{card['uid']}/members").json()["items"]
        screen |= {item["row"]: (card["uid"], card["name"]) for item in members}
    screen[7] = (-1, "fits nowhere")
    answer = client.get(f"{BASE}/export")
    assert answer.headers["content-disposition"] == (
        'attachment; filename="photos-default-v0001.3.csv"'
    )
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert {int(r["row"]): (int(r["uid"]), r["name"]) for r in rows} == screen
    told = json.loads(client.get(f"{BASE}/export", params={"format": "json"}).content)
    assert {r["row"]: (r["uid"], r["name"]) for r in told["items"]} == screen
    data = client.get(f"{BASE}/export", params={"format": "parquet"}).content
    table = pq.read_table(io.BytesIO(data)).to_pylist()
    assert {r["row"]: (r["uid"], r["name"]) for r in table} == screen
    assert len(table[0]["features"]) == 1280


def test_as_trained_images_are_where_the_head_put_them(herd, client):
    before = herd.clustering().uids.tolist()
    client.post(f"{BASE}/edits", json={"kind": "outlier", "rows": [7]})
    answer = client.get(f"{BASE}/export", params={"as_trained": True})
    rows = csv.DictReader(io.StringIO(answer.content.decode()))
    assert [int(r["uid"]) for r in rows] == before
    assert client.get(f"{BASE}/export", params={"format": "xlsx"}).status_code == 422
