"""Expected values of measures under random ranking, computed exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._arrays import NUMPY_DEFAULTS
from crossfit.metrics.evaluation import Evaluation, PerQuery, sides, warn_of_excluded
from crossfit.metrics.names import Measure, parse_metrics
from crossfit.metrics.ranking import all_tied_groups, measure_queries
from crossfit.metrics.relevance import Relevance, as_relevance

__all__ = ["chance_level"]

Floats = NDArray[np.float64]

#: Number of queries whose relevant items are in memory at once.
_QUERIES = 512


@np.errstate(**NUMPY_DEFAULTS)
def chance_level(
    relevance: Any,
    metrics: str | Sequence[str] = ("map@all",),
    *,
    directions: str = "both",
    names: tuple[str, str] = ("query", "gallery"),
) -> Evaluation:
    """Compute the expected values of a scorer that ranks at random.

    The values are exact, because a random ranking has the same expected values as one in which
    all items are tied, under ``ties="expected"``. For R relevant items among n, the average
    precision is (H_n + (R-1)/(n-1) (n - H_n))/n, where H_n is the n-th harmonic number, and the
    rank of the first relevant item is (n+1)/(R+1).

    Parameters
    ----------
    relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery)
        See `evaluate`.
    metrics : str or sequence of str, default=("map@all",)
        See `evaluate`.
    directions : {"both", "forward", "backward"}, default="both"
        See `evaluate`.
    names : pair of str, default=("query", "gallery")
        Names of rows and columns.

    Returns
    -------
    Evaluation
        Expected values per query, without intervals. ``medr`` is the median of the expected ranks.

    Raises
    ------
    ValueError, TypeError
        If an argument is invalid, or no query has a relevant item.

    See Also
    --------
    evaluate : The values of a scorer.

    Examples
    --------
    >>> round(chance_level(([0, 0, 1], [0, 0, 1]), "r@1").mean(None, "r@1"), 4)
    0.5556
    """
    measures = parse_metrics(metrics)
    labels = sides(directions, names)
    forward = as_relevance(relevance)
    values = {}
    for side, direction in labels.items():
        found = forward.transpose() if side == "backward" else forward
        values.update({(direction, m.name): c for m, c in zip(measures, _chance(found, measures))})
    warn_of_excluded(values, measures[0].name)
    return Evaluation(
        PerQuery(values, labels),
        tuple(labels.values()),
        tuple(measure.name for measure in measures),
        ci=None,
    )


def _chance(relevance: Relevance, measures: Sequence[Measure]) -> list[Floats]:
    n, m = relevance.shape
    graded = relevance.graded and any(measure.row.needs_grades for measure in measures)
    parts = []
    for start in range(0, n, _QUERIES):
        rows = relevance.rows(start, min(start + _QUERIES, n))
        groups = all_tied_groups(rows, m, graded)
        parts.append([measure_queries(measure, groups) for measure in measures])
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]
