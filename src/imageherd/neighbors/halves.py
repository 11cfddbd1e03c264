"""Candidates by products of halved precision, where the processor multiplies bfloat16 directly.

Such products take less than half the time and are off by up to a hundredth. How far off is known,
row by row: what rounding takes from a row is a vector, and by Cauchy-Schwarz its length bounds what
it does to any product with a row of length 1. So more candidates are taken, and a row is only
trusted if what was left out cannot reach its k-th neighbour.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from imageherd.neighbors.units import Unit

# A bfloat16 has 8 significant bits, a float32 24.
_UNIT, _FLOAT32_UNIT = 2.0**-8, 2.0**-24
_GROUPS = 16
_COLUMNS = 65_536
_BLOCK = 4_096


class Halves(NamedTuple):
    """Rows rounded to bfloat16, and the length of what that took from each."""

    vectors: torch.Tensor
    lost: torch.Tensor


def are_quick() -> bool:
    """Whether this machine's processor multiplies bfloat16 directly."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, bool)() for check in checks)


def halves(rows: Unit) -> Halves:
    """Round rows to bfloat16."""
    rounded = rows.vectors.bfloat16()
    pairs = zip(rows.vectors.split(_BLOCK), rounded.split(_BLOCK), strict=True)  # type: ignore[no-untyped-call]
    lost = [(exact - half.float()).double().norm(dim=1) for exact, half in pairs]
    return Halves(rounded, torch.cat(lost))


def candidates(
    bank: Halves, rows: Halves, own: torch.Tensor | None, k: int, n: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Propose the nearest of each row.

    Parameters
    ----------
    bank, rows : Halves
        What to search, and what to look for.
    own : Tensor of int64, optional
        Numbers in `bank` of the rows, to be left out.
    k : int
        How many are wanted.
    n : int
        How many to propose, fewer than there are.

    Returns
    -------
    ids : Tensor of int64, shape (m, n)
        Most similar first.
    counts : Tensor of int64, shape (m,)
        How many of them may be among the k most similar.
    missed : Tensor of float64, shape (m,)
        No row that is not proposed is more similar than this.
    """
    best, ids = _best(bank, rows, own, n)
    values = best.double()
    d = bank.vectors.shape[1]
    lost = 1.01 * (rows.lost + bank.lost.amax())[:, None]
    error = lost + 1.01 * _UNIT * values.abs() + _FLOAT32_UNIT * (2.02 * d + d**0.5 + 8)
    highest = values + error
    counts = (highest >= (values - error)[:, k - 1 : k]).sum(1)
    return ids, counts, highest[:, -1]


def _best(
    bank: Halves, rows: Halves, own: torch.Tensor | None, n: int
) -> tuple[torch.Tensor, torch.Tensor]:
    best = torch.empty(len(rows.vectors), 0)
    ids = torch.empty(best.shape, dtype=torch.int64)
    for start in range(0, len(bank.vectors), _COLUMNS):
        products = rows.vectors @ bank.vectors[start : start + _COLUMNS].T
        if own is not None:
            here = ((own >= start) & (own < start + _COLUMNS)).nonzero()[:, 0]
            products[here, own[here] - start] = -torch.inf
        some, at = _greatest(products, min(n, products.shape[1]))
        best, ids = torch.cat([best, some.float()], 1), torch.cat([ids, at + start], 1)
        best, kept = best.topk(min(n, best.shape[1]))
        ids = ids.gather(1, kept)
    return best, ids


def _greatest(products: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the n greatest of each row, in any order, and where they are."""
    width = products.shape[1] // _GROUPS
    if width < 2 * n:
        found = products.topk(n, sorted=False)
        return found.values, found.indices
    # The n greatest lie in the n groups whose greatest are the greatest, or in the remainder.
    end = width * _GROUPS
    peaks = products[:, :end].unflatten(1, (_GROUPS, width)).amax(1)  # type: ignore[no-untyped-call]
    groups = peaks.topk(n, sorted=False).indices
    among = (groups[:, None] + width * torch.arange(_GROUPS)[:, None]).flatten(1)
    rest = torch.arange(end, products.shape[1]).expand(len(products), -1)
    among = torch.cat([among, rest], dim=1)
    found = products.gather(1, among).topk(n, sorted=False)
    return found.values, among.gather(1, found.indices)
