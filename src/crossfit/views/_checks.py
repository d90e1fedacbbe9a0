"""Checks of what views are made of: names, sizes, masks and missing rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Number
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit._arrays import is_missing, listed, missing_rows
from crossfit._text import shown
from crossfit.views._rows import IntArray

__all__ = [
    "check_complete",
    "check_entries",
    "check_items",
    "check_names",
    "common_size",
    "is_mapping",
    "missing_in",
    "named_views",
]


def is_mapping(given: Any) -> bool:
    """Return True for a mapping of names; scipy's DOK matrices map indices and do not count."""
    return isinstance(given, Mapping) and not sp.issparse(given)


def named_views(owner: str, form: str, views: Any, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the views that are given in a mapping and by keyword, with names checked."""
    if views is not None and not is_mapping(views):
        raise TypeError(
            f"{owner} expects views by name{form} or a mapping, got {type(views).__name__}"
        )
    given = {**({} if views is None else views), **named}
    if not given:
        raise ValueError(f"{owner} expects at least one view, got none")
    check_names(given, "views must be named by strings")
    return given


def check_names(names: Iterable[Any], wanted: str) -> None:
    """Raise if names are not strings, or if one of them comes twice."""
    names = list(names)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"{wanted}, got {', '.join(map(shown, names))}")
    if len(set(names)) < len(names):
        raise ValueError(f"{wanted}, got {', '.join(names)}")


def check_entries(entries: Mapping[str, Any], what: str, given: Mapping[str, Any]) -> None:
    """Raise if a mapping has an entry that is not of a view."""
    for name in entries:
        if name not in given:
            raise ValueError(
                f"{what} has an entry for {shown(name)}, but the views are {', '.join(given)}"
            )


def common_size(sizes: Mapping[str, int]) -> int:
    """Return the number of rows of all views; raise if it differs or is 0."""
    n = next(iter(sizes.values()))
    if len(set(sizes.values())) > 1:
        raise ValueError(f"views must have the same number of rows, got {_listed(sizes)}")
    if n == 0:
        raise ValueError(f"views must not be empty, got 0 rows in {', '.join(sizes)}")
    return n


def check_complete(masks: Iterable[NDArray[np.bool_]]) -> None:
    """Raise if a row has none of the views; the masks are those of the rows that have each."""
    lacking = np.flatnonzero(~np.any(list(masks), axis=0))
    if len(lacking):
        raise ValueError(f"row {lacking[0]} lacks every view; leave it out")


def check_items(values: Any, name: str, *, may_lack: bool) -> None:
    """Check that no row is missing, and that strings and numbers are not mixed."""
    if not isinstance(values, np.ndarray) or values.dtype != object:
        return
    cells = values.ravel().tolist()
    if set(map(type, cells)) <= {str}:
        return
    numbers = (Number, np.number, np.bool_)
    strings = any(issubclass(kind, str) for kind in set(map(type, cells)))
    number = next(
        (i for i, cell in enumerate(cells) if isinstance(cell, numbers) and not is_missing(cell)),
        None,
    )
    if strings and number is not None:
        if values.ndim > 1:
            return  # a table, which a transformer may be able to read
        raise ValueError(
            f"view {name!r} must hold strings or numbers, not both: row {number} is "
            f"{shown(cells[number])}"
        )
    missing = missing_rows(values)
    if len(missing) and not may_lack:
        first = next(cell for cell in values[missing[:1]].ravel() if is_missing(cell))
        others = f"; then {listed(missing[1:])}" if len(missing) > 1 else ""
        raise ValueError(
            f"view {name!r} is missing in {len(missing)} of {len(values)} rows (row {missing[0]} "
            f"is {first}{others}); leave these pairs out, or mark them as rows without the view, "
            f"present={{{name!r}: mask}}"
        )


def missing_in(name: str, rows: IntArray, n: int) -> str:
    """Return the start of a message on rows that lack a view."""
    others = f"; then {listed(rows[1:])}" if len(rows) > 1 else ""
    return f"view {name!r} is missing in {len(rows)} of {n} rows (row {rows[0]}{others})"


def _listed(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {n}" for name, n in sizes.items())
