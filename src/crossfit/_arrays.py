"""Conversion of array-likes to a few checked forms, without guessing."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

__all__ = [
    "NUMPY_DEFAULTS",
    "RangeError",
    "as_array",
    "as_numpy",
    "checked_csr",
    "floats",
    "in_rows",
    "is_missing",
    "is_tensor",
    "listed",
    "missing_rows",
    "check_finite",
    "check_tensor",
    "size_warning",
]

# NumPy's default settings, under which results are correct whatever a program has set.
NUMPY_DEFAULTS: Any = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}

_NUMBERS = (bool, int, float, complex, np.bool_, np.number)
_NESTED = (list, tuple, np.ndarray)
# pandas is recognised by name, so that it need not be installed.
_NOTHING = {"NoneType", "NAType", "NaTType", "MaskedConstant"}


def is_tensor(values: Any) -> bool:
    """Return True if `values` is a torch tensor, without importing torch.

    Parameters
    ----------
    values : object
        Any object.
    """
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


def check_tensor(values: Any, what: str) -> None:
    """Reject tensors that are not one block of numbers: sparse, nested, quantized, meta."""
    torch = sys.modules["torch"]
    forms = {
        "nested": values.is_nested,
        "sparse": values.layout != torch.strided,
        "quantized": values.is_quantized,
        "meta": values.is_meta,
    }
    form = next((name for name, found in forms.items() if found), None)
    if form:
        advice = {"sparse": "call to_dense()", "quantized": "call dequantize()"}.get(
            form, "pass one dense tensor"
        )
        raise TypeError(f"{what} must not be a {form} tensor: {advice}")


def as_numpy(values: Any, what: str = "the values") -> NDArray[Any]:
    """Return an array-like, or a tensor of any device and type, as an array.

    Parameters
    ----------
    values : array-like or tensor
        The values to convert.
    what : str, default="the values"
        Name of the values in error messages.

    Raises
    ------
    ValueError, TypeError
        If it is not an array, is masked, or is a tensor that is not one block of numbers.
    """
    if is_tensor(values):
        check_tensor(values, what)
        values = values.detach().cpu().resolve_conj().resolve_neg()
        # NumPy has no other floating types of less than 4 bytes than float16.
        if values.is_floating_point() and values.element_size() < 4:
            values = values.half() if str(values.dtype) == "torch.float16" else values.float()
        return np.asarray(values.numpy())
    if isinstance(values, np.ndarray):
        return np.asarray(_unmasked(values, what))
    try:
        return np.asarray(values)
    except Exception as error:
        raise ValueError(
            f"{what} must be an array, got an object of type {type(values).__name__} that is not "
            f"one ({type(error).__name__})"
        ) from error


def as_array(given: Any, what: str, advice: str = "", *, numbers: bool = False) -> NDArray[Any]:
    """Return an array, a tensor, a list, or a column or table of pandas as an array.

    Objects in a table are converted: numbers to a numeric array, with NaN for missing values, and
    rows of one shape to one array. Strings stay Python strings, also among other objects.

    Parameters
    ----------
    given : array-like
    what : str
        Name of the values in error messages.
    advice : str, default=""
        End of the error message about rows of unequal shape.
    numbers : bool, default=False
        Also convert numbers that an array or a list holds as objects.

    Raises
    ------
    TypeError
        If it is not an array-like.
    ValueError
        If entries are masked, or the rows of a list have unequal shapes.
    """
    if isinstance(given, (list, tuple)):
        return _of_list(list(given), what, advice, numbers)
    if is_tensor(given):
        return as_numpy(given, what)
    if hasattr(given, "to_numpy"):
        given, numbers = _of_table(given, what), True
    if not isinstance(given, np.ndarray):
        try:
            given = np.asarray(given)
        except Exception as error:
            raise TypeError(
                f"{what} must be an array, got an object of type {type(given).__name__} that "
                f"cannot be read as one ({type(error).__name__})"
            ) from error
    given = _unmasked(given, what)
    given = given if isinstance(given, np.memmap) else np.asarray(given)
    if given.dtype == object:
        return _of_objects(given, numbers)
    return given if given.dtype.isnative else given.astype(given.dtype.newbyteorder("="))


def _is_sound_with_rate(item: Any) -> bool:
    """Return True for ``(samples, rate)`` or ``(rate, samples)``."""
    return (
        isinstance(item, tuple)
        and len(item) == 2
        and sum(isinstance(part, _NUMBERS) for part in item) == 1
        and sum(isinstance(part, np.ndarray) for part in item) == 1
    )


def _of_list(items: list[Any], what: str, advice: str, numbers: bool) -> NDArray[Any]:
    types = set(map(type, items))
    items = [as_numpy(item, what) if is_tensor(item) else item for item in items]
    if types and all(_is_nested(kind) or _is_tensor_type(kind) for kind in types):
        masked = [i for i, item in enumerate(items) if _holds_mask(item)]
        if masked:
            raise ValueError(_mask_message(what, masked, len(items)))
        try:
            array = np.asarray(items)
        except Exception:  # what the rows hold may raise anything
            # Tensors, which may be sounds, and sounds with their rate.
            if not all(map(_is_nested, types)) or all(map(_is_sound_with_rate, items)):
                return _held(items)
            raise ValueError(f"{what} must not be rows of unequal shape{advice}") from None
        if array.dtype.kind in "USO":
            # NumPy converts a NaN among strings to the text 'nan'.
            array = _of_objects(np.array(items, dtype=object), numbers)
        return array
    # Also dates: all that NumPy has its own types for, except text.
    if types and all(issubclass(t, (*_NUMBERS, np.generic)) and not _is_text(t) for t in types):
        array = np.asarray(items)
        return array if array.dtype.kind != "U" else _held(items)
    if any(map(_is_nested, types)) and any(issubclass(t, _NUMBERS) for t in types):
        raise ValueError(f"{what} must not be rows of unequal shape{advice}")
    if types == {str}:
        return np.array(items, dtype=object)
    # Strings, paths, pictures: NumPy must not look inside them.
    return _of_objects(_held(items), numbers)


def _of_table(given: Any, what: str) -> Any:
    """Return the values of a DataFrame or column; extension types are read column by column."""
    try:
        types: Any = getattr(given, "dtypes", None)
        frame = hasattr(given, "iloc") and getattr(given, "ndim", 1) == 2
        if frame and any(not isinstance(dtype, np.dtype) for dtype in types):
            columns = [as_array(given.iloc[:, i], what) for i in range(len(types))]
            if not all(column.dtype.kind in "biuf" for column in columns):
                columns = [column.astype(object) for column in columns]
            return np.column_stack(columns)
        return given.to_numpy()
    except Exception as error:
        raise TypeError(
            f"{what} must be an array, got an object of type {type(given).__name__} that cannot "
            f"be read as one ({type(error).__name__})"
        ) from error


def _of_objects(array: NDArray[Any], numbers: bool) -> NDArray[Any]:
    """Convert an object array of numbers, or of rows of one shape, to a numeric array."""
    cells = array.ravel().tolist()
    types = {kind for kind in map(type, cells) if kind.__name__ not in _NOTHING}
    if types <= {str}:
        return array
    if all(issubclass(kind, _NUMBERS) for kind in types):
        if not numbers:
            return array
        # In a single column, a missing number is kept as missing and rejected later.
        missing = [is_missing(cell) for cell in cells]
        if array.ndim == 1 and any(missing):
            return array
        filled = [np.nan if gone else cell for cell, gone in zip(cells, missing)]
        found = np.array(filled)
        same = found.dtype != object and all(
            gone or bool(a == b) for a, b, gone in zip(found.tolist(), filled, missing)
        )
        return found.reshape(array.shape) if same else array
    if array.ndim == 1 and len(types) and all(map(_is_nested, map(type, cells))):
        try:
            stacked = np.asarray(cells)
        except Exception:  # what the rows hold may raise anything
            return array
        good = stacked.dtype.kind in "biuf" and not any(map(_holds_mask, cells))
        return stacked if good else array
    if any(issubclass(kind, os.PathLike) or _is_text(kind) for kind in types):
        plain = [_plain_text(cell) for cell in cells]
        return _held(plain).reshape(array.shape)
    return array


def _held(items: list[Any]) -> NDArray[Any]:
    held = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        held[i] = item
    return held


def _plain_text(cell: Any) -> Any:
    if isinstance(cell, os.PathLike):
        return os.fspath(cell)
    return str(cell) if type(cell) is np.str_ else cell


def _is_text(kind: type) -> bool:
    return issubclass(kind, (str, bytes))


def _is_nested(kind: type) -> bool:
    return issubclass(kind, _NESTED) and kind.__name__ not in _NOTHING


def _is_tensor_type(kind: type) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and issubclass(kind, torch.Tensor)


# ---- what is not there -------------------------------------------------------------------


def is_missing(item: Any) -> bool:
    """Return True if a cell is empty: None, NaN, NaT, pandas' NA or a masked entry."""
    if type(item).__name__ in _NOTHING:
        return True
    # Nothing else differs from itself.
    return isinstance(item, (float, complex, np.generic)) and bool(item != item)


def missing_rows(array: NDArray[Any]) -> NDArray[np.intp]:
    """Return the rows of an array that contain missing values."""
    if not array.size:
        return np.empty(0, np.intp)
    if array.dtype.kind == "O":
        gone = np.fromiter(map(is_missing, array.ravel().tolist()), bool, array.size)
    elif array.dtype.kind in "fc":
        gone = np.isnan(array)
    elif array.dtype.kind in "mM":
        gone = np.isnat(array)
    else:
        return np.empty(0, np.intp)
    return np.flatnonzero(gone.reshape(len(array), -1).any(axis=1))


def in_rows(rows: Iterable[int], n: int) -> str:
    """Return the number of rows out of n, and the first few of them, for a message."""
    rows = list(rows)
    return f"{len(rows)} of {n} rows ({listed(rows)})"


def listed(numbers: Iterable[int], most: int = 5) -> str:
    """Return the first few of some numbers for a message."""
    numbers = [int(number) for number in numbers]
    first = ", ".join(map(str, numbers[:most]))
    return first + ", ..." if len(numbers) > most else first


def _unmasked(array: NDArray[Any], what: str) -> NDArray[Any]:
    """Return the data of a masked array; raise a ValueError if entries are masked."""
    ma = sys.modules.get("numpy.ma")
    if ma is None or not isinstance(array, ma.MaskedArray):
        return array
    mask = ma.getmaskarray(array)
    if mask.dtype.names:
        raise ValueError(f"{what} must not be a masked array of records")
    if mask.any():
        if array.ndim == 0:
            raise ValueError(f"{what} must not be a masked value")
        rows = np.flatnonzero(mask.reshape(len(array), -1).any(axis=1))
        raise ValueError(_mask_message(what, rows, len(array)))
    return array.data


def _mask_message(what: str, rows: Iterable[int], n: int) -> str:
    return (
        f"{what} must not be masked, as in {in_rows(rows, n)}: fill these entries or leave the "
        "rows out"
    )


def _holds_mask(item: Any, depth: int = 0) -> bool:
    ma = sys.modules.get("numpy.ma")
    if ma is None:
        return False
    if isinstance(item, ma.MaskedArray):
        return bool(np.any(ma.getmaskarray(item))) if item.dtype.names is None else True
    nested = isinstance(item, (list, tuple)) and depth < 32
    return nested and any(_holds_mask(part, depth + 1) for part in item)


# ---- sparse matrices ---------------------------------------------------------------------


def checked_csr(given: Any, what: str) -> Any:
    """Return a sparse matrix of rows as CSR, after a check that its parts are consistent.

    Compiled code does not check indices: one beyond the columns would access foreign memory.

    Parameters
    ----------
    given : sparse matrix or array
        A matrix of any format; it is not changed.
    what : str
        Name of the matrix in error messages.

    Raises
    ------
    TypeError
        If it does not have two axes.
    ValueError
        If its indices or offsets do not fit its shape.
    """
    if given.ndim != 2:
        raise TypeError(f"{what} must be a sparse matrix of rows, got {given.ndim}-D")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about types of indices, which are corrected
            if given.format in ("csr", "csc", "bsr"):
                # A new object, because the check may trim the arrays.
                given = type(given)((given.data, given.indices, given.indptr), shape=given.shape)
                given.check_format(full_check=True)
            elif given.format != "lil":
                given = _checked_coo(given.tocoo())
            matrix = given.tocsr()
            matrix.check_format(full_check=True)
    except Exception as error:
        raise ValueError(
            f"{what} is a damaged sparse matrix of shape {tuple(given.shape)}: its indices do not "
            f"fit ({error})"
        ) from error
    return matrix


def _checked_coo(matrix: Any) -> Any:
    for name, at, size in zip(("row", "column"), (matrix.row, matrix.col), matrix.shape):
        if len(at) != len(matrix.data):
            raise ValueError(f"{len(at)} {name} indices for {len(matrix.data)} values")
        if len(at) and not (at.min() >= 0 and at.max() < size):
            raise ValueError(f"a {name} index of {at.max() if at.max() >= size else at.min()}")
    return matrix


# ---- numbers -----------------------------------------------------------------------------


def floats(values: Any, what: str) -> Any:
    """Return float32 and float64 unchanged, and other numbers in the one that can represent them.

    Parameters
    ----------
    values : array, CSR matrix or tensor
    what : str
        Name of the values in error messages.

    Raises
    ------
    ValueError
        If values are not real numbers, or are integers beyond 2**53 that float64 cannot hold.
    """
    if is_tensor(values):
        check_tensor(values, what)
        values = values.detach()
        torch = sys.modules["torch"]
        if values.dtype in (torch.float32, torch.float64):
            return values
        if values.is_floating_point():
            return values.to(torch.float32)
        kind, name = "c" if values.is_complex() else "i", str(values.dtype)
        if name.removeprefix("torch.").startswith(("int", "uint", "bool")):
            data = as_numpy(values, what)
        else:
            kind = kind if kind == "c" else "V"
    else:
        kind, name, data = values.dtype.kind, str(values.dtype), values
        if sp.issparse(values):
            data = values.data
        if kind == "f":
            if values.dtype.type in (np.float32, np.float64):
                return values if values.dtype.isnative else values.astype(values.dtype.type)
            # A long double may be too large or too precise for float32, a half is not.
            wide = values.dtype.itemsize > 8 and data.size and not abs(data).max() <= 2**24
            with np.errstate(all="ignore"):
                return values.astype(np.float64 if wide else np.float32)
    if kind == "c":
        raise ValueError(f"{what}: Complex data not supported, got {name}")
    if kind not in "biu":
        raise ValueError(f"{what} must be numeric, got type {name}")
    dtype: Any = _holds_integers(data, what)
    if is_tensor(values):
        return values.to(getattr(sys.modules["torch"], dtype))
    return values.astype(dtype)


def _holds_integers(data: NDArray[Any], what: str) -> str:
    """Return the floating type that represents integers exactly."""
    if data.dtype.itemsize <= 2 or not data.size:
        return "float32"
    largest = max(-int(data.min()), int(data.max()))
    if largest <= 2**24:
        return "float32"
    if largest > 2**53:
        back = data.astype(np.float64)
        # The conversion back is defined only below the largest number of the type.
        within = back < (2.0**63 if data.dtype.kind == "i" else 2.0**64)
        lost = ~within | (np.where(within, back, 0).astype(data.dtype) != data)
        if lost.any():
            raise ValueError(
                f"{what} holds integers that float64 cannot hold, {data[lost][0]} for instance: "
                "subtract an offset, or pass float64 to have them rounded"
            )
    return "float64"


class RangeError(ValueError):
    """Values so large that their products overflow; the message names the view."""


def size_warning(values: Any) -> str:
    """Return a warning about floats whose squares overflow or underflow, or ""."""
    data = getattr(values, "values", values) if not sp.issparse(values) else values.data
    if is_tensor(data):
        data = as_numpy(data)
    if not isinstance(data, np.ndarray) or data.dtype.kind != "f" or not data.size:
        return ""
    largest = float(np.max(np.abs(data)))
    limits = np.finfo(data.dtype)
    if largest > (float(limits.max) / data.size) ** 0.5:
        return f"holds numbers as large as {largest:.3g}, whose squares overflow {data.dtype}"
    if 0 < largest < float(limits.tiny) ** 0.5:
        return f"holds no number above {largest:.3g}, whose square vanishes in {data.dtype}"
    return ""


def check_finite(values: Any, what: str, fault: str, offsets: Any = None) -> None:
    """Raise for NaN and infinity, with their rows and columns.

    Parameters
    ----------
    values : float array, CSR matrix or tensor
    what, fault : str
        Name of the values, and description of the fault, in the message.
    offsets : int array, optional
        For a Ragged, the offsets of the rows in its elements.
    """
    data = values.data if sp.issparse(values) else values
    xp = sys.modules["torch"] if is_tensor(data) else np
    with np.errstate(all="ignore"):
        total = xp.sum(data)
    # The sum is finite unless an entry is not, or the sum overflows: only then are entries checked.
    if xp.isfinite(total):
        return
    bad = ~xp.isfinite(data)
    if not bad.any():
        return
    bad = as_numpy(bad)
    if sp.issparse(values):
        at = values.tocoo()
        rows, columns = at.row[bad], at.col[bad]
        n, width = values.shape
    else:
        places = np.nonzero(bad)
        rows, columns = places[0], places[-1]
        n, width = values.shape[0], values.shape[-1]
    if offsets is not None:
        rows, n = np.searchsorted(offsets, rows, side="right") - 1, len(offsets) - 1
    message = f"{what} {fault} in {in_rows(np.unique(rows), n)}"
    if len(values.shape) > 1:
        found = np.unique(columns).tolist()
        message += f" and {len(found)} of {width} columns ({listed(found)})"
    raise ValueError(message)
