"""Cosine neighbours by the plainest means: exact integers, every pair, a full sort."""

from __future__ import annotations

import numpy as np


def exact_cosines(X, Y=None):
    """Cosines of rows rounded to multiples of 2**-26, their products summed as integers."""
    p = _integers(X)
    q = p if Y is None else _integers(Y)
    products = p @ q.T
    lengths = np.sqrt(_squares(p)[:, None] * _squares(q))
    return (products / 2.0**52 / lengths).astype(np.float32)


def neighbors_by_full_sort(X, k):
    similarities = exact_cosines(X)
    n = len(similarities)
    ids = np.empty((n, k), dtype=np.int64)
    for i in range(n):
        others = [j for j in range(n) if j != i]
        others.sort(key=lambda j: (-similarities[i, j], j))
        ids[i] = others[:k]
    return ids, np.take_along_axis(similarities, ids, axis=1)


def query_by_full_sort(X, queries, k):
    similarities = exact_cosines(queries, X)
    ids = np.array([sorted(range(len(X)), key=lambda j: (-row[j], j))[:k] for row in similarities])
    return ids, np.take_along_axis(similarities, ids, axis=1)


def _integers(X):
    X = np.asarray(X, dtype=np.float64)
    largest = np.abs(X).max(axis=1, keepdims=True)
    X = X / np.where(largest > 0, largest, 1)
    length = np.sqrt((X * X).sum(axis=1, keepdims=True))
    unit = np.rint(X / np.where(length > 0, length, 1) * 2**26)
    # A float32 keeps 24 bits, so components above a quarter lose up to two more.
    return unit.astype(np.float32).astype(np.int64)


def _squares(p):
    squares = (p * p).sum(axis=1) / 2.0**52
    return np.where(squares > 0, squares, 1.0)
