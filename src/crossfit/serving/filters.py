"""Filters that the columns of a gallery offer: choices, ranges and texts."""

from __future__ import annotations

from typing import Any

__all__ = ["filters_of"]

_CHOICES = 30
_LONGEST = 60  # characters of a choice
_FIRST = 10_000  # rows that show already that a column has too many values


def filters_of(table: Any) -> list[dict[str, Any]]:
    """Return what the columns of a gallery can be filtered by.

    Parameters
    ----------
    table : pyarrow.Table
        The columns.

    Returns
    -------
    list of dict
        For each column with 2 to 30 different short values, ``column`` and ``choices``, the most
        frequent first, with their numbers; for other columns of numbers, ``column``, ``low`` and
        ``high``. Columns whose names cannot be written in a filter, and those of files and names,
        are left out.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    found: list[dict[str, Any]] = []
    for name, column in zip(table.column_names, table.columns):
        if name in ("id", "path"):
            continue
        kind = column.type
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if not (number or text or pa.types.is_boolean(kind)):
            continue
        column = column.drop_null()
        choices = None
        if not pa.types.is_floating(kind) and len(column[:_FIRST].unique()) <= _CHOICES:
            choices = _choices(column)
        if choices is not None and len(choices) < len(table):
            if len(choices) > 1:
                found.append({"column": name, "choices": choices})
        elif number:
            if pa.types.is_floating(kind):
                column = column.filter(pc.is_finite(column))
            low, high = pc.min_max(column).as_py().values()
            if low != high:
                found.append({"column": name, "low": low, "high": high})
    return found


def _choices(column: Any) -> list[list[Any]] | None:
    """Return the values of a column with their numbers, None if they are many or long."""
    counted = column.value_counts()
    if len(counted) > _CHOICES:
        return None
    pairs = [(pair["values"], pair["counts"]) for pair in counted.to_pylist()]
    if any(len(str(value)) > _LONGEST for value, _ in pairs):
        return None
    return [[value, n] for value, n in sorted(pairs, key=lambda pair: (-pair[1], str(pair[0])))]
