"""Coordinates of views with more columns than items in the span of their items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit._threads import few_threads
from crossfit.subspace._linalg import Matrix
from crossfit.views import Views, is_tensor

__all__ = ["WIDE", "Span", "narrowed"]

# Views with more columns than this, and than items, are mapped to the span of their items first.
WIDE = 1024

# Above this density, products of sparse rows cost more than those of dense rows.
_DENSE = 0.05

# Number of columns converted to dense at a time.
_COLUMNS = 1024


@dataclass(frozen=True)
class Span:
    """The span of the centred and scaled items ``(x - mean) / scale`` of a view.

    With the pivoted Cholesky decomposition ``R'R`` of the items' Gram matrix, the items on the
    pivots give an orthonormal basis ``B = X_p' R^-1``, in which the items have the coordinates
    R'. B is never formed, and the items are never converted to dense as a whole.

    Attributes
    ----------
    items : array or CSR of shape (r, d)
        The items on the pivots.
    root : array of shape (r, r)
        R, upper triangular.
    mean, scale : array of shape (d,)
    """

    items: Any
    root: Matrix
    mean: Matrix
    scale: Matrix

    def weights(self, narrow: Matrix) -> Matrix:
        """Return weights for ``x - mean`` that correspond to weights for the coordinates."""
        A = scipy.linalg.solve_triangular(self.root, narrow)
        if sp.issparse(self.items):
            weights = self.items.T @ A - np.outer(self.mean, A.sum(axis=0))
        else:
            weights = np.empty((len(self.mean), A.shape[1]))
            for columns, block in _blocks(self.items, self.mean, np.ones_like(self.mean)):
                weights[columns] = block.T @ A
        return np.asarray(weights / self.scale[:, None] ** 2)


def narrowed(
    views: Views,
    standardize: bool = False,
    *,
    center: bool = True,
    weights: NDArray[Any] | None = None,
) -> tuple[Views, dict[str, Span]]:
    """Return views in which coordinates replace the columns of wide views, and their spans.

    In an orthonormal basis, multiples of the identity (ridges), traces and inner products are
    unchanged.

    Parameters
    ----------
    views : Views
        Views with arrays of shape (n, d_i), dense or CSR. Tensors are returned unchanged.
    standardize : bool, default=False
        Whether to divide each column by its standard deviation over the rows.
    center : bool, default=True
        Whether to subtract the mean of each column over the rows.
    weights : array of shape (n,), optional
        Weights of the rows in means and deviations; equal by default.

    Returns
    -------
    views : Views
    spans : dict of str to Span
        Spans of the views that were mapped, by role.
    """
    spans: dict[str, Span] = {}

    def narrow(items: Any, role: str) -> Any:
        n_items, n_columns = items.shape
        if is_tensor(items) or n_columns <= max(n_items, WIDE):
            return items
        index, has = views.distinct(role)[1], views.present(role)
        of_rows = None if weights is None else weights[has]
        counts = np.bincount(index[has], of_rows, n_items).astype(np.float64)
        mean, deviations = _mean_and_deviation(items, counts)
        scale = np.ones(n_columns)
        if standardize:
            # The deviation of a constant column may be rounding error instead of 0.
            varies = deviations > 10 * np.finfo(items.dtype).eps * np.abs(mean)
            scale = np.where(varies, deviations, 1.0)
        mean = mean if center else np.zeros(n_columns)
        G = _gram(items, mean, scale)
        largest = float(np.diag(G).max())
        with few_threads(n_items**3):
            root, pivots, rank, _ = scipy.linalg.lapack.dpstrf(
                G, tol=n_items * np.finfo(float).eps * largest
            )
        if largest <= 0:
            return np.zeros((n_items, 1))
        R, pivots = np.triu(root[:rank]), pivots - 1
        coordinates = np.empty((n_items, rank))
        coordinates[pivots] = R.T
        spans[role] = Span(items[pivots[:rank]], R[:, :rank], mean, scale)
        return coordinates

    return views.map(narrow), spans


def _mean_and_deviation(items: Any, counts: Matrix) -> tuple[Matrix, Matrix]:
    """Return the weighted means and standard deviations of the columns."""
    n = counts.sum()
    counts = counts / n
    if sp.issparse(items):
        mean = counts @ items.astype(np.float64, copy=False)
        squares, filled = items.astype(np.float64), items.copy()
        squares.data = (squares.data - mean[squares.indices]) ** 2
        filled.data = np.ones(len(filled.data))
        total = counts @ squares + np.maximum(1 - counts @ filled, 0) * mean**2
        return mean, np.sqrt(total * n / (n - 1))
    zero, one = np.zeros(items.shape[1]), np.ones(items.shape[1])
    mean, total = np.empty_like(zero), np.empty_like(zero)
    for columns, block in _blocks(items, zero, one):
        mean[columns] = counts @ block
        total[columns] = counts @ (block - mean[columns]) ** 2
    return mean, np.sqrt(total * n / (n - 1))


def _gram(items: Any, mean: Matrix, scale: Matrix) -> Matrix:
    """Return the inner products of ``(items - mean) / scale`` in float64, shape (n, n)."""
    n, d = items.shape
    if sp.issparse(items) and items.nnz <= _DENSE * n * d:
        rows = items.astype(np.float64) @ sp.diags_array(1 / scale)
        m = mean / scale
        across = rows @ m
        return np.asarray((rows @ rows.T).toarray() - across - across[:, None] + m @ m)
    G = np.zeros((n, n))
    for _, block in _blocks(items, mean, scale):
        G += block @ block.T
    return G


def _blocks(items: Any, mean: Matrix, scale: Matrix) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield blocks of columns of ``(items - mean) / scale`` in float64."""
    items = items.tocsc() if sp.issparse(items) else items
    for start in range(0, items.shape[1], _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        block = items[:, columns]
        block = block.toarray() if sp.issparse(block) else block
        yield columns, (block.astype(np.float64) - mean[columns]) / scale[columns]
