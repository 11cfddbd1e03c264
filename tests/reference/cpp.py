"""CPP's equations, written once more in float64 NumPy, as they stand in the paper."""

import numpy as np


def spectral_embedding(affinity, n_components):
    """Leading eigenvectors of 2I - L_sym."""
    W = (affinity + affinity.T) / 2
    degree = W.sum(1)
    L_sym = np.eye(len(W)) - W / np.sqrt(np.outer(degree, degree))
    values, vectors = np.linalg.eigh(2 * np.eye(len(W)) - L_sym)
    return vectors[:, np.argsort(-values)[:n_components]]


def coding_rate(Z, eps2):
    """Eq. 1 with the ½, B = len(Z)."""
    B, dz = Z.shape
    return 0.5 * np.linalg.slogdet(np.eye(dz) + dz / (B * eps2) * Z.T @ Z)[1]


def compression(Z, Pi, eps2):
    """Eq. 2 as the authors' program has it, column by column."""
    B, dz = Z.shape
    total = 0.0
    for column in Pi.T:
        mass = column.sum()
        gram = Z.T @ np.diag(column) @ Z
        total += mass / (2 * B) * np.linalg.slogdet(np.eye(dz) + dz / (mass * eps2) * gram)[1]
    return total


def sinkhorn_plan(C, gamma, half_steps=5):
    """Plain scaling of exp(|C Cᵀ|/γ) to marginals 1/B, rows first."""
    B = len(C)
    plan = np.exp(np.abs(C @ C.T) / gamma)
    for i in range(half_steps):
        axis = 1 - i % 2
        plan = plan / plan.sum(axis, keepdims=True) / B
    return plan


def unbalanced_potentials(C, gamma, rho, rounds):
    """Unbalanced Sinkhorn with rows held exactly and ρ KL(columns | 1/B): scalings u, v."""
    B = len(C)
    kernel = np.exp(np.abs(C @ C.T) / gamma)
    v = np.ones(B)
    for _ in range(rounds):
        u = 1 / B / (kernel @ v)
        v = (1 / B / (kernel.T @ u)) ** (rho / (rho + gamma))
    return gamma * np.log(v)


def coding_length(Z, labels, eps2):
    """Algorithm 1, with the ½."""
    n, dz = Z.shape
    total = 0.0
    for label in set(labels.tolist()):
        rows = Z[labels == label]
        m = len(rows)
        rate = 0.5 * np.linalg.slogdet(np.eye(dz) + dz / (m * eps2) * rows.T @ rows)[1]
        total += (m + dz) * rate + m * -np.log(m / n)
    return total


def cluster_probabilities(codes, landmark_codes, potentials, landmark_labels, gamma, n_clusters):
    """A row's weights on the landmarks, summed by their labels."""
    found = np.zeros((len(codes), n_clusters))
    for i, c in enumerate(codes):
        weights = np.exp((np.abs(landmark_codes @ c) + potentials) / gamma)
        for weight, label in zip(weights / weights.sum(), landmark_labels, strict=True):
            found[i, label] += weight
    return found
