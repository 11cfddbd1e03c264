import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from tests.reference import cpp as reference

from imageherd.heads import spectral
from imageherd.heads.spectral import embedding_labels, spectral_embedding, spectral_labels


def planted(sizes, *, within=1.0, between=0.05, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(sizes)), sizes)
    mean = np.where(y[:, None] == y[None], within, between)
    order = rng.permutation(len(y))
    affinity = mean * rng.random(mean.shape)
    return affinity[order][:, order], y[order]


@pytest.mark.parametrize("sizes", [(30, 20, 10), (400, 300, 200, 100)])
@pytest.mark.parametrize("kind", ["array", "tensor", "float32", "sparse"])
def test_planted_blocks(sizes, kind):
    affinity, y = planted(sizes)
    given = {
        "array": affinity,
        "tensor": torch.from_numpy(affinity),
        "float32": affinity.astype(np.float32),
        "sparse": sparse.csr_array(affinity),
    }[kind]
    labels = spectral_labels(given, len(sizes), 0)
    assert labels.dtype == np.int32
    assert adjusted_rand_score(y, labels) == 1.0


@pytest.mark.parametrize("n_pieces", [5, 40])
def test_every_piece_of_a_graph_in_pieces_is_found(n_pieces):
    blocks = [planted([30], seed=i)[0] for i in range(n_pieces)]
    affinity = sparse.block_diag(blocks, format="csr")
    y = np.repeat(np.arange(n_pieces), 30)
    for graph in (affinity, affinity.toarray().astype(np.float32)):
        assert adjusted_rand_score(y, spectral_labels(graph, n_pieces, 3)) == 1.0


@pytest.mark.parametrize("n_clusters", [3, 7])
def test_iteration_gives_the_eigenvectors_of_a_full_decomposition(n_clusters, monkeypatch):
    affinity, _ = planted((300, 200, 150), between=0.3)
    affinity += affinity.T  # so that the reference needs no symmetrising of its own
    found = spectral_embedding(affinity, n_clusters)
    expected = reference.spectral_embedding(affinity, n_clusters)
    # The same space, whatever the basis.
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=2e-4)
    signs = np.sign((found * expected).sum(0))
    np.testing.assert_allclose(found[:, :3] * signs[:3], expected[:, :3], atol=2e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 5), st.floats(1e-3, 1e3))
def test_renumbering_and_scale_do_not_matter(seed, n_clusters, scale):
    affinity, y = planted([12] * n_clusters, seed=seed)
    order = np.random.default_rng(seed).permutation(len(y))
    plain = spectral_labels(affinity, n_clusters, 0)
    other = spectral_labels(scale * affinity[order][:, order], n_clusters, 0)
    assert adjusted_rand_score(plain[order], other) == 1.0


def test_only_the_symmetric_part_counts():
    affinity, _ = planted((40, 30))
    one_way = np.triu(affinity + affinity.T)
    np.fill_diagonal(one_way, np.diag(affinity))
    np.testing.assert_array_equal(spectral_labels(affinity, 2, 0), spectral_labels(one_way, 2, 0))


def test_one_embedding_serves_fewer_clusters():
    affinity, y = planted((300, 250, 50))
    embedding = spectral_embedding(affinity, 6)
    assert adjusted_rand_score(y, embedding_labels(embedding, 3, seed=0)) == 1.0


def test_extremes():
    affinity, _ = planted((4, 3))
    assert spectral_labels(affinity, 1, 0).tolist() == [0] * 7
    assert sorted(spectral_labels(affinity, 7, 0)) == list(range(7))
    lonely = np.zeros((9, 9))
    lonely[:3, :3] = lonely[3:6, 3:6] = 1
    labels = spectral_labels(lonely, 2, 0)
    assert len(set(labels[:3])) == len(set(labels[3:6])) == len(set(labels[6:])) == 1
    assert labels[0] != labels[3]
    assert spectral_labels(sparse.csr_array((5, 5)), 2, 0).shape == (5,)


def test_same_seed_same_labels():
    rng = np.random.default_rng(0)
    affinity = rng.random((700, 700))
    first, second = (spectral_labels(affinity, 6, 5) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_unsettled_is_said(monkeypatch):
    monkeypatch.setattr(spectral, "MAX_CYCLES", 1)
    affinity = np.random.default_rng(0).random((600, 600))
    with pytest.warns(ConvergenceWarning, match="not settled after 1 rounds"):
        spectral_labels(affinity, 30, 0)


@pytest.mark.parametrize(
    ("affinity", "n_clusters", "message"),
    [
        (np.ones((3, 4)), 2, "square"),
        (np.ones((3, 3)), 4, "n_clusters=4 must be in 1 to n_samples=3"),
        (np.ones((3, 3)), 0, "n_clusters=0"),
        (-np.ones((3, 3)), 2, "non-negative"),
        (np.full((3, 3), np.nan), 2, "finite"),
        (sparse.csr_array(np.full((3, 3), np.inf)), 2, "finite"),
    ],
)
def test_bad_input_is_named(affinity, n_clusters, message):
    with pytest.raises(ValueError, match=message):
        spectral_labels(affinity, n_clusters, 0)
