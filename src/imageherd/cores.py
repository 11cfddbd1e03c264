"""How many threads are worth starting."""

from __future__ import annotations

import joblib


def usable_cores() -> int:
    """Count the cores this process may use, by its affinity and its container's quota."""
    return int(joblib.cpu_count())
