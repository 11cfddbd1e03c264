import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from imageherd.counting import _grid, count_clusters
from imageherd.counting_rules import _silhouette


def make_blobs(n_clusters, n=600, d=64, spread=0.25, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((n_clusters, d))
    labels = rng.integers(0, n_clusters, n)
    return (centers[labels] + spread * rng.standard_normal((n, d))).astype(np.float32)


@pytest.mark.parametrize("n_clusters", [3, 7, 12])
@pytest.mark.parametrize("seed", [0, 1])
def test_well_separated_blobs_are_counted(n_clusters, seed):
    count = count_clusters(make_blobs(n_clusters, seed=seed), k_max=20)
    assert count.n_clusters == n_clusters


def test_blobs_of_very_different_sizes_and_lengths_are_counted():
    rng = np.random.default_rng(0)
    X = np.concatenate([make_blobs(5, n=400), make_blobs(1, n=40, seed=7)])
    assert count_clusters(X * rng.uniform(0.1, 10, (len(X), 1))).n_clusters == 6


def test_overlapping_clusters_are_counted():
    # A spectrum that falls as 1/i, three tenths of the variance between the clusters.
    rng = np.random.default_rng(0)
    spectrum = 1 / np.arange(1, 129)
    spectrum /= spectrum.sum()
    turn = np.linalg.qr(rng.standard_normal((128, 128)))[0]
    centers = rng.standard_normal((8, 128)) * np.sqrt(0.35 * spectrum)
    within = rng.standard_normal((1500, 128)) * np.sqrt(0.65 * spectrum) @ turn
    count = count_clusters(within + centers[rng.integers(0, 8, 1500)])
    assert 7 <= count.n_clusters <= 9


def test_same_seed_same_answer_and_the_best_score_wins(tmp_path):
    np.save(tmp_path / "X.npy", make_blobs(4, n=900, spread=1.5))
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    count = count_clusters(X, sample=300, random_state=3, rule="silhouette")
    assert count == count_clusters(X, sample=300, random_state=3, rule="silhouette")
    assert count.n_clusters == count.ks[int(np.argmax(count.scores))]
    assert count.scores != count_clusters(X, sample=300, random_state=4, rule="silhouette").scores


def test_the_range_is_kept():
    X = make_blobs(7)
    count = count_clusters(X, k_min=3, k_max=5)
    assert count.ks == (3, 4, 5)
    assert len(count.scores) == 3
    assert count_clusters(X, k_min=9, k_max=9).ks == (9,)


@pytest.mark.parametrize(("n", "most"), [(40, 2), (200, 10), (700, 30)])
def test_the_default_range_follows_the_rows(n, most):
    ks = count_clusters(make_blobs(3, n=n)).ks
    assert (ks[0], ks[-1]) == (2, most)


def test_a_wide_range_is_tried_in_growing_steps():
    ks = _grid(2, 1000)
    assert ks[:20] == [*range(2, 21), 22]
    assert ks[-1] == 1000
    assert len(ks) < 70
    assert _grid(5, 5) == [5]


def test_few_rows_have_no_choice():
    assert count_clusters(make_blobs(3, n=9)).n_clusters == 2
    assert count_clusters(make_blobs(3, n=1)).n_clusters == 1
    assert count_clusters(make_blobs(3, n=4), k_min=3).ks == (3,)
    assert count_clusters(make_blobs(3, n=4), k_min=6).n_clusters == 4


@pytest.mark.parametrize(
    ("n", "options", "why"),
    [
        (5, {}, "5 images are too few to tell numbers of clusters apart by, which takes 60, 20 "),
        (59, {}, "59 images are too few"),
        (70, {"k_min": 3}, "which takes 80, 20 for each of 4 clusters"),
        (5, {"k_max": 4}, "5 images are too few"),
        (59, {"k_max": 3}, None),
        (60, {}, None),
        (100, {"k_min": 9, "k_max": 9}, "there is no other number to compare it with"),
    ],
)
def test_a_number_that_was_not_counted_says_so(n, options, why):
    count = count_clusters(make_blobs(3, n=n), **options)
    assert count.as_dict()["compared"] is (why is None)
    if why is None:
        assert "no count" not in count.reason
    else:
        assert f"{count.n_clusters} clusters, but this is no count: " in count.reason
        assert why in count.reason


def test_repeats_of_one_image_are_one_cluster():
    X = np.repeat(make_blobs(1, n=1), 200, axis=0)
    assert count_clusters(X).n_clusters == 1
    assert count_clusters(X * np.linspace(1, 2, 200)[:, None].astype(np.float32)).n_clusters <= 2
    assert count_clusters(np.zeros((50, 4))).n_clusters == 1


def test_more_clusters_than_different_rows_are_never_tried():
    X = np.repeat(make_blobs(4, n=4, seed=2), 100, axis=0)
    count = count_clusters(X)
    assert count.ks == (2, 3)
    assert np.isfinite(count.scores).all()


def test_silhouette_agrees_with_scikit_learn():
    X = make_blobs(5, n=200, spread=2).astype(np.float64)
    distances = np.linalg.norm(X[:, None] - X, axis=2)
    labels = np.random.default_rng(0).integers(0, 6, len(X))
    labels[17] = 6  # alone in its cluster
    expected = silhouette_score(distances, labels, metric="precomputed")
    assert _silhouette(distances, labels) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k_min": 1}, "k_min=1"),
        ({"k_min": 5, "k_max": 4}, "k_max=4"),
        ({"sample": 9}, "sample=9"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        count_clusters(make_blobs(3), **options)


def test_what_is_no_table_of_numbers_is_refused():
    with pytest.raises(ValueError, match="2-D"):
        count_clusters(np.zeros(20))
    with pytest.raises(ValueError, match="not empty"):
        count_clusters(np.zeros((0, 3)))
    X = make_blobs(3)
    X[5, 5] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        count_clusters(X)
