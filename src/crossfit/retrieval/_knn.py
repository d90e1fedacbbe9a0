"""Exact search by faiss over rows that stay where they are, for instance in a mapped file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["best_rows", "faiss", "merged", "selector"]

Array = NDArray[Any]


def faiss(what: str = "an index") -> Any:
    """Return faiss; raise an ImportError that names the extra if it is not installed."""
    try:
        import faiss as module
    except ImportError as error:
        raise ImportError(
            f"{what} needs faiss; pip install 'crossfit-retrieval[ann]', or use ExactIndex"
        ) from error
    return module


def selector(mask: NDArray[np.bool_]) -> tuple[Any, Array]:
    """Return the faiss selector of some rows, and the bits that it reads."""
    bits = np.packbits(mask, bitorder="little")
    return faiss().IDSelectorBitmap(len(mask), faiss().swig_ptr(bits)), bits


def best_rows(
    queries: Array, rows: Array, k: int, distance: bool, mask: NDArray[np.bool_] | None = None
) -> tuple[Array, Array]:
    """Return the k best rows of each query, best first.

    Parameters
    ----------
    queries : float32 array of shape (n, d), C-contiguous
    rows : float32 array of shape (m, d), C-contiguous
    k : int
        Number of rows, at most that of the rows in the mask.
    distance : bool
        True for the negated squared distance, False for the inner product.
    mask : bool array of shape (m,), optional
        Rows to compare.

    Returns
    -------
    scores : float32 array of shape (n, k)
    indices : int64 array of shape (n, k)
    """
    library = faiss()
    n, d = queries.shape
    scores = np.empty((n, k), np.float32)
    indices = np.empty((n, k), np.int64)
    chosen, _bits = (None, None) if mask is None else selector(mask)
    pointer = library.swig_ptr
    given = (pointer(queries), pointer(rows), d, n, len(rows), k, pointer(scores), pointer(indices))
    if distance:
        library.knn_L2sqr(*given, None, chosen)
        np.negative(scores, out=scores)
    else:
        library.knn_inner_product(*given, chosen)
    return scores, indices


def merged(scores: Array, indices: Array, k: int) -> tuple[Array, Array]:
    """Return the k best of some results per query; equal scores by their row, and -1 last."""
    scores = np.where(indices < 0, -np.inf, scores)
    order = np.lexsort((indices, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(indices, order, axis=1)
