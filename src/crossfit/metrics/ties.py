"""The range of measures that the order of tied items leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossfit._arguments import validated
from crossfit._arrays import NUMPY_DEFAULTS
from crossfit._frames import frame_of
from crossfit._html import html_table
from crossfit.metrics.evaluation import JOBS, Evaluation, evaluations
from crossfit.metrics.names import parse_metrics

__all__ = ["TieRange", "tie_range"]

_RULES = ("worst", "expected", "best")


@dataclass(frozen=True, eq=False, repr=False)
class TieRange:
    """Evaluations of the same scores with tied relevant items last, in all orders, and first.

    Parameters
    ----------
    worst, expected, best : Evaluation
        The evaluations by the three rules.

    See Also
    --------
    tie_range : Make one from scores.

    Examples
    --------
    >>> ties = tie_range([[1, 1, 0, 0]], [[0, 1, 1, 0]], directions="forward", ci=None)
    >>> print(ties)
    TieRange
      query2gallery  map@all      0.5000 ..     0.6667 ..     0.8333  tied 1.000
    """

    worst: Evaluation
    expected: Evaluation
    best: Evaluation

    def __post_init__(self) -> None:
        for rule in _RULES:
            given = getattr(self, rule)
            if not isinstance(given, Evaluation) or "tied" not in given.metrics:
                raise TypeError(
                    f"{rule} must be an evaluation with the metric tied, got {type(given).__name__}"
                )

    def rows(self) -> list[dict[str, Any]]:
        """Return one dict per direction and metric.

        Returns
        -------
        list of dict
            Keys ``direction, metric, worst, expected, best, tied``; ``tied`` is the share of
            queries in which a relevant item is tied with one that is not relevant.
        """
        return [
            {
                "direction": direction,
                "metric": metric,
                **{rule: getattr(self, rule).mean(direction, metric) for rule in _RULES},
                "tied": self.expected.mean(direction, "tied"),
            }
            for direction in self.expected.directions
            for metric in self.expected.metrics
            if metric != "tied"
        ]

    def to_frame(self) -> Any:
        """Return the rows as a pandas DataFrame; pandas must be installed."""
        return frame_of(self.rows())

    def _repr_html_(self) -> str:
        rows = self.rows()
        return html_table("Range of ties", list(rows[0]), [list(row.values()) for row in rows])

    def __repr__(self) -> str:
        rows = self.rows()
        width, name = (max(len(row[key]) for row in rows) for key in ("direction", "metric"))
        lines = ["TieRange"]
        for row in rows:
            span = " .. ".join(f"{row[rule]:10.4f}" for rule in _RULES)
            lines.append(
                f"  {row['direction']:<{width}}  {row['metric']:<{name}}  {span}"
                f"  tied {row['tied']:.3f}"
            )
        return "\n".join(lines)


@validated(random_state=["random_state"], n_jobs=JOBS)
@np.errstate(**NUMPY_DEFAULTS)
def tie_range(
    scores: Any,
    relevance: Any,
    metrics: str | Sequence[str] = ("map@all",),
    *,
    directions: str = "both",
    ci: float | None = 0.95,
    random_state: Any = 0,
    groups: tuple[Any, Any] | None = None,
    names: tuple[str, str] = ("query", "gallery"),
    n_jobs: int | None = None,
) -> TieRange:
    """Compute how far the order of tied items could move the measures, in one pass.

    Parameters
    ----------
    scores : array-like of shape (n, m), memmap, or iterator of row blocks of shape (b, m)
        See `evaluate`.
    relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery)
        See `evaluate`.
    metrics : str or sequence of str, default=("map@all",)
        See `evaluate`. The divisor of ``map@K:hits`` depends on the order, so that its worst and
        best values are those of the two orders but not always its bounds.
    directions, ci, random_state, groups, names, n_jobs
        See `evaluate`.

    Returns
    -------
    TieRange
        Three evaluations, which also have the metric ``tied``.

    Raises
    ------
    ValueError, TypeError
        As `evaluate`.

    See Also
    --------
    evaluate : Values by one rule.

    Examples
    --------
    >>> ties = tie_range([[1, 1, 0, 0]], [[0, 1, 1, 0]], directions="forward", ci=None)
    >>> [round(ties.rows()[0][rule], 3) for rule in ("worst", "expected", "best")]
    [0.5, 0.667, 0.833]
    """
    wanted = [*(measure.name for measure in parse_metrics(metrics)), "tied"]
    given = (scores, relevance, wanted)
    found = evaluations(given, directions, _RULES, ci, random_state, groups, names, n_jobs)
    return TieRange(*found)
