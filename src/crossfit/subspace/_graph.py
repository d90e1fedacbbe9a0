"""Sparse neighbourhood graphs of rows; a dense n x n matrix is never formed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.neighbors import kneighbors_graph

from crossfit.subspace._linalg import CHUNK, Matrix, dense
from crossfit.views import as_numpy

__all__ = [
    "gaussian",
    "hypergraph_form",
    "hypergraph_root",
    "neighbor_graph",
    "quadratic_form",
    "standardized",
]


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


def gaussian(distances: NDArray[Any]) -> NDArray[Any]:
    """Return the heat kernel of distances, whose width is their mean; 1 if all are zero."""
    width = distances.mean() if distances.size else 0.0
    return np.exp(-0.5 * (distances / width) ** 2) if width > 0 else np.ones_like(distances)


def hypergraph_root(
    edge: NDArray[np.int64], node: NDArray[np.int64], weights: Matrix, n_nodes: int
) -> sp.csr_array:
    """Return S of shape (n_nodes, n_edges), which the normalised Laplacian ``I - SS'`` consists of.

    ``S = Dv^-½ H W^½ De^-½``, with the incidence H, the weights W and the degrees De of the edges,
    and the weighted degrees Dv of the nodes. The row of a node without weighted edges is zero; in
    the identity of the Laplacian, so is its entry.

    Parameters
    ----------
    edge, node : int array of shape (n_memberships,)
        Each membership of a node in an edge, once.
    weights : array of shape (n_edges,)
        Not negative.
    n_nodes : int

    Notes
    -----
    The Laplacian annihilates the roots of the degrees Dv, and is positive semi-definite.
    """
    shape = (n_nodes, len(weights))
    H = sp.csr_array((np.ones(len(node)), (node, edge)), shape=shape)
    degree = H @ weights
    scale = np.divide(1.0, np.sqrt(degree), out=np.zeros(n_nodes), where=degree > 0)
    sizes = np.maximum(H.sum(axis=0), 1)
    return sp.csr_array(sp.diags_array(scale) @ H @ sp.diags_array(np.sqrt(weights / sizes)))


def hypergraph_form(parts: Sequence[NDArray[Any]], S: sp.csr_array) -> Matrix:
    """Return X'LX in float64 for ``L = I - SS'`` and the block-diagonal X of several parts.

    Parameters
    ----------
    parts : sequence of array of shape (n_i, d_i)
        The nodes are the rows of all parts, in order.
    S : array of shape (n_nodes, n_edges)
        As `hypergraph_root` returns it.

    Returns
    -------
    array of shape (d, d)
        d is the sum of d_i.

    Notes
    -----
    L is not formed: edges are processed in chunks, at a cost of O(m d_i) for m memberships and of
    O(e d²) for e edges.
    """
    joined = S.sum(axis=1) > 0
    rows, columns = (_consecutive([part.shape[axis] for part in parts]) for axis in (0, 1))
    d = columns[-1].stop
    form = np.zeros((d, d))
    for part, own, block in zip(parts, rows, columns):
        for start in range(0, len(part), CHUNK):
            chunk = slice(start, start + CHUNK)
            some = part[chunk][joined[own][chunk]].astype(np.float64, copy=False)
            form[block, block] += some.T @ some
    members = [sp.csr_array(S[own].T) for own in rows]
    for start in range(0, S.shape[1], CHUNK):
        means = [member[start : start + CHUNK] for member in members]
        present = [i for i, some in enumerate(means) if some.nnz]  # most edges are of one part
        of_edges = {i: means[i] @ parts[i] for i in present}
        for i in present:
            for j in present:
                form[columns[i], columns[j]] -= of_edges[i].T @ of_edges[j]
    return (form + form.T) / 2


def _consecutive(sizes: Sequence[int]) -> list[slice]:
    stops = np.cumsum(sizes)
    return [slice(int(stop) - size, int(stop)) for size, stop in zip(sizes, stops)]
