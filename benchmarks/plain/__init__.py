"""The methods as plain PyTorch, one file each: the yardstick of `benchmarks/speed.py`.

Written as a release would be: autograd, `nn.Module`, `DataLoader`, loops over heads; the papers'
settings as defaults. They share no code with the library on purpose, and do the same steps on the
same losses (`tests/test_plain.py`). `enough(epoch)`, where a function takes it, is asked before
every step; when it says True the epoch ends there, so that a few steps can be timed in their place
between the true start and the true end.
"""

from __future__ import annotations

from collections.abc import Callable

Enough = Callable[[int], bool]


def never(epoch: int) -> bool:
    """Train to the end."""
    return False
