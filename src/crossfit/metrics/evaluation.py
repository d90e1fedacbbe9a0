"""Evaluation of a score matrix: measures per query in both directions, means and intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfit._arguments import integer, is_word, shown, validated
from crossfit._arrays import NUMPY_DEFAULTS
from crossfit._frames import frame_of
from crossfit._html import html_table
from crossfit._random import draw_seed
from crossfit._warnings import warn
from crossfit.labels import check_labels, labelled
from crossfit.metrics.directions import Direction, chosen
from crossfit.metrics.intervals import (
    bootstrap,
    check_ci,
    group_codes,
    summarize,
)
from crossfit.metrics.names import Measure, parse_metric, parse_metrics
from crossfit.metrics.ranking import (
    TIES,
    all_tied_groups,
    check_scores,
    check_shape,
    map_blocks,
    measure_queries,
)
from crossfit.metrics.relevance import MatrixRelevance, Relevance, as_relevance

Floats = NDArray[np.float64]

RESAMPLES = 1000

#: Number of queries whose relevant items are in memory at once, for chance.
_QUERIES = 512


class PerQuery(Mapping[tuple[str, str], Floats]):
    """Read-only mapping from a direction and a metric, in any accepted spelling, to values.

    Parameters
    ----------
    values : mapping of (Direction, metric) to ndarray of shape (n_queries,), float64
        Values per query, with canonical names of metrics.
    sides : mapping of str to Direction, optional
        The directions that ``forward`` and ``backward`` denote.
    """

    def __init__(
        self,
        values: Mapping[tuple[Direction, str], Floats],
        sides: Mapping[str, Direction] | None = None,
    ) -> None:
        self._values = dict(values)
        self._sides = dict(sides or {})
        for array in self._values.values():
            array.flags.writeable = False

    def key(self, direction: str, metric: str) -> tuple[Direction, str]:
        """Return the canonical key of a direction and a metric, which must have been evaluated."""
        known = list(dict.fromkeys(d for d, _ in self._values))
        if not isinstance(direction, str):
            raise TypeError(
                f"direction: {shown(direction)} is not a string; use one of {', '.join(known)}"
            )
        try:
            found = chosen(self._sides.get(direction, direction), known)
        except ValueError as error:
            raise KeyError(str(error)) from None
        name = parse_metric(metric).name
        if (found, name) not in self._values:
            evaluated = ", ".join(m for d, m in self._values if d == found)
            raise KeyError(f"metric: {name} was not evaluated; use one of {evaluated}")
        return found, name

    def holding(self, values: Mapping[tuple[Direction, str], Floats]) -> PerQuery:
        """Return a mapping of other values that accepts the same spellings of directions."""
        return PerQuery(values, self._sides)

    def __getitem__(self, key: tuple[str, str]) -> Floats:
        return self._values[self.key(*key)]

    def __iter__(self) -> Iterator[tuple[Direction, str]]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Values of ranking measures per query, with their means and intervals.

    Parameters
    ----------
    per_query : mapping of (direction, metric) to ndarray of shape (n_queries,), float64
        Values per query, read-only. A query without a relevant item is excluded; its values are
        NaN.
    directions : tuple of Direction
        For example ``("image2text", "text2image")``. Methods accept a direction as its key, its
        initials (``i2t``), ``"forward"`` or ``"backward"``.
    metrics : tuple of str
        Canonical names.
    ties : str, default="expected"
        Rule by which tied items were ranked.
    ci : float or None, default=0.95
        Coverage of the intervals; None if there are none.
    seed : int, default=0
        Seed of the bootstrap.
    groups : mapping of direction to ndarray of shape (n_queries,) or None
        Groups of queries that are resampled together; None if every query is independent.

    See Also
    --------
    evaluate : Make one from scores.

    Examples
    --------
    >>> ev = evaluate([[0.9, 0.1], [0.4, 0.3]], ([0, 1], [0, 1]), "map@all", ci=None)
    >>> ev.per_query["forward", "map@all"].tolist(), ev.mean("forward", "map@all")
    ([1.0, 0.5], 0.75)
    """

    per_query: PerQuery
    directions: tuple[Direction, ...]
    metrics: tuple[str, ...]
    ties: str = "expected"
    ci: float | None = 0.95
    seed: int = 0
    groups: Mapping[str, NDArray[np.intp] | None] = field(default_factory=dict)

    def mean(self, direction: str | None, metric: str) -> float:
        """Return the mean over the queries (for ``medr`` the median).

        Parameters
        ----------
        direction : str or None
            A direction; None for the mean over the directions.
        metric : str
            A metric that was evaluated.

        Returns
        -------
        float
        """
        if direction is None:
            return float(np.mean([self.mean(each, metric) for each in self.directions]))
        values = self.per_query[direction, metric]
        return float(summarize(values[~np.isnan(values)], parse_metric(metric).statistic))

    def interval(self, direction: str, metric: str) -> tuple[float, float]:
        """Return the percentile bootstrap interval over queries.

        It is computed from 1000 resamples, which keep the queries of a group together.

        Parameters
        ----------
        direction, metric : str
            A direction and a metric that were evaluated. There are no intervals for the mean over
            directions: the directions share their items, so their errors are not independent.

        Returns
        -------
        low, high : float

        Raises
        ------
        ValueError
            If the evaluation was made with ``ci=None``.
        """
        key = self.per_query.key(direction, metric)
        if self.ci is None:
            raise ValueError("ci=None computes no intervals; evaluate with a coverage such as 0.95")
        return self._intervals[key]

    @cached_property
    def _intervals(self) -> dict[tuple[str, str], tuple[float, float]]:
        assert self.ci is not None
        found: dict[tuple[str, str], tuple[float, float]] = {}
        for direction in self.directions:
            for names, kept, codes in self._samples(direction):
                columns = [self.per_query[direction, name][kept] for name in names]
                statistics = [parse_metric(name).statistic for name in names]
                ranges = bootstrap(columns, statistics, codes, self.ci, RESAMPLES, self.seed)
                found.update(zip(((direction, name) for name in names), ranges, strict=True))
        return found

    def _samples(
        self, direction: str
    ) -> Iterator[tuple[list[str], NDArray[np.bool_], NDArray[np.intp]]]:
        """Yield names of metrics, a mask of the queries that have values, and their group codes.

        Metrics that have values for the same queries are yielded together. If pairs are only
        partly labelled, the queries with an average precision differ from those with a rank.
        """
        alike: dict[bytes, list[str]] = {}
        for name in self.metrics:
            missing = np.isnan(self.per_query[direction, name])
            alike.setdefault(missing.tobytes(), []).append(name)
        for names in alike.values():
            kept = ~np.isnan(self.per_query[direction, names[0]])
            yield names, kept, self._codes(direction, kept)

    def _codes(self, direction: str, kept: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Return codes 0, 1, ... of the groups of some queries, which are resampled together."""
        groups = self.groups.get(direction)
        return group_codes(None if groups is None else groups[kept], int(kept.sum()))

    def rows(self) -> list[dict[str, Any]]:
        """Return one dict per direction and metric.

        Returns
        -------
        list of dict
            Keys ``direction, metric, value, low, high, n_queries, n_excluded``. `n_queries` is
            the number of queries that have a value; `low` and `high` are NaN with ``ci=None``.
        """
        found: list[dict[str, Any]] = []
        for direction in self.directions:
            for metric in self.metrics:
                excluded = int(np.isnan(self.per_query[direction, metric]).sum())
                low, high = (np.nan, np.nan)
                if self.ci is not None:
                    low, high = self.interval(direction, metric)
                found.append(
                    {
                        "direction": direction,
                        "metric": metric,
                        "value": self.mean(direction, metric),
                        "low": low,
                        "high": high,
                        "n_queries": len(self.per_query[direction, metric]) - excluded,
                        "n_excluded": excluded,
                    }
                )
        return found

    def to_frame(self) -> Any:
        """Return the rows as a pandas DataFrame; pandas must be installed."""
        return frame_of(self.rows())

    def by_class(
        self,
        direction: str,
        metric: str,
        y: ArrayLike,
        names: Sequence[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Return the mean of a metric over the queries of each class.

        Parameters
        ----------
        direction, metric : str
            A direction and a metric that were evaluated.
        y : array-like of shape (n_queries,)
            Labels of the queries; -1 is unlabelled.
        names : sequence of str, optional
            Names of the classes, by label, such as ``target_names`` of a data set.

        Returns
        -------
        list of dict
            Keys ``class, value, n_queries``, sorted by class; `n_queries` is the number of queries
            that have a value, and `value` is NaN if there are none.

        Raises
        ------
        ValueError
            If there is not one label per query, or not a name for each class.

        Examples
        --------
        >>> ev = evaluate([[0.9, 0.1], [0.4, 0.3]], ([0, 1], [0, 1]), "map@all", ci=None)
        >>> ev.by_class("forward", "map@all", [0, 1], ["cat", "dog"])[1]
        {'class': 'dog', 'value': 0.5, 'n_queries': 1}
        """
        values = self.per_query[direction, metric]
        labels = check_labels(y)
        if labels.shape != values.shape:
            raise ValueError(
                f"y must be one label for each of the {len(values)} queries, got shape "
                f"{labels.shape}"
            )
        listed = isinstance(names, list | tuple | np.ndarray) and getattr(names, "ndim", 1) == 1
        if names is not None and not listed:
            raise TypeError(f"names must be a list of the names of classes, got {shown(names)}")
        statistic = parse_metric(metric).statistic
        found = []
        for label in np.unique(labels[labelled(labels)]):
            name = label.item() if hasattr(label, "item") else label
            if names is not None:
                if not isinstance(name, int) or not 0 <= name < len(names):
                    raise ValueError(f"names has {len(names)} names, but there is a class {name!r}")
                name = names[name]
            own = values[labels == label]
            own = own[~np.isnan(own)]
            mean = float(summarize(own, statistic)) if len(own) else float("nan")
            found.append({"class": name, "value": mean, "n_queries": len(own)})
        return found

    def _repr_html_(self) -> str:
        head = ("direction", "metric", "value", "low", "high", "n_queries")
        rows = [[row[name] for name in head] for row in self.rows()]
        intervals = "" if self.ci is None else f", with intervals of {self.ci:.0%}"
        caption = f"Evaluation, ties: {self.ties}{intervals}"
        return html_table(caption, (*head[:-1], "queries"), rows)

    def __repr__(self) -> str:
        rows = self.rows()
        width = max(len(row["direction"]) for row in rows)
        name = max(len(row["metric"]) for row in rows)
        about = f"ties={self.ties!r}" + ("" if self.ci is None else f", ci={self.ci:g}")
        lines = [f"Evaluation({about})"]
        for row in rows:
            line = f"  {row['direction']:<{width}}  {row['metric']:<{name}}  {row['value']:10.4f}"
            if self.ci is not None:
                line += f"  [{row['low']:.4f}, {row['high']:.4f}]"
            line += f"  {row['n_queries']} queries"
            if row["n_excluded"]:
                line += f", {row['n_excluded']} excluded"
            lines.append(line)
        return "\n".join(lines)


#: Numbers of threads, as in joblib, which does not accept 0.
JOBS = [integer(1), integer(None, -1), None]


@validated(random_state=["random_state"], n_jobs=JOBS)
@np.errstate(**NUMPY_DEFAULTS)
def evaluate(
    scores: Any,
    relevance: Any,
    metrics: str | Sequence[str] = ("map@all",),
    *,
    directions: str = "both",
    ties: str = "expected",
    ci: float | None = 0.95,
    random_state: Any = 0,
    groups: tuple[Any, Any] | None = None,
    names: tuple[str, str] = ("query", "gallery"),
    n_jobs: int | None = None,
) -> Evaluation:
    """Evaluate scores of n queries against a gallery of m items.

    Parameters
    ----------
    scores : array-like of shape (n, m), memmap, or iterator of row blocks of shape (b, m)
        Higher is better. float32 and float64 are compared as they are (two floats are tied only
        if they are equal); other numbers are widened without loss. Infinities are allowed, NaN is
        not. In addition to the scores only one block is in memory. An iterator needs
        ``directions="forward"``. Relevant items of a tensor are ranked on its device; only
        their ranks are moved. The values are the same.
    relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery)
        In a matrix, non-zero entries are relevant and are the grades. In a pair, labels are
        either 1-D on both sides (items with the same label are relevant; -1 marks an unlabelled
        item, which is not relevant to any other), or indicators of shape (n, c) and (m, c) (items
        that share a label are relevant; the grade is the number of shared labels). Instance- and
        category-level measures differ only in the relevance that is passed here.
    metrics : str or sequence of str, default=("map@all",)
        ``map@all``, ``map@K:hits|all|min``, ``map@R``, ``r@K:any|fraction|twowaynet``, ``p@K``,
        ``p@R``, ``ndcg@all``, ``ndcg@K``, ``mrr``, ``meanr``, ``medr``, ``medr:vsepp``,
        ``tied``; with ``:adjusted`` after the name, (x - chance)/(1 - chance).
    directions : {"both", "forward", "backward"}, default="both"
        In the backward direction the columns are the queries, as if scores and relevance were
        transposed.
    ties : {"expected", "stable", "worst", "best"}, default="expected"
        How tied items are ranked: ``"expected"`` averages over all their orders, ``"stable"``
        keeps the order of the gallery, ``"worst"`` ranks relevant items last and ``"best"``
        ranks them first.
    ci : float or None, default=0.95
        Coverage of the bootstrap intervals; None if they are not needed.
    random_state : int, RandomState or None, default=0
        Source of randomness of the bootstrap.
    groups : pair of (array-like or None), optional
        Groups of the n rows and of the m columns. Queries of one group (the captions of an
        image) are resampled together.
    names : pair of str, default=("query", "gallery")
        Names of rows and columns; ``("image", "text")`` names the directions ``image2text`` and
        ``text2image``.
    n_jobs : int or None, default=None
        Number of threads, as in joblib; None is 1 unless a joblib context sets another number.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError, TypeError
        If the input has NaN, is empty or misshapen, if a name is unknown, if no query has a
        relevant item, or if a measure is to be adjusted for chance and every ranking is perfect.

    Warns
    -----
    UserWarning
        If queries without a relevant item are excluded.

    See Also
    --------
    chance_level : The expected values of a random ranking.
    compare : Tests between methods.
    tie_range : How far ties could move the values.

    Examples
    --------
    >>> ev = evaluate([[0.9, 0.1], [0.4, 0.3]], ([0, 1], [0, 1]), ["map@all", "r@1"], ci=None)
    >>> ev.mean("forward", "map@all"), ev.mean("backward", "r@1")
    (0.75, 1.0)
    """
    if not is_word(ties, TIES):
        raise ValueError(f"ties must be one of {', '.join(TIES)}, got {shown(ties)}")
    given = (scores, relevance, metrics)
    return evaluations(given, directions, (ties,), ci, random_state, groups, names, n_jobs)[0]


def evaluations(
    given: tuple[Any, Any, str | Sequence[str]],
    directions: str,
    rules: Sequence[str],
    ci: float | None,
    random_state: Any,
    groups: tuple[Any, Any] | None,
    names: tuple[str, str],
    n_jobs: int | None,
) -> list[Evaluation]:
    """Evaluate scores, relevance and metrics by several tie rules, in one pass over the scores."""
    scores, relevance, metrics = given
    check_scores(scores)
    measures = parse_metrics(metrics)
    labels = sides(directions, names)
    if ci is not None:
        check_ci(ci)
    forward = as_relevance(relevance)
    scores = check_shape(scores, forward.shape, both="backward" in labels)
    codes = _groups(groups, forward.shape, labels)
    wanted = [(rule, measure) for rule in rules for measure in measures]
    values: dict[str, dict[tuple[Direction, str], Floats]] = {rule: {} for rule in rules}
    for side, direction in labels.items():
        backward = side == "backward"
        found = forward.transpose() if backward else forward
        columns = map_blocks(
            [partial(measure_queries, measure) for _, measure in wanted],
            scores,
            found,
            backward=backward,
            ties=["expected" if measure.row.of_ties else rule for rule, measure in wanted],
            first_only=all(measure.needs_first_only for measure in measures),
            graded=any(measure.row.needs_grades for measure in measures),
            n_jobs=n_jobs,
        )
        adjustable = [measure for measure in measures if measure.adjusted]
        chance = dict(zip(adjustable, chance_values(found, adjustable), strict=True))
        for (rule, measure), column in zip(wanted, columns, strict=True):
            if measure in chance:
                column = adjusted_values(column, chance[measure], measure)
            values[rule][direction, measure.name] = column
    warn_of_excluded(values[rules[0]], measures[0].name)
    seed = _seed(random_state)
    return [
        Evaluation(
            PerQuery(values[rule], labels),
            tuple(labels.values()),
            tuple(measure.name for measure in measures),
            rule,
            ci,
            seed,
            codes,
        )
        for rule in rules
    ]


def chance_values(relevance: Relevance, measures: Sequence[Measure]) -> list[Floats]:
    """Return the expected values of each query under random ranking, not adjusted.

    They are those of a constant scorer, but a random ranking has no ties.
    """
    n, m = relevance.shape
    graded = relevance.graded and any(measure.row.needs_grades for measure in measures)
    parts: list[list[Floats]] = [[] for _ in measures]
    # The relevant items of a matrix are in memory anyway.
    step = n if isinstance(relevance, MatrixRelevance) else _QUERIES
    for start in range(0, n, step):
        rows = relevance.rows(start, min(start + step, n))
        groups = all_tied_groups(rows, m, graded)
        for part, measure in zip(parts, measures, strict=True):
            value = measure_queries(measure, groups)
            part.append(0.0 * value if measure.row.of_ties else value)
    return [np.concatenate(part) for part in parts]


def adjusted_values(values: Floats, chance: Floats, measure: Measure) -> Floats:
    """Return (x - chance)/(1 - chance) with the mean chance over the queries."""
    kept = ~np.isnan(chance)
    level = chance[kept].mean() if kept.any() else np.nan
    if np.isclose(level, 1.0, rtol=0.0, atol=1e-12):
        raise ValueError(
            f"metric {measure.name}: every ranking is perfect, so there is nothing to adjust; use "
            f"the measure without :adjusted"
        )
    adjusted: Floats = (values - level) / (1.0 - level)
    return adjusted


def sides(directions: str, names: tuple[str, str]) -> dict[str, Direction]:
    """Return the requested directions by side, ``forward`` and ``backward``.

    `names` are the names of the rows and the columns.
    """
    pair = isinstance(names, tuple | list) and all(isinstance(name, str) for name in names)
    if not pair or len(names) != 2 or names[0] == names[1] or not all(names):
        raise ValueError(f"names: {shown(names)} is not a pair; give two different strings")
    forward = Direction(*names)
    if forward == forward.reverse:
        raise ValueError(
            f"names: {shown(names)} have one key for both directions; rename one of them"
        )
    both = {"forward": forward, "backward": forward.reverse}
    if not is_word(directions, ("both", *both)):
        raise ValueError(f"directions must be both, forward or backward, got {shown(directions)}")
    return both if directions == "both" else {directions: both[directions]}


def _groups(
    groups: tuple[Any, Any] | None, shape: tuple[int, int], labels: Mapping[str, Direction]
) -> dict[str, NDArray[np.intp] | None]:
    if groups is None:
        return {}
    if not isinstance(groups, tuple | list) or len(groups) != 2:
        raise ValueError("groups must be a pair (row_groups, column_groups); either may be None")
    sides = dict(zip(("forward", "backward"), zip(groups, shape, strict=True), strict=True))
    found: dict[str, NDArray[np.intp] | None] = {}
    for side, direction in labels.items():
        group, n = sides[side]
        found[direction] = None if group is None else group_codes(group, n)
    return found


def warn_of_excluded(values: Mapping[tuple[Direction, str], Floats], metric: str) -> None:
    """Warn if queries without a relevant item are excluded, and raise if none are left."""
    parts = []
    for (direction, name), column in values.items():
        if name != metric:
            continue
        excluded = int(np.isnan(column).sum())
        if excluded == len(column):
            raise ValueError(f"no query of {direction} has a relevant item in the gallery")
        if excluded:
            parts.append(f"{excluded} of {len(column)} queries of {direction}")
    if parts:
        warn(f"{' and '.join(parts)} have no relevant item and are excluded")


def _seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return draw_seed(random_state)
