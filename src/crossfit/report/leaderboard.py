"""A leaderboard: methods that were evaluated on the same queries, ranked and tested."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from crossfit._frames import aligned, frame_of
from crossfit._html import html_table, text_of
from crossfit.metrics import (
    Comparison,
    Direction,
    Evaluation,
    Repeats,
    compare,
    parse_metric,
    rank_ranges,
)

__all__ = ["LEVEL", "Board", "Quoted", "Row"]

#: Largest adjusted p-value at which a difference is established.
LEVEL = 0.05
_RESAMPLES = 10_000


@dataclass(frozen=True, eq=False)
class Row:
    """A method of a leaderboard.

    Parameters
    ----------
    label : str
        Label of the method in the leaderboard.
    repeats : Repeats
        Evaluations of the method, one per seed.
    detail : str
        Features and settings, in words.
    seeds : tuple of int
        The seeds.
    method : str
        Name of the method in the registry.
    params : mapping
        Settings, including those chosen by tuning, with ``features`` and ``similarity``.
    published : mapping of (direction or None, metric) to float
        Figures of the paper; None stands for the mean over the directions.
    note : str
        A note for tables, next to the figures.
    ties : mapping of (direction, metric) to mapping
        ``{"worst", "best", "tied"}``: the mean with relevant items last and first among tied ones,
        and the share of queries with ties.
    curves : mapping
        ``{direction: {"recall": (ks, values), "pr": (recalls, precisions)}}``.
    costs : mapping of str to float
        Seconds of ``tune``, ``fit`` and ``score``, and ``peak`` memory in MiB.
    size : mapping of str to float
        ``parameters`` and ``dimensions``.
    hubness : mapping
        ``{direction: {"skewness", "max", "never"}}``.
    abstention : mapping
        ``{direction: {"max", "std", "diff1"}}``, areas of `crossfit.metrics.nauc`.
    histories : mapping of int to sequence of mapping
        Training curve of each seed, one row per epoch.
    trials : sequence of mapping
        The trials of the search for settings: ``params`` and ``value``.
    """

    label: str
    repeats: Repeats
    detail: str = ""
    seeds: tuple[int, ...] = ()
    method: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[tuple[str | None, str], float] = field(default_factory=dict)
    curves: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    size: Mapping[str, float] = field(default_factory=dict)
    hubness: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    abstention: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    histories: Mapping[int, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    trials: Sequence[Mapping[str, Any]] = ()
    note: str = ""
    ties: Mapping[tuple[str, str], Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Quoted:
    """Published figures of a method without a result.

    Parameters
    ----------
    label : str
        Label of the method in the experiment.
    published : mapping of (direction or None, metric) to float
        Figures of the paper, as in `Row`.
    note : str
        Why there is no result.
    """

    label: str
    published: Mapping[tuple[str | None, str], float]
    note: str


@dataclass(frozen=True, eq=False, repr=False)
class Board:
    """Methods evaluated on the same queries.

    Parameters
    ----------
    title : str
        Name of the data set.
    rows : sequence of Row
        The methods, in any order; they are sorted by the main metric, averaged over the
        directions, with the best one first.
    metrics : sequence of str
        The metrics to show, with the main one first.
    about : str
        Sentences on sizes and relevance.
    chance : mapping of (direction, metric) to float
        Expected values under random ranking.
    baseline : str, optional
        Label of the method that the others are compared with; by default the best.
    planned : sequence of (str, str)
        Labels of pairs of methods whose comparison the experiment planned.
    quoted : sequence of Quoted
        Published figures without a result, in the order of the experiment.

    Raises
    ------
    ValueError
        If there are no rows, or the baseline is not one of them.
    """

    title: str
    rows: Sequence[Row]
    metrics: Sequence[str]
    about: str = ""
    chance: Mapping[tuple[str, str], float] = field(default_factory=dict)
    baseline: str | None = None
    planned: Sequence[tuple[str, str]] = ()
    quoted: Sequence[Quoted] = ()

    def __post_init__(self) -> None:
        if not self.rows:
            raise ValueError(f"the leaderboard of {self.title} has no method; add at least one row")
        labels = [row.label for row in self.rows]
        if self.baseline is not None and self.baseline not in labels:
            raise ValueError(
                f"baseline: {self.baseline!r} is not a method; use one of {', '.join(labels)}"
            )
        names = tuple(parse_metric(metric).name for metric in self.metrics)
        greater = parse_metric(names[0]).greater_is_better
        ordered = sorted(
            self.rows, key=lambda row: row.repeats.mean(None, names[0]), reverse=greater
        )
        object.__setattr__(self, "rows", tuple(ordered))
        object.__setattr__(self, "metrics", names)

    @property
    def entries(self) -> tuple[Row | Quoted, ...]:
        """The rows, followed by the published figures without a result."""
        return (*self.rows, *self.quoted)

    @property
    def protocols(self) -> list[str]:
        """Sentences on metrics that are computed in the way of one paper only."""
        printed = (metric for row in self.entries for _, metric in row.published)
        names = dict.fromkeys([*self.metrics, *printed])
        return [words for name in names if (words := parse_metric(name).protocol)]

    @property
    def metric(self) -> str:
        """The main metric."""
        return self.metrics[0]

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The directions that were evaluated."""
        return self.rows[0].repeats.directions

    @property
    def reference(self) -> str:
        """Label of the method that the others are compared with."""
        return self.baseline or self.rows[0].label

    @property
    def tested(self) -> str:
        """The metric of the tests: the main one, or the mean rank if that is a median rank."""
        return parse_metric(self.metric).row.median_of or self.metric

    @cached_property
    def comparisons(self) -> dict[str | None, list[Comparison]]:
        """Tests of all pairs of methods, by direction; None is the mean over the directions.

        Holm's correction is applied to each direction separately. Empty if there is one method.
        """
        if len(self.rows) < 2:
            return {}
        evaluations = {row.label: _with_means(row.repeats.averaged) for row in self.rows}
        n_pairs = len(self.rows) * (len(self.rows) - 1) // 2
        # Enough for the smallest p-value to be below the level after the correction.
        n_resamples = max(_RESAMPLES, 100 * n_pairs)
        families: list[str | None] = [*self.directions]
        if all(ev.groups.get(d) is not None for ev in evaluations.values()
               for d in self.directions):  # fmt: skip
            families.insert(0, None)
        return {
            family: compare(evaluations, self.tested, family, n_resamples=n_resamples)
            for family in families
        }

    @cached_property
    def differences(self) -> list[Comparison]:
        """Tests of the planned pairs only, corrected for their number."""
        evaluations = {row.label: _with_means(row.repeats.averaged) for row in self.rows}
        return compare(evaluations, self.tested, None, pairs=self.planned) if self.planned else []

    def difference_by_seed(self, first: str, second: str) -> list[float]:
        """Return the difference of two methods in the tested metric, for each seed.

        If one of them has a single seed, it is compared with every seed of the other.
        """
        rows = {row.label: row.repeats for row in self.rows}
        pair = [
            [_with_means(each).mean(None, self.tested) for each in rows[label].evaluations]
            for label in (first, second)
        ]
        n = max(map(len, pair))
        one, other = (values * n if len(values) == 1 else values for values in pair)
        return [a - b for a, b in zip(one, other)]

    @property
    def greater(self) -> bool:
        """True if a larger value of the tested metric is better."""
        return parse_metric(self.tested).greater_is_better

    @cached_property
    def ranks(self) -> dict[str, tuple[int, int]]:
        """Ranks that each method may have by the main metric, averaged over the directions."""
        if not self.comparisons:
            return {row.label: (1, 1) for row in self.rows}
        means = {row.label: row.repeats.mean(None, self.metric) for row in self.rows}
        greater = parse_metric(self.metric).greater_is_better
        return rank_ranges(
            means, self.comparisons.get(None, []), level=LEVEL, greater_is_better=greater
        )

    def p_value(self, label: str, other: str | None = None, direction: str | None = None) -> float:
        """Return the adjusted p-value between two methods; NaN if they were not compared.

        Parameters
        ----------
        label : str
            Label of one method.
        other : str, optional
            Label of the other method; by default `reference`.
        direction : str, optional
            A direction; by default the mean over the directions.
        """
        pair = {label, self.reference if other is None else other}
        for test in self.comparisons.get(direction, ()):
            if {test.first, test.second} == pair:
                return test.p_adjusted
        return math.nan

    def to_frame(self) -> Any:
        """Return all figures as a pandas DataFrame, one per row; pandas must be installed.

        Returns
        -------
        pandas.DataFrame
            The columns of the table ``leaderboard.csv`` of a report: ``dataset, method, direction,
            metric, value, low, high, seed_sd, seeds`` and others.
        """
        from crossfit.report.text_tables import csv_rows

        head, *rows = csv_rows([self])
        return frame_of([dict(zip(head, row, strict=True)) for row in rows], head)

    def _shown(self) -> tuple[list[str], list[list[str]]]:
        """Return head and rows of a short table: rank, method, the figures and p-values."""
        from crossfit.report.columns import columns_of

        rank, *others = (column for column in columns_of(self) if column.is_in("markdown"))
        head = [rank.head, "method", *(column.alone or column.head for column in others)]
        rows = [
            [rank.row(row).text, row.label, *(column.row(row).text for column in others)]
            for row in self.rows
        ]
        if self.chance:
            figures = [column.chance.text for column in others]
            rows.append([rank.chance.text, "chance", *figures])
        return head, rows

    def _repr_html_(self) -> str:
        words = f": {text_of(self.about, 300)}" if self.about else ""
        return html_table(f"{self.title}{words}", *self._shown())

    def __repr__(self) -> str:
        head, rows = self._shown()
        return "\n".join([f"Board({self.title!r}, {len(self.rows)} methods)",
                          *aligned([head, *rows])])  # fmt: skip


def _with_means(evaluation: Evaluation) -> Evaluation:
    """Add the values of medians under the names of the means: those of ``medr`` as ``meanr``."""
    extra: dict[tuple[Direction, str], Any] = {
        (direction, mean): np.array(evaluation.per_query[direction, metric])
        for direction, metric in evaluation.per_query
        if (mean := parse_metric(metric).row.median_of)
    }
    if not extra:
        return evaluation
    values = {**{key: evaluation.per_query[key] for key in evaluation.per_query}, **extra}
    return replace(evaluation, per_query=evaluation.per_query.holding(values))
