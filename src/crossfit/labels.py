"""Labels and groups of rows: valid forms, and which rows are unlabelled.

The number ``-1`` marks an unlabelled row in arrays of signed integers, of floats and of objects,
even among strings. In an array of strings ``"-1"`` is a class like any other, and in an array of
bools or unsigned integers every row is labelled.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._arrays import as_array, as_numpy, in_rows, missing_rows
from crossfit._text import shown

__all__ = [
    "check_labels",
    "class_codes",
    "group_codes",
    "is_unlabelled",
    "joined_labels",
    "labelled",
    "read_labels",
    "row_weights",
]

Codes = NDArray[np.int64]

_KINDS = {"b": "numbers", "i": "numbers", "u": "numbers", "f": "numbers", "U": "strings"}
_KINDS |= {"S": "bytes", "M": "dates", "m": "durations"}


def read_labels(y: Any, what: str = "labels") -> NDArray[Any]:
    """Return labels as an array, numeric if the labels are numbers, and check their values.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, n_classes)
        Classes, or an indicator matrix.
    what : str, default="labels"
        Name of the labels in error messages.

    Returns
    -------
    array of shape (n,) or (n, n_classes)
        An array of numbers, strings or dates, or of objects if -1 is among strings or integers
        have more than 64 bits.

    Raises
    ------
    ValueError, TypeError
        If labels are missing (the message lists the rows), are of several kinds, or cannot be
        labels, such as sets, mappings and lists of unequal length.

    Examples
    --------
    >>> read_labels(["cat", "dog", -1]).tolist()
    ['cat', 'dog', -1]
    """
    array = _read(y, what)
    if array.ndim == 0:
        raise ValueError(f"{what} must have one entry per row, got shape ()")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        rows = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
        raise ValueError(
            f"{what} must be finite, got NaN or infinity in {in_rows(rows, len(array))}; mark "
            "unlabelled rows by -1"
        )
    missing = missing_rows(array)
    if len(missing):
        raise ValueError(
            f"{what} must not be None or NaN, as in {in_rows(missing, len(array))}; mark "
            "unlabelled rows by the number -1"
        )
    _kind(array, what)
    return array


def check_labels(y: Any) -> NDArray[Any]:
    """Return labels as an array, and check that they are 1-D classes or an indicator matrix.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, n_classes)
        Classes, or an indicator matrix of 0 and 1.

    Returns
    -------
    array of shape (n,) or (n, n_classes)

    Raises
    ------
    ValueError, TypeError
        If they have another shape, or as in `read_labels`.

    See Also
    --------
    read_labels : Check only the values.

    Examples
    --------
    >>> check_labels([0, 1, 1]).tolist()
    [0, 1, 1]
    """
    labels = read_labels(y)
    indicator = labels.ndim == 2 and labels.dtype.kind in "biuf" and np.isin(labels, (0, 1)).all()
    if labels.ndim != 1 and not indicator:
        raise ValueError(
            "labels must be 1-D classes or an (n, n_classes) indicator of 0 and 1, got shape "
            f"{labels.shape} of type {labels.dtype}; pass a second modality in Views, or between "
            "X and y"
        )
    return labels


def labelled(y: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask of the rows that have a class.

    Parameters
    ----------
    y : array of shape (n,)
        A label vector, as returned by `read_labels`.

    Returns
    -------
    bool array of shape (n,)

    Examples
    --------
    >>> labelled(read_labels([2, -1, 0])).tolist()
    [True, False, True]
    """
    if y.dtype.kind == "O":
        return np.fromiter((not is_unlabelled(label) for label in y), bool, len(y))
    return np.asarray(y != -1) if y.dtype.kind in "if" else np.ones(len(y), bool)


def class_codes(y: NDArray[Any]) -> tuple[NDArray[Any], Codes]:
    """Return the sorted classes of a label vector, and the index of each row's class.

    Parameters
    ----------
    y : array of shape (n,)
        A label vector, as returned by `read_labels`.

    Returns
    -------
    classes : array of shape (n_classes,)
        The classes, sorted.
    codes : int64 array of shape (n,)
        Indices into `classes`; -1 for unlabelled rows.

    Examples
    --------
    >>> classes, codes = class_codes(read_labels(["dog", "cat", -1, "dog"]))
    >>> classes.tolist(), codes.tolist()
    (['cat', 'dog'], [1, 0, -1, 1])
    """
    known = labelled(y)
    classes, found = np.unique(y[known], return_inverse=True)
    codes = np.full(len(y), -1, np.int64)
    codes[known] = found
    return classes, codes


def joined_labels(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """Concatenate two label vectors, so that labels are equal in the result only if they were.

    Parameters
    ----------
    one, other : array of shape (n,) or (m,)
        Label vectors, as returned by `read_labels`.

    Returns
    -------
    array of shape (n + m,)

    Raises
    ------
    TypeError
        If they are of different kinds, for instance numbers and strings.

    Examples
    --------
    >>> joined_labels(read_labels(["cat"]), read_labels(["dog", "cat"])).tolist()
    ['cat', 'dog', 'cat']
    """
    kinds = {_kind(part, "labels") for part in (one, other) if labelled(part).any()}
    dates = {"O", "M"} <= {one.dtype.kind, other.dtype.kind}
    if len(kinds) > 1 or dates:
        raise TypeError(
            f"labels of both sides must be of one kind, got {one.dtype} and {other.dtype}"
        )
    if {one.dtype.kind, other.dtype.kind} <= set("biufO") and one.dtype != other.dtype:
        # NumPy would convert signed and unsigned integers to floats, in which different large
        # integers are equal.
        together = [*one.tolist(), *other.tolist()]
        return as_array(np.array([*together, None], dtype=object)[:-1], "labels", numbers=True)
    if "O" in (one.dtype.kind, other.dtype.kind):
        one, other = one.astype(object), other.astype(object)
    return np.concatenate([one, other])


def group_codes(groups: Any, n: int, unit: str = "row") -> Codes:
    """Return the index of each row's group among the sorted groups.

    Parameters
    ----------
    groups : array-like of shape (n,)
        Numbers, strings or dates; rows with equal entries are in the same group.
    n : int
        Number of rows.
    unit : str, default="row"
        Name of a row in error messages.

    Returns
    -------
    int64 array of shape (n,)

    Raises
    ------
    ValueError, TypeError
        If the groups are of another shape, of several kinds, or some are missing.

    Examples
    --------
    >>> group_codes(["b", "a", "b"], 3).tolist()
    [1, 0, 1]
    """
    array = _read(groups, "groups")
    if array.shape != (n,):
        raise ValueError(
            f"groups must have one entry per {unit}, that is shape ({n},), got {array.shape}"
        )
    missing = missing_rows(array)
    if len(missing):
        raise ValueError(
            f"groups must not be None or NaN, as in {in_rows(missing, n)}; a {unit} without others "
            "needs a group of its own"
        )
    _kind(array, "groups", mixed=False)
    return np.unique(array, return_inverse=True)[1].astype(np.int64)


def row_weights(given: Any, n: int, who: str = "") -> NDArray[np.float64]:
    """Return weights of rows in float64.

    Parameters
    ----------
    given : array-like of shape (n,)
        The weights.
    n : int
        Number of rows.
    who : str, default=""
        Start of messages, for instance ``"CCA: "``.

    Returns
    -------
    array of shape (n,)

    Raises
    ------
    ValueError
        If they are not one finite number of at least 0 per row.

    Examples
    --------
    >>> row_weights([2, 0, 1], 3).tolist()
    [2.0, 0.0, 1.0]
    """
    weights = as_numpy(given, "sample_weight")
    if weights.shape != (n,) or weights.dtype.kind not in "biuf":
        raise ValueError(
            f"{who}sample_weight must be one number per row ({n}), got an array of shape "
            f"{weights.shape} and type {weights.dtype}"
        )
    weights = weights.astype(np.float64)
    wrong = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if len(wrong):
        raise ValueError(
            f"{who}sample_weight must be finite and at least 0, got {weights[wrong[0]]} in row "
            f"{wrong[0]}"
        )
    return weights


def _read(given: Any, what: str) -> NDArray[Any]:
    if isinstance(given, Sequence) and not isinstance(given, (str, bytes, list, tuple)):
        given = list(given)
    numbers = (list, tuple, Real, np.generic)
    if isinstance(given, (str, bytes)) or not (
        isinstance(given, numbers) or hasattr(given, "__array__")
    ):
        raise TypeError(
            f"{what} must be an array-like with one entry per row, got an object of type "
            f"{type(given).__name__}"
        )
    array = as_array(given, what, numbers=True)
    if array.dtype.kind == "T":
        array = array.astype(object)
    if array.dtype.kind not in "biufUSMmO":
        raise ValueError(f"{what} must be numbers, strings or dates, got type {array.dtype}")
    return array


def _kind(array: NDArray[Any], what: str, mixed: bool = True) -> str:
    """Return the kind of the entries; raise if there are several.

    If `mixed`, the number -1 is allowed among entries of another kind.
    """
    if array.dtype.kind != "O":
        return _KINDS[array.dtype.kind]
    kinds: dict[str, int] = {}
    for i, entry in enumerate(array.ravel().tolist()):
        kind = _kind_of(entry)
        if not kind:
            row = i // max(1, array.size // max(1, len(array)))
            raise ValueError(
                f"{what} must be numbers, strings or dates, got an object of type "
                f"{type(entry).__name__} in row {row}"
            )
        if not (mixed and is_unlabelled(entry)):
            kinds.setdefault(kind, i)
    if len(kinds) > 1:
        (one, _), (other, at) = sorted(kinds.items(), key=lambda item: item[1])[:2]
        raise ValueError(
            f"{what} must be of one kind, got {one} and {other} (row {at} is "
            f"{shown(array.ravel()[at])})"
        )
    return next(iter(kinds), "numbers")


def _kind_of(entry: Any) -> str:
    kinds: tuple[tuple[Any, str], ...] = (
        (str, "strings"),
        (bytes, "bytes"),
        ((Real, np.number, np.bool_), "numbers"),
        ((datetime.datetime, np.datetime64), "dates"),
        (datetime.date, "days"),
        ((datetime.timedelta, np.timedelta64), "durations"),
    )
    if isinstance(entry, (complex, np.complexfloating)):
        return ""
    return next((name for kind, name in kinds if isinstance(entry, kind)), "")


def is_unlabelled(entry: Any) -> bool:
    """Return True if an entry of a label vector is the number -1.

    Parameters
    ----------
    entry : object
        One entry of a label vector.

    Returns
    -------
    bool

    Examples
    --------
    >>> is_unlabelled(-1), is_unlabelled("-1")
    (True, False)
    """
    return isinstance(entry, (Real, np.number)) and bool(entry == -1)
