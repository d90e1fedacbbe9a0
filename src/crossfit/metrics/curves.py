"""Curves for reports: interpolated precision over recall, and recall over the cut-off."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import is_word, one_of, shown, validated
from crossfit._arrays import as_array
from crossfit.metrics.evaluation import JOBS, evaluate
from crossfit.metrics.ranking import RelevantGroups, check_shape, map_blocks
from crossfit.metrics.relevance import as_relevance

Floats = NDArray[np.float64]


@validated(n_jobs=JOBS)
def interpolated_precision_recall(
    scores: Any,
    relevance: Any,
    *,
    n_points: int = 11,
    direction: str = "forward",
    n_jobs: int | None = None,
) -> tuple[Floats, Floats]:
    """Compute interpolated precision at evenly spaced recalls, averaged over queries.

    The precision at recall r is the highest precision at any recall >= r. Tied items are added
    together, as if by one threshold on the score, so their order does not matter.

    Parameters
    ----------
    scores : array-like of shape (n, m)
        Higher is better, see `evaluate`.
    relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery)
        See `evaluate`.
    n_points : int, default=11
        Number of recalls from 0 to 1, usually 11 or 101.
    direction : {"forward", "backward"}, default="forward"
        Whether the queries are the rows (forward) or the columns (backward).
    n_jobs : int or None, default=None
        Number of threads, as in `evaluate`.

    Returns
    -------
    recall, precision : ndarray of shape (n_points,), float64
        Queries without a relevant item are left out.

    Raises
    ------
    ValueError
        If the input is invalid, or no query has a relevant item.

    See Also
    --------
    recall_at_k_curve : Recall over the cut-off.

    Examples
    --------
    >>> scores, labels = [[0.9, 0.1], [0.4, 0.3]], ([0, 1], [0, 1])
    >>> recall, precision = interpolated_precision_recall(scores, labels, n_points=2)
    >>> recall.tolist(), precision.tolist()
    ([0.0, 1.0], [0.75, 0.75])
    """
    whole = isinstance(n_points, int | np.integer) and not isinstance(n_points, bool)
    if not whole or n_points < 2:
        raise ValueError(f"n_points must be an integer of at least 2, got {shown(n_points)}")
    backward = _is_backward(direction)
    found = as_relevance(relevance)
    scores = check_shape(scores, found.shape, both=backward)
    levels = np.arange(n_points)

    def curve(groups: RelevantGroups) -> Floats:
        precision = (groups.before + groups.relevant) / (groups.above + groups.tied)
        hits = groups.before + groups.relevant
        out = np.full((len(groups.n_relevant), n_points), np.nan)
        bounds = np.searchsorted(groups.query, np.arange(len(out) + 1))
        for i, (a, b) in enumerate(pairwise(bounds)):
            if a < b:
                highest = np.maximum.accumulate(precision[a:b][::-1])[::-1]
                # In integers, because 3/10 and 3 * 0.1 differ in floating point.
                needed = -(-levels * groups.n_relevant[i] // (n_points - 1))
                out[i] = highest[np.searchsorted(hits[a:b], needed)]
        return out

    if backward:
        found = found.transpose()
    (values,) = map_blocks([curve], scores, found, backward=backward, n_jobs=n_jobs)
    kept = ~np.isnan(values[:, 0])
    if not kept.any():
        raise ValueError("no query has a relevant item in the gallery")
    return levels / (n_points - 1), values[kept].mean(axis=0)


@validated(mode=[one_of("any", "fraction")], n_jobs=JOBS)
def recall_at_k_curve(
    scores: Any,
    relevance: Any,
    ks: Sequence[int] = (1, 2, 5, 10, 20, 50, 100),
    *,
    mode: str = "any",
    direction: str = "forward",
    ties: str = "expected",
    n_jobs: int | None = None,
) -> tuple[NDArray[np.int64], Floats]:
    """Compute recall at several cut-offs, from one pass over the scores.

    Parameters
    ----------
    scores : array-like of shape (n, m)
        Higher is better, see `evaluate`.
    relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery)
        See `evaluate`.
    ks : sequence of int
        Cut-offs.
    mode : {"any", "fraction"}, default="any"
        See `recall_at_k`.
    direction : {"forward", "backward"}, default="forward"
        Whether the queries are the rows (forward) or the columns (backward).
    ties : {"expected", "stable", "worst", "best"}, default="expected"
        How tied items are ranked, see `evaluate`.
    n_jobs : int or None, default=None
        Number of threads, as in `evaluate`.

    Returns
    -------
    ks : ndarray of shape (k,), int64
        The cut-offs, ascending and without duplicates.
    recall : ndarray of shape (k,), float64

    Raises
    ------
    ValueError, TypeError
        If the input is invalid, or no query has a relevant item.

    See Also
    --------
    recall_at_k : Recall at one cut-off.

    Examples
    --------
    >>> ks, recall = recall_at_k_curve([[0.9, 0.1], [0.4, 0.3]], ([0, 1], [0, 1]), [1, 2])
    >>> recall.tolist()
    [0.5, 1.0]
    """
    _is_backward(direction)
    cutoffs = check_cutoffs(ks)
    names = [f"r@{k}:{mode}" for k in cutoffs]
    ev = evaluate(scores, relevance, names, directions=direction, ties=ties, ci=None, n_jobs=n_jobs)
    return cutoffs, np.array([ev.mean(direction, name) for name in names])


def check_cutoffs(ks: Any) -> NDArray[np.int64]:
    """Return cut-offs, ascending and without duplicates, checked."""
    cutoffs = as_array(ks, "ks")
    whole = cutoffs.ndim == 1 and len(cutoffs) and cutoffs.dtype.kind in "iu"
    if not whole or cutoffs.min() < 1 or cutoffs.max() >= 10**18:
        raise ValueError(f"ks must be integers of at least 1, got {shown(ks)}")
    return np.unique(cutoffs).astype(np.int64)


def _is_backward(direction: str) -> bool:
    if not is_word(direction, ("forward", "backward")):
        raise ValueError(f"direction must be forward or backward, got {shown(direction)}")
    return direction == "backward"
