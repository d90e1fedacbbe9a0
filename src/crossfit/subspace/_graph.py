"""Sparse neighbourhood graphs of rows; a dense n x n matrix is never formed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.neighbors import kneighbors_graph

from crossfit.subspace._linalg import CHUNK, Matrix, dense
from crossfit.views import as_numpy

__all__ = ["neighbor_graph", "quadratic_form", "standardized"]


def standardized(values: Any, mean: Matrix, scale: Matrix) -> NDArray[Any]:
    """Return ``(values - mean) / scale`` as a dense array, shape (n, d).

    Parameters
    ----------
    values : array, CSR or tensor of shape (n, d)
    mean, scale : array of shape (d,)
    """
    rows = values if sp.issparse(values) else as_numpy(values)
    result = np.empty(rows.shape, dtype=rows.dtype)
    for start in range(0, len(result), CHUNK):
        chunk = slice(start, start + CHUNK)
        result[chunk] = (dense(rows[chunk]) - mean) / scale
    return result


def neighbor_graph(
    X: NDArray[Any], k: int, weight: Callable[[NDArray[Any]], NDArray[Any]]
) -> sp.csr_array:
    """Return the symmetric weights between each row and its k nearest others, shape (n, n).

    Parameters
    ----------
    X : array of shape (n, d)
    k : int
        Number of neighbours; all other rows if there are fewer.
    weight : callable
        Function from Euclidean distances to weights, called once with those of all edges.

    Notes
    -----
    If only one of two rows is among the other's nearest, the edge has half the weight. Costs up
    to O(n² d) time and O(n k) memory.
    """
    found = kneighbors_graph(X, min(k, len(X) - 1), mode="distance")
    graph = sp.csr_array((weight(found.data), found.indices, found.indptr), shape=found.shape)
    return (graph + graph.T) / 2


def quadratic_form(X: NDArray[Any], A: sp.csr_array) -> Matrix:
    """Return X'AX in float64, for sparse A of shape (n, n)."""
    form = X.T @ (A @ X.astype(np.float64, copy=False))
    return (form + form.T) / 2
