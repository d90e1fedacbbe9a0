"""Filters that the columns of a gallery offer: choices, ranges and texts."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["filters_of"]

_CHOICES = 30
_LONGEST = 60  # characters of a choice


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
        counted = [pair.as_py() for pair in pc.value_counts(column.drop_null())]
        values = [pair["values"] for pair in counted]
        if len(values) < 2:
            continue
        short = all(len(str(value)) <= _LONGEST for value in values)
        if len(values) <= _CHOICES and short and not pa.types.is_floating(kind):
            rows = sorted(counted, key=lambda pair: (-pair["counts"], str(pair["values"])))
            if len(values) < len(table):
                choices = [[pair["values"], pair["counts"]] for pair in rows]
                found.append({"column": name, "choices": choices})
        elif number:
            finite = [value for value in values if math.isfinite(value)]
            if len(finite) > 1:
                found.append({"column": name, "low": min(finite), "high": max(finite)})
    return found
