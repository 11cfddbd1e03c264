"""What labels and pairs cost, in plain float64: a loop over every one of them."""

import numpy as np


def labels(p, columns):
    """p (m, K) and a column each."""
    return sum(-np.log(row[c]) for row, c in zip(p, columns, strict=True)) / 64


def believed(p, columns):
    return sum(-row[c] * np.log(row[c]) for row, c in zip(p, columns, strict=True)) / 64


def must(pairs):
    """Pairs of probability vectors."""
    return sum(-np.log(np.dot(a, b)) for a, b in pairs) / 64


def cannot(pairs):
    return sum(-np.log(1 - np.dot(a, b) + 1e-7) for a, b in pairs) / 64
