"""Every method's head, run by ONNX Runtime, says what predict_proba says."""

import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from sklearn.datasets import make_blobs

from imageherd.heads import HEADS
from imageherd.heads.base import CollapseWarning
from imageherd.heads.scaling import SCALINGS
from imageherd.heads.to_onnx import LEAST_OPSET, Parts, add_head
from imageherd.heads.trained import TrainedClassifier, classifier_of, save_classifier

QUICK = {
    "tsp": {"epochs": 1, "min_steps": 30, "n_heads": 3},
    "temi": {"min_steps": 20, "n_heads": 2},
    "cpp": {"hidden": 64, "n_features_out": 16, "epochs": 3, "min_steps": 30},
    "scp": {"epochs": 1, "min_steps": 3, "batch_size": 64},
    "infonce": {"epochs": 1, "min_steps": 30},
    "lsdc": {"epochs": 1, "min_steps": 20},
    "turtle": {"min_steps": 20},
}


@pytest.fixture(scope="module")
def rows():
    """Rows to fit, in groups that overlap, and others."""
    X, _ = make_blobs(300, 8, centers=3, cluster_std=2.5, center_box=(-6, 6), random_state=1)
    return X[:240].astype(np.float32), X[240:].astype(np.float32)


def fitted(method, X, **params):
    if not HEADS[method].counts_itself:
        params = {"n_clusters": 4, **params}
    head = HEADS[method](device="cpu", random_state=0, **{**QUICK.get(method, {}), **params})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        return head.fit(X)


def session(head, opset=LEAST_OPSET):
    parts = Parts("a/")
    found = add_head(parts, head, "features")
    d, K = head.n_features_in_, head.n_clusters_
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
        for name, width in (("features", d), (found, K))
    ]
    graph = helper.make_graph(parts.nodes, "head", ends[:1], ends[1:], parts.weights)
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def ask(model, X):
    return model.run(None, {"features": X})[0]


def assert_same(head, X, atol=1e-5):
    model, expected = session(head), head.predict_proba(X)
    found = ask(model, X)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=atol)
    np.testing.assert_array_equal(found.argmax(1), head.predict(X))
    # The number of rows is anybody's choice.
    np.testing.assert_allclose(ask(model, X[:1]), expected[:1], atol=atol)


@pytest.mark.parametrize("method", list(HEADS))
def test_every_method(method, rows):
    head = fitted(method, rows[0])
    assert_same(head, rows[0])
    assert_same(head, rows[1])


@pytest.mark.parametrize("scaling", SCALINGS)
def test_every_scaling(scaling, rows):
    # Far from the origin, and with a column that says nothing.
    X = np.hstack([rows[0] * [1, 1, 1, 1, 1, 1, 1, 50] + 30, np.ones((240, 1))]).astype(np.float32)
    assert_same(fitted("infonce", X, scaling=scaling), X)


def test_a_row_of_zeros_has_no_direction(rows):
    X = rows[0].copy()
    X[7] = 0
    for method in ("kmeans", "spherical-kmeans"):
        assert_same(fitted(method, X, scaling="l2"), X)


def test_a_newer_opset(rows):
    for method in ("tsp", "temi", "cpp", "spectral", "kmeans"):
        head = fitted(method, rows[0])
        found = ask(session(head, opset=21), rows[1])
        np.testing.assert_allclose(found, head.predict_proba(rows[1]), atol=1e-5)


@pytest.mark.parametrize("widths", [(8, 5), (8, 6, 5)])
def test_a_classifier_trained_with_its_network(widths, rows, tmp_path):
    classifier = classifier_of(widths)
    with torch.no_grad():
        for i, weight in enumerate(classifier.parameters()):
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(i)))
    save_classifier(classifier, [{"epoch": 1, "loss": 0.0}], tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        assert_same(TrainedClassifier(str(tmp_path), device="cpu").fit(rows[0]), rows[0])


def test_two_layers_of_lsdc(rows):
    assert_same(fitted("lsdc", rows[0], classifier_layers=2), rows[1])


@pytest.mark.parametrize("method", ["kmeans", "spherical-kmeans", "agglomerative"])
def test_copies_leave_no_variance_and_still_no_nan(method, rows):
    X = np.repeat(rows[0][:4], 10, axis=0)
    assert_same(fitted(method, X), X)


def test_hundreds_of_columns_make_kmeans_sharp():
    """As real features do: posteriors near 0 and 1, logits in the hundreds."""
    rng = np.random.default_rng(0)
    X = (
        rng.normal(size=(4, 1280))[np.arange(200) % 4] * 0.3 + rng.normal(size=(200, 1280))
    ).astype(np.float32)
    between = (X[:100] + X[100:][rng.permutation(100)]) / 2
    for method in ("kmeans", "spherical-kmeans"):
        head = fitted(method, np.abs(X))
        assert_same(head, np.abs(between), atol=1e-4)


def test_several_spaces_are_refused(rows):
    head = fitted("infonce", rows[0], blocks=(3, 5))
    with pytest.raises(ValueError, match=r"blocks=\(3, 5\) are 2 feature spaces"):
        add_head(Parts("a/"), head, "features")
