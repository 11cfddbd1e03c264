"""TEMI's numbers in plain float64 NumPy, straight from the equations, one pair at a time."""

import numpy as np


def softmax(h, tau=0.1):
    e = np.exp((h - h.max(axis=-1, keepdims=True)) / tau)
    return e / e.sum(axis=-1, keepdims=True)


def prior(q_tilde, q_t, m=0.9):
    """Eq. 6 for one head: q_tilde (K,), q_t (N, K)."""
    return m * q_tilde + (1 - m) * sum(q_t) / len(q_t)


def pmi(qs, qt, q_tilde, beta=0.6, balance=1.0):
    """Eq. 8 for one pair: three vectors (K,)."""
    return np.log(np.sum((qs * qt) ** beta / q_tilde**balance))


def weight(qt, qt_other):
    """Eq. 9 for one pair."""
    return np.sum(qt * qt_other)


def losses(objective, qs, qt, q_tilde, beta=0.6, balance=1.0, alpha=5.0):
    """The loss of every head; qs, qt (H, 2, B, K), q_tilde (H, K)."""
    H, _, B, _ = qs.shape
    out = np.zeros(H)
    for i in range(H):
        for b in range(B):
            if objective == "scan":
                first = np.log(qs[i, 0, b] @ qt[i, 1, b])
                second = np.log(qs[i, 1, b] @ qt[i, 0, b])
                w = 1.0
            else:
                first = pmi(qs[i, 0, b], qt[i, 1, b], q_tilde[i], beta, balance)
                second = pmi(qs[i, 1, b], qt[i, 0, b], q_tilde[i], beta, balance)
                w = {
                    "pmi": 1.0,
                    "wpmi": weight(qt[i, 0, b], qt[i, 1, b]),
                    "temi": np.mean([weight(qt[j, 0, b], qt[j, 1, b]) for j in range(H)]),
                }[objective]
            out[i] += -0.5 * w * (first + second) / B
        if objective == "scan":
            for view in (0, 1):
                mean = qs[i, view].mean(axis=0)
                out[i] += alpha / 2 * np.sum(mean * np.log(mean))
    return out
