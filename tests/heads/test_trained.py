import numpy as np
import pytest
import torch

from imageherd.errors import ImageherdError
from imageherd.heads import HEADS, load_head
from imageherd.heads.base import CollapseWarning
from imageherd.heads.trained import (
    TrainedClassifier,
    classifier_of,
    load_classifier,
    save_classifier,
)

HISTORY = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]


def kept(folder, widths=(6, 4)):
    classifier = classifier_of(widths)
    with torch.no_grad():
        for i, weight in enumerate(classifier.parameters()):
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(i)))
    save_classifier(classifier, HISTORY, folder)
    return classifier


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)


@pytest.mark.parametrize("widths", [(6, 4), (6, 6, 4)])
def test_it_says_what_the_classifier_says(widths, X, tmp_path):
    classifier = kept(tmp_path, widths)
    parameters = [p.detach().numpy().astype(np.float64) for p in classifier.parameters()]
    logits = X.astype(np.float64)
    for i in range(0, len(parameters), 2):
        logits = (np.maximum(logits, 0) if i else logits) @ parameters[i].T + parameters[i + 1]
    P = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    head = TrainedClassifier(str(tmp_path)).fit(X)
    np.testing.assert_allclose(head.predict_proba(X), P, rtol=1e-5)
    np.testing.assert_array_equal(head.labels_, P.argmax(1))
    np.testing.assert_array_equal(head.transform(X), X)
    assert (head.n_clusters_, head.n_iter_, head.history_) == (4, 2, HISTORY)
    # Saved and loaded it needs the network's folder no more.
    head.save(tmp_path / "head")
    (tmp_path / "classifier.safetensors").unlink()
    again = load_head(tmp_path / "head")
    assert type(again) is TrainedClassifier
    np.testing.assert_array_equal(again.predict_proba(X), head.predict_proba(X))
    assert again.history_ == HISTORY


def test_it_is_found_by_its_name_but_no_method_to_choose():
    assert HEADS["trained"] is TrainedClassifier
    assert "trained" in HEADS
    assert "trained" not in list(HEADS)


def test_features_of_another_network_are_refused(X, tmp_path):
    kept(tmp_path)
    with pytest.raises(ImageherdError, match="takes 6 features, and there are 5 here"):
        TrainedClassifier(str(tmp_path)).fit(X[:, :5])


def test_a_missing_or_damaged_classifier_is_told(tmp_path, X):
    with pytest.raises(ImageherdError, match="no readable classifier"):
        TrainedClassifier(str(tmp_path)).fit(X)
    kept(tmp_path)
    path = tmp_path / "classifier.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ImageherdError, match="no readable classifier"):
        load_classifier(tmp_path)


def test_unused_clusters_are_told(tmp_path):
    kept(tmp_path)
    with pytest.warns(CollapseWarning, match="used 1 of 4"):
        TrainedClassifier(str(tmp_path)).fit(np.ones((5, 6), np.float32))
