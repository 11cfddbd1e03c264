"""`imageherd merge` hands on what was asked and says which clusters became which."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from imageherd.clustering import Cluster, Clustering
from imageherd.errors import ImageherdError
from imageherd.merging import Dendrogram


@pytest.fixture
def merging(made, monkeypatch):
    """The made herd with seven images in four clusters, of which three have become one."""
    tree = Dendrogram([1, 2, 3, 4], [[0, 1], [2, 4], [3, 5]], [0.1, 0.2, 0.5], 10)
    old = Clustering(
        name="default",
        version="v0001",
        rows=np.arange(7),
        uids=np.array([1, 1, 2, 3, 4, 4, -1], dtype=np.int32),
        probability=np.full(7, 0.9, dtype=np.float32),
        second=np.full(7, 2, dtype=np.int32),
        clusters=[Cluster(u, n, 1, 0.9, [0]) for u, n in enumerate(("boot", "clog", "shoe"), 1)],
        config={"uids": [1, 2, 3, 4], "dendrogram": asdict(tree)},
    )
    old.clusters.append(Cluster(4, "hat", 2, 0.9, [4]))
    union = Cluster(11, "footwear", 4, 0.95, [0, 2], 0.7, "hat", 0.1)
    new = replace(
        old,
        version="v0002",
        uids=np.array([11, 11, 11, 11, 4, 4, -1], dtype=np.int32),
        clusters=[union, old.clusters[3]],
        parts=old.uids,
    )

    def merge(n_clusters, *, name, to):
        made._called("merge", n_clusters, name=name, to=to)
        return replace(new, name=to or name)

    made.merge = merge
    monkeypatch.setattr(made, "clustering", lambda name="default": replace(old, name=name))
    return made


def test_it_says_which_became_which_and_the_way_back(run, merging):
    result = run("merge", merging.path, "--n-clusters", 2)
    assert result.exit_code == 0, result.output
    assert merging.calls == [("merge", (2,), {"name": "default", "to": None})]
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "11 footwear 4 57.1% boot (1) + clog (2) + shoe (3)" in lines
    assert "4 hat 2 28.6% hat (4)" in lines
    assert f"Back to all 4: imageherd merge {merging.path} --n-clusters 4\n" in result.stdout
    assert f"To look at it: imageherd report {merging.path}\n" in result.stdout


def test_another_name_is_in_what_to_do_next(run, merging):
    out = run("merge", merging.path, "--n-clusters", 2, "--name", "temi", "--to", "coarse").stdout
    assert merging.calls == [("merge", (2,), {"name": "temi", "to": "coarse"})]
    assert f"imageherd report {merging.path} --name coarse\n" in out
    assert f"imageherd merge {merging.path} --n-clusters 4 --name coarse\n" in out


def test_at_all_clusters_there_is_no_way_back_to_tell(run, merging):
    assert "Back to" not in run("merge", merging.path, "--n-clusters", 4).stdout


def test_of_many_parts_three_are_named(run, merging):
    old = merging.clustering()
    everything = replace(old, uids=np.where(old.uids < 0, -1, 12).astype(np.int32))
    everything = replace(everything, clusters=[Cluster(12, "all", 6, 0.9, [0])])
    merging.merge = lambda n, **options: everything
    out = " ".join(run("merge", merging.path, "--n-clusters", 2).stdout.split())
    assert "boot (1) + hat (4) + clog (2) + 1 more" in out


def test_json(run, merging):
    result = run("merge", merging.path, "--n-clusters", 2, "--json")
    found = json.loads(result.stdout)
    assert found["n_fitted"] == 4
    clusters = found["clustering"]["clusters"]
    assert [(c["uid"], c["from"]) for c in clusters] == [(11, [1, 2, 3]), (4, [4])]


@pytest.mark.parametrize("n", ["1", "auto", ""])
def test_a_number_that_is_none(run, merging, n):
    result = run("merge", merging.path, "--n-clusters", n)
    assert result.exit_code == 2
    assert "--n-clusters" in result.output
    assert merging.calls == []


def test_mistakes_end_in_one_sentence(run, merging, tmp_path):
    result = run("merge", tmp_path / "none.herd", "--n-clusters", 2)
    assert (result.exit_code, "does not exist" in result.output) == (2, True)
    merging.fails["merge"] = ImageherdError("was fitted with 4 clusters")
    result = run("merge", merging.path, "--n-clusters", 9)
    assert (result.exit_code, "was fitted with 4 clusters" in result.output) == (2, True)
