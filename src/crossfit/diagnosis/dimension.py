"""The intrinsic dimension of a view, from the distances to two neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2

from crossfit._arguments import real, validated
from crossfit.diagnosis.estimate import Estimate, matrix

__all__ = ["intrinsic_dimension"]


@validated(discard=[real(0, 1, closed="left")])
def intrinsic_dimension(X: ArrayLike, *, discard: float = 0.1) -> Estimate:
    r"""Estimate the dimension of the manifold on which rows lie, by TwoNN [1]_.

    If the density is constant up to the second neighbour, the ratio :math:`\mu = r_2 / r_1` of the
    distances to both neighbours has the Pareto law :math:`P(\mu > m) = m^{-d}`. The estimate is the
    unbiased one of maximum likelihood, with the largest ratios censored. (The paper discards them
    and fits a line instead.)

    Parameters
    ----------
    X : array-like of shape (n, p)
        Rows of a view; equal rows are used once.
    discard : float, default=0.1
        Share of the rows with the largest ratios that are censored, for which the density is least
        constant.

    Returns
    -------
    Estimate
        The dimension with its 95 % interval, in which the ratios count as independent. Dimensions
        above about 15 are underestimated: as many rows as are needed do not exist.

    Raises
    ------
    ValueError
        If the rows are not finite numbers, or fewer than 10 of them are different.

    References
    ----------
    .. [1] Facco, d'Errico, Rodriguez and Laio, "Estimating the intrinsic dimension of datasets by a
           minimal neighborhood information", Scientific Reports 7, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> Z = np.random.default_rng(0).normal(size=(2000, 2))
    >>> round(intrinsic_dimension(np.hstack([Z, Z**2])).value)
    2
    """
    from sklearn.neighbors import NearestNeighbors

    rows = np.unique(matrix(X, "X").astype(np.float64), axis=0)
    n = len(rows)
    if n < 10:
        raise ValueError(f"X must have at least 10 different rows, got {n}")
    rows -= rows.mean(axis=0)
    nearest = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(rows)
    near = nearest.kneighbors(return_distance=False)
    # Distances by subtraction, because those by products are inexact for near rows.
    r1, r2 = (np.linalg.norm(rows - rows[near[:, i]], axis=1) for i in (0, 1))
    logs = np.sort(np.log(np.maximum(r2, r1) / np.minimum(r2, r1)))
    kept = max(2, round((1 - discard) * n))
    total = logs[:kept].sum() + (n - kept) * logs[kept - 1]
    if not total > 0:
        raise ValueError("X has rows at equal distances only, which have no intrinsic dimension")
    low, high = chi2.ppf([0.025, 0.975], 2 * kept) / (2 * total)
    return Estimate(float((kept - 1) / total), float(low), float(high))
