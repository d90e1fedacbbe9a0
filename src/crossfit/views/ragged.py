"""Ragged: rows of unequal length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from numbers import Real
from types import MappingProxyType
from typing import Any, NoReturn, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from crossfit._arrays import as_array, as_numpy, check_finite, floats, is_missing, is_tensor
from crossfit._frames import frame_of
from crossfit._html import Items, html_table
from crossfit._text import shown
from crossfit.views._rows import IntArray, as_column, drop_ellipsis, positions, read_only

__all__ = ["Immutable", "Ragged", "as_float", "without_padding"]


class Immutable:
    """Objects whose attributes cannot be set after they are made."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable: cannot delete {name!r}")


class Ragged(Immutable):
    """Rows of unequal length: region vectors of an image, words of a sentence.

    Parameters
    ----------
    values : array of shape (n_elements, ...)
        The elements of all rows, one row after the other.
    offsets : array-like of int, shape (n_rows + 1,)
        Row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.
    info : mapping, optional
        Additional data. Arrays whose first axis has ``n_elements`` entries (boxes, scores) are
        indexed together with the rows; anything else (a vocabulary) is kept unchanged.

    Raises
    ------
    ValueError
        If the offsets do not increase monotonically from 0 to ``len(values)``, or values are
        masked or missing.
    TypeError
        If `values` is not an array-like or `info` is not a mapping.

    See Also
    --------
    Ragged.from_list : Build one from a list of arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Ragged
    >>> regions = Ragged.from_list([np.zeros((2, 3)), np.ones((1, 3))])
    >>> regions.lengths.tolist()
    [2, 1]
    >>> regions[1].tolist()
    [[1.0, 1.0, 1.0]]
    >>> dense, mask = regions.padded()
    >>> dense.shape, mask.tolist()
    ((2, 2, 3), [[True, True], [True, False]])
    """

    __slots__ = ("info", "offsets", "values")

    values: NDArray[Any]
    offsets: IntArray
    info: Mapping[str, Any]

    def __init__(
        self, values: ArrayLike, offsets: ArrayLike, info: Mapping[str, Any] | None = None
    ) -> None:
        array = read_only(_of_elements(values, "the values of a Ragged"))
        bounds = as_numpy(offsets, "the offsets of a Ragged")
        if (
            bounds.ndim != 1
            or len(bounds) < 1
            or bounds.dtype.kind not in "iu"
            or bounds[0] != 0
            or array.ndim < 1
            or bounds[-1] != len(array)
            or np.any(bounds[1:] < bounds[:-1])
        ):
            raise ValueError(
                "Ragged expects integer offsets that rise from 0 to the number of elements "
                f"({len(array) if array.ndim else 'a scalar'}), got offsets of shape "
                f"{bounds.shape} and type {bounds.dtype}"
                + (
                    f" from {bounds[0]} to {bounds[-1]}"
                    if bounds.ndim == 1 and len(bounds) and bounds.dtype.kind in "iuf"
                    else ""
                )
            )
        object.__setattr__(self, "values", array)
        object.__setattr__(self, "offsets", read_only(bounds.astype(np.int64, copy=False)))
        if info is not None and not isinstance(info, Mapping):
            raise TypeError(f"info must be a mapping, got an object of type {type(info).__name__}")
        object.__setattr__(self, "info", MappingProxyType(dict({} if info is None else info)))

    @classmethod
    def from_list(cls, rows: Sequence[ArrayLike], info: Mapping[str, Any] | None = None) -> Self:
        """Build a Ragged from one array per row.

        Parameters
        ----------
        rows : sequence of array-like, each of shape (R_i, ...)
            All shapes must agree after the first axis.
        info : mapping, optional
            As for the class.

        Returns
        -------
        Ragged

        Raises
        ------
        ValueError, TypeError
            If there are no rows, if their trailing shapes or types differ, or if elements are
            masked or missing.
        """
        unordered = isinstance(rows, (str, bytes, Mapping, Set)) or getattr(rows, "ndim", 1) == 0
        if unordered or sp.issparse(rows) or not isinstance(rows, Iterable):
            raise TypeError(
                "Ragged.from_list expects a sequence of rows, got an object of type "
                f"{type(rows).__name__}"
            )
        arrays = [_of_elements(row, f"row {i} of a Ragged") for i, row in enumerate(rows)]
        if not arrays:
            raise ValueError("Ragged.from_list expects at least one row, got none")
        shapes = {a.shape[1:] for a in arrays if a.size}
        if any(a.ndim == 0 for a in arrays) or len(shapes) > 1:
            raise ValueError(
                "Ragged.from_list expects rows that agree in all axes but the first, got "
                f"trailing shapes {sorted(shapes)}"
            )
        if shapes:
            trailing = next(iter(shapes))
            kinds = {"b" if a.dtype.kind in "biufc" else a.dtype.kind for a in arrays if a.size}
            if len(kinds) > 1:
                raise ValueError(
                    "Ragged.from_list expects elements of one kind, got the types "
                    f"{', '.join(sorted({str(a.dtype) for a in arrays if a.size}))}"
                )
            dtype = np.result_type(*[a for a in arrays if a.size])
            arrays = [a if a.size else np.empty((0, *trailing), dtype) for a in arrays]
        offsets = np.concatenate([[0], np.cumsum([len(a) for a in arrays])])
        return cls(np.concatenate(arrays), offsets, info)

    @property
    def shape(self) -> tuple[int]:
        """``(n_rows,)``, from which scikit-learn reads the number of samples."""
        return (len(self),)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self.values.dtype

    @property
    def lengths(self) -> IntArray:
        """Number of elements of each row, shape (n_rows,)."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows: Any) -> Any:
        """Return one row as an array for an int, else a Ragged of the selected rows."""
        rows = drop_ellipsis(rows)
        if isinstance(rows, (int, np.integer)) and not isinstance(rows, bool):
            i = int(positions(rows, len(self))[0])
            return self.values[self.offsets[i] : self.offsets[i + 1]]
        at = positions(rows, len(self))
        lengths = self.lengths[at]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        element = np.arange(offsets[-1]) + np.repeat(self.offsets[at] - offsets[:-1], lengths)
        n = len(self.values)
        info = {
            key: part[element]
            if isinstance(part, np.ndarray) and part.ndim and len(part) == n
            else part
            for key, part in self.info.items()
        }
        return type(self)(self.values[element], offsets, info)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for start, stop in zip(self.offsets[:-1], self.offsets[1:]):
            yield self.values[start:stop]

    def padded(
        self, length: int | None = None, fill: float = 0
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return a dense, padded array and the mask of real elements.

        Parameters
        ----------
        length : int, optional
            Length of every row; longer rows are truncated. Default: the length of the longest row.
        fill : number, default=0
            The value of the padding.

        Returns
        -------
        dense : array of shape (n_rows, length, ...)
        mask : bool array of shape (n_rows, length)
            True for real elements, False for padding.

        Raises
        ------
        ValueError
            If `length` is not a non-negative integer, or the dtype of the elements cannot hold
            `fill`.
        """
        lengths = self.lengths
        whole = isinstance(length, (int, np.integer)) and not isinstance(length, bool)
        if length is not None and not (whole and 0 <= length < 2**31):
            raise ValueError(
                f"length must be a whole number of at least 0 or None, got {shown(length)}"
            )
        if not _can_hold(self.dtype, fill):
            raise ValueError(f"fill must be a number that {self.dtype} can hold, got {shown(fill)}")
        width = int(lengths.max(initial=0)) if length is None else int(length)
        mask = np.arange(width) < lengths[:, None]
        dense = np.empty((len(self), width, *self.values.shape[1:]), dtype=self.dtype)
        dense.fill(fill)
        kept = np.arange(len(self.values)) - np.repeat(self.offsets[:-1], lengths) < width
        dense[mask] = self.values[kept]
        return dense, mask

    def to_frame(self) -> Any:
        """Return the elements as a pandas DataFrame, one per row; pandas must be installed.

        Returns
        -------
        pandas.DataFrame
            Columns ``row``, ``element`` (its place in the row), ``value`` (a number, or an array)
            and one for each array of `info` with an entry per element.

        Examples
        --------
        >>> Ragged.from_list([[5, 6], [7]]).to_frame().values.tolist()
        [[0, 0, 5], [0, 1, 6], [1, 0, 7]]
        """
        n = len(self.values)
        starts = np.repeat(self.offsets[:-1], self.lengths)
        found: dict[str, Any] = {
            "row": np.repeat(np.arange(len(self)), self.lengths),
            "element": np.arange(n) - starts,
            "value": as_column(self.values),
        }
        for name, part in self.info.items():
            if isinstance(part, np.ndarray) and part.ndim and len(part) == n:
                found.setdefault(str(name), as_column(part))
        return frame_of(found)

    def _repr_html_(self) -> str:
        lengths = self.lengths
        texts = self.values.dtype.kind in "OU"
        items = Items()
        rows = [
            (
                i,
                int(lengths[i]),
                items.shown(" ".join(map(str, self[i][:20])) if texts else self[i]),
            )
            for i in range(min(len(self), 5))
        ]
        caption = f"{self!r}: {len(rows)} of {len(self)} rows"
        return html_table(caption, ("row", "elements", "values"), rows)

    def __repr__(self) -> str:
        extra = f", info: {', '.join(self.info)}" if self.info else ""
        return (
            f"Ragged(n={len(self)}, {len(self.values)} elements of shape "
            f"{self.values.shape[1:]} {self.dtype}{extra})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.values, self.offsets, dict(self.info))


def without_padding(values: Any) -> Ragged:
    """Return sequences of vectors without the zero vectors after the last element of a row.

    Parameters
    ----------
    values : Ragged, or array or tensor of shape (n, T, d)
        A Ragged is returned as it is.

    Returns
    -------
    Ragged
        Zero vectors between other vectors are kept; a row of zeros is empty.

    Examples
    --------
    >>> import numpy as np
    >>> without_padding(np.array([[[1.0], [2.0]], [[3.0], [0.0]]])).lengths.tolist()
    [2, 1]
    """
    if isinstance(values, Ragged):
        return values
    held = as_array(values, "values", numbers=True)
    if held.ndim != 3:
        raise ValueError(
            f"values must be sequences of vectors, of shape (n, T, d), got shape {held.shape}"
        )
    real = (held != 0).any(axis=2)
    lengths = real.shape[1] - real[:, ::-1].argmax(axis=1)
    lengths[~real.any(axis=1)] = 0
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Ragged(held[np.arange(held.shape[1]) < lengths[:, None]], offsets)


def _of_elements(given: Any, what: str) -> NDArray[Any]:
    """Read elements of a Ragged: numbers or strings, none of them missing."""
    if sp.issparse(given):
        raise TypeError(f"{what} must be a dense array, got a sparse one; call toarray()")
    array = as_array(given, what)
    if array.dtype == object and array.ndim:
        gone = [i for i, item in enumerate(array.ravel().tolist()) if is_missing(item)]
        if gone:
            raise ValueError(
                f"{what} must not have missing elements, got {len(gone)} (the first is number "
                f"{gone[0]})"
            )
    return array


def _can_hold(dtype: np.dtype[Any], fill: Any) -> bool:
    """Return True if an array of this dtype can represent a number."""
    if dtype.kind == "O":
        return True
    if dtype.kind not in "biufc":
        return isinstance(fill, (str, bytes)) or (isinstance(fill, int) and not fill)
    if not isinstance(fill, (Real, np.bool_)):
        return dtype.kind == "c" and isinstance(fill, complex)
    number: Any = fill
    if number != number or abs(number) == float("inf"):
        return dtype.kind in "fc"
    if dtype.kind in "fc":
        return bool(abs(number) <= float(np.finfo(dtype).max))
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return bool(number == int(number) and low <= int(number) <= high)


def as_float(values: Any, where: str) -> Any:
    """Convert values to float32 or float64, and check that they are finite.

    float32 and float64 are kept. Other numbers become float32 if none exceeds 2**24, up to which
    float32 represents integers exactly; otherwise float64.

    Parameters
    ----------
    values : array, CSR matrix, tensor or Ragged
        Values of a view.
    where : str
        Name of the values in error messages.

    Returns
    -------
    array, CSR matrix, tensor or Ragged
        The same type, with dtype float32 or float64.

    Raises
    ------
    ValueError
        If there is NaN or infinity (the message lists rows and columns), if the values are not
        real numbers, or if they are integers that float64 cannot hold.
    """
    ragged = isinstance(values, Ragged)
    given = values.values if ragged else values
    made = floats(given, where)
    if given.is_floating_point() if is_tensor(given) else given.dtype.kind == "f":
        offsets = values.offsets if ragged else None
        check_finite(made, where, "contains NaN or infinity", offsets)
    return Ragged(made, values.offsets, values.info) if ragged else made
