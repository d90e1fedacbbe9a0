"""Paired tests between methods over the same queries, with Holm's correction for several tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfit._arguments import is_word, real, shown, validated
from crossfit._arrays import NUMPY_DEFAULTS, in_rows
from crossfit._random import random_source
from crossfit._tabular import Tabular
from crossfit.metrics.evaluation import Evaluation
from crossfit.metrics.intervals import (
    _CHUNK,
    check_ci,
    check_resamples,
    group_codes,
    query_values,
    resampled_counts,
    same_groups,
    tails,
)
from crossfit.metrics.names import parse_metric

#: Largest number of draws for the interval that accompanies a randomisation test.
_DRAWS = 10_000


@dataclass(frozen=True)
class PairedTest(Tabular):
    """Result of a paired test.

    Parameters
    ----------
    difference : float
        Mean of a - b over the queries that have a value in both.
    low, high : float
        Percentile bootstrap interval of the difference.
    p_value : float
        Two-sided p-value.
    n : int
        Number of queries compared.

    See Also
    --------
    paired_test : Returns it.

    Examples
    --------
    >>> test = PairedTest(difference=0.2, low=0.1, high=0.3, p_value=0.01, n=50)
    >>> test.low <= test.difference <= test.high
    True
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int

    def rows(self) -> list[dict[str, Any]]:
        """Return the values as a row.

        Returns
        -------
        list of dict
        """
        return [asdict(self)]

    def _title(self) -> str:
        return f"{type(self).__name__}, {self.n} queries"


@dataclass(frozen=True)
class Comparison(PairedTest):
    """Result of a paired test between two named methods, as one of several tests.

    Parameters
    ----------
    difference, low, high, p_value, n
        As in `PairedTest`; the difference is `first` - `second`.
    first, second : str
        Names of the methods.
    p_adjusted : float
        Holm's adjusted p-value over the comparisons that were made together.

    See Also
    --------
    compare : Returns a list of them.

    Examples
    --------
    >>> test = Comparison(0.2, 0.1, 0.3, 0.01, 50, first="cca", second="pls", p_adjusted=0.03)
    >>> f"{test.first} - {test.second} = {test.difference}"
    'cca - pls = 0.2'
    """

    first: str = ""
    second: str = ""
    p_adjusted: float = float("nan")

    def rows(self) -> list[dict[str, Any]]:
        """Return the values as a row.

        Returns
        -------
        list of dict
        """
        return [{"first": self.first, "second": self.second, **asdict(self)}]


class Comparisons(list[Comparison], Tabular):
    """Paired tests that were made together: a list with a table.

    Parameters
    ----------
    tests : list or tuple of Comparison, default=()
        The tests.

    Raises
    ------
    TypeError
        If they are not such tests.

    See Also
    --------
    compare : Returns it.

    Examples
    --------
    >>> test = Comparison(0.2, 0.1, 0.3, 0.01, 50, first="cca", second="pls", p_adjusted=0.03)
    >>> Comparisons([test])
    Comparisons of 2 methods
      first  second  difference  low     high    p_value  n   p_adjusted
      cca    pls         0.2000  0.1000  0.3000   0.0100  50      0.0300
    """

    __repr__ = Tabular.__repr__

    def __init__(self, tests: Sequence[Comparison] = ()) -> None:
        listed = isinstance(tests, list | tuple)
        if not listed or not all(isinstance(test, Comparison) for test in tests):
            raise TypeError(f"tests must be a list of Comparison, got {shown(tests)}")
        super().__init__(tests)

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per test.

        Returns
        -------
        list of dict
            Keys ``first, second, difference, low, high, p_value, n, p_adjusted``.
        """
        return [test.rows()[0] for test in self]

    def _title(self) -> str:
        names = {name for test in self for name in (test.first, test.second)}
        return f"Comparisons of {len(names)} methods"


@validated(random_state=["random_state"])
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

    The randomization test exchanges the two values of a query (or of all queries of a group) at
    random, and counts the exchanges that give at least the difference found. The bootstrap test
    resamples queries (or groups), and counts the resamples whose difference is at least as far
    from the difference found as that is from 0. Both include the data themselves as one resample,
    so p is never 0.

    Parameters
    ----------
    a, b : array-like of shape (n,)
        Values per query. A query that is NaN in either of them is left out.
    method : {"randomization", "bootstrap"}, default="randomization"
        Test that computes the p-value. The interval is a bootstrap interval for both.
    groups : array-like of shape (n,), optional
        Group of each query; queries of one group are exchanged or resampled together.
    n_resamples : int, default=10_000
        Number of resamples.
    ci : float, default=0.95
        Coverage of the interval.
    random_state : int, RandomState or None, default=0
        Source of randomness.

    Returns
    -------
    PairedTest

    Raises
    ------
    ValueError
        If the values differ in length, are infinite (the message has the rows) or have no query in
        common, or a parameter is invalid.

    See Also
    --------
    compare : Tests between several methods, with a correction.
    bootstrap_interval : An interval for one method.

    References
    ----------
    Smucker, Allan and Carterette, A comparison of statistical significance tests for information
    retrieval evaluation, CIKM 2007.

    Examples
    --------
    >>> test = paired_test([0.9, 0.8, 0.7, 0.9, 0.6, 0.8], [0.5, 0.7, 0.6, 0.6, 0.6, 0.4])
    >>> round(test.difference, 3), round(test.p_value, 3)
    (0.217, 0.064)
    """
    a, b = query_values(a, "a"), query_values(b, "b")
    if a.shape != b.shape:
        raise ValueError(
            f"a and b must be 1-D values of the same queries, got shapes {a.shape} and {b.shape}"
        )
    _check_method(method)
    check_ci(ci)
    check_resamples(n_resamples)
    difference = a - b
    if np.isnan(difference).all():
        raise ValueError("a and b have no query in common; in every pair one value is NaN")
    sides = [(difference[:, None], group_codes(groups, len(a)))]
    return _paired_tests(sides, method, n_resamples, ci, random_state)[0]


def _check_method(method: Any) -> None:
    if not is_word(method, ("randomization", "bootstrap")):
        raise ValueError(f"method must be randomization or bootstrap, got {shown(method)}")


@np.errstate(**NUMPY_DEFAULTS)
def _paired_tests(
    sides: Sequence[tuple[NDArray[np.float64], NDArray[np.intp]]],
    method: str,
    n_resamples: int,
    ci: float,
    random_state: Any,
) -> list[PairedTest]:
    """Test columns of differences, of shape (n_queries, n_pairs), over the same resamples.

    Several sides are several directions, whose queries belong to the same groups and are exchanged
    and drawn with them. The mean over the sides is tested.
    """
    sides = [(values[kept], codes[kept]) for values, codes in sides
             if (kept := ~np.isnan(values).any(axis=1)).any()]  # fmt: skip
    present = np.unique(np.concatenate([codes for _, codes in sides]))
    g = len(present)
    sums, sizes = [], []
    for values, codes in sides:
        at = np.searchsorted(present, codes)
        sums.append(np.stack([np.bincount(at, column, minlength=g) for column in values.T], 1))
        sizes.append(np.bincount(at, minlength=g))
    # The contribution of each group to the mean.
    parts = sum(s / z.sum() for s, z in zip(sums, sizes, strict=True)) / len(sides)
    found = parts.sum(axis=0)
    rng = random_source(random_state)
    randomized = method == "randomization"
    # An interval needs fewer draws than a small p-value does.
    n_draws = min(n_resamples, _DRAWS) if randomized else n_resamples
    draws = np.concatenate(
        [
            sum((counts @ s) / (counts @ z)[:, None] for s, z in zip(sums, sizes, strict=True))
            / len(sides)
            for counts in resampled_counts(g, n_draws, rng)
        ]
    )
    # Sums of the same terms in a different order differ in the last bits.
    edge = np.abs(found) - 1e-12 * np.abs(parts).sum(axis=0)
    null = _exchanged_sums(parts, n_resamples, rng) if randomized else iter([draws - found])
    extreme = sum((np.abs(block) >= edge).sum(axis=0) for block in null)
    low, high = np.quantile(draws, tails(ci), axis=0)
    n = sum(len(values) for values, _ in sides)
    return [
        PairedTest(
            float(found[j]), float(low[j]), float(high[j]),
            (1 + int(extreme[j])) / (1 + n_resamples), n,
        )
        for j in range(len(found))
    ]  # fmt: skip


def _exchanged_sums(
    parts: NDArray[np.float64], n_resamples: int, rng: np.random.RandomState
) -> Iterator[NDArray[np.float64]]:
    """Yield sums over the groups with random signs, in blocks of shape (b, n_pairs)."""
    n = len(parts)
    step = max(1, _CHUNK // max(parts.shape))
    for start in range(0, n_resamples, step):
        rows = min(step, n_resamples - start)
        raw = np.frombuffer(rng.bytes(-(-rows * n // 8)), np.uint8)
        plus = np.unpackbits(raw, count=rows * n).reshape(rows, n)
        yield 2.0 * (plus.astype(np.float64) @ parts) - parts.sum(axis=0)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values of several tests by Holm's step-down rule.

    Parameters
    ----------
    p_values : array-like of shape (k,)
        Probabilities between 0 and 1.

    Returns
    -------
    ndarray of shape (k,), float64
        Adjusted p-values. If the hypotheses with a value up to a level are rejected, the
        probability of any false rejection is at most that level.

    Raises
    ------
    ValueError
        If a value is not between 0 and 1.

    See Also
    --------
    compare : Tests between methods that are adjusted in this way.

    References
    ----------
    Holm, A simple sequentially rejective multiple test procedure, Scand. J. Stat. 1979.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = query_values(p_values, "p_values")
    wrong = np.flatnonzero(~((p >= 0) & (p <= 1)))
    if len(wrong):
        raise ValueError(
            f"p_values must be between 0 and 1, got {p[wrong[0]]} in {in_rows(wrong, len(p))}"
        )
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


@validated(level=[real(0, 1, closed="both")], greater_is_better=["boolean"])
def rank_ranges(
    means: Mapping[str, float],
    comparisons: Sequence[Comparison],
    *,
    level: float = 0.05,
    greater_is_better: bool = True,
) -> dict[str, tuple[int, int]]:
    """Return the ranks that each method may have, given which differences are established.

    Parameters
    ----------
    means : mapping of str to float
        Mean of each method.
    comparisons : sequence of Comparison
        Comparisons of every pair of methods, corrected together.
    level : float, default=0.05
        Largest adjusted p-value at which a difference is established.
    greater_is_better : bool, default=True
        Whether a greater mean is better; False for ranks.

    Returns
    -------
    dict of str to (int, int)
        Best and worst rank of each method, best mean first: 1 + the number of methods that are
        better, and the number of methods that are not worse (including itself). Two methods whose
        difference is not established share ranks.

    Raises
    ------
    TypeError
        If the means are not numbers, or the comparisons are not of `compare`.
    ValueError
        If a comparison is of a method without a mean, or the level is not between 0 and 1.

    See Also
    --------
    compare : Make the comparisons.

    Examples
    --------
    >>> test = Comparison(0.1, -0.1, 0.3, 0.2, 9, first="a", second="b", p_adjusted=0.2)
    >>> rank_ranges({"a": 0.6, "b": 0.5}, [test])
    {'a': (1, 2), 'b': (1, 2)}
    """
    if not isinstance(means, Mapping) or not all(
        isinstance(mean, Real) and mean == mean for mean in means.values()
    ):
        raise TypeError(
            f"means must map names of methods to numbers that are not NaN, got {shown(means)}"
        )
    if not isinstance(comparisons, list | tuple) or not all(
        isinstance(test, Comparison) for test in comparisons
    ):
        raise TypeError("comparisons must be a list as crossfit.metrics.compare returns it")
    for test in comparisons:
        for name in (test.first, test.second):
            if name not in means:
                raise ValueError(
                    f"comparisons: {name!r} is compared, but has no mean; add it to means"
                )
    better = dict.fromkeys(means, 0)
    worse = dict.fromkeys(means, 0)
    for test in comparisons:
        if test.p_adjusted <= level:
            wins = (test.difference > 0) == greater_is_better
            better[test.second if wins else test.first] += 1
            worse[test.first if wins else test.second] += 1
    order = sorted(means, key=lambda name: means[name], reverse=bool(greater_is_better))
    return {name: (1 + better[name], len(means) - worse[name]) for name in order}


@validated(
    evaluations=[Mapping],
    direction=[str, None],
    baseline=[str, None],
    pairs=[Sequence, None],
    random_state=["random_state"],
)
def compare(
    evaluations: Mapping[str, Evaluation],
    metric: str,
    direction: str | None,
    *,
    baseline: str | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    method: str = "randomization",
    n_resamples: int = 10_000,
    ci: float = 0.95,
    random_state: Any = 0,
) -> Comparisons:
    """Compare methods that were evaluated on the same queries, with Holm's correction.

    Parameters
    ----------
    evaluations : mapping of str to Evaluation
        At least two evaluations, of the same queries in the same order. The groups of queries are
        those of the evaluations.
    metric : str
        Metric that is in all evaluations. ``medr`` raises an error, because the tests are of
        means; compare ``meanr`` instead.
    direction : str or None
        A direction; None for the mean over the directions. For this mean the queries of a group
        are exchanged and resampled together in all directions, so the evaluations must have
        groups.
    baseline : str, optional
        Method that all others are compared with; by default every pair is compared.
    pairs : sequence of (str, str), optional
        The only pairs to compare, in place of `baseline`. The fewer comparisons, the smaller is
        the correction.
    method : {"randomization", "bootstrap"}, default="randomization"
        See `paired_test`.
    n_resamples : int, default=10_000
        See `paired_test`.
    ci : float, default=0.95
        Coverage of the intervals.
    random_state : int, RandomState or None, default=0
        Source of randomness.

    Returns
    -------
    Comparisons
        A list of `Comparison`, one per pair, in the order given; all of them are corrected
        together.

    Raises
    ------
    TypeError
        If the evaluations are not a mapping of names to evaluations.
    ValueError
        If there are fewer than two evaluations, if they are not of the same queries and groups, or
        if the baseline or a name in a pair is unknown.

    See Also
    --------
    paired_test : The test of one pair of methods.
    rank_ranges : Ranks that are possible, given the comparisons.

    Notes
    -----
    A query that is NaN for one of the methods is left out for all. Every pair is tested over the
    same exchanges, so many pairs cost little more than one. The smallest possible adjusted p-value
    is the number of comparisons times 1 / (n_resamples + 1), so many methods need many resamples.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit.metrics import evaluate
    >>> noise = np.random.default_rng(0).normal(size=(50, 50))
    >>> scores = {"weak": 0.5 * np.eye(50) + noise, "strong": 4 * np.eye(50) + noise}
    >>> found = {name: evaluate(S, np.eye(50), "mrr") for name, S in scores.items()}
    >>> (test,) = compare(found, "mrr", "forward", baseline="weak")
    >>> test.first, test.second, test.difference > 0.5, test.p_adjusted < 0.01
    ('strong', 'weak', True, True)
    """
    names = list(evaluations)
    for name, each in evaluations.items():
        if not isinstance(name, str) or not isinstance(each, Evaluation):
            raise TypeError(
                "evaluations must map names of methods to what crossfit.evaluate returns, got "
                f"{name!r}: {type(each).__name__}"
            )
    if len(names) < 2:
        raise ValueError(f"evaluations must be of at least two methods, got {len(names)}")
    if baseline is not None and baseline not in evaluations:
        raise ValueError(f"baseline: {baseline!r} was not evaluated; use one of {', '.join(names)}")
    if mean := parse_metric(metric).row.median_of:
        raise ValueError(
            f"metric: {metric} is a median, but the paired tests are of means; use {mean}"
        )
    if pairs is not None:
        if baseline is not None:
            raise ValueError("pairs and baseline both select comparisons; give only one of them")
        pairs = list(pairs)
        for pair in pairs:
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise ValueError(f"pairs must be pairs of two names, got {pair!r}")
        pairs = [(str(first), str(second)) for first, second in pairs]
        unknown = [name for pair in pairs for name in pair if name not in evaluations]
        if unknown or not pairs:
            raise ValueError(
                f"pairs: {unknown[0]!r} was not evaluated; use {', '.join(names)}" if unknown else
                "pairs must have at least one pair of names, got none"
            )  # fmt: skip
    elif baseline is None:
        pairs = list(combinations(names, 2))
    else:
        pairs = [(name, baseline) for name in names if name != baseline]
    check_ci(ci)
    check_resamples(n_resamples)
    _check_method(method)
    directions = evaluations[names[0]].directions if direction is None else (direction,)
    sides = [_values(evaluations, metric, each, len(directions) > 1) for each in directions]
    at = {name: j for j, name in enumerate(names)}
    first, second = ([at[pair[i]] for pair in pairs] for i in (0, 1))
    tests = _paired_tests(
        [(values[:, first] - values[:, second], codes) for values, codes in sides],
        method, n_resamples, ci, random_state,
    )  # fmt: skip
    comparisons = [
        Comparison(**vars(test), first=first, second=second)
        for test, (first, second) in zip(tests, pairs, strict=True)
    ]
    adjusted = holm([test.p_value for test in tests])
    return Comparisons(
        [
            replace(comparison, p_adjusted=float(p))
            for comparison, p in zip(comparisons, adjusted, strict=True)
        ]
    )


def _values(
    evaluations: Mapping[str, Evaluation], metric: str, direction: str, grouped: bool
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the values, of shape (n_queries, n_methods), and the group of each query."""
    columns: list[NDArray[np.float64]] = []
    reference = next(iter(evaluations))
    groups = None
    for name, evaluation in evaluations.items():
        key = evaluation.per_query.key(direction, metric)
        values, its_groups = evaluation.per_query[key], evaluation.groups.get(key[0])
        if name == reference:
            groups = its_groups
        elif len(values) != len(columns[0]) or not same_groups(its_groups, groups):
            raise ValueError(
                f"evaluations: {name} and {reference} were not evaluated on the same queries and "
                "groups"
            )
        columns.append(values)
    if grouped and groups is None:
        raise ValueError(
            "evaluations must have groups of queries to compare the mean over directions; evaluate "
            "with groups="
        )
    stacked = np.stack(columns, axis=1)
    kept = ~np.isnan(stacked).any(axis=1)
    if not kept.any():
        raise ValueError(
            "evaluations have no query in common; every query is NaN for one of the methods"
        )
    return stacked, group_codes(groups, len(stacked))
