"""SCP's equations, written once more in float64 NumPy, row by row."""

import numpy as np


def softmax(logits):
    e = np.exp(np.asarray(logits, dtype=np.float64))
    return e / e.sum(-1, keepdims=True)


def scp_terms(logits_a, logits_b):
    """Eqs. 3, 4 and 5 from logits (N, K): L_e and the sum in L_con divided by N, and H."""
    ya, yb = softmax(logits_a), softmax(logits_b)
    N, K = ya.shape
    cross_entropy = -sum(ya[i, k] * np.log(yb[i, k]) for i in range(N) for k in range(K)) / N
    confidence = -np.log(sum(ya[i] @ yb[i] for i in range(N)) / N)
    entropy = 0.0
    for y in (ya, yb):
        P = [sum(y[i, k] for i in range(N)) / N for k in range(K)]
        entropy -= sum(p * np.log(p) for p in P)
    return cross_entropy, confidence, entropy


def cluster_head(state, h):
    """The five layers, ReLU between them, from a state_dict of arrays."""
    for i in range(5):
        h = h @ state[f"layers.{i}.weight"].T + state[f"layers.{i}.bias"]
        if i < 4:
            h = np.maximum(h, 0)
    return h
