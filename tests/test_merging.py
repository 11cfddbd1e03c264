import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imageherd.clustering import Clustering, by_cluster, top_two
from imageherd.errors import ImageherdError
from imageherd.herd import Herd
from imageherd.merging import build, dendrogram, merged, origins, with_dendrogram
from imageherd.versions import versions_of

EXAMPLES = Path(__file__).parents[1] / "examples" / "clothing"
K = 9


def planted(sizes, noise, seed=0):
    """Twelve groups in threes fours: rows (n, 32) and the group of each."""
    rng = np.random.default_rng(seed)
    centers = np.repeat(rng.normal(size=(3, 32)), 4, axis=0) + rng.normal(size=(12, 32)) / 2
    groups = np.repeat(np.arange(12), sizes)
    X = 2 + centers[groups] + noise * rng.normal(size=(len(groups), 32))
    return X.astype(np.float32), groups.astype(np.int32)


def unit_means(X, parts):
    unit = X.astype(np.float64) / np.linalg.norm(X, axis=1, keepdims=True)
    return {uid: unit[parts == uid].mean(0) for uid in np.unique(parts).tolist()}


def spread(means, group):
    points = np.array([means[uid] for uid in group])
    return ((points - points.mean(0)) ** 2).sum()


def joined_greedily(means):
    """All cuts by the definition: join the pair whose union raises the sum of squares least."""
    groups = [[uid] for uid in sorted(means)]
    cuts = {len(groups): [*groups]}
    while len(groups) > 1:
        rises = {
            (i, j): spread(means, a + b) - spread(means, a) - spread(means, b)
            for i, a in enumerate(groups)
            for j, b in enumerate(groups[:i])
        }
        i, j = min(rises, key=rises.get)
        groups = [g for c, g in enumerate(groups) if c not in (i, j)] + [groups[i] + groups[j]]
        cuts[len(groups)] = [*groups]
    return {k: sorted(sorted(g) for g in cut) for k, cut in cuts.items()}


# ---- the tree


@pytest.mark.parametrize(
    ("sizes", "noise"),
    [([60] * 12, 0.3), ([300, 100, 30, 4] * 3, 0.5), ([200] * 8 + [5] * 4, 0.5)],
    ids=["even", "small groups", "a small family"],
)
@pytest.mark.parametrize("seed", range(3))
def test_nested_groups_come_back(sizes, noise, seed):
    X, groups = planted(sizes, noise, seed)
    families = build(X, groups).cut(3).values()
    assert sorted(families) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 9))
def test_every_cut_is_that_of_the_definition(seed, k):
    rng = np.random.default_rng(seed)
    parts = rng.permutation(np.r_[np.arange(k), rng.integers(0, k, size=3 * k)]).astype(np.int32)
    X = rng.normal(size=(len(parts), 5)).astype(np.float32)
    tree, expected = build(X, parts + 4), joined_greedily(unit_means(X, parts + 4))
    for n in range(1, k + 1):
        assert sorted(tree.cut(n).values()) == expected[n]
    assert tree.heights == sorted(tree.heights)


def test_sizes_order_and_images_that_fit_nowhere_change_nothing():
    X, groups = planted([20] * 12, 0.5)
    tree = build(X, groups)
    order = np.random.default_rng(0).permutation(len(X))
    assert build(X[order], groups[order]) == tree
    many = np.r_[np.arange(len(X)), np.tile(np.flatnonzero(groups == 5), 30)]
    assert build(X[many], groups[many]).children == tree.children
    outside = np.r_[groups, np.full(4, -1, dtype=np.int32)]
    assert build(np.r_[X, X[:4] * [[1], [-1], [2], [-3]]], outside) == tree


def test_equal_distances_go_by_uid():
    X = np.eye(6, dtype=np.float32)
    assert build(X, np.arange(1, 7, dtype=np.int32)).children[0] == [0, 1]


def test_a_single_cluster_has_nothing_to_join():
    tree = build(np.eye(3, dtype=np.float32), np.full(3, 7, dtype=np.int32))
    assert (tree.uids, tree.children, tree.cut(1)) == ([7], [], {0: [7]})


@pytest.mark.parametrize("n", [0, 13])
def test_a_cut_that_is_none_is_refused(n):
    with pytest.raises(ValueError, match=f"n_clusters={n} must be from 1 to 12"):
        build(*planted([5] * 12, 0.3)).cut(n)


# ---- probabilities


def test_a_cluster_of_several_columns_has_their_sum():
    P = np.array([[0.4, 0.35, 0.25], [0.1, 0.2, 0.7]], dtype=np.float32)
    np.testing.assert_allclose(by_cluster(P, [5, 8, 8]), [[0.4, 0.6], [0.1, 0.9]])
    assert by_cluster(P, [5, 8, 9]) is P
    # The most probable column decides, so that a merge moves no image.
    uids, probability, second = top_two(P, [5, 8, 8])
    assert (uids.tolist(), second.tolist()) == ([5, 8], [8, 5])
    np.testing.assert_allclose(probability, [0.4, 0.9])
    assert top_two(P, [8, 8, 8])[2].tolist() == [8, 8]
    assert top_two(P, [5, 8, 8], np.array([1, -1]))[0].tolist() == [8, -1]


# ---- in a herd


@pytest.fixture(scope="module")
def fitted(template, tmp_path_factory) -> Path:
    path = shutil.copytree(template, tmp_path_factory.mktemp("merging") / "clothes.herd")
    Herd(path).cluster("tsp", K, epochs=2, min_steps=20)
    return path


@pytest.fixture
def many(fitted, tmp_path) -> Herd:
    """A herd of 48 photographs in nine clusters."""
    return Herd(shutil.copytree(fitted, tmp_path / "clothes.herd"))


def same(a: Clustering, b: Clustering) -> bool:
    return (
        all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("rows", "uids", "second"))
        and np.array_equal(a.probability, b.probability)
        and a.clusters == b.clusters
        and a.config["uids"] == b.config["uids"]
    )


def test_clusters_are_joined_whole_and_their_probabilities_added(many):
    old, new = many.clustering(), many.merge(4)
    assert new.version == "v0003"
    assert len(new.clusters) == 4
    before = origins(old, new)
    assert sorted(uid for uids in before.values() for uid in uids) == sorted(
        c.uid for c in old.clusters
    )
    assert sorted(map(sorted, before.values())) == sorted(dendrogram(old).cut(4).values())
    P = versions_of(many.path, "default").head(old.version).predict_proba(many.features().X)
    columns = old.config["uids"]
    total = {
        uid: P[:, [columns.index(u) for u in uids]].sum(1, dtype=np.float64)
        for uid, uids in before.items()
    }
    for i, (uid, p, second) in enumerate(
        zip(new.uids.tolist(), new.probability, new.second.tolist(), strict=True)
    ):
        assert p == pytest.approx(total[uid][i], abs=1e-6)
        assert second == max(total.keys() - {uid}, key=lambda u: total[u][i])
    for cluster in new.clusters:
        members = new.rows[new.uids == cluster.uid]
        assert cluster.size == len(members)
        assert set(cluster.medoids) <= set(members.tolist())
        assert cluster.winner is not None


def test_a_union_has_a_uid_of_its_own_and_always_the_same(many):
    old, new = many.clustering(), many.merge(4)
    for uid, before in origins(old, new).items():
        assert (uid == before[0]) if len(before) == 1 else (uid >= old.config["next_uid"])
    finer = many.merge(6)
    assert same(many.merge(4), replace(new, version="v0005"))
    # A union that is in both has one uid in both.
    unions = [
        {tuple(sorted(uids)): uid for uid, uids in origins(old, c).items()} for c in (new, finer)
    ]
    for union in unions[0].keys() & unions[1].keys():
        assert unions[0][union] == unions[1][union]
    # What is fitted next takes none of them.
    taken = {c.uid for v in (old, new, finer) for c in v.clusters}
    refitted = many.cluster("spherical-kmeans", 5)
    known = {c.uid for c in new.clusters}
    assert not {c.uid for c in refitted.clusters} & (taken - known)


def test_back_at_all_clusters_everything_is_as_it_was(many):
    old = many.clustering()
    many.merge(2)
    assert len(many.merge(5).clusters) == 5
    back = many.merge(K)
    assert same(back, old)
    assert back.parts is None
    assert "parts" not in back.config


def test_the_object_merges_without_writing(many):
    old = many.clustering()
    coarse = old.merge(3)
    assert many.clustering().version == old.version
    assert same(coarse.merge(5), old.merge(5))
    assert same(many.merge(3), coarse)
    assert same(many.clustering(), coarse)


def test_names_given_by_a_person(many):
    old = many.clustering()
    joined = next(b for b in origins(old, old.merge(2)).values() if len(b) > 1)
    many.rename(joined[0], "Mine")
    many.rename(joined[1], "Lost in the crowd")
    new = many.merge(2)
    union = new.uids[old.uids == joined[0]][0]
    assert new.cluster(union).name == "Mine"
    assert many.clustering().cluster(union).name == "Mine"
    # The union's own name is its own: neither its parts' nor undone by merging again.
    many.rename(union, "All of these")
    back = many.merge(K)
    assert back.cluster(joined[0]).name == "Mine"
    assert back.cluster(joined[1]).name == "Lost in the crowd"
    assert many.merge(2).cluster(union).name == "All of these"


def test_new_images_go_where_they_would_have_gone(many, tmp_path):
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    for path in sorted(EXAMPLES.glob("*.jpg"))[60:72]:
        shutil.copy(path, fresh)
    other = Herd(shutil.copytree(many.path, tmp_path / "other.herd"))
    merged_first = many.merge(4)
    placed = many.assign(fresh, reject=0.2)
    assert set(placed.uids.tolist()) <= {c.uid for c in merged_first.clusters} | {-1}
    assert (placed.uids == -1).any()
    other.assign(fresh, reject=0.2)
    a, b = many.clustering(), other.merge(4)
    for field in ("rows", "uids", "second", "parts", "probability"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    assert [(c.uid, c.size) for c in a.clusters] == [(c.uid, c.size) for c in b.clusters]
    np.testing.assert_array_equal(many.merge(K).uids, other.merge(K).uids)


def test_it_is_evaluated_and_reported_as_it_is(many):
    many.merge(3)
    assert many.evaluate("folder").entropies["most"] == pytest.approx(np.log(3))
    assert f"3 (merged from {K})" in many.report().read_text(encoding="utf-8")


def test_under_another_name(many):
    old = many.clustering()
    many.rename(old.clusters[0].uid, "Mine")
    coarse = many.merge(5, to="coarse")
    assert coarse.name == "coarse"
    assert len(coarse.clusters) == 5
    assert many.clustering().version == old.version
    assert many.merge(K, name="coarse").cluster(old.clusters[0].uid).name == "Mine"
    with pytest.raises(ImageherdError, match="'coarse' already"):
        many.merge(4, to="coarse")


def test_a_version_without_a_tree_is_given_one(many):
    expected = many.clustering().merge(4)
    path = many.path / "clusterings" / "default" / many.clustering().version / "clusters.json"
    content = json.loads(path.read_text())
    assert len(content.pop("dendrogram")["uids"]) == K
    path.write_text(json.dumps(content))
    assert same(many.merge(4), expected)


def test_the_tree_is_kept_unless_there_are_very_many_clusters(many, monkeypatch):
    found, X = many.clustering(), many.features().X
    tree = found.config["dendrogram"]
    assert tree == asdict(build(X, found.uids))
    bare = replace(found, config={})
    assert with_dendrogram(bare, X).config == {"dendrogram": tree}
    monkeypatch.setattr("imageherd.merging.MOST_AT_FIT", K - 1)
    assert with_dendrogram(bare, X) is bare


@pytest.mark.parametrize("n", [0, K + 1])
def test_what_merging_cannot_give(many, n):
    with pytest.raises(ImageherdError, match=f"give 1 to {K}"):
        many.merge(n)
    assert many.clustering().version == "v0002"


def test_what_no_herd_keeps_cannot_be_merged(many):
    with pytest.raises(ImageherdError, match="No herd keeps"):
        merged(replace(many.clustering(), folder=None), 3)
