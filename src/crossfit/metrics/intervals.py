"""Bootstrap intervals of means and medians over queries, which are drawn in whole groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit import labels
from crossfit._arguments import is_word, shown, validated
from crossfit._arrays import NUMPY_DEFAULTS, as_array, in_rows
from crossfit._random import random_source

Floats = NDArray[np.float64]

#: Number of draws in memory at once, in every resampling.
_CHUNK = 2**21
#: Largest value of a query, so that sums of as many values as fit into memory are finite.
_LARGEST = 1e290


def summarize(values: Floats, statistic: str) -> Any:
    """Return the ``mean``, the ``median`` or the ``vsepp`` median over the first axis.

    ``vsepp`` is the median rank as in the code of VSE++, which numbers ranks from 0 and takes the
    floor of their median plus 1.
    """
    if statistic == "mean":
        return values.mean(axis=0)
    return _finish_median(np.median(values, axis=0), statistic)


def _finish_median(median: Any, statistic: str) -> Any:
    return np.floor(median - 1.0) + 1.0 if statistic == "vsepp" else median


def group_codes(groups: Any, n: int) -> NDArray[np.intp]:
    """Return codes 0, 1, ... of the groups; without groups every query is a group of its own."""
    return (
        np.arange(n) if groups is None else labels.group_codes(groups, n, "query").astype(np.intp)
    )


def query_values(values: Any, name: str) -> Floats:
    """Return one number per query as float64; NaN marks an excluded query.

    Raises
    ------
    ValueError, TypeError
        If the values are not 1-D real numbers, are infinite (the message lists the rows), or are
        too large to be summed.
    """
    array = as_array(values, name, numbers=True)
    if array.size and array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be real numbers, got type {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, one number per query, got shape {array.shape}")
    array = array.astype(np.float64)
    infinite = np.flatnonzero(np.isinf(array))
    if len(infinite):
        raise ValueError(
            f"{name} must be finite, or NaN for excluded queries, got infinity in "
            f"{in_rows(infinite, len(array))}"
        )
    largest = np.abs(array, where=~np.isnan(array), out=np.zeros(len(array))).max(initial=0)
    if largest > _LARGEST:
        raise ValueError(
            f"{name} must be at most {_LARGEST:g}, so that they can be summed, got {largest:g}"
        )
    return array


def same_groups(a: NDArray[np.intp] | None, b: NDArray[np.intp] | None) -> bool:
    """Return True if two evaluations have the same groups, or both have none."""
    return (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))


def resampled_counts(
    n: int, n_resamples: int, rng: np.random.RandomState
) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of times that each of `n` units is drawn, in chunks of shape (b, n)."""
    step = max(1, _CHUNK // n)
    for start in range(0, n_resamples, step):
        b = min(step, n_resamples - start)
        drawn = rng.randint(0, n, size=(b, n))
        drawn += np.arange(b)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=b * n).reshape(b, n)


@np.errstate(**NUMPY_DEFAULTS)
def bootstrap_draws(
    columns: Sequence[Floats],
    statistics: Sequence[str],
    codes: NDArray[np.intp],
    n_resamples: int,
    random_state: Any,
) -> Floats:
    """Compute statistics of columns over the same resamples; shape (n_resamples, n_columns).

    The draws depend only on the number of groups and the random state. Columns over other queries
    of the same groups can therefore be resampled in a second call and averaged with these.
    """
    values = np.stack(columns, axis=1)
    n_groups = int(codes.max()) + 1
    sizes = np.bincount(codes, minlength=n_groups)
    sums = [np.bincount(codes, column, minlength=n_groups) for column in columns]
    ranked = {
        j: np.argsort(values[:, j]) for j, statistic in enumerate(statistics) if statistic != "mean"
    }
    draws = []
    for counts in resampled_counts(n_groups, n_resamples, random_source(random_state)):
        weights = counts.astype(np.float64)
        total = weights @ sizes
        # One by one: a product of matrices rounds differently with another number of columns.
        part = np.stack([weights @ column for column in sums], axis=1) / total[:, None]
        for j, order in ranked.items():
            step = max(1, _CHUNK // len(codes))
            for a in range(0, len(counts), step):
                # The sample itself is not built: its order statistics follow from the cumulated
                # counts of the sorted values.
                cumulated = np.cumsum(counts[a : a + step, codes[order]], axis=1)
                drawn = cumulated[:, -1:]
                low = (cumulated <= (drawn - 1) // 2).sum(axis=1)
                high = (cumulated <= drawn // 2).sum(axis=1)
                median = (values[order[low], j] + values[order[high], j]) / 2
                part[a : a + step, j] = _finish_median(median, statistics[j])
        draws.append(part)
    return np.concatenate(draws)


def bootstrap(
    columns: Sequence[Floats],
    statistics: Sequence[str],
    codes: NDArray[np.intp],
    ci: float,
    n_resamples: int,
    random_state: Any,
) -> list[tuple[float, float]]:
    """Compute percentile intervals of several columns over the same resamples."""
    draws = bootstrap_draws(columns, statistics, codes, n_resamples, random_state)
    low, high = np.quantile(draws, tails(ci), axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def tails(ci: float) -> tuple[float, float]:
    """Return the quantiles that bound the middle `ci` of a distribution."""
    return (1.0 - ci) / 2, (1.0 + ci) / 2


def check_ci(ci: Any) -> None:
    """Raise ValueError if a coverage is not between 0 and 1."""
    if not (isinstance(ci, float | np.floating) and 0.0 < ci < 1.0):
        raise ValueError(f"ci must be a number between 0 and 1 such as 0.95, got {shown(ci)}")


def check_resamples(n_resamples: Any) -> None:
    """Raise ValueError if a number of resamples is not a positive integer."""
    whole = isinstance(n_resamples, int | np.integer) and not isinstance(n_resamples, bool)
    if not whole or n_resamples < 1:
        raise ValueError(f"n_resamples must be a positive integer, got {shown(n_resamples)}")


@validated(random_state=["random_state"])
def bootstrap_interval(
    values: Any,
    *,
    statistic: str = "mean",
    groups: Any = None,
    ci: float = 0.95,
    n_resamples: int = 1000,
    random_state: Any = 0,
) -> tuple[float, float]:
    """Compute the percentile bootstrap interval of a mean or median over queries.

    Parameters
    ----------
    values : array-like of shape (n,)
        One value per query; NaN marks an excluded query.
    statistic : {"mean", "median"}, default="mean"
        Statistic whose interval is computed.
    groups : array-like of shape (n,), optional
        Group of each query; queries of one group (the captions of an image) are drawn together.
    ci : float, default=0.95
        Nominal coverage of the interval.
    n_resamples : int, default=1000
        Number of resamples.
    random_state : int, RandomState or None, default=0
        Source of randomness.

    Returns
    -------
    low, high : float

    Raises
    ------
    ValueError
        If all values are NaN, one is infinite (the message has its row), or a parameter is out of
        range.

    See Also
    --------
    paired_test : A test and an interval for the difference of two methods.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap, 1993.

    Examples
    --------
    >>> hits = [1, 0, 1, 1, 0, 1, 1, 0, 1, 1]
    >>> bootstrap_interval(hits)
    (0.4, 0.9)
    """
    values = query_values(values, "values")
    if np.isnan(values).all():
        raise ValueError(
            f"values must have at least one value that is not NaN, got none in shape {values.shape}"
        )
    if not is_word(statistic, ("mean", "median")):
        raise ValueError(f"statistic must be 'mean' or 'median', got {shown(statistic)}")
    check_ci(ci)
    check_resamples(n_resamples)
    kept = ~np.isnan(values)
    # The codes are of the remaining queries, so groups without any are not drawn.
    codes = np.unique(group_codes(groups, len(values))[kept], return_inverse=True)[1]
    return bootstrap([values[kept]], [statistic], codes, ci, n_resamples, random_state)[0]
