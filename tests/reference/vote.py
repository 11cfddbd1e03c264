"""The vote of the nearest rows, in float64 NumPy, row by row."""

import numpy as np


def shares(Z, rows, labels, n_clusters, n_voters=10, same=1e-8):
    found = np.zeros((len(Z), n_clusters))
    floor = max(same * ((rows - rows.mean(0)) ** 2).sum(1).mean(), 1e-300)
    for i, z in enumerate(Z):
        squares = ((rows - z) ** 2).sum(1)
        nearest = np.argsort(squares, kind="stable")[:n_voters]
        weights = 1 / np.maximum(squares[nearest], floor)
        for j, w in zip(nearest, weights / weights.sum(), strict=True):
            found[i, labels[j]] += w
    return found
