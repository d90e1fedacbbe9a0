"""Paired tests between methods over the same queries, and Holm's correction for several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfit._random import random_source
from crossfit.metrics.evaluation import Evaluation
from crossfit.metrics.intervals import (
    _CHUNK,
    check_ci,
    check_resamples,
    group_codes,
    resampled_counts,
)
from crossfit.metrics.names import parse_metric


@dataclass(frozen=True)
class PairedTest:
    """Outcome of a paired test.

    Parameters
    ----------
    difference : float
        Mean of a - b over the queries that both have.
    low, high : float
        Percentile bootstrap interval of the difference.
    p_value : float
        Two-sided.
    n : int
        Queries compared.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int


@dataclass(frozen=True)
class Comparison(PairedTest):
    """A paired test between two named methods, one of several.

    Parameters
    ----------
    difference, low, high, p_value, n
        As in `PairedTest`; the difference is `first` - `second`.
    first, second : str
        Names of the methods.
    p_adjusted : float
        Holm's adjusted p-value over the comparisons made together.
    """

    first: str = ""
    second: str = ""
    p_adjusted: float = float("nan")


def paired_test(
    a: ArrayLike,
    b: ArrayLike,
    *,
    method: str = "randomization",
    groups: Any = None,
    n_resamples: int = 10_000,
    ci: float = 0.95,
    random_state: Any = 0,
) -> PairedTest:
    """Test whether two methods differ in their mean over the same queries.

    ``randomization`` exchanges the two values of a query (of all queries of a group) at random;
    ``bootstrap`` resamples queries (groups) and asks how often the resampled difference lies as
    far from the difference found as that lies from 0. Both count the data themselves as one
    resample, so that p is never 0.

    Parameters
    ----------
    a, b : array-like of shape (n,)
        Values per query. A query that is NaN in either is dropped.
    method : {"randomization", "bootstrap"}
        Source of the p-value; the interval is by bootstrap in both.
    groups : array-like of shape (n,), optional
        Queries that are exchanged or resampled together.
    n_resamples : int
        Number of resamples.
    ci : float
        Coverage of the interval.
    random_state : int, RandomState or None
        Source of randomness.

    Returns
    -------
    PairedTest

    Raises
    ------
    ValueError
        On values of different length, none in common, or an unknown method.

    References
    ----------
    Smucker, Allan and Carterette, A comparison of statistical significance tests for information
    retrieval evaluation, CIKM 2007.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(
            f"a and b must be 1-D values of the same queries, got shapes {a.shape} and {b.shape}"
        )
    if method not in ("randomization", "bootstrap"):
        raise ValueError(f"method must be randomization or bootstrap, got {method!r}")
    check_ci(ci)
    check_resamples(n_resamples)
    codes = group_codes(groups, len(a))
    difference = a - b
    kept = ~np.isnan(difference)
    n = int(kept.sum())
    if not n:
        raise ValueError("a and b have no query in common: every pair holds a NaN")
    codes = np.unique(codes[kept], return_inverse=True)[1]
    sums: NDArray[Any] = np.bincount(codes, difference[kept])
    sizes = np.bincount(codes)
    found = sums.sum() / n
    rng = random_source(random_state)
    draws = np.concatenate(
        [
            (counts @ sums) / (counts @ sizes)
            for counts in resampled_counts(len(sums), n_resamples, rng)
        ]
    )
    if method == "randomization":
        null = _exchanged_sums(sums, n_resamples, rng) / n
    else:
        null = draws - found
    # Sums of the same terms in another order differ in the last bits.
    tolerance = 1e-12 * np.abs(sums).sum() / n
    extreme = int((np.abs(null) >= abs(found) - tolerance).sum())
    low, high = np.quantile(draws, [(1.0 - ci) / 2, (1.0 + ci) / 2])
    return PairedTest(float(found), float(low), float(high), (1 + extreme) / (1 + n_resamples), n)


def _exchanged_sums(
    sums: NDArray[np.float64], n_resamples: int, rng: np.random.RandomState
) -> NDArray[np.float64]:
    """Sum of the group sums under random signs; shape (n_resamples,)."""
    n = len(sums)
    step = max(1, _CHUNK // n)
    parts = []
    for start in range(0, n_resamples, step):
        rows = min(step, n_resamples - start)
        raw = np.frombuffer(rng.bytes(-(-rows * n // 8)), np.uint8)
        plus = np.unpackbits(raw, count=rows * n).reshape(rows, n)
        parts.append(2.0 * (plus.astype(np.float64) @ sums) - sums.sum())
    return np.concatenate(parts)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values of several tests by Holm's step-down rule.

    Parameters
    ----------
    p_values : array-like of shape (k,)
        Between 0 and 1.

    Returns
    -------
    ndarray of shape (k,), float64
        Rejecting those below a level keeps the chance of any false rejection below that level.

    Raises
    ------
    ValueError
        If a value is no probability.

    References
    ----------
    Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 1979.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"p_values must be 1-D and between 0 and 1, got {p_values!r}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def compare(
    evaluations: Mapping[str, Evaluation],
    metric: str,
    direction: str,
    *,
    baseline: str | None = None,
    method: str = "randomization",
    n_resamples: int = 10_000,
    ci: float = 0.95,
    random_state: Any = 0,
) -> list[Comparison]:
    """Compare methods evaluated on the same queries, with Holm's correction.

    Parameters
    ----------
    evaluations : mapping of str to Evaluation
        At least two, of the same queries in the same order; groups are taken from them.
    metric, direction : str
        What all of them evaluated. ``medr`` is refused, since the tests are of means: compare
        ``meanr``.
    baseline : str, optional
        Compare the others with this one; by default every pair is compared.
    method, n_resamples, ci, random_state
        As in `paired_test`.

    Returns
    -------
    list of Comparison
        In the order given; all of them are corrected together.

    Raises
    ------
    ValueError
        On fewer than two evaluations, other numbers of queries or groups, an unknown baseline.
    """
    names = list(evaluations)
    if len(names) < 2:
        raise ValueError(f"compare needs at least two evaluations, got {len(names)}")
    if baseline is not None and baseline not in evaluations:
        raise ValueError(f"baseline {baseline!r} is none of {', '.join(names)}")
    if parse_metric(metric).kind == "medr":
        raise ValueError("medr is a median and the paired tests are of means: compare meanr")
    values, groups = {}, {}
    for name, evaluation in evaluations.items():
        key = evaluation.per_query.key(direction, metric)
        values[name] = evaluation.per_query[key]
        groups[name] = evaluation.groups.get(key[0])
    reference = names[0]
    for name in names[1:]:
        if len(values[name]) != len(values[reference]) or not _same(
            groups[name], groups[reference]
        ):
            raise ValueError(
                f"{name} and {reference} were not evaluated on the same queries and groups"
            )
    if baseline is None:
        pairs = list(combinations(names, 2))
    else:
        pairs = [(name, baseline) for name in names if name != baseline]
    tests = [
        paired_test(
            values[first],
            values[second],
            method=method,
            groups=groups[reference],
            n_resamples=n_resamples,
            ci=ci,
            random_state=random_state,
        )
        for first, second in pairs
    ]
    comparisons = [
        Comparison(**vars(test), first=first, second=second)
        for test, (first, second) in zip(tests, pairs, strict=True)
    ]
    adjusted = holm([test.p_value for test in tests])
    return [
        replace(comparison, p_adjusted=float(p))
        for comparison, p in zip(comparisons, adjusted, strict=True)
    ]


def _same(a: NDArray[np.intp] | None, b: NDArray[np.intp] | None) -> bool:
    return (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))
