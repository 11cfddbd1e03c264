"""Agreement of two labelings straight from the definitions, in plain Python floats."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, permutations
from math import comb, log


def accuracy_by_permutations(true, predicted):
    """Best share of agreement over all one-to-one maps of clusters to classes."""
    classes, clusters = sorted(set(true)), sorted(set(predicted))
    size = max(len(classes), len(clusters))
    classes += [None] * (size - len(classes))
    pairs = Counter(zip(predicted, true, strict=True))
    return max(
        sum(pairs[cluster, c] for cluster, c in zip(clusters, order, strict=False))
        for order in permutations(classes)
    ) / len(true)


def entropy(labels):
    n = len(labels)
    return -sum(c / n * log(c / n) for c in Counter(labels).values())


def mutual_information(true, predicted):
    n = len(true)
    a, b = Counter(true), Counter(predicted)
    pairs = Counter(zip(true, predicted, strict=True))
    return sum(c / n * log(n * c / (a[i] * b[j])) for (i, j), c in pairs.items())


def nmi(true, predicted):
    mean = (entropy(true) + entropy(predicted)) / 2
    return mutual_information(true, predicted) / mean if mean > 0 else 1.0


def ari(true, predicted):
    """Hubert and Arabie's index, from the pairs themselves."""
    both = in_true = in_predicted = 0
    for i, j in combinations(range(len(true)), 2):
        same, together = true[i] == true[j], predicted[i] == predicted[j]
        both += same and together
        in_true += same
        in_predicted += together
    pairs = comb(len(true), 2)
    expected = in_true * in_predicted / pairs
    most = (in_true + in_predicted) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def ami(true, predicted):
    """Mutual information, and its best, the mean entropy, both less what chance gives."""
    expected = expected_mutual_information(true, predicted)
    most = (entropy(true) + entropy(predicted)) / 2
    return (mutual_information(true, predicted) - expected) / (most - expected)


def expected_mutual_information(true, predicted):
    n = len(true)
    total = 0.0
    for a in Counter(true).values():
        for b in Counter(predicted).values():
            for c in range(max(1, a + b - n), min(a, b) + 1):
                probability = comb(a, c) * comb(n - a, b - c) / comb(n, b)
                total += probability * c / n * log(n * c / (a * b))
    return total
