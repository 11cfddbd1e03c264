import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, make_blobs

from imageherd.heads.kmeans import START_ROWS, kmeans, kmeans_starts


def test_large_n_is_started_on_a_sample_and_finished_on_all():
    X, y = make_blobs(START_ROWS + 3000, 3, centers=4, random_state=1)
    Z = torch.from_numpy(X).float()
    centers, inertia, rounds = kmeans(Z, 4, seed=0)
    nearest = torch.cdist(Z, centers).min(1).values.square().sum()
    assert inertia == pytest.approx(float(nearest), rel=1e-3)
    assert rounds >= 1
    found = torch.stack([Z[torch.from_numpy(y == c)].mean(0) for c in range(4)])
    np.testing.assert_allclose(torch.cdist(found, centers).min(1).values, 0, atol=0.3)


def test_starts_come_best_first_and_repeat():
    X = torch.from_numpy(load_digits().data).float()
    starts = kmeans_starts(X, 10, seed=4, n_init=6)
    inertias = [torch.cdist(X, c).min(1).values.square().sum().item() for c in starts]
    assert inertias == sorted(inertias)
    assert torch.equal(starts, kmeans_starts(X, 10, seed=4, n_init=6))
