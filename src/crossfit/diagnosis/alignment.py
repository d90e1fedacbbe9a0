"""The similarity of two views: linear CKA, mutual neighbours, held-out canonical correlations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import HasMethods

from crossfit._arguments import integer, validated
from crossfit._random import random_source
from crossfit._tabular import Tabular
from crossfit.diagnosis.estimate import Estimate, same_rows, two_views, unit
from crossfit.metrics import bootstrap_interval
from crossfit.metrics.intervals import resampled_counts, tails
from crossfit.views import Views

__all__ = ["CanonicalCorrelations", "held_out_correlations", "linear_cka", "mutual_knn"]

Floats = NDArray[np.float64]


def linear_cka(X: ArrayLike, Z: ArrayLike) -> Estimate:
    r"""Compute the linear centred kernel alignment of two views [1]_, with its chance level.

    .. math:: \mathrm{CKA} = \frac{\|X'Z\|_F^2}{\|X'X\|_F \, \|Z'Z\|_F}

    on centred columns. With few rows and many columns it is far above 0 for views that are not
    related. Its mean over all orders of the rows of Z has a closed form,
    :math:`\|X\|_F^2 \|Z\|_F^2 / ((n - 1) \|X'X\|_F \|Z'Z\|_F)`, which is the chance level.

    Parameters
    ----------
    X : array-like of shape (n, p)
        Rows of the first view.
    Z : array-like of shape (n, q)
        Rows of the second view, in the same order.

    Returns
    -------
    Estimate
        Between 0 and 1; without an interval.

    Raises
    ------
    ValueError
        If the rows are not finite numbers, differ in number, are fewer than 3, or are all equal.

    See Also
    --------
    mutual_knn : Compares neighbours instead of all distances.

    References
    ----------
    .. [1] Kornblith, Norouzi, Lee and Hinton, "Similarity of Neural Network Representations
           Revisited", ICML 2019.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(100, 5))
    >>> found = linear_cka(X, 2 * X @ np.linalg.qr(np.ones((5, 5)) + np.eye(5))[0])
    >>> round(found.value, 6), round(found.chance, 3)
    (1.0, 0.047)
    """
    one, other = same_rows(X, Z)
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    squares = np.sum(one**2), np.sum(other**2)
    for name, size in zip("XZ", squares):
        if not size > 0:
            raise ValueError(f"{name} has no variance: all of its rows are equal")
    # Both are scaled, so that squares of squares stay in range.
    one, other = one / np.sqrt(squares[0]), other / np.sqrt(squares[1])
    scale = np.sqrt(_squared_norm(one, one) * _squared_norm(other, other))
    chance = 1 / ((len(one) - 1) * scale)
    value = min(1.0, _squared_norm(one, other) / scale)
    return Estimate(float(value), chance=float(chance))


def _squared_norm(A: Floats, B: Floats) -> float:
    """Return ``|A'B|²``, by the kernels of the rows if there are fewer rows than columns."""
    n = len(A)
    if n < min(A.shape[1], B.shape[1]):
        return float(np.sum((A @ A.T) * (B @ B.T)))
    return float(np.sum((A.T @ B) ** 2))


@validated(k=[integer(1)])
def mutual_knn(X: ArrayLike, Z: ArrayLike, k: int = 10) -> Estimate:
    """Compute the mean share of common neighbours of two views [1]_, with its chance level.

    For each row, its k nearest other rows by cosine are found in either view; the value is the
    mean share that is in both sets.

    Parameters
    ----------
    X : array-like of shape (n, p)
        Rows of the first view.
    Z : array-like of shape (n, q)
        Rows of the second view, in the same order.
    k : int, default=10
        Number of neighbours, below n.

    Returns
    -------
    Estimate
        Between 0 and 1, with a bootstrap interval over rows. It falls as n grows; the chance level
        is k / (n - 1).

    Raises
    ------
    ValueError
        If the rows are not finite numbers, differ in number, or are not more than k.

    See Also
    --------
    linear_cka : Compares all distances.

    References
    ----------
    .. [1] Huh, Cheung, Wang and Isola, "The Platonic Representation Hypothesis", ICML 2024.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(50, 5))
    >>> mutual_knn(X, 3 * X, k=5).value
    1.0
    """
    from sklearn.neighbors import NearestNeighbors

    one, other = same_rows(X, Z)
    n = len(one)
    if k >= n:
        raise ValueError(f"k must be below the number of rows ({n}), got {k}")
    near = [
        NearestNeighbors(n_neighbors=k, algorithm="brute")
        .fit(unit(rows))
        .kneighbors(return_distance=False)
        for rows in (one, other)
    ]
    # Ids of (row, neighbour), so that one intersection serves all rows.
    base = n * np.arange(n)[:, None]
    common = np.intersect1d(near[0] + base, near[1] + base, assume_unique=True) // n
    shares = np.bincount(common, minlength=n) / k
    low, high = bootstrap_interval(shares)
    return Estimate(float(shares.mean()), low, high, chance=k / (n - 1))


@dataclass(frozen=True, eq=False, repr=False)
class CanonicalCorrelations(Tabular):
    """Correlations of canonical components on pairs that were not fitted.

    Parameters
    ----------
    correlations : array of shape (n_components,)
        Correlation of each component, in the order of the fit.
    total : Estimate
        Their sum, with a bootstrap interval over pairs; the chance level is the 95 % quantile of
        the sum after permuting the pairs.
    chance : array of shape (n_components,)
        The 95 % quantile of each correlation after permuting the pairs.
    n : int
        Number of held-out pairs.
    """

    correlations: Floats
    total: Estimate
    chance: Floats
    n: int

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per component.

        Returns
        -------
        list of dict
            Keys ``component, correlation, chance``.
        """
        return [
            {"component": i + 1, "correlation": float(value), "chance": float(chance)}
            for i, (value, chance) in enumerate(zip(self.correlations, self.chance))
        ]

    def _title(self) -> str:
        return f"CanonicalCorrelations of {self.n} held-out pairs, sum {self.total.value:.4f}"

    @property
    def n_above(self) -> int:
        """Number of components before the first whose correlation is not above its chance level."""
        below = self.correlations <= self.chance
        return int(np.argmax(below)) if below.any() else len(below)


@validated(
    method=[HasMethods(["encode", "transform"])],
    n_permutations=[integer(20)],
    random_state=["random_state"],
)
def held_out_correlations(
    method: Any, views: Views, *, n_permutations: int = 200, random_state: Any = 0
) -> CanonicalCorrelations:
    """Measure the correlation of each component of a fitted method on pairs that it has not seen.

    The sum over the components is the captured correlation by which linear and deep CCA are
    compared. A row is a pair.

    Parameters
    ----------
    method : CrossModalEstimator
        A fitted method with a common space, usually `crossfit.subspace.CCA`.
    views : Views
        Two views of held-out pairs.
    n_permutations : int, default=200
        Number of permutations of the pairs, and of bootstrap draws.
    random_state : int, RandomState or None, default=0
        Source of both.

    Returns
    -------
    CanonicalCorrelations

    Raises
    ------
    ValueError
        If there are not two views or fewer than 3 pairs.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> from crossfit.subspace import CCA
    >>> Z = np.random.default_rng(0).normal(size=(300, 2))
    >>> views = Views(image=Z, text=Z[:, ::-1])
    >>> found = held_out_correlations(CCA(reg=0).fit(views[:200]), views[200:])
    >>> round(found.total.value, 6), found.n_above
    (2.0, 2)
    """
    names = two_views(views, "held_out_correlations")
    encoded = method.transform(views)
    one, other = same_rows(*(encoded[name] for name in names))
    rng = random_source(random_state)
    n = len(one)
    a, b = _standardized(one), _standardized(other)
    found = np.mean(a * b, axis=0)
    permuted = np.empty((n_permutations, a.shape[1]))
    for row in permuted:
        row[:] = np.mean(a * b[rng.permutation(n)], axis=0)
    (counts,) = resampled_counts(n, n_permutations, rng) if n * n_permutations < 2**21 else (
        np.concatenate(list(resampled_counts(n, n_permutations, rng))),
    )  # fmt: skip
    weights = counts / n
    means = [weights @ part for part in (a, b, a * b, a**2, b**2)]
    spread = (means[3] - means[0] ** 2) * (means[4] - means[1] ** 2)
    drawn = (means[2] - means[0] * means[1]) / np.sqrt(np.where(spread > 0, spread, 1.0))
    low, high = np.quantile(drawn.sum(axis=1), tails(0.95))
    level = float(np.quantile(permuted.sum(axis=1), 0.95))
    total = Estimate(float(found.sum()), float(low), float(high), level)
    return CanonicalCorrelations(found, total, np.quantile(permuted, 0.95, axis=0), n)


def _standardized(rows: Floats) -> Floats:
    centred = rows - rows.mean(axis=0)
    deviations = centred.std(axis=0)
    return centred / np.where(deviations > 0, deviations, 1.0)
