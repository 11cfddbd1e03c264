"""TURTLE's equations, written once more in float64 NumPy."""

import numpy as np


def softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def encoder(X, direction, gain, bias):
    """Eq. 8: a linear layer whose row c is gain_c v_c / |v_c|, then softmax."""
    weight = np.array([g * v / np.sqrt(sum(v**2)) for g, v in zip(gain, direction, strict=True)])
    return softmax(X @ weight.T + bias)


def loss(taus, qs, balance):
    """Eqs. 12 and 13, from the spaces' probabilities (S, b, K) and the classifiers'."""
    tau = sum(taus) / len(taus)
    total = 0.0
    for tau_s, q_s in zip(taus, qs, strict=True):
        total += np.mean([-sum(t * np.log(q)) for t, q in zip(tau, q_s, strict=True)])
        total += balance * sum(p * np.log(p) for p in tau_s.mean(0) if p > 0)
    return total


def classifier(X, tau, weight, bias, lr, steps):
    """Adam on the cross-entropy to soft labels, from a given start; log q after the last step."""
    weight, bias = weight.copy(), bias.copy()
    moments = [[np.zeros_like(p), np.zeros_like(p)] for p in (weight, bias)]
    for t in range(1, steps + 1):
        slopes = [softmax(weight @ x + bias) - target for x, target in zip(X, tau, strict=True)]
        gradients = (
            np.mean([np.outer(s, x) for s, x in zip(slopes, X, strict=True)], axis=0),
            np.mean(slopes, axis=0),
        )
        for parameter, g, moment in zip((weight, bias), gradients, moments, strict=True):
            moment[0] = 0.9 * moment[0] + 0.1 * g
            moment[1] = 0.999 * moment[1] + 0.001 * g**2
            m, v = moment[0] / (1 - 0.9**t), moment[1] / (1 - 0.999**t)
            parameter -= lr * m / (np.sqrt(v) + 1e-8)
    return np.log(softmax(X @ weight.T + bias))
