"""Ranks of the relevant items in scores that are a tensor, computed on the tensor's device.

The scores stay where they are: the positions of relevant items are sent to the device, and the
numbers of items above and tied with them come back. From there on, the code and so the values are
those for NumPy arrays.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from crossfit._arrays import as_numpy, listed
from crossfit.metrics.ranking import RelevantGroups, first_table, gains_of, joined_groups
from crossfit.metrics.relevance import Row

__all__ = ["all_groups", "as_block", "first_groups"]


def as_block(block: Any, row: int, backward: bool) -> Any:
    """Return a block of scores as rows of float32 or float64, checked for NaN."""
    torch = sys.modules["torch"]
    block = block.detach()
    if block.is_complex():
        raise TypeError(f"scores must be real numbers, got dtype {block.dtype}")
    if block.dtype not in (torch.float32, torch.float64):
        block = block.to(torch.float32 if block.element_size() <= 2 else torch.float64)
    block = (block.T if backward else block).contiguous()
    if bool(block.isnan().any()):
        missing = block.isnan()
        first = int(missing.any(dim=1).nonzero()[0, 0])
        columns = as_numpy(missing[first].nonzero()[:, 0])
        raise ValueError(
            f"scores must not be NaN, got NaN for query {row + first} against {len(columns)} of "
            f"{block.shape[1]} gallery items ({listed(columns)})"
        )
    return block


class _Relevant:
    """The relevant items of a block of queries, as one list and as padded rows on a device."""

    def __init__(self, block: Any, rows: Iterable[Row]) -> None:
        torch = sys.modules["torch"]
        found = list(rows)
        self.n = np.array([len(columns) for columns, _ in found], np.int64)
        self.query = np.repeat(np.arange(len(found)), self.n)
        none = np.empty(0, np.int64)
        self.column = np.concatenate([none, *(columns for columns, _ in found)])
        self.grades = [grade for _, grade in found if grade is not None]
        starts = np.cumsum(self.n) - self.n
        slot = np.arange(len(self.query)) - np.repeat(starts, self.n)
        self.at = tuple(torch.as_tensor(part, device=block.device) for part in (self.query, slot))
        self.columns = torch.as_tensor(self.column, device=block.device)
        self.values = block[self.at[0], self.columns]
        self.shape = (len(block), int(self.n.max(initial=0)))

    def padded(self, values: Any, fill: float) -> Any:
        """Return one row per query, of its values and then of a number."""
        rows = values.new_full(self.shape, fill)
        rows[self.at] = values
        return rows


def first_groups(block: Any, rows: Iterable[Row], ties: str, graded: bool) -> RelevantGroups:
    """Return the best group of each query; as `crossfit.metrics.ranking` does for arrays."""
    torch = sys.modules["torch"]
    relevant = _Relevant(block, rows)
    m = block.shape[1]
    queries = np.flatnonzero(relevant.n)
    counts = np.zeros((4, 0), np.int64)
    if len(queries):
        at = torch.as_tensor(queries, device=block.device)
        real = relevant.padded(torch.ones_like(relevant.columns), 0)[at] == 1
        values = relevant.padded(relevant.values, -torch.inf)[at]
        block = block[at] if len(queries) < len(block) else block
        best = values.max(dim=1, keepdim=True).values
        same, of_best = block == best, real & (values == best)
        columns = relevant.padded(relevant.columns, m)[at]
        first = torch.where(of_best, columns, m).min(dim=1, keepdim=True).values
        earlier = same & (torch.arange(m, device=block.device) < first)
        parts = [block > best, same, of_best, earlier]
        counts = as_numpy(torch.stack([part.sum(dim=1) for part in parts]))
    above, tied, several, before = counts
    table = first_table(ties, queries, above, tied, several, before)
    return RelevantGroups(
        *table, np.zeros_like(table[0]), table[3].astype(np.float64), relevant.n, None, m
    )


def all_groups(block: Any, rows: Iterable[Row], ties: str, graded: bool) -> RelevantGroups:
    """Return every group with a relevant item; as `crossfit.metrics.ranking` does for arrays."""
    torch = sys.modules["torch"]
    relevant = _Relevant(block, rows)
    m = block.shape[1]
    if not len(relevant.query):
        above = tied = np.empty(0, np.int64)
    elif ties == "stable":
        # Sorted by their bits, -0.0 and 0.0 would differ; the sum with 0 makes them equal.
        order = torch.argsort(block + 0.0, dim=1, descending=True, stable=True)
        position = torch.empty_like(order)
        position.scatter_(1, order, torch.arange(m, device=block.device).expand_as(order))
        above = as_numpy(position[relevant.at[0], relevant.columns])
        tied = np.ones_like(above)
    else:
        ascending = block.sort(dim=1).values
        values = relevant.padded(relevant.values, torch.inf)
        left, right = (
            torch.searchsorted(ascending, values, right=side)[relevant.at] for side in (False, True)
        )
        above, tied = as_numpy(torch.stack([m - right, right - left]))
    keys = [above, relevant.query]
    if graded:
        grade = np.concatenate([np.empty(0), *relevant.grades])
        # Within a tie, lower grades come first, which is the worst case for graded items.
        keys.insert(0, -grade if ties == "best" else grade)
    order = np.lexsort(keys)
    gain, ideal = None, None
    if graded:
        gain = gains_of(grade[order])
        ideal = gain[np.lexsort((-gain, relevant.query))]
    return joined_groups(
        relevant.query, above[order], tied[order], gain, relevant.n, ideal, m, ties
    )
