"""The covariance of pairs that a solution confuses, for contrastive steps of linear methods."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crossfit.subspace._linalg import Matrix
from crossfit.views import Views

__all__ = ["confused"]

_SHARPNESS = 10.0
# Scores that are in memory at a time.
_SCORES = 2**24


def confused(views: Views, x: tuple[Matrix, Matrix], z: tuple[Matrix, Matrix]) -> Matrix:
    """Return the mean of x z' over wrong pairs, weighted by how much they are confused.

    Every x meets every z of another group, weighted by the softmax of ten times their cosine, and
    every z every x; the two means over the rows are averaged.

    Parameters
    ----------
    views : Views
        The two views.
    x, z : tuple of two arrays, of shape (n, d) and (n, k)
        Of the distinct items of each view: the vectors, and rows of length 1 whose products are
        the cosines.

    Returns
    -------
    array of shape (d_x, d_z)
    """
    first, second = views.names
    group_x, group_z = (views.groups[views.first_rows(name)] for name in (first, second))
    n_x, n_z = (np.bincount(views.distinct(name)[1]).astype(float) for name in (first, second))
    forward = _one_way(x, z, group_x, group_z, n_x, n_z)
    backward = _one_way(z, x, group_z, group_x, n_z, n_x)
    return (forward + backward.T) / 2


def _one_way(
    x: tuple[Matrix, Matrix],
    z: tuple[Matrix, Matrix],
    group_x: NDArray[np.intp],
    group_z: NDArray[np.intp],
    n_x: Matrix,
    n_z: Matrix,
) -> Matrix:
    # Shares of wrong pairs need not be exact; in float32 the products take half the time.
    (X, a), (Z, b) = ((part.astype(np.float32) for part in given) for given in (x, z))
    total = np.zeros((X.shape[1], Z.shape[1]))
    with np.errstate(divide="ignore"):
        log_rows = np.log(n_z).astype(np.float32)
    step = max(1, _SCORES // len(Z))
    for start in range(0, len(X), step):
        part = slice(start, start + step)
        logits = a[part] @ b.T
        logits *= np.float32(_SHARPNESS)
        logits += log_rows
        logits[group_x[part, None] == group_z] = -np.inf
        highest = logits.max(axis=1, keepdims=True, initial=-np.inf)
        # An item has no wrong pairs if there is one group.
        logits -= np.where(np.isfinite(highest), highest, 0)
        weights = np.exp(logits, out=logits)
        sums = weights.sum(axis=1)
        shares = np.divide(n_x[part], sums, out=np.zeros(len(sums)), where=sums > 0)
        weights *= shares[:, None].astype(np.float32)
        total += X[part].T @ (weights @ Z)
    return total / n_x.sum()
