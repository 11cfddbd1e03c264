import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import make_moons
from tests.reference import lsdc as reference
from torch import nn

from imageherd.errors import ImageherdError
from imageherd.heads import lsdc_losses
from imageherd.heads.base import CollapseWarning
from imageherd.heads.loop import generator
from imageherd.metrics import clustering_accuracy
from imageherd.pretraining import loop, lsdc_images
from imageherd.pretraining.clusterer import make_classifier
from imageherd.pretraining.composition import (
    compose,
    draw_mixup,
    draw_ricap,
    pair_targets,
    weak_views,
)
from imageherd.pretraining.data import normalize, pixels_of_array
from imageherd.pretraining.lsdc_images import PRESETS, LSDCImages
from imageherd.pretraining.networks import make_network

QUICK = {"epochs": 2, "min_steps": 4, "batch_size": 16, "random_state": 0, "device": "cpu"}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def coloured(n=180, size=12):
    """Images of three kinds: red, green and blue squares with some noise, on black."""
    draws = np.random.default_rng(0)
    y = np.arange(n) % 3
    images = np.zeros((n, size, size, 3), np.uint8)
    side = size // 2
    squares = draws.integers(0, 100, (n, side, side, 3))
    squares[np.arange(n), ..., y] += 150
    images[:, size // 4 : size // 4 + side, size // 4 : size // 4 + side] = squares
    return pixels_of_array(images), y


@pytest.fixture(scope="module")
def images():
    return coloured()


def fitted(pixels, network=None, *, folder=None, callback=None, **params):
    network = network or make_network("resnet18-narrow", 12, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        model = LSDCImages(**{"n_clusters": 3, **QUICK, **params})
        return model.fit(pixels, network, folder=folder, callback=callback)


def weights(model):
    parts = [*model.network_.state_dict().values(), *model.classifier_.state_dict().values()]
    return [part.clone() for part in parts]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


# The loss


class Plain(nn.Module):
    """Features of 64-bit numbers, linear in the pixels."""

    def __init__(self, n_pixels):
        super().__init__()
        draws = np.random.default_rng(0)
        self.to_features = torch.from_numpy(draws.normal(size=(n_pixels, 5)) / n_pixels**0.5)
        self.to_logits = torch.from_numpy(draws.normal(size=(5, 4)))

    def forward(self, images):
        f = images.double().flatten(1) @ self.to_features
        return f, f @ self.to_logits


@pytest.mark.parametrize("label_space", ["features", "predictions"])
@pytest.mark.parametrize("composition", ["ricap", "mixup", None])
def test_a_batchs_loss_against_numpy(images, composition, label_space):
    pixels, _ = images
    network = Plain(3 * 12 * 12)
    model = LSDCImages(
        4, composition=composition, label_space=label_space, k=3, epochs=10, balance=0.7
    )
    batch = pixels.values[:11]
    torch.manual_seed(5)
    found, p_found = model._loss(network, batch, pixels, 2.5)

    torch.manual_seed(5)
    draws = torch.default_generator

    def view():
        return normalize(weak_views(batch, draws, flip=True), pixels)

    def probabilities(x):
        f, logits = (values.numpy() for values in network(x))
        exp = np.exp(logits)
        return f, logits, exp / exp.sum(1, keepdims=True)

    f, logits, p = probabilities(view())
    A = reference.knn_labels(f if label_space == "features" else logits, 3)
    if composition is None:
        second = probabilities(view())[2]
        expected = reference.clustering_loss(p, second, A, 0.7)
        first = p
    else:
        recipe = draw_ricap(11, 12, 12, draws) if composition == "ricap" else draw_mixup(11, draws)
        first, second = (probabilities(compose(view(), recipe, draws))[2] for _ in range(2))
        expected = reference.clustering_loss(p, first, targets_by_pair(A, recipe), 0.7)
    # λ = K/2 and T = epochs/2 where nothing is said; 2.5 epochs are two whole ones.
    expected += reference.ramp_up(2, 5, 2) * reference.consistency_loss(first, second)
    assert found.item() == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(p_found, p, rtol=1e-9)


def targets_by_pair(A, recipe):
    n = len(A)
    targets = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            for partners, weight in zip(recipe.partners.tolist(), recipe.weights, strict=True):
                targets[i, j] += weight * A[i, partners[j]]
    return targets


def test_labels_have_no_gradient(images):
    pixels, _ = images
    network = make_network("resnet18-narrow", 12)

    class Spy(nn.Module):
        def forward(self, x):
            f = network(x).detach()
            return f.requires_grad_(), torch.ones(len(f), 3, requires_grad=True)

    torch.manual_seed(0)
    loss, _ = LSDCImages(3, labeling="sne")._loss(Spy(), pixels.values[:8], pixels, 0)
    loss.backward()  # would fail, or reach the features, through labels that had one


# Figure 2


def moons():
    return [make_moons(200, noise=0.1, random_state=seed)[0] for seed in range(5)]


def kinds():
    return [make_moons(200, noise=0.1, random_state=seed)[1] for seed in range(5)]


def connected(labeling, f):
    """A with 650 connections, or as near as a number of neighbours comes to it."""
    f = torch.from_numpy(f)
    share = 650 / (200 * 199 / 2)
    if labeling == "knn":
        A = lsdc_losses.knn_labels(f, 5)
    elif labeling == "sne":
        A = lsdc_losses.sne_labels(f, 0.5, share=share)
    else:
        A = getattr(lsdc_losses, f"{labeling}_labels")(f, share=share)
    return A.numpy() - np.eye(200)


def test_two_moons_as_in_figure_2():
    for f, y in zip(moons(), kinds(), strict=True):
        A = {labeling: connected(labeling, f) for labeling in ("l2", "cosine", "knn", "sne")}
        alike = {name: (a * (y[:, None] == y)).sum() / a.sum() for name, a in A.items()}
        degree = {name: a.sum(1) for name, a in A.items()}
        assert all(550 < a.sum() / 2 < 750 for a in A.values())
        # Angles around the middle know nothing of the moons; what is near by distance does.
        assert alike["cosine"] < 0.85
        assert min(alike["l2"], alike["knn"], alike["sne"]) > 0.98
        # "kNN produces neighbourhoods of similar sizes and every sample is connected."
        assert degree["knn"].min() >= 5
        assert degree["knn"].std() < 0.7 * min(degree["l2"].std(), degree["sne"].std())
        # "SNE ... most of the connections are at the external tails ... where there are less
        # points".
        crowd = (((f[:, None] - f) ** 2).sum(2) < 0.8**2).sum(1)
        tails = crowd <= np.quantile(crowd, 0.15)
        there = {name: d[tails].mean() / d.mean() for name, d in degree.items()}
        assert there["sne"] > 1.5 * max(there["l2"], there["knn"])


# Presets


def test_presets_are_table_5():
    table = {
        "cifar10": (220, (140, 180), 5, 100, {"k": 20}),
        "cifar20": (200, (170,), 25, 150, {"k": 10}),
        "stl10": (200, (140, 180), 5, 50, {"threshold": 0.01, "temperature": 0.5}),
        "mnist": (15, (), 5, 50, {"k": 10}),
        "cifar10-cosine": (220, (140, 180), 5, 100, {"threshold": 0.9}),
        "cifar10-sne": (220, (140, 180), 5, 100, {"threshold": 0.01, "temperature": 1.0}),
        "cifar20-cosine": (200, (170,), 25, 150, {"threshold": 0.95}),
        "cifar20-sne": (200, (170,), 25, 150, {"threshold": 0.01, "temperature": 0.5}),
    }
    assert set(PRESETS) == set(table)
    for name, (epochs, milestones, weight, ramp, labels) in table.items():
        model = LSDCImages(10, **PRESETS[name])
        model.check_params()
        expected = {
            "epochs": epochs,
            "milestones": milestones,
            "consistency": weight,
            "ramp_epochs": ramp,
            "batch_size": 256,
            "lr": 0.1,
            "min_steps": 0,
            "composition": "ricap",
            "alpha": 0.3,
            **labels,
        }
        assert {key: getattr(model, key) for key in expected} == expected
        assert (model.flip, model.pad) == ((False, 0) if name == "mnist" else (True, 4))


# Training


def test_only_the_last_block_and_the_classifier_are_trained(images):
    network = make_network("resnet18-narrow", 12, seed=0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    model = fitted(images[0], network)
    for name, value in model.network_.state_dict().items():
        follows_the_batch = "running" in name or "tracked" in name
        changed = not torch.equal(value, before[name])
        assert changed == (name.startswith("block4") or follows_the_batch), name
    start = make_classifier(network.dim, 3, 1, generator(0))
    assert not torch.equal(model.classifier_[0].weight, start[0].weight)


@pytest.mark.parametrize(("composition", "pad"), [("ricap", 0), ("mixup", 0), (None, 1)])
def test_kinds_are_found(images, composition, pad):
    pixels, y = images
    length = {"epochs": 20, "batch_size": 45, "min_steps": 0}
    model = fitted(pixels, **length, composition=composition, pad=pad)
    assert clustering_accuracy(y, model.labels_) > 0.9
    assert model.history_[-1]["loss"] < model.history_[0]["loss"]
    assert [entry["epoch"] for entry in model.history_] == list(range(1, 21))
    assert model.history_[-1]["used_clusters"] == 3
    P = model.predict_proba(pixels)
    np.testing.assert_allclose(P.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(P.argmax(1), model.labels_)


def test_a_fresh_last_block_starts_anew(images):
    pixels, _ = images
    networks = [make_network("resnet18-narrow", 12, seed=seed) for seed in (0, 1)]
    networks[1].load_state_dict(
        {**networks[1].state_dict(), **without_last_block(networks[0].state_dict())}
    )
    first, second = (fitted(pixels, net, last_block="fresh", epochs=1) for net in networks)
    assert same(first, second)


def without_last_block(weights):
    return {name: value for name, value in weights.items() if not name.startswith("block4")}


def test_the_same_seed_gives_the_same_bytes(images):
    pixels, _ = images
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = fitted(pixels, epochs=1)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert same(first, fitted(pixels, epochs=1))
    assert not same(first, fitted(pixels, epochs=1, random_state=1))


class KilledError(Exception):
    pass


def test_a_killed_run_goes_on_to_the_same_bytes(images, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "_CHECKPOINT_SHARE", 1e9)
    pixels, _ = images
    whole = fitted(pixels, epochs=3)

    def kill(entry):
        if entry["epoch"] == 2:
            raise KilledError

    with pytest.raises(KilledError):
        fitted(pixels, epochs=3, folder=tmp_path, callback=kill)
    # And once more, in the middle of the last epoch.
    losses, steps = lsdc_images.clustering_loss, []

    def kill_in_between(*arguments):
        steps.append(1)
        if len(steps) == 6:
            raise KilledError
        return losses(*arguments)

    monkeypatch.setattr(lsdc_images, "clustering_loss", kill_in_between)
    with pytest.raises(KilledError):
        fitted(pixels, epochs=3, folder=tmp_path)
    resumed = fitted(pixels, epochs=3, folder=tmp_path)
    assert len(steps) == 180 // 16 + 1  # one epoch, and the step that was killed
    assert same(whole, resumed)
    assert whole.history_ == resumed.history_


def test_a_checkpoint_of_another_run_is_refused(images, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    pixels, _ = images
    fitted(pixels, folder=tmp_path)
    for other in ({"lr": 0.05}, {"random_state": 1}, {"labeling": "sne"}):
        with pytest.raises(ImageherdError, match="other parameters or other data"):
            fitted(pixels, folder=tmp_path, **other)
    with pytest.raises(ImageherdError, match="other parameters or other data"):
        fitted(pixels, make_network("resnet18-narrow", 12, seed=3), folder=tmp_path)


def test_unused_clusters_are_told():
    pixels = pixels_of_array(np.full((40, 12, 12), 100, np.uint8))
    with pytest.warns(CollapseWarning, match="used 1 of 3 clusters"):
        LSDCImages(3, **QUICK).fit(pixels, make_network("resnet18-narrow", 12))


@pytest.mark.parametrize("network", ["resnet18-narrow", "vgg4"])
@pytest.mark.parametrize("layers", [1, 2])
def test_networks_and_classifiers(images, network, layers):
    pixels, _ = images
    model = fitted(pixels, make_network(network, 12), classifier_layers=layers, epochs=1)
    assert len([layer for layer in model.classifier_ if isinstance(layer, nn.Linear)]) == layers


def test_a_network_without_four_blocks_is_refused(images):
    with pytest.raises(ImageherdError, match="last of four blocks"):
        fitted(images[0], make_network("vit-mini", 12))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"n_clusters": 1}, "n_clusters"),
        ({"n_clusters": 181}, "too few"),
        ({"labeling": "near"}, "labeling='near'"),
        ({"label_space": "pixels"}, "label_space"),
        ({"composition": "cutmix"}, "composition='cutmix'"),
        ({"classifier_layers": 3}, "classifier_layers"),
        ({"last_block": "new"}, "last_block='new'"),
        ({"lr": 0.0}, "lr"),
        ({"alpha": -1.0}, "alpha"),
        ({"k": 0}, "k == 0"),
        ({"milestones": (-1,)}, "milestones"),
        ({"ramp_epochs": -1}, "ramp_epochs"),
    ],
)
def test_wrong_parameters(images, wrong, told):
    with pytest.raises(ValueError, match=told):
        fitted(images[0], **wrong)


def test_targets_of_one_part_are_the_labels():
    # A composite of nearly one image is labelled as that image.
    A = (torch.rand(6, 6) > 0.5).float()
    draws = generator(0)
    recipes = [draw_ricap(6, 8, 8, draws) for _ in range(50)]
    pure = [recipe for recipe in recipes if max(recipe.weights) == 1.0]
    assert pure
    for recipe in pure:
        assert torch.equal(pair_targets(A, recipe), A)
