"""Evaluate a score matrix: measures per query in both directions, their means and intervals."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import integer, is_word, one_of, shown, validated
from crossfit._arrays import NUMPY_DEFAULTS
from crossfit._random import draw_seed
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
    check_shape,
    map_blocks,
    measure_queries,
)
from crossfit.metrics.relevance import Relevance, as_relevance

Floats = NDArray[np.float64]

_RESAMPLES = 1000
#: Queries whose relevant items are gathered at once for the chance level.
_CHANCE_QUERIES = 512


class PerQuery(Mapping[tuple[str, str], Floats]):
    """Read-only values per query, keyed by (direction, metric) in any accepted spelling."""

    def __init__(
        self, values: Mapping[tuple[str, str], Floats], aliases: Mapping[str, str]
    ) -> None:
        self._values = dict(values)
        self._aliases = dict(aliases)
        for array in self._values.values():
            array.flags.writeable = False

    def key(self, direction: str, metric: str) -> tuple[str, str]:
        """Canonical key of a direction and a metric, which must have been evaluated."""
        known = list(dict.fromkeys(d for d, _ in self._values))
        if not isinstance(direction, str):
            raise TypeError(
                f"a direction is named by a string, one of {', '.join(known)}, got "
                f"{shown(direction)}"
            )
        found = self._aliases.get(direction, direction)
        if found not in known:
            raise KeyError(f"no direction {direction!r}: there is {', '.join(known)}")
        name = parse_metric(metric).name
        if (found, name) not in self._values:
            there = ", ".join(m for d, m in self._values if d == found)
            raise KeyError(f"{name} was not evaluated: there is {there}")
        return found, name

    def __getitem__(self, key: tuple[str, str]) -> Floats:
        return self._values[self.key(*key)]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Values of ranking measures, per query and summed up.

    Parameters
    ----------
    per_query : mapping of (direction, metric) to ndarray of shape (n_queries,), float64
        Values per query, NaN where the query has no relevant item and is excluded. Read-only.
    directions : tuple of str
        For example ``("image2text", "text2image")``. Everywhere a direction is asked for,
        ``forward``, ``backward`` and initials (``i2t``) do as well.
    metrics : tuple of str
        Canonical names.
    ties : str
        The tie rule used.
    ci : float or None
        Coverage of the intervals.
    seed : int
        Seed of the bootstrap.
    groups : mapping of direction to ndarray of shape (n_queries,) or None
        Queries that are resampled together.
    """

    per_query: PerQuery
    directions: tuple[str, ...]
    metrics: tuple[str, ...]
    ties: str = "expected"
    ci: float | None = 0.95
    seed: int = 0
    groups: Mapping[str, NDArray[np.intp] | None] = field(default_factory=dict)

    def mean(self, direction: str | None, metric: str) -> float:
        """Mean over the queries (for ``medr`` the median).

        Parameters
        ----------
        direction : str or None
            None is the mean over the directions.
        metric : str
            Any metric evaluated.

        Returns
        -------
        float
        """
        if direction is None:
            return float(np.mean([self.mean(each, metric) for each in self.directions]))
        values = self.per_query[direction, metric]
        return float(summarize(values[~np.isnan(values)], parse_metric(metric).statistic))

    def interval(self, direction: str, metric: str) -> tuple[float, float]:
        """Percentile bootstrap interval over queries; 1000 resamples, groups kept together.

        Parameters
        ----------
        direction, metric : str
            What was evaluated. The mean over directions has no interval: the directions share
            their items, so their errors are not independent.

        Returns
        -------
        low, high : float

        Raises
        ------
        ValueError
            If evaluated with ``ci=None``.
        """
        key = self.per_query.key(direction, metric)
        if self.ci is None:
            raise ValueError("there is no interval: the evaluation was made with ci=None")
        return self._intervals[key]

    @cached_property
    def _intervals(self) -> dict[tuple[str, str], tuple[float, float]]:
        assert self.ci is not None
        found: dict[tuple[str, str], tuple[float, float]] = {}
        for direction in self.directions:
            for names, kept, codes in self._samples(direction):
                columns = [self.per_query[direction, name][kept] for name in names]
                statistics = [parse_metric(name).statistic for name in names]
                ranges = bootstrap(columns, statistics, codes, self.ci, _RESAMPLES, self.seed)
                found.update(zip(((direction, name) for name in names), ranges, strict=True))
        return found

    def _samples(
        self, direction: str
    ) -> Iterator[tuple[list[str], NDArray[np.bool_], NDArray[np.intp]]]:
        """Yield metrics that have a value for the same queries, these, and codes of their groups.

        With partly labelled pairs other queries have a precision than have a rank.
        """
        alike: dict[bytes, list[str]] = {}
        for name in self.metrics:
            missing = np.isnan(self.per_query[direction, name])
            alike.setdefault(missing.tobytes(), []).append(name)
        groups = self.groups.get(direction)
        for names in alike.values():
            kept = ~np.isnan(self.per_query[direction, names[0]])
            own = None if groups is None else groups[kept]
            yield names, kept, group_codes(own, int(kept.sum()))

    def rows(self) -> list[dict[str, Any]]:
        """One dict per direction and metric.

        Returns
        -------
        list of dict
            Keys ``direction, metric, value, low, high, n_queries, n_excluded``; `n_queries`
            counts the queries that have a value; `low` and `high` are NaN with ``ci=None``.
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
        """Return the rows as a pandas DataFrame; needs pandas."""
        import pandas as pd

        return pd.DataFrame(self.rows())

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


# As joblib understands it, for which none is not a number of threads.
_JOBS = [integer(1), integer(None, -1), None]


@validated(random_state=["random_state"], n_jobs=_JOBS)
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
        Higher is better. float32 and float64 are compared as they are (two floats tie only when
        equal), other numbers are widened without loss. Infinities are allowed, NaN is not. Only
        a block is held beside the scores; an iterator serves ``directions="forward"`` alone.
    relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery)
        Non-zero is relevant and holds the grade. A pair of labels is 1-D on both sides (equal
        labels are relevant; -1 is unlabelled and relevant to nothing), or indicators of shape
        (n, c) and (m, c) (a shared label is relevant; the grade is the number shared). Instance-
        and category-level measures differ only by what is passed here.
    metrics : str or sequence of str
        ``map@all``, ``map@K:hits|all|min``, ``r@K:any|fraction``, ``p@K``, ``ndcg@all``,
        ``ndcg@K``, ``mrr``, ``meanr``, ``medr``, ``medr:vsepp``.
    directions : {"both", "forward", "backward"}
        Backward takes the columns as queries, as if scores and relevance were transposed.
    ties : {"expected", "stable", "worst"}
        The mean over all orders of tied items; the gallery's order; relevant items last.
    ci : float or None
        Coverage of the bootstrap intervals, None for none.
    random_state : int, RandomState or None
        Source of randomness of the bootstrap.
    groups : pair of (array-like or None), optional
        Groups of the n queries and of the m gallery items; what shares a group (the captions of
        one image) is resampled together.
    names : pair of str
        Names of rows and columns; ``("image", "text")`` names the directions ``image2text`` and
        ``text2image``.
    n_jobs : int or None
        Threads, as joblib understands it; None is one unless a joblib context says otherwise.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError, TypeError
        On NaN, empty or misshapen input, an unknown name, or when no query has a relevant item.

    Warns
    -----
    UserWarning
        When queries without a relevant item are excluded.

    Examples
    --------
    >>> ev = evaluate([[0.9, 0.1], [0.4, 0.3]], ([0, 1], [0, 1]), ["map@all", "r@1"], ci=None)
    >>> ev.mean("forward", "map@all"), ev.mean("backward", "r@1")
    (0.75, 1.0)
    """
    measures = parse_metrics(metrics)
    labels = _directions(directions, names)
    if not is_word(ties, TIES):
        raise ValueError(f"ties must be one of {', '.join(TIES)}, got {shown(ties)}")
    if ci is not None:
        check_ci(ci)
    forward = as_relevance(relevance)
    scores = check_shape(scores, forward.shape, both="backward" in labels)
    codes = _groups(groups, forward.shape, labels)
    values = {}
    for side, direction in labels.items():
        backward = side == "backward"
        columns = map_blocks(
            [partial(measure_queries, measure) for measure in measures],
            scores,
            forward.transpose() if backward else forward,
            backward=backward,
            ties=ties,
            first_only=all(measure.needs_first_only for measure in measures),
            graded=any(measure.needs_grades for measure in measures),
            n_jobs=n_jobs,
        )
        values.update({(direction, m.name): c for m, c in zip(measures, columns, strict=True)})
    _warn_of_excluded(values, measures[0].name)
    return Evaluation(
        PerQuery(values, _aliases(labels, names)),
        tuple(labels.values()),
        tuple(measure.name for measure in measures),
        ties,
        ci,
        _seed(random_state),
        codes,
    )


@np.errstate(**NUMPY_DEFAULTS)
def chance_level(
    relevance: Any,
    metrics: str | Sequence[str] = ("map@all",),
    *,
    directions: str = "both",
    names: tuple[str, str] = ("query", "gallery"),
) -> Evaluation:
    """Compute the expected values of a scorer that ranks at random.

    Exact, since a random ranking is an all-tied one under ``ties="expected"``: for R relevant
    items among n the AP is (H_n + (R-1)/(n-1) (n - H_n))/n, the first rank (n+1)/(R+1).

    Parameters
    ----------
    relevance, metrics, directions, names
        As in `evaluate`.

    Returns
    -------
    Evaluation
        Expectations per query, without intervals. ``medr`` is the median of expected ranks.

    Examples
    --------
    >>> round(chance_level(([0, 0, 1], [0, 0, 1]), "r@1").mean(None, "r@1"), 4)
    0.5556
    """
    measures = parse_metrics(metrics)
    labels = _directions(directions, names)
    forward = as_relevance(relevance)
    values = {}
    for side, direction in labels.items():
        found = forward.transpose() if side == "backward" else forward
        values.update({(direction, m.name): c for m, c in zip(measures, _chance(found, measures))})
    _warn_of_excluded(values, measures[0].name)
    return Evaluation(
        PerQuery(values, _aliases(labels, names)),
        tuple(labels.values()),
        tuple(measure.name for measure in measures),
        ci=None,
    )


def _chance(relevance: Relevance, measures: Sequence[Measure]) -> list[Floats]:
    n, m = relevance.shape
    graded = relevance.graded and any(measure.needs_grades for measure in measures)
    parts = []
    for start in range(0, n, _CHANCE_QUERIES):
        rows = relevance.rows(start, min(start + _CHANCE_QUERIES, n))
        groups = all_tied_groups(rows, m, graded)
        parts.append([measure_queries(measure, groups) for measure in measures])
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


def _directions(directions: str, names: tuple[str, str]) -> dict[str, str]:
    """Names of the directions asked for, keyed by side."""
    pair = isinstance(names, tuple | list) and all(isinstance(name, str) for name in names)
    if not pair or len(names) != 2 or names[0] == names[1]:
        raise ValueError(f"names must be two different strings, got {shown(names)}")
    rows, columns = names
    both = {"forward": f"{rows}2{columns}", "backward": f"{columns}2{rows}"}
    if not is_word(directions, ("both", *both)):
        raise ValueError(f"directions must be both, forward or backward, got {shown(directions)}")
    return both if directions == "both" else {directions: both[directions]}


def _aliases(labels: Mapping[str, str], names: tuple[str, str]) -> dict[str, str]:
    aliases = dict(labels)
    a, b = (name[:1] for name in names)
    if a != b:
        initials = {"forward": f"{a}2{b}", "backward": f"{b}2{a}"}
        aliases.update({initials[side]: direction for side, direction in labels.items()})
    return aliases


def _groups(
    groups: tuple[Any, Any] | None, shape: tuple[int, int], labels: Mapping[str, str]
) -> dict[str, NDArray[np.intp] | None]:
    if groups is None:
        return {}
    if not isinstance(groups, tuple | list) or len(groups) != 2:
        raise ValueError("groups must be a pair (query_groups, gallery_groups), either may be None")
    sides = dict(zip(("forward", "backward"), zip(groups, shape, strict=True), strict=True))
    found: dict[str, NDArray[np.intp] | None] = {}
    for side, direction in labels.items():
        group, n = sides[side]
        found[direction] = None if group is None else group_codes(group, n)
    return found


def _warn_of_excluded(values: Mapping[tuple[str, str], Floats], metric: str) -> None:
    said = []
    for (direction, name), column in values.items():
        if name != metric:
            continue
        excluded = int(np.isnan(column).sum())
        if excluded == len(column):
            raise ValueError(f"no query of {direction} has a relevant item in the gallery")
        if excluded:
            said.append(f"{excluded} of {len(column)} queries of {direction}")
    if said:
        warnings.warn(f"{' and '.join(said)} have no relevant item and are excluded", stacklevel=3)


def _seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return draw_seed(random_state)


def rsum(evaluation: Evaluation) -> float:
    """Sum of the six recalls of image-text retrieval, in percent (0 to 600).

    Parameters
    ----------
    evaluation : Evaluation
        With ``r@1``, ``r@5`` and ``r@10`` in both directions.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If one of the six is missing.
    """
    if not isinstance(evaluation, Evaluation):
        raise TypeError(
            f"rsum is of what crossfit.evaluate returns, got {type(evaluation).__name__}"
        )
    missing = {"r@1", "r@5", "r@10"}.difference(evaluation.metrics)
    if missing or len(evaluation.directions) != 2:
        raise ValueError(
            "rsum needs r@1, r@5 and r@10 in both directions, got "
            f"{', '.join(evaluation.metrics)} in {', '.join(evaluation.directions)}"
        )
    return 100.0 * sum(
        evaluation.mean(direction, metric)
        for direction in evaluation.directions
        for metric in ("r@1", "r@5", "r@10")
    )


# ---------------------------------------------------------------- one measure, rows as queries


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
    """Average precision of each query, the rows of `scores`.

    Parameters
    ----------
    scores, relevance, ties
        As in `evaluate`.
    k : int or None
        Cut-off, None for the whole gallery.
    denominator : {"hits", "all", "min"}
        With a cut-off, divide by the relevant items found in the first k (the field's habit, and
        optimistic), by all relevant items, or by the smaller of their number and k.

    Returns
    -------
    ndarray of shape (n,), float64
        NaN where nothing is relevant.
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
    """Mean over queries of the average precision, relevance being shared labels.

    Parameters
    ----------
    scores, ties
        As in `evaluate`.
    y_query, y_gallery : array-like
        Labels of rows and columns, 1-D or indicators.
    k, denominator
        As in `average_precision`.

    Returns
    -------
    float

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
    """Recall at k: queries with a hit among the first k, or the fraction found.

    Parameters
    ----------
    scores, relevance, ties
        As in `evaluate`.
    k : int
        Cut-off.
    mode : {"any", "fraction"}
        Success of a query, or the fraction of its relevant items.

    Returns
    -------
    float
    """
    metric = _cut("r", k, mode)
    return _forward(scores, relevance, metric, ties).mean("forward", metric)


@validated(k=[integer(1)])
def precision_at_k(scores: Any, relevance: Any, k: int, *, ties: str = "expected") -> float:
    """Mean over queries of the relevant share of the first k.

    Parameters
    ----------
    scores, relevance, ties
        As in `evaluate`.
    k : int
        Cut-off; the divisor is k even where the gallery is smaller.

    Returns
    -------
    float
    """
    metric = _cut("p", k)
    return _forward(scores, relevance, metric, ties).mean("forward", metric)


def median_rank(scores: Any, relevance: Any, *, ties: str = "expected") -> float:
    """Median over queries of the rank, from 1, of the first relevant item.

    Parameters
    ----------
    scores, relevance, ties
        As in `evaluate`.

    Returns
    -------
    float
    """
    return _forward(scores, relevance, "medr", ties).mean("forward", "medr")


def mean_rank(scores: Any, relevance: Any, *, ties: str = "expected") -> float:
    """Mean over queries of the rank, from 1, of the first relevant item.

    Parameters
    ----------
    scores, relevance, ties
        As in `evaluate`.

    Returns
    -------
    float
    """
    return _forward(scores, relevance, "meanr", ties).mean("forward", "meanr")


def mean_reciprocal_rank(scores: Any, relevance: Any, *, ties: str = "expected") -> float:
    """Mean over queries of 1/rank of the first relevant item.

    Instance- or category-level by what is relevant: the paired item, or all of the same label.

    Parameters
    ----------
    scores, relevance, ties
        As in `evaluate`.

    Returns
    -------
    float
    """
    return _forward(scores, relevance, "mrr", ties).mean("forward", "mrr")


@validated(k=[integer(1), None])
def ndcg(scores: Any, relevance: Any, k: int | None = None, *, ties: str = "expected") -> float:
    """Mean over queries of the normalised discounted cumulative gain.

    Gains are 2^grade - 1, discounts 1/log2(1 + rank), the ideal is over the same gallery.

    Parameters
    ----------
    scores, relevance, ties
        As in `evaluate`.
    k : int or None
        Cut-off, None for the whole gallery.

    Returns
    -------
    float
    """
    metric = _cut("ndcg", k)
    return _forward(scores, relevance, metric, ties).mean("forward", metric)
