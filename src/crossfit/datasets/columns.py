"""A table as named columns that are read on request, and its entries as arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Table", "entries", "joined", "objects", "of_records", "picked", "refuse_same"]


@dataclass(frozen=True)
class Table:
    """A table whose columns are read on request.

    Parameters
    ----------
    name : str
        Name of the table in messages.
    names : list of str
        Names of the columns.
    read : callable
        Function ``(names) -> {name: column}``. A column is an object array with one entry per row,
        or an array of vectors, (n, d) or (n, R, d).
    stem : str
        Name of a data set that is made from the table.
    folder : path
        Folder to which paths in the table are relative.
    classes : mapping of str to sequence of str
        Names of the classes of columns with class numbers.
    texts : bool
        Whether all entries are texts, as those of CSV files.
    """

    name: str
    names: list[str]
    read: Callable[[Sequence[str]], dict[str, NDArray[Any]]]
    stem: str = "table"
    folder: Path = field(default_factory=Path)
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    texts: bool = False


def of_records(records: Sequence[Mapping[str, Any]], name: str) -> Table:
    """Open a list of mappings; the columns are all names that occur."""
    names: dict[str, None] = {}
    for row in records:
        names.update(dict.fromkeys(map(str, row)))
    return Table(name, list(names), lambda wanted: picked(records, wanted))


def picked(rows: Iterable[Mapping[str, Any]], wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return columns of mappings, with None where a row lacks the name."""
    columns: list[list[Any]] = [[] for _ in wanted]
    for row in rows:
        for column, name in zip(columns, wanted):
            column.append(row.get(name))
    return {name: objects(column) for name, column in zip(wanted, columns)}


def joined(tables: Sequence[Table]) -> Table:
    """Return the rows of several tables, one after the other."""
    first = tables[0]
    if len(tables) == 1:
        return first
    names = [name for name in first.names if all(name in table.names for table in tables)]

    def read(wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
        parts = [table.read(wanted) for table in tables]
        return {name: _concatenated([part[name] for part in parts], name) for name in wanted}

    for table in tables[1:]:
        if table.folder != first.folder:
            raise ValueError(
                f"tables that are read together must be in one folder, got {str(first.folder)!r} "
                f"and {str(table.folder)!r}"
            )
    name = f"{first.name} and {len(tables) - 1} more"
    texts = all(table.texts for table in tables)
    return Table(name, names, read, first.stem, first.folder, first.classes, texts)


def _concatenated(parts: Sequence[NDArray[Any]], name: str) -> NDArray[Any]:
    full = [part for part in parts if len(part)] or list(parts[:1])
    shapes = {part.shape[1:] for part in full}
    if len(shapes) > 1:
        raise ValueError(
            f"column {name!r} must hold vectors of one size in all tables, got "
            f"{', '.join(map(str, sorted(shapes)))}"
        )
    return np.concatenate(full)


def entries(column: Any) -> NDArray[Any]:
    """Return a column of any library as an array, with objects or with vectors as rows."""
    if isinstance(column, np.ndarray) and column.ndim > 1:
        return column
    if hasattr(column, "to_list") and not hasattr(column, "iloc"):  # polars
        column = column.to_list()
    if isinstance(column, (list, tuple)):
        return objects(column)
    array = np.asarray(column, dtype=object)
    return array if array.ndim == 1 else objects(column)


def objects(values: Iterable[Any]) -> NDArray[Any]:
    """Return an object array of the values, which are not looked into."""
    return np.fromiter(values, dtype=object)


def refuse_same(name: str, header: Sequence[str]) -> None:
    """Raise a ValueError if two columns have the same name."""
    if len(set(header)) < len(header):
        raise ValueError(f"{name} has columns of the same name: {', '.join(header)}")
