"""The still figures: what each draws, from data whose picture is known; any number of clusters."""

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from plot_helpers import blobs, rendered, texts

from imageherd.metrics import neighbor_consistency
from imageherd.neighbors import knn_graph
from imageherd.report import plots
from imageherd.report.plots_style import FIRST, SECOND, colour

# ---- |ZᵀZ|


def test_similarities_are_cosines_sorted_by_cluster_what_fits_nowhere_last():
    before = np.array([[2, 0], [0, 3], [1, 1], [-5, 0]], np.float32)
    after = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 7]], np.float32)
    figure = plots.similarity_figure(before, after, np.array([1, 0, -1, 1]), names=["b", "a"])
    left, right, bar = figure.axes
    # In the order of rows 1 (cluster 0), 0 and 3 (cluster 1), 2 (nowhere).
    h = np.sqrt(0.5)
    expected = [[1, 0, 0, h], [0, 1, 1, h], [0, 1, 1, h], [h, h, h, 1]]
    np.testing.assert_allclose(left.images[0].get_array(), expected, atol=1e-12)
    expected = [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 1, 0, 1]]
    np.testing.assert_allclose(right.images[0].get_array(), expected, atol=1e-12)
    assert left.images[0].get_clim() == right.images[0].get_clim() == (0, 1)
    assert bar.get_ylabel() == "|cosine similarity|"
    assert left.get_xlabel() == left.get_ylabel() == "image, sorted by cluster"
    named = [t.get_text() for t in left.yaxis.get_minorticklabels()]
    assert named == ["b", "a", "fits nowhere"]
    assert left.get_yticks().tolist() == [0.5, 2.5]
    rendered(figure)


def test_clusters_show_as_dark_blocks():
    X, labels = blobs(90, 3)
    figure = plots.similarity_figure(X, np.eye(3)[labels], labels)
    right = figure.axes[1].images[0].get_array()
    edges = np.cumsum(np.bincount(labels))
    assert right[: edges[0], : edges[0]].min() == 1
    assert right[: edges[0], edges[0] :].max() == 0
    pixels = rendered(figure)
    darkest = 255 * np.array(matplotlib.colormaps["Blues"](1.0))[:3]
    dark = (np.abs(pixels - darkest) < 3).all(-1)
    # The right half of the figure has whole blocks of it, the left half a diagonal.
    middle = pixels.shape[1] // 2
    assert dark[:, middle:].sum() > 10 * dark[:, :middle].sum() > 0


def test_of_many_images_a_seeded_sample_is_drawn():
    X, labels = blobs(300, 4)

    def drawn(seed):
        figure = plots.similarity_figure(X, X, labels, max_rows=50, random_state=seed)
        return figure.axes[0].images[0].get_array()

    assert drawn(0).shape == (50, 50)
    np.testing.assert_array_equal(drawn(3), drawn(3))
    assert (drawn(3) != drawn(4)).any()


def test_a_thousand_clusters_have_neither_ticks_nor_names():
    X, labels = blobs(1_500, 1_000)
    figure = plots.similarity_figure(X, X, labels, names=[f"c{i}" for i in range(1_000)])
    left = figure.axes[0]
    assert left.images[0].get_array().shape == (1_000, 1_000)
    assert not [t for t in left.yaxis.get_minorticklabels() if t.get_text()]
    rendered(figure)


# ---- confusion matrix


def test_the_confusion_matrix_shows_shares_of_a_class_and_counts():
    matrix = np.array([[8, 2, 0], [0, 5, 15]])
    figure = plots.confusion_figure(matrix, ["cat", "dog"], ["a", "b", "c"], caption="About it.")
    axes, bar = figure.axes
    np.testing.assert_allclose(axes.images[0].get_array(), [[80, 20, 0], [0, 25, 75]])
    assert sorted(t.get_text() for t in axes.texts) == ["15", "2", "5", "8"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b", "c"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["cat", "dog"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("cluster", "class")
    assert bar.get_ylabel() == "share of the class, %"
    assert "About it." in texts(figure)
    rendered(figure)


def test_no_full_cell_of_a_thousand_classes_is_lost():
    matrix = np.zeros((1_000, 1_003), int)
    matrix[np.arange(1_000), np.arange(1_000)] = 7
    matrix[3, 1_002] = 21
    names = [str(i) for i in range(1_003)]
    figure = plots.confusion_figure(matrix, names[:1_000], names)
    drawn = figure.axes[0].images[0].get_array()
    assert drawn.shape == (200, 201)
    np.testing.assert_allclose(np.diag(drawn[:, :200]), 100)
    assert drawn[0, 200] == 75
    assert (drawn > 0).sum() == 201
    assert not figure.axes[0].texts
    assert any("largest of 5 × 5" in t for t in texts(figure))
    # Cell (3, 1002) is drawn where a reader of the axes looks for it.
    left, right, bottom, top = figure.axes[0].images[0].get_extent()
    assert (left, top) == (-0.5, -0.5)
    assert (right - left) / 201 == (bottom - top) / 200 == 5
    rendered(figure)


def test_a_class_without_images_divides_nothing_by_zero():
    figure = plots.confusion_figure(np.array([[0, 0], [1, 1]]), ["none", "two"], ["a", "b"])
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), [[0, 0], [50, 50]])


# ---- singular values


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (1, 5)])
def test_the_spectrum_is_that_of_an_svd_of_unit_rows(shape):
    X = np.random.default_rng(0).normal(size=shape)
    values = np.linalg.svd(X / np.linalg.norm(X, axis=1, keepdims=True), compute_uv=False)
    np.testing.assert_allclose(plots.spectrum(X), values / values[0], atol=1e-7)


def test_the_spectrum_of_nothing_is_zero():
    assert plots.spectrum(np.zeros((3, 4))).tolist() == [0, 0, 0]


def test_singular_values_of_all_and_of_each_cluster():
    X, labels = blobs(60, 4)
    labels[labels == 3] = -1
    labels[np.flatnonzero(labels == 2)[1:]] = 1
    Z = X[:, :5] ** 2
    figure = plots.singular_values_figure(X, Z, labels, titles=("Before", "Later"))
    whole, before, after = figure.axes
    for line, data in zip(whole.lines, (X, Z), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), plots.spectrum(data))
        assert line.get_xdata()[0] == 1
    assert [t.get_text() for t in whole.get_legend().get_texts()] == ["Before", "Later"]
    for axes, data in ((before, X), (after, Z)):
        # Cluster 2 has one image, cluster 3 is none.
        drawn = axes.collections[0].get_segments()
        assert len(drawn) == 2
        for points, cluster in zip(drawn, (0, 1), strict=True):
            np.testing.assert_allclose(points[:, 1], plots.spectrum(data[labels == cluster]))
        assert axes.get_xlabel() == "component, log scale"
    assert whole.get_ylabel() == "singular value / largest"
    rendered(figure)


def test_singular_values_of_a_thousand_clusters_and_of_none():
    X, labels = blobs(3_000, 1_000)
    figure = plots.singular_values_figure(X, X, labels)
    found = (np.bincount(labels) > 1).sum()
    assert len(figure.axes[1].collections[0].get_segments()) == found > 500
    rendered(figure)
    alone = plots.singular_values_figure(X[:1], X[:1], np.array([-1]))
    assert not alone.axes[1].collections
    rendered(alone)


# ---- neighbour consistency


def test_the_consistency_curve_is_the_metric_at_every_k():
    X, labels = blobs(80, 5)
    graph = knn_graph(X, 12)
    curve = plots.consistency_curve(graph.ids, labels)
    expected = [neighbor_consistency(graph, labels, k) for k in range(1, 13)]
    np.testing.assert_allclose(curve, expected)


def test_unknown_labels_are_neither_asked_nor_counted():
    ids = np.array([[1, 2, 3], [0, 2, 3], [3, 0, 1], [2, 1, 0]])
    labels = np.array([0, 0, -1, 1])
    # Row 0: same; -; other. Row 1: same; -; other. Row 3: -; other; other.
    expected = [1, (1 + 1 + 0) / 3, (1 / 2 + 1 / 2 + 0) / 3]
    np.testing.assert_allclose(plots.consistency_curve(ids, labels), expected)
    assert np.isnan(plots.consistency_curve(ids, np.array([0, -1, -1, -1]))).all()


def test_the_consistency_figure_draws_percent_against_k():
    figure = plots.consistency_figure({"Features": [0.9, 0.8], "Later": [1, 0.95]}, of="cluster")
    (axes,) = figure.axes
    assert axes.lines[0].get_xdata().tolist() == [1, 2]
    assert axes.lines[0].get_ydata().tolist() == [90, 80]
    assert axes.lines[1].get_ydata().tolist() == [100, 95]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("nearest neighbors, k", "same cluster, %")
    # Told apart without colour, too.
    assert len({line.get_linestyle() for line in axes.lines}) == 2
    rendered(figure)


# ---- TEMI's entropies


def test_entropies_are_drawn_in_the_order_of_beta_below_log_c():
    figure = plots.entropies_figure([0.7, 0.5, 0.6], [2, 1, 1.5], [0.3, 0.9, 0.6], 10, chosen=0.6)
    (axes,) = figure.axes
    even, unsure, most, chosen = axes.lines
    assert even.get_xdata().tolist() == unsure.get_xdata().tolist() == [0.5, 0.6, 0.7]
    assert even.get_ydata().tolist() == [1, 1.5, 2]
    assert unsure.get_ydata().tolist() == [0.9, 0.6, 0.3]
    assert most.get_ydata()[0] == pytest.approx(np.log(10))
    assert chosen.get_xdata()[0] == 0.6
    assert axes.get_ylim()[1] > np.log(10)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("β", "entropy, nats")
    rendered(figure)


# ---- training


def test_training_has_a_panel_a_quantity_and_skips_what_an_epoch_does_not_tell():
    history = [
        {"epoch": 1, "loss": 3.0, "used_clusters": None, "rate": float("nan")},
        {"epoch": 2, "loss": 2.0, "used_clusters": 5},
        {"epoch": 3, "loss": 1.0},
    ]
    figure = plots.training_figure(history)
    loss, used = figure.axes
    assert loss.lines[0].get_xydata().tolist() == [[1, 3], [2, 2], [3, 1]]
    assert used.lines[0].get_xydata().tolist() == [[2, 5]]
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "clusters used"]
    assert {axes.get_xlabel() for axes in figure.axes} == {"epoch"}
    rendered(figure)


@pytest.mark.parametrize("count", [1, 4, 7])
def test_the_lowest_panel_of_each_column_says_epoch(count):
    history = [{"epoch": e, **{f"q{i}": e * i for i in range(count)}} for e in (1, 2)]
    axes = [a for a in plots.training_figure(history).axes if a.axison]
    assert len(axes) == count
    columns = {1: 1, 4: 2, 7: 3}[count]
    assert sum(a.get_xlabel() == "epoch" for a in axes) == columns


# ---- maps


def test_maps_show_every_image_at_its_place_in_its_clusters_colour():
    X, labels = blobs(60, 3)
    labels[:5] = -1
    xy, later = X[:, :2], X[:, 2:4]
    figure = plots.maps_figure(xy, later, labels, names=["a", "b", "c"], titles=("One", "Two"))
    for axes, places, title in zip(figure.axes, (xy, later), ("One", "Two"), strict=True):
        assert axes.get_title(loc="left") == title
        nowhere, clusters = axes.collections
        np.testing.assert_array_equal(nowhere.get_offsets(), places[:5])
        np.testing.assert_array_equal(clusters.get_offsets(), places[5:])
        found = [to_hex(c) for c in clusters.get_facecolor()]
        assert found == [colour(c) for c in labels[5:]]
        assert axes.get_xlabel() == "first map axis, no unit"
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["fits nowhere", "a", "b", "c"]
    rendered(figure)


def test_the_legend_lies_between_map_and_caption():
    X, labels = blobs(60, 20)
    names = [f"cluster {i}" for i in range(20)]
    figure = plots.maps_figure(X[:, :2], X[:, :2], labels, names=names, caption="word " * 60)
    rendered(figure, dpi=figure.dpi)
    (legend,) = figure.legends
    box = legend.get_window_extent()
    caption = next(t for t in figure.texts if "word" in t.get_text())
    label = figure.axes[0].xaxis.label
    assert caption.get_window_extent().y1 < box.y0
    assert box.y1 < label.get_window_extent().y0 + 1
    assert box.x1 < figure.bbox.x1
    assert caption.get_window_extent().x1 < figure.bbox.x1


def test_maps_of_a_thousand_clusters_have_no_legend_and_a_sample_of_points():
    X, labels = blobs(3_000, 1_000)
    names = [f"c{i}" for i in range(1_000)]
    xy = X[:, :2]
    figure = plots.maps_figure(xy, xy, labels, names=names, max_points=1_500)
    assert not figure.legends
    assert len(figure.axes[0].collections) == 7
    assert sum(len(c.get_offsets()) for c in figure.axes[0].collections) == 1_500
    rendered(figure)


# ---- photographs


def photo(colour, shape=(40, 30)):
    return np.full((*shape, 3), colour, np.uint8)


def frames(axes):
    return [(to_hex(p.get_edgecolor()), p.get_linestyle()) for p in axes.patches]


def test_the_gallery_frames_neighbors_by_cluster():
    wide = photo((10, 200, 30), (20, 60))
    figure = plots.gallery_figure(
        [photo((200, 0, 0)), photo((0, 0, 200))],
        [[wide, None], [photo((1, 1, 1)), photo((2, 2, 2))]],
        np.array([[True, False], [False, False]]),
        names=["reds", "blues"],
    )
    (axes,) = figure.axes
    assert len(axes.images) == 5
    np.testing.assert_array_equal(axes.images[1].get_array(), wide)
    left, right, bottom, top = axes.images[1].get_extent()
    assert (right - left) / (bottom - top) == pytest.approx(3)
    assert [t.get_text() for t in axes.texts] == ["reds", "gone", "blues"]
    colours_, dashes = zip(*frames(axes), strict=True)
    assert [colours_[i] for i in (1, 2, 4, 5)] == [FIRST, SECOND, SECOND, SECOND]
    assert dashes[1] == "-" != dashes[2] == dashes[4]
    pixels = rendered(figure, dpi=100).reshape(-1, 3)
    assert (np.abs(pixels.astype(int) - (10, 200, 30)).max(1) < 3).sum() > 500


def test_a_search_side_by_side_fills_two_squares():
    left = [photo((i, 0, 0)) for i in range(5)]
    right = [photo((0, i, 0)) for i in range(5)]
    same = [True, True, False, False, False], [True] * 5
    figure = plots.search_figure(photo((9, 9, 9)), left, right, *same, titles=("One", "Two"))
    (axes,) = figure.axes
    assert len(axes.images) == 11
    assert [image.get_array()[0, 0].tolist() for image in axes.images[6:]] == [
        [0, i, 0] for i in range(5)
    ]
    assert [c for c, _ in frames(axes)[1:]] == [FIRST] * 2 + [SECOND] * 3 + [FIRST] * 5
    assert [t.get_text() for t in axes.texts] == ["searched with", "One", "Two"]
    # The fourth of five is below the first, the first of the right beside the third of the left.
    starts = [image.get_extent()[0] for image in axes.images]
    assert starts[1] == starts[4] < starts[3] < starts[6]
    rendered(figure)
