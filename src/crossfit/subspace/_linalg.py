"""The algebra that closed-form methods share, named after what it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit.views import Views, as_numpy, is_tensor

__all__ = ["Moments", "affine", "fix_signs", "whiten"]

Matrix = NDArray[np.float64]

# Rows read at a time: large enough for the matrix product to run at full speed, small enough
# that float32 products lose nothing before they are summed in float64.
CHUNK = 4096


class Moments:
    """Means and joint covariance of several views, summed over chunks of rows.

    Products run in the precision of the data, and on a tensor's device, and are added up in
    float64. Rows may come from memory-mapped arrays, and in any number of calls.

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
        for rows in _chunks(len(views)):
            chunk = views[rows]
            self._add([_dense(chunk[name]) for name in chunk.names])

    def _add(self, chunk: list[Any]) -> None:
        if not all(is_tensor(part) for part in chunk):
            chunk = [as_numpy(part) for part in chunk]
        xp = _namespace(chunk[0])
        rows = xp.concat(chunk, axis=1)
        if self.n == 0:
            self._sizes = tuple(part.shape[1] for part in chunk)
            # Centring near the mean keeps the products free of cancellation, and centring on
            # its value makes a constant column exactly zero.
            constant = (rows == rows[0]).all(axis=0)
            self._shift = xp.where(constant, rows[0], rows.mean(axis=0))
            self._sum = np.zeros(rows.shape[1])
            self._product = np.zeros((rows.shape[1], rows.shape[1]))
        rows = rows - self._shift
        self._sum += as_numpy(xp.sum(rows, axis=0, dtype=xp.float64))
        self._product += as_numpy(rows.T @ rows)
        self.n += len(rows)
        self.eps = max(self.eps, *(float(xp.finfo(part.dtype).eps) for part in chunk))

    def means(self) -> list[Matrix]:
        """Return the mean of each view, shapes (d_i,)."""
        joined = as_numpy(self._shift).astype(np.float64) + self._sum / self.n
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


def affine(values: Any, mean: Matrix, weights: Matrix) -> Any:
    """Return ``(values - mean) @ weights`` in the values' type, a tensor for a tensor.

    Parameters
    ----------
    values : array, CSR or tensor of shape (n, d)
        Memory-mapped rows are read in chunks.
    mean : array of shape (d,)
    weights : array of shape (d, k)
    """
    if is_tensor(values):
        torch = _namespace(values)
        shift, W = (torch.asarray(part, device=values.device) for part in (mean, weights))
        return ((values - shift) @ W).to(values.dtype)
    mapped = np.empty((values.shape[0], weights.shape[1]), dtype=values.dtype)
    for rows in _chunks(len(mapped)):
        # Centred in float64: a large mean would cost a float32 difference its digits.
        mapped[rows] = (_dense(values[rows]) - mean) @ weights
    return mapped


def _chunks(n: int) -> Iterator[slice]:
    for start in range(0, n, CHUNK):
        yield slice(start, start + CHUNK)


def _namespace(array: Any) -> Any:
    return sys.modules["torch"] if is_tensor(array) else np


def _dense(rows: Any) -> Any:
    return rows.toarray() if sp.issparse(rows) else rows


def whiten(S: Matrix, tol: float) -> Matrix:
    """Return W of shape (d, rank) with W'SW = I, leaving out the null space of S.

    Parameters
    ----------
    S : array of shape (d, d)
        Symmetric, positive semi-definite.
    tol : float
        Eigenvalues up to `tol` times the largest count as zero, those of S scaled to a unit
        diagonal, so that the units of a column do not decide whether it counts.
    """
    variances = np.diag(S)
    # Rounding can leave a tiny negative variance where there is none.
    scale = np.sqrt(np.where(variances > 0, variances, 1.0))
    values, vectors = scipy.linalg.eigh(S / np.outer(scale, scale))
    kept = values > max(tol * values[-1], 0.0)
    return vectors[:, kept] / np.sqrt(values[kept]) / scale[:, None]


def fix_signs(weights: Sequence[Matrix]) -> list[Matrix]:
    """Flip matching columns so that the largest entry of each first-view column is positive."""
    first = weights[0]
    largest = first[np.argmax(np.abs(first), axis=0), np.arange(first.shape[1])]
    signs = np.where(largest < 0, -1.0, 1.0)
    return [w * signs for w in weights]
