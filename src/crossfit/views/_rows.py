"""Rows of the values of a view, whatever their type."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._arrays import as_numpy, is_tensor
from crossfit._text import shown

__all__ = [
    "IntArray",
    "as_column",
    "can_be_shown",
    "drop_ellipsis",
    "n_rows",
    "positions",
    "read_only",
    "take_rows",
]

IntArray = NDArray[np.int64]


def n_rows(values: Any) -> int:
    """Return the number of rows of the values of a view.

    Parameters
    ----------
    values : array, sparse matrix, Ragged, Channels or Views
        Values of a view.

    Returns
    -------
    int
    """
    return int(values.shape[0])


def take_rows(values: Any, rows: Any) -> Any:
    """Return a selection of rows, as the same type as the values.

    Parameters
    ----------
    values : array, sparse matrix, Ragged, Channels or Views
        Values of a view.
    rows : int array, bool array or slice
        The rows to take.

    Returns
    -------
    array, sparse matrix, Ragged, Channels or Views
    """
    if is_tensor(values) and isinstance(rows, np.ndarray):
        rows = rows.copy()  # torch warns about read-only index arrays
    taken = values[rows]
    return read_only(taken) if isinstance(taken, np.ndarray) else taken


def positions(rows: Any, n: int) -> IntArray:
    """Return the numbers of the selected rows of n, counted from the first one."""
    if isinstance(rows, slice):
        ends = (rows.start, rows.stop, rows.step)
        whole = all(end is None or isinstance(end, (int, np.integer)) for end in ends)
        if not whole or rows.step == 0:
            raise IndexError(
                f"a slice of rows must have integer bounds and a nonzero step, got {shown(rows)}"
            )
        return np.arange(n)[rows]
    if isinstance(rows, (bool, np.bool_)):
        raise IndexError(f"rows must be an int, a slice, an integer array or a mask, got {rows}")
    try:
        at = np.atleast_1d(as_numpy(rows, "rows"))
    except (TypeError, ValueError) as error:
        raise IndexError(
            f"rows must be an int, a slice, an integer array or a mask: {error}"
        ) from None
    if at.dtype == bool:
        if at.shape != (n,):
            raise IndexError(f"a row mask must have shape ({n},), got {at.shape}")
        return np.flatnonzero(at)
    if at.size == 0:
        return np.empty(0, np.int64)
    if at.ndim != 1 or not np.issubdtype(at.dtype, np.integer):
        raise IndexError(
            "rows must be an int, a slice, a 1-D integer array or a mask, got "
            f"{type(rows).__name__} of type {at.dtype} and shape {at.shape}"
        )
    if at.min() < -n or at.max() >= n:
        outside = at.max() if at.max() >= n else at.min()
        raise IndexError(f"row {outside} is out of range for {n} rows")
    return np.where(at < 0, at + n, at).astype(np.int64)


def drop_ellipsis(key: Any) -> Any:
    """Return the rows of a key; scikit-learn indexes containers as ``X[rows, ...]``."""
    if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
        return key[0]
    return key


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view of an array that cannot be written."""
    seen = array.view()
    seen.setflags(write=False)
    return seen


def as_column(values: Any) -> Any:
    """Return the rows of a view as the cells of a column."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return values
    return [values[i] for i in range(n_rows(values))]


def can_be_shown(values: Any) -> bool:
    """Return True if the items of a view are texts, paths or pictures.

    Parameters
    ----------
    values : array-like
        Values of a view.
    """
    if not isinstance(values, np.ndarray):
        return False
    return values.dtype.kind in "OU" or (values.dtype == np.uint8 and values.ndim == 4)
