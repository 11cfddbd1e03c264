"""Which images are worth a look: planted faults come first, and say what is wrong with them."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from imageherd.clustering import Cluster, Clustering
from imageherd.errors import ImageherdError
from imageherd.neighbors import knn_graph
from imageherd.quality import Quality, judge
from imageherd.review import most_doubtful

NAMES = ["jeans", "shorts", "hat"]


def clustering(uids, probability, X, *, second=None, duplicate_of=None, names=NAMES):
    uids = np.asarray(uids, dtype=np.int32)
    n = len(uids)
    of = np.full(n, -1) if duplicate_of is None else duplicate_of
    return Clustering(
        name="default",
        version="v0001",
        rows=np.arange(n) * 2,
        uids=uids,
        probability=np.asarray(probability, dtype=np.float32),
        second=np.asarray(uids % 3 + 1 if second is None else second, dtype=np.int32),
        clusters=[Cluster(i + 1, names[i], int((uids == i + 1).sum()), 0.9, []) for i in range(3)],
        quality=judge(uids, knn_graph(X, 10), of),
    )


def blobs(n=300, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    X = 4 * np.eye(3, 16)[labels] + rng.normal(size=(n, 16)) * 0.5
    return X.astype(np.float32), labels + 1, rng.uniform(0.9, 1, n)


@pytest.mark.parametrize("seed", range(3))
def test_planted_wrong_ones_come_first_however_sure_the_method_was(seed):
    X, uids, probability = blobs(seed=seed)
    wrong = np.random.default_rng(seed).choice(300, 12, replace=False)
    right = uids[wrong].copy()
    uids[wrong] = right % 3 + 1
    found = most_doubtful(clustering(uids, probability, X), 12)
    assert {d.position for d in found} == set(wrong.tolist())
    true = dict(zip(wrong.tolist(), right.tolist(), strict=True))
    for doubt in found:
        assert doubt.reason == f"its neighbors are in {NAMES[true[doubt.position] - 1]}"
        assert doubt.score >= 0.8


def test_each_kind_of_doubt_has_its_words():
    X, uids, probability = blobs()
    X[10] = -X[0] * 5
    probability[20] = 0.4
    of = np.full(300, -1)
    of[31] = 2 * 30
    of[34] = 2 * 31
    made = clustering(uids, probability, X, duplicate_of=of)
    found = {d.position: d.reason for d in most_doubtful(made, 300)}
    assert found[31] == "a near-copy of it is in jeans"
    assert found[10] in ("far from everything", "its neighbors are in jeans")
    assert found[20] == "between hat and jeans"
    # A copy beside its original is no second thing to look at.
    assert 34 not in found


def test_what_lies_far_out_and_what_fits_nowhere_is_far_from_everything():
    X, uids, probability = blobs()
    probability[:] = 0.95
    X[11] = np.random.default_rng(1).normal(size=16) + 3
    uids[40] = -1
    made = clustering(uids, probability, X)
    quality = replace(made.quality, agreement=np.ones(300, np.float32), around=made.uids)
    found = most_doubtful(replace(made, quality=quality), 2)
    assert {d.position for d in found} == {11, 40}
    assert {d.reason for d in found} == {"far from everything"}
    assert found[0].score == found[1].score == 0.75


def test_two_clusters_of_one_name_are_told_apart():
    X, uids, probability = blobs()
    probability[1] = 0.3
    made = clustering(uids, probability, X, names=["jeans", "shorts", "jeans"])
    assert most_doubtful(made, 1)[0].reason == "between shorts and jeans (3)"


def test_no_cluster_fills_the_list_while_others_have_doubtful_ones():
    X, uids, _ = blobs()
    # All of one cluster are less sure than any of the others.
    probability = np.where(uids == 2, 0.3, 0.8) + np.linspace(0, 0.1, 300)
    made = clustering(uids, probability, X)
    found = most_doubtful(made, 30)
    sizes = np.bincount(made.uids[[d.position for d in found]], minlength=4)
    assert len(found) == 30
    assert sizes[2] == 20
    scores = [d.score for d in found]
    assert scores == sorted(scores, reverse=True)


def test_merged_clusters_are_no_strangers():
    X, uids, probability = blobs()
    uids[5] = uids[5] % 3 + 1
    uids = uids.astype(np.int32)
    made = clustering(uids, probability, X)
    assert most_doubtful(made, 1)[0].position == 5
    one = replace(made, uids=np.where(uids < 3, 7, uids).astype(np.int32), parts=uids)
    one = replace(one, clusters=[Cluster(7, "trousers", 200, 0.9, []), one.clusters[2]])
    assert {uids[5], made.quality.around[5]} == {1, 3} or 5 not in {
        d.position for d in most_doubtful(one, 300) if "neighbors" in d.reason
    }


def test_only_those_among_and_only_with_doubt():
    X, uids, probability = blobs()
    among = np.zeros(300, dtype=bool)
    among[::7] = True
    found = most_doubtful(clustering(uids, probability, X), 300, among)
    assert found
    assert all(d.position % 7 == 0 and d.score > 0 for d in found)


def test_nothing_known_of_the_neighbors_leaves_the_probability():
    _, uids, probability = blobs()
    unknown = np.full(300, np.nan, dtype=np.float32)
    X = np.eye(300, 12, dtype=np.float32) + 1
    made = clustering(uids, probability, X)
    quality = Quality(np.full(300, -1), unknown, made.uids, unknown)
    found = most_doubtful(replace(made, quality=quality), 3)
    assert [d.position for d in found] == np.argsort(made.probability)[:3].tolist()
    with pytest.raises(ImageherdError, match="make it anew"):
        most_doubtful(replace(made, quality=None), 3)


def test_a_review_as_table_and_as_folders(herd, tmp_path):
    found = herd.cluster("kmeans", 4)
    with herd.export(tmp_path / "review.csv", review=5).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["rank"]) for row in rows] == list(range(1, 6))
    doubts = most_doubtful(found, 5)
    assert [int(row["row"]) for row in rows] == [found.rows[d.position] for d in doubts]
    assert [row["why"] for row in rows] == [d.reason for d in doubts]
    out = herd.export(tmp_path / "out", to="folders", review=5)
    files = sorted(p for p in out.rglob("*.jpg"))
    assert sorted(p.name[:2] for p in files) == [f"{i} " for i in range(1, 6)]
    by_rank = {int(p.name[:1]): p for p in files}
    for row in rows:
        path = by_rank[int(row["rank"])]
        assert path.name.endswith(row["path"].rpartition("/")[2])
        assert path.parent.name == row["name"].replace("/", "-").strip()
    assert (out / "review.csv").read_text() == (tmp_path / "review.csv").read_text()
    with pytest.raises(ImageherdError, match="table or folders"):
        herd.export(tmp_path / "r.parquet", to="parquet", review=5)
