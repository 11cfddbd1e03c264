import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imageherd.heads.usage import Usage


def plain_entropy(p):
    return -sum(x * np.log(x) for x in p if x > 0)


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(2, 6))
def test_against_plain_sums(seed, heads, K):
    rng = np.random.default_rng(seed)
    steps = [rng.dirichlet(np.full(K, 0.3), size=(heads, b)) for b in (5, 8)]
    usage = Usage(K, "cpu", heads)
    for p in steps:
        usage.add(torch.from_numpy(p[:1]))
        if heads > 1:
            usage.add(torch.from_numpy(p[1:]), first_head=1)
    found = usage.report()
    rows = np.concatenate(steps, axis=1)
    assert found["marginal_entropy"] == pytest.approx(
        np.mean([plain_entropy(head.mean(0)) for head in rows]), abs=1e-9
    )
    assert found["conditional_entropy"] == pytest.approx(
        np.mean([plain_entropy(row) for head in rows for row in head]), abs=1e-9
    )
    assert found["used_clusters"] == np.mean([len(set(head.argmax(1))) for head in rows])


def test_report_starts_anew():
    usage = Usage(3, "cpu")
    usage.add(torch.eye(3))
    assert usage.report()["used_clusters"] == 3
    usage.add(torch.eye(3)[:1].repeat(4, 1))
    assert usage.report() == {
        "marginal_entropy": 0.0,
        "conditional_entropy": 0.0,
        "used_clusters": 1.0,
    }
