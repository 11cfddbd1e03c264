"""DINO's equations as the paper writes them, pair by pair, in float64 (TSP, sec. 3.1)."""

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def teacher_probabilities(g, center, temperature):
    return softmax((np.asarray(g, np.float64) - center) / temperature)


def loss(g_student, p_teacher, temperature):
    """Eq. 1, divided by the number of pairs, mean over the images."""
    total, pairs = 0.0, 0
    log_p = np.log(softmax(np.asarray(g_student, np.float64) / temperature))
    for v in range(len(p_teacher)):
        for w in range(len(g_student)):
            if w != v:
                total += np.mean(
                    [-(p_teacher[v][i] * log_p[w][i]).sum() for i in range(len(log_p[w]))]
                )
                pairs += 1
    return total / pairs
