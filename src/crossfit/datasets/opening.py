"""Tables in any form: files, frames of libraries, data sets of `datasets`, mappings, records.

Each form is opened as a `Table`, which has the names of its columns and reads the requested ones.
No library is imported for a form that does not need it.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit.datasets.arrow_tables import is_packed, of_arrow, open_arrow, open_parquet
from crossfit.datasets.columns import Table, entries, joined, objects, of_records, refuse_same
from crossfit.datasets.shards import open_shards
from crossfit.datasets.text_tables import UTF8, open_csv, open_json, open_lines, other_separator

__all__ = ["FORMS", "header_of", "open_table"]

#: Suffixes of tables; other files are read as CSV.
FORMS = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".arrow",
         ".feather", ".ipc")  # fmt: skip
# Forms that people have pairs in, and what to do with them.
_ELSEWHERE = {
    ".gz": "decompress it first (gunzip)",
    ".zip": "unpack it first",
    ".xls": "save the sheet as CSV",
    ".xlsx": "save the sheet as CSV",
    ".ods": "save the sheet as CSV",
    ".pkl": "save the table as parquet or CSV; crossfit does not unpickle",
    ".pickle": "save the table as parquet or CSV; crossfit does not unpickle",
}


def open_table(source: Any, sep: str | None = None, encoding: str = UTF8) -> Table:
    """Open a table in any supported form.

    Parameters
    ----------
    source : path, sequence of paths, frame, mapping or sequence of mappings
        See `crossfit.datasets.from_table`.
    sep : str, optional
        Separator of CSV files; by default a tab for ``.tsv`` and ``.tab``, otherwise a comma.
    encoding : str, default="utf-8-sig"
        Encoding of CSV and JSON files; a file that begins with the byte order mark of UTF-16 is
        read as UTF-16 by default.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file cannot be read as a table.
    ImportError
        If the form requires a library that is not installed.
    TypeError
        If `source` is not a table.
    """
    if isinstance(source, (str, os.PathLike)):
        return _open_file(Path(source), sep, encoding)
    if isinstance(source, (list, tuple)) and source:
        if all(isinstance(part, (str, os.PathLike)) for part in source):
            return joined([_open_file(Path(part), sep, encoding) for part in source])
        if all(isinstance(part, Mapping) for part in source):
            return of_records(source, "the list of records")
    if isinstance(source, Mapping):
        return _of_mapping(source)
    return _of_frame(source)


def _open_file(path: Path, sep: str | None, encoding: str) -> Table:
    if not path.exists() and glob.has_magic(str(path)):
        found = sorted(glob.glob(str(path)))
        if not found:
            raise FileNotFoundError(f"no file matches {str(path)!r}")
        return joined([_open_file(Path(part), sep, encoding) for part in found])
    kind = path.suffix.lower()
    if path.is_dir():
        raise ValueError(
            f"{str(path)!r} is a folder: read a folder of files with from_folder, and a folder of "
            f"tables by a pattern such as {str(path / '*.parquet')!r}"
        )
    if not path.exists():
        raise FileNotFoundError(f"there is no table {str(path)!r}")
    if kind == ".tar":
        return open_shards({"all": [path]}, path.parent)
    if kind in _ELSEWHERE:
        raise ValueError(f"{str(path)!r} is not a table that can be read: {_ELSEWHERE[kind]}")
    if kind in (".jsonl", ".ndjson"):
        return open_lines(path, encoding)
    if kind == ".json":
        return open_json(path, encoding)
    if kind in (".parquet", ".pq"):
        return open_parquet(path)
    if kind in (".arrow", ".feather", ".ipc"):
        return open_arrow(path)
    return open_csv(path, sep, encoding)


def header_of(path: Path) -> tuple[str | None, list[str]]:
    """Return the separator and the columns of a table, whose name and header reveal the separator.

    Parameters
    ----------
    path : pathlib.Path
        A file in any form that `open_table` reads, in UTF-8 if it is text.

    Returns
    -------
    sep : str or None
        The separator of a CSV file, if it is not that which `open_table` assumes.
    columns : list of str

    Raises
    ------
    FileNotFoundError, ValueError, ImportError
        As in `open_table`.
    """
    header = open_table(path).names
    sep = other_separator(header) or None
    return sep, header if sep is None else open_table(path, sep).names


def _of_frame(source: Any) -> Table:
    """Open a DataFrame of pandas or polars, a table of Arrow, or a data set of `datasets`."""
    package = type(source).__module__.partition(".")[0]
    if package == "pyarrow" and hasattr(source, "column_names"):
        table = source if hasattr(source, "column") else source.read_all()
        return of_arrow(table, "the table")
    if package == "datasets" and hasattr(source, "with_format") and hasattr(source, "num_rows"):
        kinds = source.features
        classes = {name: kinds[name].names for name in kinds if hasattr(kinds[name], "int2str")}
        return _of_datasets(source, classes)
    given = getattr(source, "column_names", None)
    given = getattr(source, "columns", None) if given is None else given
    if given is None or not (hasattr(source, "__getitem__") or hasattr(source, "__iter__")):
        raise TypeError(
            "from_table expects the path of a table, a table with named columns, or a list of "
            f"records, got {type(source).__name__}"
        )
    if not hasattr(source, "__getitem__"):
        return of_records(list(source), "the table")
    keys = list(given)
    names = [str(name) for name in keys]
    refuse_same("the table", names)
    by_name = dict(zip(names, keys))

    def read(wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
        return {name: entries(source[by_name[name]]) for name in wanted}

    return Table("the table", names, read)


def _of_datasets(source: Any, classes: Mapping[str, Sequence[str]]) -> Table:
    """Open a data set of `datasets`; the pictures and sounds in its files stay there."""
    # In this format they are not decoded.
    table = source.with_format("arrow")[:]
    files = [Path(file["filename"]).absolute() for file in source.cache_files]
    packed = [name for name in table.column_names if is_packed(table.schema.field(name).type)]
    made = of_arrow(table, "the data set", classes)
    if not packed or not files or source._indices is not None:
        return made
    folder = Path(os.path.commonpath([file.parent for file in files]))
    parts = [open_arrow(file) for file in files]

    def read(wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
        columns = made.read([name for name in wanted if name not in packed])
        for name in wanted:
            if name in columns:
                continue
            found = [
                f"{part.folder.relative_to(folder) / entry}" if "::" in str(entry) else None
                for part in parts
                if name in part.names
                for entry in part.read([name])[name]
            ]
            # A selection, or a column with a new name, is not in the files as it is in the table.
            same = len(found) == table.num_rows and None not in found
            columns[name] = objects(found) if same else made.read([name])[name]
        return columns

    return Table(made.name, made.names, read, made.stem, folder, classes)


def _of_mapping(source: Mapping[Any, Any]) -> Table:
    if source and all(hasattr(part, "column_names") for part in source.values()):
        return _of_splits(source)
    names = [str(name) for name in source]
    columns = {str(name): entries(column) for name, column in source.items()}
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            "the columns of the table must have the same length, got "
            + ", ".join(f"{name}: {size}" for name, size in sizes.items())
        )
    return Table("the table", names, lambda wanted: {name: columns[name] for name in wanted})


def _of_splits(source: Mapping[Any, Any]) -> Table:
    """Open a mapping of splits to tables, as `datasets` has it, with the column ``__split__``."""
    parts = {str(name): open_table(part) for name, part in source.items()}
    table = joined(list(parts.values()))

    def read(wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
        own = [name for name in table.names if name in wanted]
        sizes = [len(next(iter(part.read(own[:1]).values()))) for part in parts.values()]
        names = np.repeat(objects(parts), sizes)
        return {**table.read(own), "__split__": names}

    names = [*table.names, "__split__"]
    return Table("the tables", names, read, table.stem, table.folder, table.classes)
