"""The items of a view: which row has which, and which rows they link."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from crossfit._arrays import as_numpy
from crossfit.views._rows import IntArray, n_rows, take_rows

__all__ = ["compacted", "integers", "item_index", "linked_rows", "numbers_of", "one_hot"]


def numbers_of(mask: NDArray[np.bool_]) -> IntArray:
    """Return numbers from 0 for the rows of a mask, and -1 for the others."""
    return np.where(mask, np.cumsum(mask) - 1, -1)


def item_index(
    given: ArrayLike, what: str, sizes: tuple[int, int], units: tuple[str, str], lowest: int
) -> IntArray:
    """Return the item of each row, checked to be in range, for numbers of items and of rows."""
    (n_items, n), (items, unit) = sizes, units
    index = integers(given, what, unit)
    if len(index) != n:
        raise ValueError(
            f"{what} must have one entry per {unit}, got {len(index)} entries for {n} {unit}s"
        )
    if n and (index.min() < lowest or index.max() >= n_items):
        raise ValueError(
            f"{what} must lie between {lowest} and {n_items - 1} for {n_items} {items}, got values "
            f"from {index.min()} to {index.max()}"
        )
    return index.astype(np.int64)


def integers(given: ArrayLike, what: str, unit: str) -> NDArray[Any]:
    """Convert to one integer per unit, and check that it is that."""
    index = as_numpy(given, what)
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise ValueError(
            f"{what} must be one integer per {unit}, got an array of shape {index.shape} and type "
            f"{index.dtype}"
        )
    return index


def compacted(values: Any, index: IntArray) -> tuple[Any, IntArray]:
    """Keep only the items that `index` uses, in order of first appearance; -1 is none."""
    if np.any(index < 0):
        has, compact = index >= 0, np.full(len(index), -1)
        values, compact[has] = compacted(values, index[has])
        return values, compact
    used, first, inverse = np.unique(index, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    items = used[order]
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    if not np.array_equal(items, np.arange(n_rows(values))):
        values = take_rows(values, items)
    return values, rank[inverse]


def linked_rows(indices: Iterable[IntArray], n: int) -> IntArray | None:
    """Return the groups of n rows that items link, in order of appearance; None without items."""
    rows, items, n_nodes = [], [], n
    for index in indices:
        has = np.flatnonzero(index >= 0)
        rows.append(has)
        items.append(n_nodes + index[has])
        n_nodes += int(index.max()) + 1
    if not rows:
        return None
    edges = np.concatenate(rows), np.concatenate(items)
    graph = sp.coo_array((np.ones(len(edges[0]), bool), edges), shape=(n_nodes, n_nodes))
    found = sp.csgraph.connected_components(graph, directed=False)[1][:n]
    _, first, codes = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[codes]


def one_hot(codes: IntArray, n_classes: int) -> sp.csr_array:
    """Return the one-hot rows of class numbers; the row of -1 (unlabelled) is empty."""
    known = np.flatnonzero(codes != -1)
    ones = np.ones(len(known), np.int32)
    return sp.csr_array((ones, (known, codes[known])), shape=(len(codes), n_classes))
