"""Abstention: how much better a metric becomes without the queries of least confidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfit._arguments import integer, is_word, shown, validated
from crossfit._arrays import NUMPY_DEFAULTS
from crossfit._frames import frame_of
from crossfit._html import html_table
from crossfit._random import random_source
from crossfit.metrics.directions import Direction
from crossfit.metrics.evaluation import JOBS, RESAMPLES, Evaluation, evaluate, sides
from crossfit.metrics.intervals import query_values, resampled_counts, tails
from crossfit.metrics.names import parse_metric
from crossfit.metrics.ranking import score_blocks

__all__ = ["Abstention", "abstention", "nauc"]

Floats = NDArray[np.float64]

CONFIDENCES = ("max", "std", "diff1")
#: Shares of queries that are left out.
_RATES = np.linspace(0.0, 1.0, 11)[:-1]


@np.errstate(**NUMPY_DEFAULTS)
def nauc(confidence: ArrayLike, values: ArrayLike) -> float:
    r"""Compute the normalised area under the abstention curve [1]_.

    The curve is the mean value of the queries that are left if the share 0, .1, ..., .9 of least
    confidence is left out. Its area A is compared with that of a confidence without information,
    F, whose curve is flat, and that of an oracle, O, which leaves out the lowest values:
    :math:`(A - F) / (O - F)`. Queries with the same confidence are left out together, each with
    their mean value, so that their order does not matter.

    Parameters
    ----------
    confidence : array-like of shape (n,)
        Confidence of each query.
    values : array-like of shape (n,)
        Value of a metric for each query, greater is better; NaN marks an excluded query.

    Returns
    -------
    float
        1 for the oracle, about 0 without information, negative if confident queries are worse;
        NaN if all values are equal.

    Raises
    ------
    ValueError, TypeError
        If the arrays are not 1-D real numbers of the same length, are infinite, or have no query
        in common.

    See Also
    --------
    abstention : Compute it from scores, with intervals.

    References
    ----------
    .. [1] Gisserot-Boukhlef, Faysse, Malherbe, Hudelot and Colombo, "Towards Trustworthy
           Reranking: A Simple yet Effective Abstention Mechanism", TMLR 2024.

    Examples
    --------
    >>> nauc([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1])
    1.0
    """
    given = query_values(confidence, "confidence"), query_values(values, "values")
    if given[0].shape != given[1].shape:
        raise ValueError(
            f"confidence and values must be of the same queries, got shapes {given[0].shape} and "
            f"{given[1].shape}"
        )
    kept = ~np.isnan(given[0] + given[1])
    if not kept.any():
        raise ValueError("confidence and values have no query in common; one of them is NaN")
    certain, found = (array[kept] for array in given)
    return float(_naucs(certain, found, np.ones((1, len(found)), np.int64))[0])


def _naucs(confidence: Floats, values: Floats, weights: NDArray[np.int64]) -> Floats:
    """Return the normalised area for each row of `weights`, of shape (b, n): counts of queries."""
    flat = (weights @ values) / weights.sum(axis=1) * (_RATES[-1] - _RATES[0])
    found = np.trapezoid(_curves(confidence, values, weights), _RATES) - flat
    oracle = np.trapezoid(_curves(values, values, weights), _RATES) - flat
    scale = np.abs(values).max(initial=0.0)
    return np.divide(found, oracle, out=np.full(len(flat), np.nan), where=oracle > 1e-12 * scale)


def _curves(confidence: Floats, values: Floats, weights: NDArray[np.int64]) -> Floats:
    """Return the mean of what is left at each rate, for each row of weights; shape (b, rates)."""
    order = np.argsort(confidence, kind="stable")
    start = np.flatnonzero(np.diff(confidence[order], prepend=np.nan) != 0)
    counts = np.add.reduceat(weights[:, order], start, axis=1)
    sums = np.add.reduceat(weights[:, order] * values[order], start, axis=1)
    counts, sums = (np.pad(np.cumsum(part, axis=1), ((0, 0), (1, 0))) for part in (counts, sums))
    n = counts[:, -1:]
    gone = np.minimum(np.rint(_RATES * n), n - 1)
    # Within a group of equal confidence the sum grows evenly, by the mean of the group.
    out = np.array([np.interp(g, c, s) for g, c, s in zip(gone, counts, sums, strict=True)])
    return (sums[:, -1:] - out) / (n - gone)


@dataclass(frozen=True, eq=False, repr=False)
class Abstention:
    """Values and confidences of queries, and how well the confidences foretell the values.

    Parameters
    ----------
    evaluation : Evaluation
        Values of one metric.
    confidence : dict of (Direction, str) to ndarray of shape (n_queries,), float64
        ``max``, ``std`` and ``diff1`` of each query.

    See Also
    --------
    abstention : Make one from scores.

    Examples
    --------
    >>> scores = [[0.9, 0.1, 0.0], [0.5, 0.4, 0.3], [0.2, 0.1, 0.1]]
    >>> found = abstention(scores, np.eye(3), "r@1", directions="forward", ci=None)
    >>> found.nauc("forward"), found.confidence["query2gallery", "max"].tolist()
    (1.0, [0.9, 0.5, 0.2])
    """

    evaluation: Evaluation
    confidence: dict[tuple[Direction, str], Floats]

    def __post_init__(self) -> None:
        given = self.evaluation
        if not isinstance(given, Evaluation) or len(given.metrics) != 1:
            raise TypeError(
                "evaluation must be what crossfit.evaluate returns for one metric, got "
                f"{type(given).__name__}"
            )
        measure = parse_metric(given.metrics[0])
        if measure.row.median_of:
            raise ValueError(
                f"metric: {measure.name} is a median, but the curve is of means; use "
                f"{measure.row.median_of}"
            )
        wanted = {(direction, name) for direction in given.directions for name in CONFIDENCES}
        if type(self.confidence) is not dict or wanted - set(self.confidence):
            raise ValueError(
                f"confidence must be a dict from each direction and {', '.join(CONFIDENCES)} to an "
                f"array, got {shown(self.confidence)}"
            )

    @property
    def metric(self) -> str:
        """The metric that was evaluated."""
        return self.evaluation.metrics[0]

    @property
    def _sign(self) -> float:
        return 1.0 if parse_metric(self.metric).greater_is_better else -1.0

    def _sample(self, direction: str, confidence: str) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        if not is_word(confidence, CONFIDENCES):
            raise ValueError(
                f"confidence must be one of {', '.join(CONFIDENCES)}, got {shown(confidence)}"
            )
        key = self.evaluation.per_query.key(direction, self.metric)
        values = self.evaluation.per_query[key]
        kept = ~np.isnan(values)
        return self.confidence[key[0], confidence][kept], self._sign * values[kept], kept

    def nauc(self, direction: str, confidence: str = "max") -> float:
        """Return the normalised area under the abstention curve, see `crossfit.metrics.nauc`.

        Parameters
        ----------
        direction : str
            A direction that was evaluated.
        confidence : {"max", "std", "diff1"}, default="max"
            The highest score of a query, the standard deviation of its scores, or the difference
            of its two highest scores.

        Returns
        -------
        float
            Of the negated values if smaller ones are better.
        """
        return nauc(*self._sample(direction, confidence)[:2])

    def curve(self, direction: str, confidence: str = "max") -> tuple[Floats, Floats]:
        """Return the mean value of the queries that are left, over the share that is left out.

        Parameters
        ----------
        direction, confidence : str
            As in `nauc`.

        Returns
        -------
        rates, means : ndarray of shape (10,), float64
        """
        certain, values, _ = self._sample(direction, confidence)
        ones = np.ones((1, len(values)), np.int64)
        return _RATES.copy(), self._sign * _curves(certain, values, ones)[0]

    def interval(self, direction: str, confidence: str = "max") -> tuple[float, float]:
        """Return the percentile bootstrap interval of `nauc`, from 1000 resamples of groups.

        Parameters
        ----------
        direction, confidence : str
            As in `nauc`.

        Returns
        -------
        low, high : float

        Raises
        ------
        ValueError
            If the evaluation was made with ``ci=None``.
        """
        self._sample(direction, confidence)
        if self.evaluation.ci is None:
            raise ValueError("ci=None computes no intervals; evaluate with a coverage such as 0.95")
        return self._intervals[self.evaluation.per_query.key(direction, self.metric)[0], confidence]

    @cached_property
    def _intervals(self) -> dict[tuple[Direction, str], tuple[float, float]]:
        assert self.evaluation.ci is not None
        found = {}
        for direction in self.evaluation.directions:
            for confidence in CONFIDENCES:
                certain, values, kept = self._sample(direction, confidence)
                codes = self.evaluation._codes(direction, kept)
                rng = random_source(self.evaluation.seed)
                draws = [
                    _naucs(certain, values, part[:, codes])
                    for counts in resampled_counts(int(codes.max()) + 1, RESAMPLES, rng)
                    for part in np.array_split(counts, -(-counts.shape[0] // 64))
                ]
                areas = np.concatenate(draws)
                areas = areas[~np.isnan(areas)]
                low, high = (
                    np.quantile(areas, tails(self.evaluation.ci)) if len(areas) else (np.nan,) * 2
                )
                found[direction, confidence] = float(low), float(high)
        return found

    def rows(self) -> list[dict[str, Any]]:
        """Return one dict per direction and confidence.

        Returns
        -------
        list of dict
            Keys ``direction, metric, confidence, nauc, low, high``; `low` and `high` are NaN
            with ``ci=None``.
        """
        found = []
        for direction in self.evaluation.directions:
            for confidence in CONFIDENCES:
                bounds = (np.nan, np.nan)
                if self.evaluation.ci is not None:
                    bounds = self.interval(direction, confidence)
                found.append(
                    {
                        "direction": direction,
                        "metric": self.metric,
                        "confidence": confidence,
                        "nauc": self.nauc(direction, confidence),
                        "low": bounds[0],
                        "high": bounds[1],
                    }
                )
        return found

    def to_frame(self) -> Any:
        """Return the rows as a pandas DataFrame; pandas must be installed."""
        return frame_of(self.rows())

    def _repr_html_(self) -> str:
        rows = self.rows()
        return html_table("Abstention", list(rows[0]), [list(row.values()) for row in rows])

    def __repr__(self) -> str:
        rows = self.rows()
        width = max(len(row["direction"]) for row in rows)
        lines = [f"Abstention({self.metric!r})"]
        for row in rows:
            line = f"  {row['direction']:<{width}}  {row['confidence']:<5}  {row['nauc']:8.4f}"
            if self.evaluation.ci is not None:
                line += f"  [{row['low']:.4f}, {row['high']:.4f}]"
            lines.append(line)
        return "\n".join(lines)


@validated(top=[integer(1), None], random_state=["random_state"], n_jobs=JOBS)
@np.errstate(**NUMPY_DEFAULTS)
def abstention(
    scores: Any,
    relevance: Any,
    metric: str = "map@all",
    *,
    top: int | None = None,
    directions: str = "both",
    ties: str = "expected",
    ci: float | None = 0.95,
    random_state: Any = 0,
    groups: tuple[Any, Any] | None = None,
    names: tuple[str, str] = ("query", "gallery"),
    n_jobs: int | None = None,
) -> Abstention:
    """Measure whether the scores of a query foretell how well it is answered.

    A system may leave a query unanswered if it is not confident. The confidences are those of
    MTEB: the highest score (``max``), the standard deviation of the scores (``std``) and the
    difference of the two highest scores (``diff1``).

    Parameters
    ----------
    scores : array-like of shape (n, m) or memmap
        Higher is better, see `evaluate`. One block at a time is in memory in addition.
    relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery)
        See `evaluate`.
    metric : str, default="map@all"
        See `evaluate`; not a median.
    top : int or None, default=None
        Number of highest scores from which ``std`` is computed; None for all. MTEB has the 1000
        best items of a query.
    directions, ties, ci, random_state, groups, names, n_jobs
        See `evaluate`.

    Returns
    -------
    Abstention

    Raises
    ------
    ValueError, TypeError
        As `evaluate`, and if scores are infinite or given as an iterator.

    See Also
    --------
    nauc : The area for any confidences and values.

    Examples
    --------
    >>> scores = [[0.9, 0.1, 0.0], [0.5, 0.4, 0.3], [0.2, 0.1, 0.1]]
    >>> abstention(scores, np.eye(3), "r@1", directions="forward", ci=None)
    Abstention('r@1')
      query2gallery  max      1.0000
      query2gallery  std      1.0000
      query2gallery  diff1    1.0000
    """
    if isinstance(scores, Iterator):
        raise ValueError("scores: an iterator is read only once; pass an array or a memory map")
    if isinstance(metric, str) and (mean := parse_metric(metric).row.median_of):
        raise ValueError(f"metric: {metric} is a median, but the curve is of means; use {mean}")
    found = evaluate(
        scores, relevance, metric, directions=directions, ties=ties, ci=ci,
        random_state=random_state, groups=groups, names=names, n_jobs=n_jobs,
    )  # fmt: skip
    certain = {
        (direction, name): values
        for side, direction in sides(directions, names).items()
        for name, values in confidences(scores, side == "backward", top).items()
    }
    if not all(np.isfinite(values).all() for values in certain.values()):
        raise ValueError("scores must be finite to measure confidence, got infinity")
    return Abstention(found, certain)


@np.errstate(invalid="ignore")  # infinite scores
def confidences(scores: Any, backward: bool = False, top: int | None = None) -> dict[str, Floats]:
    """Return ``max``, ``std`` and ``diff1`` of the scores of each query, block by block.

    They are not finite if scores are infinite.
    """
    parts: list[Floats] = []
    for _, block in score_blocks(scores, backward):
        m = block.shape[1]
        if top is not None and top < m:
            block = np.partition(block, m - top, axis=1)[:, m - top :]
            m = top
        pair = np.partition(block, m - 2, axis=1)[:, m - 2 :] if m > 1 else block[:, [0, 0]]
        best = pair.astype(np.float64)
        parts.append(np.stack([best[:, 1], block.std(axis=1, dtype=np.float64),
                               best[:, 1] - best[:, 0]]))  # fmt: skip
    return dict(zip(CONFIDENCES, np.concatenate(parts, axis=1), strict=True))
