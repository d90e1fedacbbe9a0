"""One method evaluated over several seeds; seeds and queries are two sources of error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from crossfit.metrics.evaluation import _RESAMPLES, Evaluation, PerQuery
from crossfit.metrics.intervals import bootstrap_draws, group_codes, same_groups, tails
from crossfit.metrics.names import parse_metric

__all__ = ["Repeats"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Repeats:
    """Evaluations of one method with several seeds on the same queries.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        One a seed.

    Raises
    ------
    ValueError
        If there is none, or they differ in metrics, queries or groups.
    """

    evaluations: Sequence[Evaluation]

    def __post_init__(self) -> None:
        if not self.evaluations:
            raise ValueError("Repeats needs at least one evaluation, got none")
        first = self.evaluations[0]
        for other in self.evaluations[1:]:
            same = set(first.per_query) == set(other.per_query) and all(
                np.array_equal(np.isnan(first.per_query[key]), np.isnan(other.per_query[key]))
                and same_groups(first.groups.get(key[0]), other.groups.get(key[0]))
                for key in first.per_query
            )
            if not same:
                raise ValueError("evaluations of the seeds are not of the same metrics and queries")

    @property
    def directions(self) -> tuple[str, ...]:
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
            None is the mean over the directions.
        metric : str
            Any metric evaluated.

        Returns
        -------
        ndarray of shape (n_seeds,), float64
        """
        return np.array([each.mean(direction, metric) for each in self.evaluations])

    def mean(self, direction: str | None, metric: str) -> float:
        """Return the mean over the seeds of `by_seed`."""
        return float(self.by_seed(direction, metric).mean())

    def spread(self, direction: str | None, metric: str) -> float:
        """Return the standard deviation between the seeds (n - 1); NaN with one seed."""
        values = self.by_seed(direction, metric)
        return float(values.std(ddof=1)) if len(values) > 1 else float("nan")

    def interval(self, direction: str | None, metric: str) -> tuple[float, float]:
        """Percentile bootstrap interval over queries of the mean over these seeds.

        It says how far other queries could have moved the mean; how far other seeds could, says
        `spread`.

        Parameters
        ----------
        direction : str or None
            None is the mean over the directions. The same groups are then drawn in all of them,
            which takes evaluations with groups; without, there is no interval.
        metric : str
            Any metric evaluated.

        Returns
        -------
        low, high : float
            NaN where there is no interval.
        """
        first = self.evaluations[0]
        if first.ci is None:
            return float("nan"), float("nan")
        name = parse_metric(metric).name
        if direction is not None:
            draws = self._draws[first.per_query.key(direction, name)[0]]
        elif self._shares_groups:
            draws = np.mean([self._draws[each] for each in self.directions], axis=0)
        else:
            return float("nan"), float("nan")
        low, high = np.quantile(draws[:, self.metrics.index(name)], tails(first.ci))
        return float(low), float(high)

    @cached_property
    def averaged(self) -> Evaluation:
        """The evaluation whose values per query are averages over the seeds; what tests take."""
        first = self.evaluations[0]
        if len(self.evaluations) == 1:
            return first
        values = {
            key: np.mean([each.per_query[key] for each in self.evaluations], axis=0)
            for key in first.per_query
        }
        aliases = first.per_query._aliases
        return Evaluation(
            PerQuery(values, aliases), first.directions, first.metrics, first.ties, first.ci,
            first.seed, first.groups,
        )  # fmt: skip

    def _codes(self, direction: str) -> tuple[NDArray[np.bool_], NDArray[np.intp] | None]:
        """Return which queries have a value, and their groups if there are any."""
        columns = [each.per_query[direction, name]
                   for each in self.evaluations for name in self.metrics]  # fmt: skip
        kept: NDArray[np.bool_] = np.isfinite(np.stack(columns)).min(axis=0)
        groups = self.evaluations[0].groups.get(direction)
        return kept, None if groups is None else groups[kept]

    @cached_property
    def _shares_groups(self) -> bool:
        """Whether the queries of all directions belong to the same groups."""
        found = [self._codes(direction)[1] for direction in self.directions]
        return all(
            codes is not None and found[0] is not None
            and np.array_equal(np.unique(codes), np.unique(found[0]))
            for codes in found
        )  # fmt: skip

    @cached_property
    def _draws(self) -> dict[str, Floats]:
        """Resampled means over the seeds by direction, each of shape (n_resamples, n_metrics)."""
        first = self.evaluations[0]
        statistics = [parse_metric(name).statistic for name in self.metrics]
        found = {}
        for direction in self.directions:
            kept, groups = self._codes(direction)
            columns = [
                each.per_query[direction, name][kept]
                for name in self.metrics
                for each in self.evaluations
            ]
            n = len(self.evaluations)
            draws = bootstrap_draws(
                columns,
                [statistic for statistic in statistics for _ in range(n)],
                group_codes(groups, int(kept.sum())), _RESAMPLES, first.seed,
            )  # fmt: skip
            found[direction] = draws.reshape(len(draws), len(self.metrics), n).mean(axis=2)
        return found
