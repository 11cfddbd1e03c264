"""LSD-C's tables and equations, written once more in float64 NumPy, pair by pair."""

import numpy as np


def squared(f, i, j):
    return float(np.sum((f[i] - f[j]) ** 2))


def knn_labels(f, k):
    """Table 1, kNN."""
    n = len(f)
    near = [
        set(sorted((j for j in range(n) if j != i), key=lambda j: squared(f, i, j))[:k])
        for i in range(n)
    ]
    return pairs(n, lambda i, j: j in near[i] or i in near[j])


def sne_similarities(f, temperature):
    """Eq. 1, and eq. 2's mean of the two directions."""
    n = len(f)
    if temperature is None:
        total = sum(squared(f, i, j) for i in range(n) for j in range(n))
        temperature = np.sqrt(total / (n * (n - 1)))
    p = np.zeros((n, n))
    for i in range(n):
        weights = [np.exp(-squared(f, i, j) / temperature**2) if j != i else 0 for j in range(n)]
        p[i] = np.array(weights) / sum(weights)
    return (p + p.T) / 2


def sne_labels(f, temperature, threshold):
    """Table 1, SNE, in its own form: the kernel over the harmonic mean of the partitions."""
    n = len(f)
    kernel = [[np.exp(-squared(f, i, j) / temperature**2) for j in range(n)] for i in range(n)]
    Z = [sum(kernel[i][j] for j in range(n) if j != i) for i in range(n)]
    return pairs(n, lambda i, j: kernel[i][j] / (2 / (1 / Z[i] + 1 / Z[j])) > threshold)


def cosines(f):
    f = np.asarray(f, dtype=np.float64)
    length = np.sqrt((f**2).sum(1))
    return (f @ f.T) / length[:, None] / length


def cosine_labels(f, threshold):
    """Table 1, cosine."""
    found = cosines(f)
    return pairs(len(f), lambda i, j: found[i, j] > threshold)


def l2_labels(f, threshold):
    """Table 1, L2."""
    return pairs(len(f), lambda i, j: squared(f, i, j) < threshold)


def closest(similarity, share):
    """The most similar share of the pairs."""
    n = len(similarity)
    order = sorted(((similarity[i][j], i, j) for i in range(n) for j in range(i)), reverse=True)
    chosen = {frozenset(pair[1:]) for pair in order[: max(1, round(share * n * (n - 1) / 2))]}
    return pairs(n, lambda i, j: frozenset((i, j)) in chosen)


def pairs(n, connected):
    return np.array([[float(i == j or connected(i, j)) for j in range(n)] for i in range(n)])


def mixed_targets(A, order, weight):
    """Figure 3 with two parts: point i against w·j + (1 - w)·order(j)."""
    n = len(A)
    return np.array(
        [[weight * A[i][j] + (1 - weight) * A[i][order[j]] for j in range(n)] for i in range(n)]
    )


def clustering_loss(p, p_view, A, balance):
    """Eq. 5, mean over pairs."""
    total = 0.0
    for i in range(len(p)):
        for j in range(len(p)):
            same = min(float(np.dot(p[i], p_view[j])), 1.0)
            total += A[i][j] * np.log(same + 1e-7)
            total += balance * (1 - A[i][j]) * np.log(1 - same + 1e-7)
    return -total / len(p) ** 2


def consistency_loss(p, p_view):
    """Eq. 8 without ω."""
    n, K = p.shape
    return sum(np.sum((p[i] - p_view[i]) ** 2) for i in range(n)) / (K * n)


def ramp_up(t, T, weight):
    """ω(t) of eq. 8."""
    return weight * np.exp(-5 * (1 - min(t, T) / T) ** 2)
