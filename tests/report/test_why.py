"""What is said of how a clustering came about, against the rooms that say it."""

from dataclasses import replace

import numpy as np
import pytest

from imageherd.clustering import Cluster, Clustering
from imageherd.counting import Count
from imageherd.merging import Dendrogram
from imageherd.quality import Quality
from imageherd.report.gather import gather
from imageherd.report.why import copies, curve_of, doubts, joins, sentences
from imageherd.review import most_doubtful
from imageherd.sources import sources_of


def counted(rule, scores, chosen):
    return {"counted": Count(chosen, (2, 3, 4, 5), scores, rule).as_dict()}


@pytest.mark.parametrize(
    ("rule", "scores", "chosen", "said"),
    [
        ("splits", (2, 1, -0.5, -2), 3, "1.00, the last one above 0; 4 comes next with −0.50."),
        ("splits", (-1, -2, -3, -4), 2, "−1.00, none being above 0; 3 comes next with −2.00."),
        ("silhouette", (0.1, 0.12, 0.3, 0.2), 4, "0.30, the highest; 5 comes next with 0.20."),
        ("coding-length", (5, 3.001, 3.004, 4), 3, "3.001, the lowest; 4 comes next with 3.004."),
    ],
)
def test_a_sentence_says_why_so_many(rule, scores, chosen, said):
    (sentence,) = sentences(counted(rule, scores, chosen), 0, 0)
    start = f"{chosen} clusters, counted by the rule {rule}: its score there is "
    assert sentence == start + said


def test_what_old_clusterings_keep_of_a_count_is_enough():
    old = {"counted": {"n_clusters": 7, "ks": [6, 7, 8], "scores": [1, 2, float("nan")]}}
    assert sentences(old, 0, 0) == ["7 clusters were counted, not given."]
    curve = curve_of(old["counted"])
    assert (curve.chosen, curve.ks, curve.scores, curve.runners_up) == (7, [6, 7], [1, 2], [])
    assert curve_of({}) is curve_of(None) is None
    assert sentences({"method": "tsp"}, 0, 0) == []


def test_sentences_on_the_method_on_merging_and_on_copies():
    config = counted("splits", (2, 1, -1, -2), 3) | {"parts": [1, 2, 3], "uids": [4, 4, 3]}
    config |= {"chosen": {"reason": "Chosen without labels: tsp"}}
    _, merged, chosen, repeated = sentences(config, 1, 2000)
    assert merged == "Clusters were merged since: 2 are left."
    assert chosen == "Chosen without labels: tsp."
    assert repeated.startswith("There are 1 copy and 2,000 near-copies of other images:")
    assert sentences({}, 1, 0)[0].startswith("There is 1 copy of other images:")


TREE = {"uids": [1, 2, 3, 4, 5], "children": [[1, 3], [0, 4], [2, 5], [6, 7]], "heights": [1] * 4}


def of(uids, parts=None, tree=TREE, quality=None):
    uids = np.array(uids, dtype=np.int32)
    clusters = [Cluster(int(u), f"name {u}", 1, 1.0, []) for u in np.unique(uids) if u >= 0]
    p = np.random.default_rng(0).uniform(0.5, 1, len(uids)).astype(np.float32)
    config = {"dendrogram": tree} if tree else {}
    parts = None if parts is None else np.array(parts, dtype=np.int32)
    rows = np.arange(len(uids)) * 3
    return Clustering("d", "v1", rows, uids, p, uids, clusters, config, parts, quality=quality)


def cuts(steps, uids):
    """The groups after each step, as sets."""
    groups = [{uid} for uid in uids]
    yield groups
    for left, right in steps:
        one, two = (next(g for g in groups if uid in g) for uid in (left, right))
        assert one is not two
        groups = [g for g in groups if g not in (one, two)] + [one | two]
        yield groups


def test_joins_cut_as_the_dendrogram_does():
    found = list(cuts(joins(of([1, 2, 3, 4, 5, -1]), {1, 2, 3, 4, 5}), [1, 2, 3, 4, 5]))
    for n, groups in zip((5, 4, 3, 2, 1), found, strict=True):
        expected = Dendrogram(**TREE).cut(n).values()
        assert sorted(map(sorted, groups)) == sorted(map(sorted, expected))


def test_joins_pass_over_what_is_one_already_and_what_is_gone():
    merged = of([1, 9, 3, 9, 5], parts=[1, 2, 3, 4, 5])
    assert list(cuts(joins(merged, {1, 3, 5, 9}), [1, 3, 5, 9]))[1:3] == [
        [{3}, {9}, {1, 5}],
        [{1, 5}, {3, 9}],
    ]
    gone = joins(of([1, 2, 3, 4, 5]), {2, 3, 5})
    assert list(cuts(gone, [2, 3, 5]))[1] == [{5}, {2, 3}]


def test_without_a_dendrogram_of_these_clusters_there_is_nothing_to_slide():
    assert joins(of([1, 2, 3], tree=None), {1, 2, 3}) == []
    assert joins(of([1, 2, 7]), {1, 2, 7}) == []
    assert joins(of([1]), {1}) == []


def judged(n, n_clusters, copy_of=None):
    rng = np.random.default_rng(1)
    uids = rng.integers(1, n_clusters + 1, n)
    uids[: n // 2] = 1
    around = rng.integers(1, n_clusters + 1, n).astype(np.int32)
    agreement, outlier = rng.uniform(size=(2, n)).astype(np.float32)
    copy_of = np.full(n, -1) if copy_of is None else copy_of
    return of(uids, tree=None, quality=Quality(copy_of, agreement, around, outlier))


def test_each_cluster_shows_what_a_review_of_it_alone_would():
    clustering = judged(400, 9)
    shown = np.random.default_rng(2).uniform(size=400) < 0.9
    found = doubts(clustering, shown, 5)
    for uid in range(1, 10):
        alone = most_doubtful(clustering, 5, shown & (clustering.uids == uid))
        assert found[uid] == [(doubt.position, doubt.reason) for doubt in alone]
    assert doubts(of([1, 2]), np.ones(2, bool), 5) == {1: [], 2: []}


def test_copies_refer_to_images_that_are_still_there():
    copy_of = np.array([-1, 0, 0, -1, 9, 9])
    clustering = judged(6, 2, copy_of)
    X = np.array([[1, 2], [1, 2], [1, 3], [5, 5], [5, 5], [0, 0]], dtype=np.float32)
    of_all, same = copies(clustering, clustering.rows, X)
    assert of_all.tolist() == [-1, 0, 0, -1, 3, 3]
    assert same.tolist() == [False, True, False, False, True, False]
    of_some, same = copies(clustering, clustering.rows[[1, 2, 3, 5]], X[[1, 2, 3, 5]])
    assert of_some.tolist() == [-1, -1, -1, 2]
    assert not same.any()


def shown_of(herd, **changes):
    clustering = replace(herd.clustering(), **changes)
    data = herd.features()
    xy = np.zeros((len(data.rows), 2), dtype=np.float32)
    about = (clustering, data.rows, data.X, xy, herd.items(), sources_of(herd.path))
    return clustering, gather(*about)


def test_a_report_holds_the_evidence_and_the_reasons_of_a_clustering(herd):
    naming = {"by": "a model", "texts": "words.txt"}
    clustering, data = shown_of(herd, config=herd.clustering().config | {"naming": naming})
    assert data.settings["names"] == "from words.txt, by a model"
    assert len(data.joins) == len(clustering.clusters) - 1
    kept = dict(enumerate(clustering.rows.tolist()))
    for shown in data.clusters:
        cluster = clustering.cluster(shown.uid)
        assert [kept[i] for i in shown.evidence] == cluster.evidence != []
        assert (shown.lift, shown.voters, shown.winner) == (
            cluster.lift,
            cluster.voters,
            cluster.winner,
        )
        assert all(shown.reasons[i] for i in shown.doubtful)
        assert not set(shown.doubtful) & set(shown.medoids + shown.typical)
    assert any(shown.doubtful for shown in data.clusters)


def test_a_report_of_an_old_clustering_is_what_it_was(herd):
    bare = [
        replace(c, lift=None, winner=None, voters=None, evidence=None)
        for c in herd.clustering().clusters
    ]
    config = {k: v for k, v in herd.clustering().config.items() if k != "dendrogram"}
    _, data = shown_of(herd, clusters=bare, config=config, quality=None)
    assert data.why == data.joins == []
    assert data.curve is None
    assert list(data.counts) == ["images", "clusters", "unreadable", "fits nowhere"]
    assert (data.copy_of == -1).all()
    for shown in data.clusters:
        assert shown.evidence == []
        assert shown.reasons == {}
        rest = [m for m in shown.members if m not in shown.medoids]
        least_sure = sorted(rest, key=lambda i: data.probability[i])[: len(rest) // 2][:12]
        assert {*shown.doubtful} == {*least_sure}
