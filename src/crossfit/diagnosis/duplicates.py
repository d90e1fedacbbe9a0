"""Items of a view that are nearly the same, also in different splits, as groups of rows."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from crossfit import labels
from crossfit._arguments import integer, real, validated
from crossfit._tabular import Tabular
from crossfit.diagnosis.estimate import matrix, unit

__all__ = ["Duplicates", "joined", "near_duplicates"]

Codes = NDArray[np.int64]
#: Rows of one block of cosines.
_BLOCK = 1024
#: Cosine above which items count as equal.
_EQUAL = 1 - 1e-5


@dataclass(frozen=True, eq=False, repr=False)
class Duplicates(Tabular):
    """Near-duplicates of one view.

    Parameters
    ----------
    threshold : float
        Least cosine of near-duplicates.
    clusters : int array of shape (n_items,)
        Number of each item's cluster; items that are linked by a chain of near-duplicates share
        one.
    n_pairs, n_equal : int
        Number of pairs of near-duplicates, and of those whose features are equal.
    closest : sequence of (int, int, float)
        The pairs with the largest cosines, at most as many as requested, largest first.
    across : mapping of (str, str) to int
        By two splits: number of items of the first that have a near-duplicate in the second.
    """

    threshold: float
    clusters: Codes
    n_pairs: int
    n_equal: int
    closest: tuple[tuple[int, int, float], ...] = ()
    across: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return the closest pairs.

        Returns
        -------
        list of dict
            Keys ``first, second, cosine``.
        """
        return [
            {"first": first, "second": second, "cosine": cosine}
            for first, second, cosine in self.closest
        ]

    def _title(self) -> str:
        return (
            f"Duplicates: {self.n_affected} of {len(self.clusters)} items are near-duplicates, "
            f"{self.n_pairs} pairs with a cosine of at least {self.threshold:g}"
        )

    @property
    def sizes(self) -> Codes:
        """Number of items of each cluster."""
        return np.bincount(self.clusters)

    @property
    def n_affected(self) -> int:
        """Number of items that have a near-duplicate."""
        sizes = self.sizes
        return int(sizes[sizes > 1].sum())

    @property
    def largest(self) -> int:
        """Number of items in the largest cluster."""
        return int(self.sizes.max())


@validated(
    threshold=[real(0, 1)], center=["boolean"], n_closest=[integer(0)], progress=[callable, None]
)
def near_duplicates(
    X: ArrayLike,
    threshold: float = 0.9,
    *,
    groups: ArrayLike | None = None,
    splits: ArrayLike | None = None,
    center: bool = True,
    n_closest: int = 200,
    progress: Callable[[float], object] | None = None,
) -> Duplicates:
    """Find the items of a view whose features are nearly the same.

    Parameters
    ----------
    X : array-like of shape (n_items, d)
        Features of the items.
    threshold : float, default=0.9
        Least cosine of two near-duplicates.
    groups : array-like of shape (n_items,), optional
        Items of one group, for instance the captions of a picture, are not compared with each
        other.
    splits : array-like of str, shape (n_items,), optional
        Split of each item.
    center : bool, default=True
        Whether to subtract the mean first. Features that are never negative have cosines near 1
        otherwise.
    n_closest : int, default=200
        Number of pairs to return.
    progress : callable, optional
        Called after each block with its share of the work.

    Returns
    -------
    Duplicates

    Raises
    ------
    ValueError
        If the rows are not finite numbers, or groups or splits do not have one entry per row.

    Notes
    -----
    All pairs of items are compared, block by block, with O(n) memory.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.eye(4)[[0, 1, 2, 3, 1]] + 0.01
    >>> found = near_duplicates(X, splits=["train", "train", "train", "test", "test"])
    >>> found.closest[0][:2], found.n_affected, found.across["test", "train"]
    ((1, 4), 2, 1)
    """
    rows = matrix(X, "X")
    n = len(rows)
    codes = np.arange(n) if groups is None else labels.group_codes(groups, n, "item")
    names: list[str] = []
    part = np.zeros(n, np.int64)
    if splits is not None:
        part = labels.group_codes(splits, n, "item")
        order = np.unique(part, return_index=True)[1]
        names = [str(np.asarray(splits, dtype=object)[row]) for row in order]
    centred = rows - rows.mean(axis=0, dtype=np.float64) if center else rows
    units = unit(centred).astype(np.float32)
    clusters = np.arange(n)
    touched = np.zeros((n, max(len(names), 1)), bool)
    best: list[tuple[float, int, int]] = []
    n_pairs = n_equal = 0
    total = sum(min(_BLOCK, n - start) * (n - start) for start in range(0, n, _BLOCK))
    for start in range(0, n, _BLOCK):
        cosines = units[start : start + _BLOCK] @ units[start:].T
        i, j = np.nonzero(cosines >= threshold)
        value = cosines[i, j]
        i, j = i + start, j + start
        kept = (i < j) & (codes[i] != codes[j])
        i, j, value = i[kept], j[kept], value[kept]
        n_pairs += len(i)
        n_equal += int(np.count_nonzero(value >= _EQUAL))
        if len(i):
            clusters = _linked(clusters, i, j)
            touched[i, part[j]] = True
            touched[j, part[i]] = True
            most = np.argsort(-value, kind="stable")[:n_closest]
            found = zip(value[most].tolist(), (-i[most]).tolist(), (-j[most]).tolist())
            best = heapq.nlargest(n_closest, [*best, *found])
        if progress is not None:
            progress(cosines.size / total)
    across = {
        (one, other): int(np.count_nonzero(touched[part == a, b]))
        for a, one in enumerate(names)
        for b, other in enumerate(names)
        if a != b
    }
    closest = tuple((-i, -j, min(value, 1.0)) for value, i, j in best)
    return Duplicates(threshold, clusters, n_pairs, n_equal, closest, across)


def _linked(clusters: Codes, i: Codes, j: Codes) -> Codes:
    """Return clusters in which those of i and j are one, numbered by first appearance."""
    n = int(clusters.max()) + 1
    edges = coo_array((np.ones(len(i), bool), (clusters[i], clusters[j])), shape=(n, n))
    return connected_components(edges, directed=False)[1].astype(np.int64)[clusters]


def joined(groups: Codes, *clusters: Codes) -> Codes:
    """Return the coarsest groups of rows: those that share any of several codes are one.

    Parameters
    ----------
    groups : int array of shape (n,)
        Groups of the rows.
    *clusters : int array of shape (n,)
        Further codes of the rows.

    Returns
    -------
    int array of shape (n,)
        From 0, in order of first appearance.
    """
    found = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    for codes in clusters:
        # Rows of one cluster are linked to its first row.
        _, first, at = np.unique(codes, return_index=True, return_inverse=True)
        found = _linked(found, np.arange(len(found)), first[at])
    _, first, codes = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[codes].astype(np.int64)
