"""What the API tells of a herd, its clusterings and their images."""

import numpy as np
import pytest

from imageherd.app import opened as opened_module
from imageherd.app.opened import Opened
from imageherd.features.listing import Listed
from imageherd.herd import Herd
from imageherd.images.texts import TextFile
from imageherd.review import most_doubtful

BASE = "/api/clusterings/default"


def test_the_herd_lists_its_clusterings(client):
    found = client.get("/api/herd").json()
    assert (found["name"], found["n_items"], found["noun"]) == ("photos.herd", 24, "image")
    assert [c["name"] for c in found["clusterings"]] == ["default", "coarse"]
    assert [c["n_clusters"] for c in found["clusterings"]] == [4, 2]
    assert found["searchable"] == {"image": True, "text": False}


def test_a_clustering_tells_its_clusters(client, herd):
    answer = client.get(BASE)
    found, known = answer.json(), herd.clustering()
    assert answer.headers["etag"] == '"v0001.0"' == f'"{found["state"]}"'
    assert [c["uid"] for c in found["clusters"]] == [c.uid for c in known.clusters]
    for card, cluster in zip(found["clusters"], known.clusters, strict=True):
        assert (card["name"], card["size"], card["medoids"]) == (
            cluster.name,
            cluster.size,
            cluster.medoids,
        )
        strips = card["typical"] + card["doubtful"]
        assert len(set(strips)) == len(strips)
        mine = set(known.rows[known.uids == cluster.uid].tolist())
        assert set(strips + card["medoids"]) <= mine
    assert len({c["colour"] for c in found["clusters"]}) == 4


def test_members_come_in_pages_in_three_orders(client, herd):
    known = herd.clustering()
    uid = known.clusters[0].uid
    path = f"{BASE}/clusters/{uid}/members"
    mine = known.rows[known.uids == uid]
    orders = {}
    for order in ("typical", "doubtful", "row"):
        first = client.get(path, params={"limit": 4, "order": order}).json()
        rest = client.get(path, params={"offset": first["next"], "order": order}).json()
        assert rest["next"] is None
        orders[order] = [item["row"] for page in (first, rest) for item in page["items"]]
        assert sorted(orders[order]) == mine.tolist()
    assert orders["row"] == mine.tolist()
    n = min(12, len(mine))
    assert orders["typical"][:n] == known.clusters[0].medoids[:n]
    assert client.get(path, params={"offset": 10**6}).json()["items"] == []


def test_an_image_is_told_with_its_place_and_what_speaks_against_it(herd, client):
    known = herd.clustering()
    doubt = most_doubtful(known, 1)[0]
    row, uid = int(known.rows[doubt.position]), int(known.uids[doubt.position])
    item = client.get(f"{BASE}/items/{row}").json()
    assert (item["row"], item["width"], item["height"]) == (row, 64, 48)
    assert (item["uid"], item["cluster"]) == (uid, known.names()[uid])
    assert (item["reason"], item["source"]) == (doubt.reason, "photos")
    listed = client.get(f"{BASE}/clusters/{uid}/members", params={"order": "doubtful"}).json()
    assert listed["items"][0]["row"] == row


def test_an_image_put_somewhere_by_hand_is_no_longer_in_doubt(herd, client):
    known = herd.clustering()
    a, b = (c.uid for c in known.clusters[:2])
    row = int(known.rows[known.uids == a][0])
    herd.edit().move([row], b)
    item = client.get(f"{BASE}/items/{row}").json()
    assert (item["by_hand"], item["probability"], item["reason"]) == (True, 1.0, None)
    assert item["second"] == {"uid": a, "name": known.names()[a]}
    last = client.get(f"{BASE}/clusters/{b}/members", params={"order": "doubtful"}).json()
    assert last["items"][-1]["row"] == row


def test_what_fits_nowhere_is_a_list_like_others(herd, client):
    herd.edit().outlier([3, 1])
    found = client.get(f"{BASE}/clusters/-1/members").json()
    assert sorted(item["row"] for item in found["items"]) == [1, 3]
    assert client.get(BASE).json()["nowhere"] == {"size": 2}
    assert client.get(f"{BASE}/items/1").json()["uid"] == -1


def test_some_images_by_their_rows(client):
    found = client.get(f"{BASE}/items", params={"rows": "5,2,5"}).json()
    assert [item["row"] for item in found["items"]] == [5, 2, 5]
    assert client.get(f"{BASE}/items", params={"rows": "5,99"}).status_code == 404
    for wrong in ("", "5,", "-1", "a", ",".join(["1"] * 9000)):
        assert client.get(f"{BASE}/items", params={"rows": wrong}).status_code == 422


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/clusterings/none", 404),
        (f"{BASE}/clusters/99/members", 404),
        (f"{BASE}/clusters/-2/members", 422),
        (f"{BASE}/clusters/1/members?limit=1001", 422),
        (f"{BASE}/clusters/1/members?order=random", 422),
        (f"{BASE}/items/99", 404),
        (f"{BASE}/items/{2**70}", 422),
        (f"{BASE}/items/x", 422),
    ],
)
def test_what_is_not_there_is_said_in_a_sentence(client, path, status):
    answer = client.get(path)
    assert (answer.status_code, answer.json()["detail"][-1]) == (status, ".")


def test_images_gone_since_are_told_of_as_gone(client, herd, tmp_path):
    (tmp_path / "empty").mkdir()
    path = herd.items()["path"][0].as_py()
    source = Opened(herd.path).sources[0]
    kept = source.path(herd.items()["key"][0].as_py())
    bytes_before = kept.read_bytes()
    client.get(BASE)
    try:
        kept.unlink()
        Herd(herd.path).embed(kept.parents[1])
        item = client.get(f"{BASE}/items/0").json()
        assert (item["name"], item["status"]) == (path, "deleted")
    finally:
        kept.write_bytes(bytes_before)


def test_texts_and_vectors_are_told_in_words(tmp_path, client_of):
    words = ["red apple fruit", "green pear fruit", "fast car wheel", "old truck wheel"]
    lines = [f"{words[i % 4]} {i}" for i in range(24)]
    (tmp_path / "t.txt").write_text("\n".join(lines))
    texts = Herd(tmp_path / "texts.herd")
    texts.embed(Listed(TextFile(tmp_path / "t.txt")))
    texts.cluster("kmeans", 2)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32))
    vectors = Herd(tmp_path / "vectors.herd")
    vectors.embed(tmp_path / "x.npy")
    vectors.cluster("kmeans", 2)
    for herd, noun, shown in ((texts, "text", lines[3]), (vectors, "vector", "0000003")):
        client = client_of(herd)
        found = client.get("/api/herd").json()
        assert found["noun"] == noun
        assert found["searchable"] == {"image": False, "text": noun == "text"}
        assert client.get(f"{BASE}/items/3").json()["text"] == shown
        uid = client.get(BASE).json()["clusters"][0]["uid"]
        names = client.get(f"{BASE}/clusters/{uid}/suggestions").json()["names"]
        assert bool(names) == (noun == "text")
        parts = client.get(f"{BASE}/clusters/{uid}/split").json()["parts"]
        answer = client.post(
            f"{BASE}/edits", json={"kind": "split", "uid": uid, "parts": [p["rows"] for p in parts]}
        )
        assert answer.status_code == 201


def test_only_so_many_clusterings_stay_in_memory(herd, monkeypatch):
    monkeypatch.setattr(opened_module, "MOST_OPEN", 1)
    here = Opened(herd.path)
    assert [len(here.view(name).by_uid) for name in ("default", "coarse", "default")] == [4, 2, 4]
    assert list(here._open) == ["default"]
