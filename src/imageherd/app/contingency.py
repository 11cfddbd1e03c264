"""How two groupings of the same things agree, from the counts of things in each pair of groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import gammaln, xlogy

_WIDTHS = 12.0
_LEAST = 40.0
_CHUNK = 2**18


def contingency(
    a: NDArray[np.integer[Any]], b: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count the things in each pair of groups.

    Parameters
    ----------
    a, b : ndarray of int, shape (n,)
        The group of each thing in either grouping.

    Returns
    -------
    counts : ndarray of int64, shape (n_a, n_b)
        Things in both.
    groups_a, groups_b : ndarray of int64
        The groups of the rows and of the columns, ascending.

    Notes
    -----
    O(n log n) time; memory 8 n_a n_b bytes and a few integers a thing.
    """
    groups_a, code_a = np.unique(np.asarray(a, dtype=np.int64), return_inverse=True)
    groups_b, code_b = np.unique(np.asarray(b, dtype=np.int64), return_inverse=True)
    shape = len(groups_a), len(groups_b)
    counts = np.bincount(code_a * shape[1] + code_b, minlength=shape[0] * shape[1])
    return counts.reshape(shape).astype(np.int64), groups_a, groups_b


def match(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Match rows to columns one to one so that the things in matched pairs are as many as can be.

    The Hungarian method; pairs without a thing in both are left out.

    Parameters
    ----------
    counts : ndarray of int64, shape (n_a, n_b)
        As `contingency` gives them.
    """
    rows, columns = linear_sum_assignment(counts, maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(row, column) for row, column in pairs if counts[row, column]]


def adjusted_rand(counts: NDArray[np.int64]) -> float:
    """Rand index adjusted for chance, the very number of `imageherd.metrics.ari`."""
    n = int(counts.sum())
    together = _pairs(counts)
    in_a, in_b = _pairs(counts.sum(axis=1)), _pairs(counts.sum(axis=0))
    expected = in_a * in_b / max(_pairs(np.array([n])), 1.0)
    most = (in_a + in_b) / 2
    return 1.0 if most == expected else float((together - expected) / (most - expected))


def adjusted_mutual_information(counts: NDArray[np.int64]) -> float:
    """Mutual information adjusted for chance, that of `imageherd.metrics.ami` to nine digits.

    Parameters
    ----------
    counts : ndarray of int64, shape (n_a, n_b)
        As `contingency` gives them.

    Notes
    -----
    What is expected by chance is a sum over every number of things that each pair of groups may
    share (Vinh, Epps and Bailey 2010). Summed in full, that is about a minute for 1,000 groups of
    1,000 things; here only numbers within 12 standard deviations of a pair's mean, and equal pairs
    of sizes once: the rest is less than rounding takes off.
    """
    of_a, of_b = counts.sum(axis=1), counts.sum(axis=0)
    # The same groups twice: said first, as groups of one thing each leave nothing to divide by.
    if ((counts > 0).sum(axis=0) == 1).all() and ((counts > 0).sum(axis=1) == 1).all():
        return 1.0
    n = float(counts.sum())
    shared = counts[counts > 0]
    chance = np.multiply.outer(of_a, of_b)[counts > 0]
    mutual = float((shared / n * (np.log(shared) + np.log(n) - np.log(chance))).sum())
    mean = (_entropy(of_a) + _entropy(of_b)) / 2
    expected = _expected(of_a, of_b)
    below = mean - expected
    # Two groupings that chance alone would make alike divide nothing by nothing.
    tiny = float(np.finfo(np.float64).eps)
    return (mutual - expected) / (min(below, -tiny) if below < 0 else max(below, tiny))


def _pairs(sizes: NDArray[np.int64]) -> float:
    sizes = sizes.astype(np.float64)
    return float((sizes * (sizes - 1)).sum() / 2)


def _entropy(sizes: NDArray[np.int64]) -> float:
    share = sizes / sizes.sum()
    return float(-xlogy(share, share).sum())


def _expected(of_a: NDArray[np.int64], of_b: NDArray[np.int64]) -> float:
    """Return the mutual information that groups of these sizes have by chance."""
    n = int(of_a.sum())
    sizes_a, times_a = np.unique(of_a, return_counts=True)
    sizes_b, times_b = np.unique(of_b, return_counts=True)
    log_factorial = gammaln(np.arange(n + 1) + 1.0)
    a, b = (grid.ravel() for grid in np.meshgrid(sizes_a, sizes_b, indexing="ij"))
    times = np.multiply.outer(times_a, times_b).ravel()
    mean = a * (b / n)
    reach = _WIDTHS * np.sqrt(mean) + _LEAST
    low = np.maximum(np.maximum(a + b - n, 1), np.floor(mean - reach)).astype(np.int64)
    high = np.minimum(np.minimum(a, b), np.ceil(mean + reach)).astype(np.int64)
    ends = np.cumsum(np.maximum(high - low + 1, 0))
    total, start = 0.0, 0
    while start < len(ends):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
        length = np.maximum(high[start:stop] - low[start:stop] + 1, 0)
        pair = np.repeat(np.arange(start, stop), length)
        first = np.repeat(np.cumsum(length) - length, length)
        k = np.arange(len(pair)) - first + low[pair]
        x, y, f = a[pair], b[pair], log_factorial
        # Sharing k is hypergeometric; factorials of these sizes overflow, their logs do not.
        log_chance = f[x] + f[y] + f[n - x] + f[n - y] - f[n] - f[k]
        log_chance -= f[x - k] + f[y - k] + f[n - x - y + k]
        gain = k / n * (np.log(k) + np.log(n) - np.log(x) - np.log(y))
        total += float((times[pair] * gain * np.exp(log_chance)).sum())
        start = stop
    return total
