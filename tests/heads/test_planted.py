"""Every method reaches, on data we planted, the number written down before it was run."""

import pytest

import planted
from imageherd.heads import HEADS

# The default rows, shortened where the whole one only costs time: fewer heads, nothing else.
FEWER = {"temi": {"n_heads": 4}, "tsp": {"n_heads": 4}}

CASES = [
    pytest.param(data, method, *bar, id=f"{data}-{method}")
    for data, bars in planted.BARS.items()
    for method, bar in bars.items()
    if method in HEADS
]


@pytest.mark.parametrize(("data", "method", "sign", "bar"), CASES)
def test_bar(data, method, sign, bar):
    ari, _, _ = planted.run(method, planted.DATA[data](0), 0, **FEWER.get(method, {}))
    assert ari >= bar if sign == ">=" else ari < bar


def test_three_of_ten_neighbors_are_false():
    _X, y, graph = planted.false_neighbors(0)
    share = (y[graph.ids] != y[:, None]).mean()
    assert share == pytest.approx(planted.FALSE_SHARE, abs=0.01)


def test_subspaces_have_no_centers():
    X, y, _ = planted.subspaces(0)
    assert all(abs(X[y == c].mean(0)).max() < 0.1 for c in range(5))
