"""I-Con's clustering loss, written once more in float64 NumPy, pair by pair."""

import numpy as np


def cluster_sharing(pi):
    """q(j|i) of all pairs of the batch, (N, N)."""
    N, K = pi.shape
    q = np.zeros((N, N))
    for i in range(N):
        for j in range(N):
            q[i, j] = sum(pi[i, c] * pi[j, c] / pi[:, c].sum() for c in range(K))
    return q


def infonce_loss(pi, anchors, p, alpha, balance):
    """Mean over anchors of KL(p̃ ‖ q̃), from p (b, N) with all columns, and the rest of the push."""
    N = len(pi)
    q = cluster_sharing(pi)
    total = 0.0
    for i, p_i in zip(anchors, p, strict=True):
        for j in range(N):
            a = (1 - alpha) * p_i[j] + alpha / N
            b = (1 - alpha) * q[i, j] + alpha / N
            if a > 0:
                total += a * np.log(a / b)
    sizes = pi.mean(0)
    entropy = -sum(s * np.log(s) for s in sizes)
    return total / len(anchors) - (1 - alpha) * (balance - 1) * entropy


def walk(neighbors, walk_steps):
    """P + P² + … with no self and rows adding to 1, dense (n, n)."""
    n, k = neighbors.shape
    P = np.zeros((n, n))
    for i, row in enumerate(neighbors):
        P[i, row] = 1 / k
    total = sum(np.linalg.matrix_power(P, s) for s in range(1, walk_steps + 2))
    np.fill_diagonal(total, 0)
    return total / total.sum(1, keepdims=True)
