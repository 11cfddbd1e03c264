"""TSP's equations, written once more in float64 NumPy, point by point."""

import numpy as np


def neighbor_probabilities(X, neighbors):
    """Eq. 4."""
    X = np.asarray(X, dtype=np.float64)
    found = np.zeros(neighbors.shape)
    for i, row in enumerate(neighbors):
        squared = [np.sum((X[i] - X[j]) ** 2) for j in row]
        sigma = 0.5 * np.sqrt(sorted(squared)[min(3, len(row)) - 1])
        weights = [np.exp(-s / (2 * sigma**2)) for s in squared]
        found[i] = np.array(weights) / sum(weights)
    return found


def softmax(logits):
    e = np.exp(np.asarray(logits, dtype=np.float64))
    return e / e.sum(-1, keepdims=True)


def entropy(p):
    return -sum(x * np.log(x) for x in p if x > 0)


def tsp_loss(logits_i, logits_j, balance):
    """Eq. 5 of one head, from logits (b, K)."""
    p_i, p_j = softmax(logits_i), softmax(logits_j)
    first = -np.mean([np.log(np.dot(a, b)) for a, b in zip(p_i, p_j, strict=True)])
    return first - balance * entropy(p_i.mean(0))


def pmi_loss(logits_i, logits_j, balance):
    """Eq. 5 with each cluster's agreement divided by its size."""
    p_i, p_j = softmax(logits_i), softmax(logits_j)
    sizes = np.concatenate([p_i, p_j]).mean(0)
    first = -np.mean([np.log(np.sum(a * b / sizes)) for a, b in zip(p_i, p_j, strict=True)])
    return first - balance * entropy(p_i.mean(0))
