"""Contradictions between figures of a leaderboard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from crossfit.metrics import (
    parse_metric,
)
from crossfit.report.format import (
    metric_words,
)
from crossfit.report.leaderboard import Board

__all__ = ["contradictions", "inconsistencies"]


def contradictions(values: Mapping[str, float], *, whole_ranks: bool = True) -> list[str]:
    """Return the contradictions between the figures of one ranking, as sentences.

    Parameters
    ----------
    values : mapping of str to float
        Metrics of one method in one direction, with recalls as fractions and ranks from 1.
    whole_ranks : bool, default=True
        Whether all ranks are whole numbers, because no relevant item was tied. The median rank is
        then above K if R@K is below 0.5, and at most K if R@K is above 0.5.

    Returns
    -------
    list of str

    Examples
    --------
    >>> contradictions({"r@1": 0.384, "medr": 1.0})
    ['R@1 is 0.384, so the median rank must be above 1, but it is 1']
    """
    found = []
    measures = {parse_metric(name): value for name, value in values.items()}
    bounded = [(m, v) for m, v in measures.items() if m.bounded]
    for measure, value in bounded:
        if not -1e-9 <= value <= 1 + 1e-9:
            found.append(f"{metric_words(measure.name)} is {value:g}, not between 0 and 1")
    recalls = sorted(
        (m.k or 0, v)
        for m, v in measures.items()
        if m.kind == "r" and m.variant == "any" and not m.adjusted
    )
    for (k, low), (larger, high) in pairwise(recalls):
        if low > high + 1e-9:
            found.append(f"R@{k} is {low:g}, above R@{larger} of {high:g}")
    median = next((v for m, v in measures.items() if m.kind == "medr" and not m.variant), None)
    if median is not None:
        if median < 1:
            found.append(f"the median rank is {median:g}, but ranks begin at 1")
        for k, value in recalls if whole_ranks else ():
            if value < 0.5 - 1e-9 and median <= k:
                found.append(
                    f"R@{k} is {value:g}, so the median rank must be above {k}, but it is "
                    f"{median:g}"
                )
            elif value > 0.5 + 1e-9 and median > k:
                found.append(
                    f"R@{k} is {value:g}, so the median rank must be at most {k}, but it is "
                    f"{median:g}"
                )
    mrr = next((v for m, v in measures.items() if m.name == "mrr"), None)
    if mrr is not None and recalls and recalls[0][0] == 1 and mrr < recalls[0][1] - 1e-9:
        found.append(f"MRR is {mrr:g}, below R@1 of {recalls[0][1]:g}")
    return found


def inconsistencies(board: Board) -> list[str]:
    """Return the contradictions between figures of a leaderboard, as sentences."""
    found = []
    for row in board.rows:
        for seed, evaluation in zip(row.seeds or (0,), row.repeats.evaluations):
            for direction in board.directions:
                values = {m: evaluation.mean(direction, m) for m in evaluation.metrics}
                whole = all(
                    float(r).is_integer()
                    for m in evaluation.metrics
                    if parse_metric(m).is_rank
                    for r in evaluation.per_query[direction, m]
                    if not math.isnan(r)
                )
                found += [
                    f"{row.label}, seed {seed}, {direction.label}: {sentence}"
                    for sentence in contradictions(values, whole_ranks=whole)
                ]
    for paper in board.entries:
        for direction in board.directions:
            printed = {m: v for (d, m), v in paper.published.items() if d == direction}
            found += [
                f"{paper.label}, published, {direction.label}: {sentence}"
                for sentence in contradictions(printed)
            ]
    return found
