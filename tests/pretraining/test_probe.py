"""The k-NN probe against scikit-learn's, and what it does with labels."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from imageherd.errors import ImageherdError
from imageherd.pretraining import probe
from imageherd.pretraining.data import normalize, pixels_of_array
from imageherd.pretraining.networks import make_network
from imageherd.pretraining.probe import (
    embed_pixels,
    knn_accuracy,
    labels_of_source,
    make_probe,
    with_settled_norms,
)


def test_accuracy_is_scikit_learns_with_the_image_itself_left_out():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 60)
    X = rng.normal(size=(60, 5)) + np.eye(5)[y]
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    hits = 0
    for i in range(60):
        others = np.arange(60) != i
        vote = KNeighborsClassifier(7, weights=lambda d: np.exp((1 - d**2 / 2) / 0.07))
        hits += vote.fit(unit[others], y[others]).predict(unit[i : i + 1])[0] == y[i]
    assert knn_accuracy(X.astype(np.float32), y, 7) == pytest.approx(hits / 60)
    assert knn_accuracy(X[:3].astype(np.float32), [0, 0, 1]) <= 1


def test_a_probe_has_the_labelled_images_only(monkeypatch):
    found = make_probe(["b", None, "a", "b", None])
    np.testing.assert_array_equal(found.rows, [0, 2, 3])
    np.testing.assert_array_equal(found.labels, [1, 0, 1])
    monkeypatch.setattr(probe, "MOST_IMAGES", 10)
    drawn = make_probe(["a", "b"] * 50, seed=1)
    assert len(np.unique(drawn.rows)) == 10
    np.testing.assert_array_equal(drawn.rows, make_probe(["a", "b"] * 50, seed=1).rows)
    with pytest.raises(ImageherdError, match="0 classes on 0 images"):
        make_probe([None, None])


def test_batch_norms_settle_to_what_the_images_have():
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype(np.uint8)
    pixels, cpu, rows = pixels_of_array(images), torch.device("cpu"), np.arange(12)
    network = make_network("resnet18-narrow", 8)
    before = embed_pixels(network, pixels, rows, cpu)
    settled = with_settled_norms(network, pixels, rows, cpu)
    x = normalize(pixels.values, pixels)
    norm, outputs = settled.stem[1], settled.stem[0](x).transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, outputs.mean(1))
    torch.testing.assert_close(norm.running_var, outputs.var(1))
    assert np.abs(embed_pixels(settled, pixels, rows, cpu) - before).max() > 0.1
    np.testing.assert_array_equal(embed_pixels(network, pixels, rows, cpu), before)


def test_labels_come_from_a_column_of_the_source():
    class Table:
        def columns(self):
            return pa.table({"__key__": [b"2", b"1"], "kind": ["cat", None]})

    assert labels_of_source("column:kind", Table(), [b"1", b"2", b"3"]) == [None, "cat", None]
    with pytest.raises(ImageherdError, match="they have kind"):
        labels_of_source("column:sort", Table(), [b"1"])
    assert labels_of_source("folder", object(), [b"a/1", b"b/2"]) == ["a", "b"]
