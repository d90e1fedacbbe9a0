"""The algebra that closed-form methods share, named after what it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit.views import Views

__all__ = ["Moments", "fix_signs", "whiten"]

Matrix = NDArray[np.float64]

# Rows read at a time: large enough for the matrix product to run at full speed, small enough
# that float32 products lose nothing before they are summed in float64.
CHUNK = 4096


class Moments:
    """Means and joint covariance of several views, summed over chunks of rows.

    Products run in the precision of the data and are added up in float64. Rows may come from
    memory-mapped arrays, and in any number of calls.

    Attributes
    ----------
    n : int
        Rows seen.
    eps : float
        Machine epsilon of the coarsest type seen.
    """

    def __init__(self) -> None:
        self.n = 0
        self.eps = 0.0
        self._sizes: tuple[int, ...] = ()

    def update(self, views: Views) -> None:
        """Add the rows of views that hold arrays of shape (n, d_i), dense or CSR."""
        for start in range(0, len(views), CHUNK):
            chunk = views[start : start + CHUNK]
            self._add([_dense(chunk[name]) for name in chunk.names])

    def _add(self, chunk: list[NDArray[Any]]) -> None:
        rows = np.hstack(chunk)
        if self.n == 0:
            self._sizes = tuple(part.shape[1] for part in chunk)
            # Centring near the mean keeps the products free of cancellation.
            self._shift = rows.mean(axis=0, dtype=np.float64).astype(rows.dtype)
            self._sum = np.zeros(rows.shape[1])
            self._product = np.zeros((rows.shape[1], rows.shape[1]))
        rows = rows - self._shift
        self._sum += rows.sum(axis=0, dtype=np.float64)
        self._product += rows.T @ rows
        self.n += len(rows)
        self.eps = max(self.eps, float(np.finfo(rows.dtype).eps))

    def means(self) -> list[Matrix]:
        """Return the mean of each view, shapes (d_i,)."""
        joined = self._shift.astype(np.float64) + self._sum / self.n
        return [joined[block] for block in self.blocks()]

    def covariance(self) -> Matrix:
        """Return the joint covariance of the stacked views (with n - 1), shape (d, d)."""
        mean = self._sum / self.n
        joint = (self._product - self.n * np.outer(mean, mean)) / (self.n - 1)
        return (joint + joint.T) / 2

    def blocks(self) -> list[slice]:
        """Return where each view's columns are in the joint covariance."""
        stops = np.cumsum(self._sizes)
        return [slice(int(stop) - size, int(stop)) for size, stop in zip(self._sizes, stops)]


def _dense(rows: Any) -> NDArray[Any]:
    dense = rows.toarray() if sp.issparse(rows) else np.asarray(rows)
    return dense if dense.dtype in (np.float32, np.float64) else dense.astype(np.float32)


def whiten(S: Matrix, tol: float) -> Matrix:
    """Return W of shape (d, rank) with W'SW = I, leaving out the null space of S.

    Parameters
    ----------
    S : array of shape (d, d)
        Symmetric, positive semi-definite.
    tol : float
        Eigenvalues up to `tol` times the largest count as zero.
    """
    values, vectors = scipy.linalg.eigh(S)
    kept = values > max(tol * values[-1], 0.0)
    return vectors[:, kept] / np.sqrt(values[kept])


def fix_signs(weights: Sequence[Matrix]) -> list[Matrix]:
    """Flip matching columns so that the largest entry of each first-view column is positive."""
    first = weights[0]
    largest = first[np.argmax(np.abs(first), axis=0), np.arange(first.shape[1])]
    signs = np.where(largest < 0, -1.0, 1.0)
    return [w * signs for w in weights]
