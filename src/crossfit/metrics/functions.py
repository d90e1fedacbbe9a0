"""Functions for single measures, computed as by `evaluate` with the rows as queries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import integer, one_of, validated
from crossfit.metrics.evaluation import Evaluation, evaluate

__all__ = [
    "average_precision",
    "mean_average_precision",
    "mean_rank",
    "mean_reciprocal_rank",
    "median_rank",
    "ndcg",
    "precision_at_k",
    "r_precision",
    "recall_at_k",
    "rsum",
]

Floats = NDArray[np.float64]


def _forward(scores: Any, relevance: Any, metric: str, ties: str) -> Evaluation:
    return evaluate(scores, relevance, metric, directions="forward", ties=ties, ci=None)


def _cut(kind: str, k: int | None, variant: str = "") -> str:
    if k is None:
        return f"{kind}@all"
    return f"{kind}@{k}" + (f":{variant}" if variant else "")


@validated(k=[integer(1), None], denominator=[one_of("hits", "all", "min")])
def average_precision(
    scores: Any,
    relevance: Any,
    k: int | None = None,
    *,
    denominator: str = "hits",
    ties: str = "expected",
) -> Floats:
    """Compute the average precision of each query, the rows of `scores`.

    Parameters
    ----------
    scores : array-like of shape (n, m)
        Higher is better, see `evaluate`.
    relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery)
        Relevant items, or the labels of rows and columns, see `evaluate`.
    k : int or None, default=None
        Cut-off; None for the whole gallery.
    denominator : {"hits", "all", "min"}, default="hits"
        Divisor if there is a cut-off: the number of relevant items among the first k (common in
        the field, but optimistic), the number of all relevant items, or the smaller of that
        number and k.
    ties : {"expected", "stable", "worst", "best"}, default="expected"
        How tied items are ranked, see `evaluate`.

    Returns
    -------
    ndarray of shape (n,), float64
        NaN for queries without a relevant item.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid, or no query has a relevant item.

    See Also
    --------
    evaluate : All measures in both directions, with intervals.

    Examples
    --------
    >>> scores, labels = [[0.9, 0.1], [0.4, 0.3]], ([0, 1], [0, 1])
    >>> average_precision(scores, labels).tolist()
    [1.0, 0.5]
    """
    metric = _cut("map", k, denominator)
    return _forward(scores, relevance, metric, ties).per_query["forward", metric]


@validated(k=[integer(1), None], denominator=[one_of("hits", "all", "min")])
def mean_average_precision(
    scores: Any,
    y_query: Any,
    y_gallery: Any,
    k: int | None = None,
    *,
    denominator: str = "hits",
    ties: str = "expected",
) -> float:
    """Compute the mean over queries of the average precision, with relevance by shared labels.

    Parameters
    ----------
    scores : array-like of shape (n, m)
        Higher is better, see `evaluate`.
    y_query, y_gallery : array-like
        Labels of rows and columns, 1-D or indicators, see `evaluate`.
    k : int or None, default=None
        Cut-off; None for the whole gallery.
    denominator : {"hits", "all", "min"}, default="hits"
        See `average_precision`.
    ties : {"expected", "stable", "worst", "best"}, default="expected"
        How tied items are ranked, see `evaluate`.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid, or no query has a relevant item.

    See Also
    --------
    evaluate : All measures in both directions, with intervals.

    Examples
    --------
    >>> round(mean_average_precision([[1.0, 1.0, 0.0, 0.0]], [1], [0, 1, 1, 0]), 3)
    0.667
    """
    metric = _cut("map", k, denominator)
    return _forward(scores, (y_query, y_gallery), metric, ties).mean("forward", metric)


@validated(k=[integer(1)], mode=[one_of("any", "fraction")])
def recall_at_k(
    scores: Any, relevance: Any, k: int, *, mode: str = "any", ties: str = "expected"
) -> float:
    """Compute the mean over queries of recall at k.

    Parameters
    ----------
    scores : array-like of shape (n, m)
        Higher is better, see `evaluate`.
    relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery)
        Relevant items, or the labels of rows and columns, see `evaluate`.
    k : int
        Cut-off.
    mode : {"any", "fraction"}, default="any"
        Recall of a query: 1 if any relevant item is among the first k, else 0 (``"any"``), or the
        fraction of its relevant items that are among the first k (``"fraction"``).
    ties : {"expected", "stable", "worst", "best"}, default="expected"
        How tied items are ranked, see `evaluate`.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid, or no query has a relevant item.

    See Also
    --------
    evaluate : All measures in both directions, with intervals.

    Examples
    --------
    >>> scores, labels = [[0.9, 0.1], [0.4, 0.3]], ([0, 1], [0, 1])
    >>> recall_at_k(scores, labels, 1)
    0.5
    """
    metric = _cut("r", k, mode)
    return _forward(scores, relevance, metric, ties).mean("forward", metric)


@validated(k=[integer(1)])
def precision_at_k(scores: Any, relevance: Any, k: int, *, ties: str = "expected") -> float:
    """Compute the mean over queries of the fraction of relevant items among the first k.

    Parameters
    ----------
    scores : array-like of shape (n, m)
        Higher is better, see `evaluate`.
    relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery)
        Relevant items, or the labels of rows and columns, see `evaluate`.
    k : int
        Cut-off; the divisor is k even if the gallery is smaller.
    ties : {"expected", "stable", "worst", "best"}, default="expected"
        How tied items are ranked, see `evaluate`.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid, or no query has a relevant item.

    See Also
    --------
    evaluate : All measures in both directions, with intervals.

    Examples
    --------
    >>> scores, labels = [[0.9, 0.1], [0.4, 0.3]], ([0, 1], [0, 1])
    >>> precision_at_k(scores, labels, 1)
    0.5
    """
    metric = _cut("p", k)
    return _forward(scores, relevance, metric, ties).mean("forward", metric)


def r_precision(scores: Any, relevance: Any, *, ties: str = "expected") -> float:
    """Compute the mean over queries of the R-precision, for R relevant items of a query.

    It is the fraction of relevant items among the first R, so that it is 1 for a perfect ranking
    of any R. Its metric is named ``p@R``; the average precision over the same ranks is ``map@R``.

    Parameters
    ----------
    scores : array-like of shape (n, m)
        Higher is better, see `evaluate`.
    relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery)
        Relevant items, or the labels of rows and columns, see `evaluate`.
    ties : {"expected", "stable", "worst", "best"}, default="expected"
        How tied items are ranked, see `evaluate`.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid, or no query has a relevant item.

    See Also
    --------
    evaluate : All measures in both directions, with intervals.

    References
    ----------
    Musgrave, Belongie and Lim, A metric learning reality check, ECCV 2020.

    Examples
    --------
    >>> r_precision([[0.9, 0.8, 0.1, 0.0]], [[1, 0, 1, 0]])
    0.5
    """
    return _forward(scores, relevance, "p@r", ties).mean("forward", "p@r")


def median_rank(scores: Any, relevance: Any, *, ties: str = "expected") -> float:
    """Compute the median over queries of the rank, from 1, of the first relevant item.

    Parameters
    ----------
    scores : array-like of shape (n, m)
        Higher is better, see `evaluate`.
    relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery)
        Relevant items, or the labels of rows and columns, see `evaluate`.
    ties : {"expected", "stable", "worst", "best"}, default="expected"
        How tied items are ranked, see `evaluate`.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid, or no query has a relevant item.

    See Also
    --------
    evaluate : All measures in both directions, with intervals.

    Examples
    --------
    >>> scores, labels = [[0.9, 0.1], [0.4, 0.3]], ([0, 1], [0, 1])
    >>> median_rank(scores, labels)
    1.5
    """
    return _forward(scores, relevance, "medr", ties).mean("forward", "medr")


def mean_rank(scores: Any, relevance: Any, *, ties: str = "expected") -> float:
    """Compute the mean over queries of the rank, from 1, of the first relevant item.

    Parameters
    ----------
    scores : array-like of shape (n, m)
        Higher is better, see `evaluate`.
    relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery)
        Relevant items, or the labels of rows and columns, see `evaluate`.
    ties : {"expected", "stable", "worst", "best"}, default="expected"
        How tied items are ranked, see `evaluate`.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid, or no query has a relevant item.

    See Also
    --------
    evaluate : All measures in both directions, with intervals.

    Examples
    --------
    >>> scores, labels = [[0.9, 0.1], [0.4, 0.3]], ([0, 1], [0, 1])
    >>> mean_rank(scores, labels)
    1.5
    """
    return _forward(scores, relevance, "meanr", ties).mean("forward", "meanr")


def mean_reciprocal_rank(scores: Any, relevance: Any, *, ties: str = "expected") -> float:
    """Compute the mean over queries of 1/rank of the first relevant item.

    The measure is instance-level if only the paired item is relevant, and category-level if all
    items with the same label are.

    Parameters
    ----------
    scores : array-like of shape (n, m)
        Higher is better, see `evaluate`.
    relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery)
        Relevant items, or the labels of rows and columns, see `evaluate`.
    ties : {"expected", "stable", "worst", "best"}, default="expected"
        How tied items are ranked, see `evaluate`.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid, or no query has a relevant item.

    See Also
    --------
    evaluate : All measures in both directions, with intervals.

    Examples
    --------
    >>> scores, labels = [[0.9, 0.1], [0.4, 0.3]], ([0, 1], [0, 1])
    >>> mean_reciprocal_rank(scores, labels)
    0.75
    """
    return _forward(scores, relevance, "mrr", ties).mean("forward", "mrr")


@validated(k=[integer(1), None])
def ndcg(scores: Any, relevance: Any, k: int | None = None, *, ties: str = "expected") -> float:
    """Compute the mean over queries of the normalised discounted cumulative gain.

    Gains are 2^grade - 1 and discounts are 1/log2(1 + rank); the ideal ranking is of the same
    gallery.

    Parameters
    ----------
    scores : array-like of shape (n, m)
        Higher is better, see `evaluate`.
    relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery)
        Relevant items, or the labels of rows and columns, see `evaluate`.
    k : int or None, default=None
        Cut-off; None for the whole gallery.
    ties : {"expected", "stable", "worst", "best"}, default="expected"
        How tied items are ranked, see `evaluate`.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid, or no query has a relevant item.

    See Also
    --------
    evaluate : All measures in both directions, with intervals.

    Examples
    --------
    >>> scores, labels = [[0.9, 0.1], [0.4, 0.3]], ([0, 1], [0, 1])
    >>> round(ndcg(scores, labels), 3)
    0.815
    """
    metric = _cut("ndcg", k)
    return _forward(scores, relevance, metric, ties).mean("forward", metric)


def rsum(evaluation: Evaluation) -> float:
    """Compute the sum of the six recalls of image-text retrieval, in percent (0 to 600).

    Parameters
    ----------
    evaluation : Evaluation
        An evaluation with ``r@1``, ``r@5`` and ``r@10`` in both directions.

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If it is not an Evaluation.
    ValueError
        If one of the six recalls is missing.

    See Also
    --------
    recall_at_k : One recall.

    Examples
    --------
    >>> ev = evaluate([[0.9, 0.1], [0.4, 0.3]], ([0, 1], [0, 1]), ["r@1", "r@5", "r@10"], ci=None)
    >>> rsum(ev)
    550.0
    """
    if not isinstance(evaluation, Evaluation):
        raise TypeError(
            f"evaluation must be what crossfit.evaluate returns, got {type(evaluation).__name__}"
        )
    missing = {"r@1", "r@5", "r@10"}.difference(evaluation.metrics)
    if missing or len(evaluation.directions) != 2:
        raise ValueError(
            "evaluation must have r@1, r@5 and r@10 in both directions, got "
            f"{', '.join(evaluation.metrics)} in {', '.join(evaluation.directions)}"
        )
    return 100.0 * sum(
        evaluation.mean(direction, metric)
        for direction in evaluation.directions
        for metric in ("r@1", "r@5", "r@10")
    )
