"""The learning curve: held-out retrieval against the number of pairs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils._param_validation import HasMethods

from crossfit._arguments import integer, shown, validated
from crossfit._arrays import as_array
from crossfit._random import random_source
from crossfit._tabular import Tabular
from crossfit.diagnosis.align_or_predict import estimate_of
from crossfit.diagnosis.estimate import METRICS, Estimate, fitted_and_held_out, ranked
from crossfit.diagnosis.wrong_pairs import drawn_groups
from crossfit.metrics import PairedTest, Repeats, paired_test
from crossfit.subspace import CCA
from crossfit.views import Views

__all__ = ["LearningCurve", "learning_curve"]

#: Numbers of pairs; all of them are the last point.
SIZES = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


@dataclass(frozen=True, eq=False, repr=False)
class LearningCurve(Tabular):
    """Held-out retrieval of a method that was fitted on growing numbers of pairs.

    Parameters
    ----------
    sizes : sequence of int
        Numbers of pairs, rising; the last one is all of them.
    estimates : sequence of Estimate
        Mean reciprocal rank, mean of both directions, with intervals over queries.
    spreads : sequence of float
        Standard deviation between draws of the pairs; NaN for all pairs.
    gain : PairedTest or None
        The difference between the last and the last but one point over the same queries; None if
        there is one point.
    method : CrossModalEstimator
        The method that was fitted on all pairs.
    """

    sizes: Sequence[int]
    estimates: Sequence[Estimate]
    spreads: Sequence[float]
    gain: PairedTest | None
    method: Any

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per number of pairs.

        Returns
        -------
        list of dict
            Keys ``pairs, mrr, low, high, spread``.
        """
        return [
            {"pairs": int(size), "mrr": found.value, "low": found.low, "high": found.high}
            | {"spread": float(spread)}
            for size, found, spread in zip(self.sizes, self.estimates, self.spreads)
        ]

    def _title(self) -> str:
        return f"LearningCurve of {type(self.method).__name__} up to {self.sizes[-1]} pairs"

    @property
    def per_doubling(self) -> float:
        """Gain per doubling of the pairs, between the last two points; NaN if there is one."""
        if self.gain is None:
            return math.nan
        return self.gain.difference / math.log2(self.sizes[-1] / self.sizes[-2])


@validated(
    method=[HasMethods(["fit", "similarity"]), None],
    sizes=["array-like"],
    n_draws=[integer(1)],
    random_state=["random_state"],
    progress=[callable, None],
)
def learning_curve(
    train: Views,
    test: Views,
    *,
    method: Any = None,
    sizes: Sequence[int] = SIZES,
    n_draws: int = 3,
    random_state: Any = 0,
    progress: Callable[[float], object] | None = None,
) -> LearningCurve:
    """Measure the held-out retrieval of a method against the number of pairs it is fitted on.

    Parameters
    ----------
    train, test : Views
        Two views of the pairs to draw from, and of those to rank.
    method : CrossModalEstimator, optional
        The method, unfitted; `crossfit.subspace.CCA` with its defaults by default.
    sizes : sequence of int, default=(100, 300, 1000, 3000, 10000, 30000, 100000)
        Numbers of pairs, at least 2; those above four fifths of all pairs are left out, and all
        pairs are the last point.
    n_draws : int, default=3
        Number of draws of each number of pairs, by whole groups.
    random_state : int, RandomState or None, default=0
        Source of the draws.
    progress : callable, optional
        Called after each fit with its share of the fits.

    Returns
    -------
    LearningCurve

    Raises
    ------
    ValueError
        If there are not two views, or a size is not a number of at least 2.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal(size=(400, 8))
    >>> views = Views(image=Z @ rng.normal(size=(8, 30)), text=Z @ rng.normal(size=(8, 20)))
    >>> learning_curve(views[:300], views[300:], sizes=(20, 50)).sizes
    (20, 50, 300)
    """
    fitted_and_held_out(train, test, "learning_curve")
    wanted = as_array(sizes, "sizes", numbers=True)
    if wanted.ndim != 1 or wanted.dtype.kind not in "iu" or (wanted < 2).any():
        raise ValueError(f"sizes must be whole numbers of at least 2, got {shown(sizes)}")
    rng = random_source(random_state)
    n = len(train)
    points = [int(size) for size in np.unique(wanted) if size <= 0.8 * n]
    base = CCA() if method is None else method
    repeats, spreads = [], []
    for size in points:
        found = []
        for _ in range(n_draws):
            rows = drawn_groups(train.groups, size, rng)
            # Few pairs fit perfectly, which is the point here and no reason to warn.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found.append(ranked(test, clone(base).fit(train[rows]).similarity(test)))
            if progress is not None:
                progress(1 / (n_draws * len(points) + 1))
        repeats.append(Repeats(found))
        spreads.append(repeats[-1].spread(None, METRICS[-1]))
    fitted = clone(base).fit(train)
    repeats.append(Repeats([ranked(test, fitted.similarity(test))]))
    if progress is not None:
        progress(1 / (n_draws * len(points) + 1))
    chance = estimate_of(repeats[-1].averaged, test).chance
    estimates = [
        Estimate(each.mean(None, METRICS[-1]), *each.interval(None, METRICS[-1]), chance)
        for each in repeats
    ]
    gain = None
    if points:
        last, before = repeats[-1].averaged, repeats[-2].averaged
        values = [
            np.concatenate([each.per_query[d, METRICS[-1]] for d in each.directions])
            for each in (last, before)
        ]
        groups = np.concatenate([last.groups[d] for d in last.directions])
        gain = paired_test(*values, groups=groups)
    return LearningCurve((*points, n), tuple(estimates), (*spreads, math.nan), gain, fitted)
