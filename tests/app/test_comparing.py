"""Two clusterings side by side: counts, matching and agreement against brute force; the API."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edited_herds import made
from imageherd.app.changes import compare
from imageherd.app.contingency import (
    adjusted_mutual_information,
    adjusted_rand,
    contingency,
    match,
)
from imageherd.clustering import Clustering
from imageherd.metrics import ami, ari

groups = st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 5)), min_size=1, max_size=60)
few = st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 2)), min_size=1, max_size=20)


def clustering(rows, uids):
    n = len(rows)
    return Clustering(
        "x",
        "v0001",
        np.array(rows, np.int64),
        np.array(uids, np.int32),
        np.linspace(1, 0.5, n, dtype=np.float32),
        np.array(uids, np.int32),
        [],
    )


@given(groups)
@settings(deadline=None)
def test_counts_and_agreement_are_those_of_the_labels(pairs):
    a, b = (np.array(column) for column in zip(*pairs, strict=True))
    counts, uids_a, uids_b = contingency(a, b)
    for i, j in np.ndindex(counts.shape):
        assert counts[i, j] == ((a == uids_a[i]) & (b == uids_b[j])).sum()
    assert adjusted_rand(counts) == pytest.approx(ari(a, b), abs=1e-12)
    assert adjusted_mutual_information(counts) == pytest.approx(ami(a, b), abs=1e-9)


@pytest.mark.parametrize(("n", "k"), [(5000, 3), (5000, 40), (20_000, 300), (300, 300)])
def test_mutual_information_of_many_is_the_full_sum(n, k):
    random = np.random.default_rng(n + k)
    a = (k * random.random(n) ** 2).astype(int)
    b = np.where(random.random(n) < 0.3, random.integers(0, k + 3, n), a)
    counts = contingency(a, b)[0]
    assert adjusted_mutual_information(counts) == pytest.approx(ami(a, b), abs=1e-9)


@given(few)
@settings(deadline=None)
def test_as_few_as_can_be_change_groups(pairs):
    a, b = zip(*pairs, strict=True)
    found = compare(clustering(range(len(a)), a), clustering(range(len(b)), b))
    left, right = sorted(set(a) - {-1}), sorted(set(b) - {-1})
    # Every way to give each group on the left one of its own on the right, or none.
    ways = permutations(right + [None] * len(left), len(left))
    partners = [{-1: -1} | dict(zip(left, way, strict=True)) for way in ways]
    least = min(sum(partner[x] != y for x, y in pairs) for partner in partners)
    assert found.n_changed == least == len(found.changed())
    matched, flows = found.pairs(matched=True), found.pairs(matched=False)
    assert sum(matched[2]) + sum(flows[2]) == len(a)
    assert sum(flows[2]) == least
    assert flows[2] == sorted(flows[2], reverse=True)


def test_images_are_those_of_both_and_the_surest_come_first():
    a = clustering([0, 1, 2, 3, 5, 6, 8], [1, 1, 1, 2, 2, -1, -1])
    b = clustering([1, 2, 3, 4, 5, 6, 7, 8], [7, 7, 9, 9, 7, -1, 9, 9])
    found = compare(a, b)
    assert a.rows[found.at].tolist() == [1, 2, 3, 5, 6, 8]
    assert found.pairs(matched=True) == ([1, -1, 2], [7, -1, 9], [2, 1, 1])
    assert a.rows[found.at[found.changed()]].tolist() == [5, 8]
    assert a.rows[found.at[found.changed(a=2)]].tolist() == [5]
    assert a.rows[found.at[found.changed(b=9)]].tolist() == [8]
    assert a.rows[found.at[found.shared(1, 7)]].tolist() == [1, 2]
    assert found.shared(1, 9).tolist() == found.shared(5, 7).tolist() == []


def test_two_without_a_common_image():
    found = compare(clustering([0, 1], [1, 2]), clustering([5], [1]))
    assert (found.n_changed, found.agreement, found.pairs(matched=False)) == (0, None, ([], [], []))


def test_nothing_in_a_match_is_shared_by_none():
    assert match(np.array([[3, 0], [0, 0]])) == [(0, 0)]


# ---- over HTTP


@pytest.fixture
def two(tmp_path):
    """A herd of 48 vectors with the clusterings default, of 4 clusters, and coarse, of 2."""
    herd = made(tmp_path)
    herd.cluster("kmeans", 2, name="coarse")
    return herd


BASE = "/api/clusterings/default/compare"


def test_a_comparison_says_what_the_clusterings_say(two, client_of):
    client = client_of(two)
    answer = client.get(BASE, params={"with": "coarse"})
    found, a, b = answer.json(), two.clustering(), two.clustering("coarse")
    assert answer.headers["etag"] == '"v0001.0 v0001.0"' == f'"{found["state"]}"'
    assert (found["n_both"], found["as_trained"]) == (48, False)
    assert found["agreement"]["ari"] == pytest.approx(ari(a.uids, b.uids))
    assert found["agreement"]["ami"] == pytest.approx(ami(a.uids, b.uids))
    for side, known in (("a", a), ("b", b)):
        told = {group["uid"]: group for group in found[side]["clusters"]}
        assert {uid: group["size"] for uid, group in told.items()} == {
            c.uid: c.size for c in known.clusters
        }
        assert all(told[c.uid]["name"] == c.name for c in known.clusters)
        assert all(set(group["medoids"]) <= set(known.rows.tolist()) for group in told.values())
    pairs = found["matched"] + found["pairs"]
    for pair in pairs:
        assert pair["size"] == ((a.uids == pair["a"]) & (b.uids == pair["b"])).sum()
    for flow in found["pairs"]:
        assert 1 <= len(flow["rows"]) <= 4
        at = np.searchsorted(a.rows, flow["rows"])
        assert set(a.uids[at]) == {flow["a"]}
        assert set(b.uids[at]) == {flow["b"]}
    assert sum(pair["size"] for pair in pairs) == 48
    assert found["n_changed"] == sum(flow["size"] for flow in found["pairs"])
    left = {group["uid"]: group["left"] for group in found["a"]["clusters"]}
    assert sum(left.values()) == found["n_changed"]
    few = client.get(BASE, params={"with": "coarse", "limit": 1}).json()
    assert few["pairs"] == found["pairs"][:1]
    assert few["n_pairs"] == len(found["pairs"])


def test_the_images_of_a_flow_come_in_pages(two, client_of):
    client = client_of(two)
    a, b = two.clustering(), two.clustering("coarse")
    flow = client.get(BASE, params={"with": "coarse"}).json()["pairs"][0]
    asked = {"with": "coarse", "a": flow["a"], "b": flow["b"]}
    first = client.get(f"{BASE}/rows", params=asked | {"limit": 5}).json()
    rest = client.get(f"{BASE}/rows", params=asked | {"offset": first["next"]}).json()
    items = first["items"] + rest["items"]
    assert (first["next"], rest["next"], first["size"]) == (5, None, flow["size"])
    inside = (a.uids == flow["a"]) & (b.uids == flow["b"])
    assert sorted(item["row"] for item in items) == a.rows[inside].tolist()
    sure = [item["probability"] for item in items]
    assert sure == sorted(sure, reverse=True)
    names = a.names(), b.names()
    for item in items:
        assert (item["uid"], item["other_uid"]) == (flow["a"], flow["b"])
        assert (item["cluster"], item["other_cluster"]) == (
            names[0][flow["a"]],
            names[1][flow["b"]],
        )
    every = client.get(f"{BASE}/rows", params={"with": "coarse", "limit": 1000}).json()
    assert every["size"] == len(every["items"]) == 24


def test_edits_count_and_itself_is_as_it_was_trained(two, client_of):
    client = client_of(two)
    before = client.get(BASE, params={"with": "default"}).json()
    assert (before["n_changed"], before["as_trained"], before["agreement"]["ari"]) == (0, True, 1)
    known = two.clustering()
    a, b, c, d = (cluster.uid for cluster in known.clusters)
    rows = known.rows[known.uids == a][:3].tolist()
    edits = "/api/clusterings/default/edits"
    client.post(edits, json={"kind": "move", "rows": rows, "to": b})
    client.post(edits, json={"kind": "merge", "uids": [c, d]})
    client.post(edits, json={"kind": "outlier", "rows": rows[:1]})
    after = client.get(BASE, params={"with": "default"}).json()
    assert after["state"] != before["state"]
    assert after["n_changed"] == 3 + 12
    moved = client.get(f"{BASE}/rows", params={"with": "default", "a": b, "b": a}).json()
    assert [item["row"] for item in moved["items"]] == rows[1:]
    gone = client.get(f"{BASE}/rows", params={"with": "default", "a": -1}).json()
    assert [(item["row"], item["cluster"]) for item in gone["items"]] == [(rows[0], "fits nowhere")]
    nowhere = next(group for group in after["a"]["clusters"] if group["uid"] == -1)
    assert (nowhere["size"], nowhere["match"], nowhere["left"]) == (1, None, 1)
    other = client.get("/api/clusterings/coarse/compare", params={"with": "default"}).json()
    assert [group["uid"] for group in other["b"]["clusters"]].count(a) == 1
    assert sum(group["size"] for group in other["b"]["clusters"]) == 48


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("", 422, "with: Field required"),
        ("?with=none", 404, "no clustering 'none'"),
        ("?with=../default", 404, "no clustering '../default'"),
        ("/rows?with=coarse&a=-2", 422, "a: "),
        ("/rows?with=coarse&a=x", 422, "a: "),
        ("/rows?with=coarse&limit=0", 422, "limit: "),
        ("?with=coarse&limit=1001", 422, "limit: "),
    ],
)
def test_what_cannot_be_compared_is_said(two, client_of, path, status, said):
    answer = client_of(two).get(BASE + path)
    assert answer.status_code == status
    assert said in answer.json()["detail"]


def test_a_pair_of_clusters_that_are_not_there_has_no_images(two, client_of):
    answer = client_of(two).get(f"{BASE}/rows", params={"with": "coarse", "a": 99, "b": 1})
    assert (answer.status_code, answer.json()["size"], answer.json()["items"]) == (200, 0, [])
