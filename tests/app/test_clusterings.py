"""What the API tells of a herd, its clusterings and their images."""


def test_the_herd_lists_its_clusterings(client):
    found = client.get("/api/herd").json()
    assert (found["name"], found["n_items"], found["noun"]) == ("photos.herd", 24, "image")
    assert [c["name"] for c in found["clusterings"]] == ["default", "coarse"]
    assert found["searchable"] == {"image": True, "text": False}


def test_a_clustering_tells_its_clusters(client, herd):
    answer = client.get("/api/clusterings/default")
    found, known = answer.json(), herd.clustering()
    assert answer.headers["etag"] == '"v0001.0"' == f'"{found["state"]}"'
    assert [c["uid"] for c in found["clusters"]] == [c.uid for c in known.clusters]
    assert sum(c["size"] for c in found["clusters"]) == 24


def test_members_come_in_pages(client, herd):
    uid = herd.clustering().clusters[0].uid
    path = f"/api/clusterings/default/clusters/{uid}/members"
    first = client.get(path, params={"limit": 4}).json()
    rest = client.get(path, params={"offset": first["next"]}).json()
    rows = [item["row"] for page in (first, rest) for item in page["items"]]
    known = herd.clustering()
    assert sorted(rows) == known.rows[known.uids == uid].tolist()
    assert rest["next"] is None
