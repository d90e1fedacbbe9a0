"""Identifiers and columns of items, as an index takes them from users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossfit._arguments import shown
from crossfit.retrieval._segments import arrow

__all__ = ["identifiers", "joined", "payload_table"]

_LONGEST_ID = 4096


def identifiers(ids: Any, distinct: bool = True) -> list[str]:
    """Return identifiers as a list, after checking that they are texts that differ.

    Parameters
    ----------
    ids : sequence of str
        As given by the user.
    distinct : bool, default=True
        Whether they must differ.

    Raises
    ------
    TypeError, ValueError
        If they are not.
    """
    if isinstance(ids, (str, bytes)) or not isinstance(ids, (Sequence, np.ndarray)):
        to_list = getattr(ids, "to_pylist", None) or getattr(ids, "tolist", None)
        if isinstance(ids, (str, bytes)) or to_list is None:
            raise TypeError(f"ids must be a list of strings, got {shown(ids)}")
        ids = to_list()
    names = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    for at, name in enumerate(names):
        if not isinstance(name, str) or not name or len(name) > _LONGEST_ID:
            raise ValueError(
                f"ids must be strings of 1 to {_LONGEST_ID:,} characters, got {shown(name)} at "
                f"position {at}"
            )
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        bad = next(name for name in names if any("\ud800" <= c <= "\udfff" for c in name))
        raise ValueError(f"ids must be valid text, got {shown(bad)}") from None
    if distinct and len(set(names)) < len(names):
        twice, times = Counter(names).most_common(1)[0]
        raise ValueError(f"ids must differ, got {shown(twice)} {times} times")
    return [str(name) for name in names]


def payload_table(payload: Any, n: int, schema: Any) -> Any:
    """Return columns of items as an Arrow table, in the types that an index has.

    Parameters
    ----------
    payload : pyarrow.Table, DataFrame, dict of columns or None
        As given by the user.
    n : int
        Number of items.
    schema : pyarrow.Schema
        Columns of the index, whose types the table takes over.

    Raises
    ------
    TypeError, ValueError
        If it is not a table, has another number of rows, or does not fit the types.
    """
    pa = arrow()
    if payload is None:
        return pa.table({})
    try:
        table = _as_table(payload, n)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"payload cannot be made a table: {shown(str(error))}") from error
    if table is None:
        raise TypeError(
            "payload must be an Arrow table, a DataFrame or a dict of columns, got "
            f"{type(payload).__name__}"
        )
    names = table.column_names
    if len(set(names)) < len(names) or not all(names) or "id" in names:
        raise ValueError(
            f"payload must have columns with different names other than 'id', got {shown(names)}"
        )
    if names and len(table) != n:
        raise ValueError(f"payload must have one row per id ({n}), got {len(table)}")
    columns = {name: _plain(name, table[name], schema) for name in names}
    return pa.table(columns)


def joined(names: list[str], payload: Any) -> Any:
    """Return one table of identifiers and columns."""
    pa = arrow()
    fields = [pa.field("id", pa.string()), *payload.schema]
    return pa.table([pa.array(names, pa.string()), *payload.columns], schema=pa.schema(fields))


def _as_table(payload: Any, n: int) -> Any:
    pa = arrow()
    if isinstance(payload, pa.Table):
        return payload
    if isinstance(payload, pa.RecordBatch):
        return pa.Table.from_batches([payload])
    if isinstance(payload, Mapping):
        for name, column in payload.items():
            if not isinstance(name, str):
                raise TypeError(f"names of columns must be strings, got {shown(name)}")
            if isinstance(column, (str, bytes)) or not hasattr(column, "__len__"):
                raise TypeError(f"column {name!r} must be a list of {n} entries")
            if len(column) != n:
                raise ValueError(f"column {name!r} has {len(column)} entries for {n} ids")
        return pa.table({name: _column(column) for name, column in payload.items()})
    if callable(getattr(payload, "to_arrow", None)):  # polars
        return payload.to_arrow()
    if type(payload).__module__.partition(".")[0] == "pandas" and hasattr(payload, "columns"):
        return pa.Table.from_pandas(payload, preserve_index=False)
    return None


def _column(column: Any) -> Any:
    pa = arrow()
    if isinstance(column, (pa.Array, pa.ChunkedArray)):
        return column
    return pa.array(column if isinstance(column, np.ndarray) else list(column))


def _plain(name: str, column: Any, schema: Any) -> Any:
    """Return a column of a type that filters compare, and of that of the index if it has it."""
    pa = arrow()
    types = pa.types
    kind = column.type
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_large_string(kind) or str(kind) == "string_view":
        kind = pa.string()
    elif types.is_unsigned_integer(kind):
        kind = pa.int64()
    elif types.is_date64(kind):
        kind = pa.date32()
    elif types.is_float16(kind):
        kind = pa.float32()
    if name in schema.names and not types.is_null(schema.field(name).type):
        kind = schema.field(name).type
    try:
        return column if column.type == kind else column.cast(kind)
    except pa.ArrowException as error:
        raise ValueError(
            f"payload column {name!r} is {kind} in this index, and the given one is {column.type}: "
            f"{shown(str(error))}"
        ) from error
