"""One method evaluated over several seeds; seeds and queries are two sources of error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._tabular import Tabular
from crossfit.metrics.directions import Direction
from crossfit.metrics.evaluation import RESAMPLES, Evaluation
from crossfit.metrics.intervals import bootstrap_draws, same_groups, tails
from crossfit.metrics.names import parse_metric

__all__ = ["Repeats"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Repeats(Tabular):
    """Evaluations of one method with several seeds on the same queries.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        One evaluation per seed.

    Raises
    ------
    TypeError
        If it is not a list of evaluations.
    ValueError
        If it is empty, or the evaluations differ in metrics, queries or groups.

    See Also
    --------
    evaluate : Make an evaluation.

    Examples
    --------
    >>> from crossfit.metrics import evaluate
    >>> labels = ([0, 1], [0, 1])
    >>> one = evaluate([[0.9, 0.1], [0.4, 0.3]], labels, "r@1", directions="forward")
    >>> two = evaluate([[0.9, 0.1], [0.2, 0.3]], labels, "r@1", directions="forward")
    >>> seeds = Repeats([one, two])
    >>> seeds.by_seed("forward", "r@1").tolist(), seeds.mean("forward", "r@1")
    ([0.5, 1.0], 0.75)
    """

    evaluations: Sequence[Evaluation]

    def __post_init__(self) -> None:
        given = self.evaluations
        if not isinstance(given, list | tuple) or not all(
            isinstance(each, Evaluation) for each in given
        ):
            raise TypeError(
                "evaluations must be a list of what crossfit.evaluate returns, got "
                f"{type(given).__name__}"
            )
        if not self.evaluations:
            raise ValueError("evaluations must have at least one evaluation, got none")
        first = self.evaluations[0]
        for other in self.evaluations[1:]:
            same = set(first.per_query) == set(other.per_query) and all(
                np.array_equal(np.isnan(first.per_query[key]), np.isnan(other.per_query[key]))
                and same_groups(first.groups.get(key[0]), other.groups.get(key[0]))
                for key in first.per_query
            )
            if not same:
                raise ValueError("evaluations must all have the same metrics and queries")

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Directions evaluated."""
        return self.evaluations[0].directions

    @property
    def metrics(self) -> tuple[str, ...]:
        """Canonical names of the metrics."""
        return self.evaluations[0].metrics

    def by_seed(self, direction: str | None, metric: str) -> Floats:
        """Return the mean over queries (for ``medr`` the median) of each seed.

        Parameters
        ----------
        direction : str or None
            A direction or its alias; None for the mean over the directions.
        metric : str
            A metric that was evaluated.

        Returns
        -------
        ndarray of shape (n_seeds,), float64
        """
        return np.array([each.mean(direction, metric) for each in self.evaluations])

    def mean(self, direction: str | None, metric: str) -> float:
        """Return the mean of `by_seed` over the seeds.

        Parameters
        ----------
        direction : str or None
            A direction or its alias; None for the mean over the directions.
        metric : str
            A metric that was evaluated.

        Returns
        -------
        float
        """
        return float(self.by_seed(direction, metric).mean())

    def spread(self, direction: str | None, metric: str) -> float:
        """Return the standard deviation between the seeds (divisor n - 1); NaN for one seed.

        Parameters
        ----------
        direction : str or None
            A direction or its alias; None for the mean over the directions.
        metric : str
            A metric that was evaluated.

        Returns
        -------
        float
        """
        values = self.by_seed(direction, metric)
        return float(values.std(ddof=1)) if len(values) > 1 else float("nan")

    def interval(self, direction: str | None, metric: str) -> tuple[float, float]:
        """Return the percentile bootstrap interval over queries of the mean over these seeds.

        It covers the error from the choice of queries; `spread` measures the error between seeds.

        Parameters
        ----------
        direction : str or None
            A direction or its alias; None for the mean over the directions. For this mean the
            same groups are drawn in all directions, so the evaluations must have the same groups
            in all of them.
        metric : str
            A metric that was evaluated.

        Returns
        -------
        low, high : float
            NaN if the evaluations were made with ``ci=None`` or, for the mean over the
            directions, without common groups.
        """
        first = self.evaluations[0]
        if first.ci is None:
            return float("nan"), float("nan")
        name = parse_metric(metric).name
        if direction is not None:
            draws = self._draws[first.per_query.key(direction, name)]
        elif self._shares_groups(name):
            draws = np.mean([self._draws[each, name] for each in self.directions], axis=0)
        else:
            return float("nan"), float("nan")
        low, high = np.quantile(draws, tails(first.ci))
        return float(low), float(high)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per direction and metric.

        Returns
        -------
        list of dict
            Keys ``direction, metric, mean, spread, low, high, n_seeds``, see `mean`, `spread` and
            `interval`.
        """
        found = []
        for direction in self.directions:
            for metric in self.metrics:
                low, high = self.interval(direction, metric)
                found.append(
                    {
                        "direction": direction,
                        "metric": metric,
                        "mean": self.mean(direction, metric),
                        "spread": self.spread(direction, metric),
                        "low": low,
                        "high": high,
                        "n_seeds": len(self.evaluations),
                    }
                )
        return found

    def _title(self) -> str:
        return f"Repeats of {len(self.evaluations)} seeds"

    @cached_property
    def averaged(self) -> Evaluation:
        """The evaluation whose values per query are averages over the seeds, as used in tests."""
        first = self.evaluations[0]
        if len(self.evaluations) == 1:
            return first
        values = {
            key: np.mean([each.per_query[key] for each in self.evaluations], axis=0)
            for key in first.per_query
        }
        return replace(first, per_query=first.per_query.holding(values))

    def _shares_groups(self, metric: str) -> bool:
        """Return True if the queries with a value have the same groups in all directions."""
        first = self.evaluations[0]
        found = []
        for direction in self.directions:
            groups = first.groups.get(direction)
            if groups is None:
                return False
            found.append(np.unique(groups[~np.isnan(first.per_query[direction, metric])]))
        return all(np.array_equal(codes, found[0]) for codes in found)

    @cached_property
    def _draws(self) -> dict[tuple[Direction, str], Floats]:
        """Resampled means over the seeds by direction and metric, each (n_resamples,)."""
        n = len(self.evaluations)
        found: dict[tuple[Direction, str], Floats] = {}
        for direction in self.directions:
            for names, kept, codes in self.evaluations[0]._samples(direction):
                columns = [
                    each.per_query[direction, name][kept]
                    for name in names
                    for each in self.evaluations
                ]
                statistics = [parse_metric(name).statistic for name in names for _ in range(n)]
                draws = bootstrap_draws(
                    columns, statistics, codes, RESAMPLES, self.evaluations[0].seed
                )
                means = draws.reshape(len(draws), len(names), n).mean(axis=2)
                found.update(zip(((direction, name) for name in names), means.T, strict=True))
        return found
