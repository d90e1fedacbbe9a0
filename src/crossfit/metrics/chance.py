"""Expected values of measures under random ranking, computed exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from crossfit._arrays import NUMPY_DEFAULTS
from crossfit.metrics.evaluation import (
    Evaluation,
    PerQuery,
    adjusted_values,
    chance_values,
    sides,
    warn_of_excluded,
)
from crossfit.metrics.names import parse_metrics
from crossfit.metrics.relevance import as_relevance

__all__ = ["chance_level"]


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
        Expected values per query, without intervals. ``medr`` is the median of the expected ranks,
        ``tied`` is 0, and the mean of an adjusted measure is 0.

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
        for measure, column in zip(measures, chance_values(found, measures), strict=True):
            if measure.adjusted:
                column = adjusted_values(column, column, measure)
            values[direction, measure.name] = column
    warn_of_excluded(values, measures[0].name)
    return Evaluation(
        PerQuery(values, labels),
        tuple(labels.values()),
        tuple(measure.name for measure in measures),
        ci=None,
    )
