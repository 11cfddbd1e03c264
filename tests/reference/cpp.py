"""CPP's equations, written once more in float64 NumPy, as they stand in the paper."""

import numpy as np


def spectral_embedding(affinity, n_components):
    """Leading eigenvectors of 2I - L_sym."""
    W = (affinity + affinity.T) / 2
    degree = W.sum(1)
    L_sym = np.eye(len(W)) - W / np.sqrt(np.outer(degree, degree))
    values, vectors = np.linalg.eigh(2 * np.eye(len(W)) - L_sym)
    return vectors[:, np.argsort(-values)[:n_components]]
