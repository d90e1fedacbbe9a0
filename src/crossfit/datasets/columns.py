"""Named columns of a table in any form: CSV, JSON, parquet, Arrow, frames of libraries, records.

Each form is opened as a `Table`, which has the names of its columns and reads the requested ones.
No library is imported for a form that does not need it.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import glob
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._packed import cell_address
from crossfit.datasets.record import read_text, shortened

__all__ = [
    "FORMS",
    "Table",
    "header_of",
    "objects",
    "open_csv",
    "open_table",
    "other_separator",
]

UTF8 = "utf-8-sig"

_CELL_LIMIT = 2**24  # csv's own limit of 131,072 characters is less than a long article
_SEPARATORS = (";", "\t", "|", ",")
_BATCH = 2**12  # rows of a parquet or Arrow file that are decoded at a time
_BUFFER = 2**20  # bytes of a column that are read at a time
_MOST_ROWS = 2**31
_MEDIA = {"images": "image", "audio": "audio", "audios": "audio", "sounds": "audio",
          "videos": "video"}  # fmt: skip
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
            return _joined([_open_file(Path(part), sep, encoding) for part in source])
        if all(isinstance(part, Mapping) for part in source):
            return _of_records(source, "the list of records")
    if isinstance(source, Mapping):
        return _of_mapping(source)
    return _of_frame(source)


def _open_file(path: Path, sep: str | None, encoding: str) -> Table:
    if not path.exists() and glob.has_magic(str(path)):
        found = sorted(glob.glob(str(path)))
        if not found:
            raise FileNotFoundError(f"no file matches {str(path)!r}")
        return _joined([_open_file(Path(part), sep, encoding) for part in found])
    kind = path.suffix.lower()
    if path.is_dir():
        raise ValueError(
            f"{str(path)!r} is a folder: read a folder of files with from_folder, and a folder of "
            f"tables by a pattern such as {str(path / '*.parquet')!r}"
        )
    if not path.exists():
        raise FileNotFoundError(f"there is no table {str(path)!r}")
    if kind == ".tar":
        from crossfit.datasets.shards import open_shards

        return open_shards({"all": [path]}, path.parent)
    if kind in _ELSEWHERE:
        raise ValueError(f"{str(path)!r} is not a table that can be read: {_ELSEWHERE[kind]}")
    if kind in (".jsonl", ".ndjson"):
        return _open_lines(path, encoding)
    if kind == ".json":
        return _open_json(path, encoding)
    if kind in (".parquet", ".pq"):
        return _open_parquet(path)
    if kind in (".arrow", ".feather", ".ipc"):
        return _open_arrow(path)
    return open_csv(path, sep, encoding)


def _joined(tables: Sequence[Table]) -> Table:
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


# -- text files --------------------------------------------------------------------------------


def open_csv(path: Path, sep: str | None = None, encoding: str = UTF8) -> Table:
    """Open a CSV file with a header, whatever its name."""
    if not path.exists():
        raise FileNotFoundError(f"there is no CSV file {str(path)!r}")
    if sep is None:
        sep = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    encoding = _encoding_of(path, encoding)
    with contextlib.closing(_csv_rows(path, sep, encoding)) as rows:
        header = next(rows, [])

    def read(wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
        at = [header.index(name) for name in wanted]
        columns: list[list[str]] = [[] for _ in wanted]
        with contextlib.closing(_csv_rows(path, sep, encoding)) as rows:
            next(rows, None)
            for row in rows:
                for column, i in zip(columns, at):
                    column.append(row[i])
        return {name: objects(column) for name, column in zip(wanted, columns)}

    return Table(path.name, header, read, path.stem, path.parent, texts=True)


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


def other_separator(header: Sequence[str]) -> str:
    """Return the likely separator of a header that is one column; empty if there are several."""
    marks = (mark for mark in _SEPARATORS if len(header) == 1 and mark in header[0])
    return next(marks, "")


def _encoding_of(path: Path, encoding: str) -> str:
    """Return the encoding of a file: UTF-16 instead of the default if its first bytes are so."""
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise ValueError(f"encoding must be one that Python has, got {encoding!r}") from None
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is not a regular file")
    with path.open("rb") as file:
        start = file.read(2)
    marked = start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return "utf-16" if encoding == UTF8 and marked else encoding


@contextlib.contextmanager
def _text_of(path: Path, encoding: str) -> Iterator[Any]:
    """Open a text file; bytes that are not in the encoding are reported with their line."""
    try:
        with path.open(encoding=encoding, newline="") as file:
            yield file
    except UnicodeDecodeError:
        try:
            read_text(path, encoding)  # raises with the line; the stream decodes in blocks
        except ValueError as error:
            raise ValueError(
                f"{error}; save the table as UTF-8, or pass its encoding=, such as 'gb18030' "
                "(Chinese), 'cp932' (Japanese) or 'cp1252' (Western Europe)"
            ) from None
        raise


def _csv_rows(path: Path, sep: str, encoding: str) -> Generator[list[str], None, None]:
    """Yield the header and the rows of a CSV file, all of one length."""
    limit = csv.field_size_limit(_CELL_LIMIT)
    try:
        with _text_of(path, encoding) as file:
            yield from _parsed(file, path.name, sep)
    finally:
        csv.field_size_limit(limit)


def _parsed(lines: Iterable[str], name: str, sep: str) -> Iterator[list[str]]:
    reader = csv.reader(lines, delimiter=sep, strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            long = f", or an entry is longer than {_CELL_LIMIT:,} characters"
            raise ValueError(
                f"{name}, line {line}: a double quote opens an entry that does not end with one "
                f"before a {sep!r} or the end of a line (a quote within it is written twice)"
                + (long if "limit" in str(error) else "")
            ) from None
        if row is None:
            return
        if not header:
            header = row
            # Spreadsheets end lines with separators where there once were more columns.
            while header and not header[-1].strip():
                header = header[:-1]
            _refuse_same(name, [part.strip() for part in header])
            if header:
                yield header
            if other_separator(header):
                return  # the rows would be cut at the wrong places
            continue
        while len(row) > len(header) and not row[-1].strip():
            row = row[:-1]
        if not any(part.strip() for part in row):
            continue
        if len(row) != len(header):
            raise ValueError(
                f"{name}, line {line}: expected {len(header)} entries as in the header, got "
                f"{len(row)} (an entry that holds {sep!r} must be in double quotes)"
            )
        yield row


def _open_lines(path: Path, encoding: str) -> Table:
    """Open a file with one JSON object per line."""
    encoding = _encoding_of(path, encoding)

    def rows() -> Iterator[dict[str, Any]]:
        with _text_of(path, encoding) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise ValueError(
                        f"{path.name}, line {number}: not valid JSON ({error}); a JSONL file has "
                        "one object per line"
                    ) from None
                if not isinstance(row, dict):
                    raise ValueError(
                        f"{path.name}, line {number}: expected a JSON object with the columns of "
                        f"a row, got {type(row).__name__}"
                    )
                yield row

    names: dict[str, None] = {}
    for row in rows():
        names.update(dict.fromkeys(row))

    def read(wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
        return _picked(rows(), wanted)

    return Table(path.name, list(names), read, path.stem, path.parent)


def _picked(rows: Iterable[Mapping[str, Any]], wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
    columns: list[list[Any]] = [[] for _ in wanted]
    for row in rows:
        for column, name in zip(columns, wanted):
            column.append(row.get(name))
    return {name: objects(column) for name, column in zip(wanted, columns)}


def _open_json(path: Path, encoding: str) -> Table:
    """Open a JSON file: a list of records, or the layouts of COCO and Karpathy."""
    with _text_of(path, _encoding_of(path, encoding)) as file:
        try:
            content = json.load(file)
        except UnicodeDecodeError:
            raise
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path.name} is not valid JSON: {error}") from None
    records = content
    if isinstance(content, dict):
        medium = next((name for name in _MEDIA if isinstance(content.get(name), list)), None)
        if medium and isinstance(content.get("annotations"), list):
            records = _of_coco(content, medium, path.name)
        elif medium and all(
            isinstance(row, dict) and "sentences" in row for row in content[medium]
        ):
            records = _of_karpathy(content[medium], path.name)
        else:
            records = content.get("data", content.get("annotations"))
    if not isinstance(records, list) or not all(isinstance(row, dict) for row in records):
        raise ValueError(
            f"{path.name} must hold a list of objects with the columns of a row, or an object with "
            "images and annotations as in COCO (or audio and annotations), got "
            + (f"an object with {shortened(content)}" if isinstance(content, dict) else
               f"a {type(content).__name__}")
        )  # fmt: skip
    made = _of_records(records, path.name)
    return Table(path.name, made.names, made.read, path.stem, path.parent)


def _of_coco(content: Mapping[str, Any], medium: str, name: str) -> list[dict[str, Any]]:
    """Return a row per annotation, in the order of the files' list and of the annotations' ids.

    The columns are the view (``image``), ``text``, the ids and what else an entry of the list of
    files holds.
    """
    view = _MEDIA[medium]
    items: dict[Any, dict[str, Any]] = {}
    captions: dict[Any, list[dict[str, Any]]] = {}
    try:
        for item in content[medium]:
            if item["id"] in items:
                raise ValueError(f"{name}: the id {item['id']!r} occurs twice in {medium}")
            rest = {key: value for key, value in item.items() if key not in ("id", "file_name")}
            items[item["id"]] = {view: item["file_name"], f"{view}_id": item["id"], **rest}
        for one in sorted(content["annotations"], key=lambda one: one.get("id", 0)):
            captions.setdefault(one[f"{view}_id"], []).append(
                {"text": one["caption"], "caption_id": one.get("id")}
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{name} must hold {medium} with id and file_name, and annotations with {view}_id and "
            f"caption ({type(error).__name__}: {error})"
        ) from None
    unknown = [str(item) for item in captions if item not in items]
    if unknown:
        raise ValueError(
            f"{name} has annotations of {len(unknown)} {view}_id that {medium} does not list: "
            f"{shortened(unknown)}"
        )
    return [{**items[item], **own} for item in items for own in captions.get(item, [])]


def _of_karpathy(images: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return a row per picture of a ``dataset_<name>.json`` file, with a list of captions."""
    rows = []
    for number, image in enumerate(images):
        try:
            path = "/".join(filter(None, (image.get("filepath", ""), image["filename"])))
            captions = [sentence["raw"].strip() for sentence in image["sentences"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{name} must hold images with filename and sentences; image {number} does not "
                f"({type(error).__name__}: {error})"
            ) from None
        rows.append({"image": path, "text": captions, "split": image.get("split")})
    return rows


# -- parquet and Arrow ---------------------------------------------------------------------------


def _arrow(what: str) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise ImportError(
            f"reading {what} needs pyarrow: `pip install crossfit-retrieval[tables]`"
        ) from None
    return pyarrow


def _open_parquet(path: Path) -> Table:
    pyarrow = _arrow(f"the parquet file {str(path)!r}")
    import pyarrow.parquet as parquet

    def opened() -> Any:
        try:
            # Without these, the compressed file would be in memory as a whole.
            return parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER)
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{str(path)!r} is not a parquet file: {error}") from None

    with opened() as file:
        names = list(file.schema_arrow.names)
        if file.metadata.num_rows > _MOST_ROWS:
            raise ValueError(
                f"{str(path)!r} has {file.metadata.num_rows:,} rows, more than {_MOST_ROWS:,}; "
                "divide it into several files"
            )
    _refuse_same(path.name, names)

    def read(wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
        with opened() as file:
            schema = file.schema_arrow
            n = file.metadata.num_rows
            collect: dict[str, _Collected | _Addresses] = {}
            read = []
            for name in wanted:
                kind = schema.field(name).type
                collect[name] = (_Addresses if _is_packed(kind) else _Collected)(kind, n, name)
                if not collect[name].complete(file):
                    read.append(name)
            size = _BATCH if all(isinstance(collect[name], _Collected) for name in read) else 64
            try:
                for batch in file.iter_batches(size, columns=read):
                    for name in read:
                        collect[name].add(batch.column(name))
            except (pyarrow.ArrowException, OSError) as error:
                raise ValueError(f"{str(path)!r} is damaged: {error}") from None
        return {name: column.made(path.name) for name, column in collect.items()}

    return Table(path.name, names, read, path.stem, path.parent)


def _open_arrow(path: Path) -> Table:
    """Open a file of Arrow's own format, as a memory map."""
    pyarrow = _arrow(f"the Arrow file {str(path)!r}")
    try:
        with pyarrow.memory_map(str(path)) as mapped:
            try:
                table = pyarrow.ipc.open_file(mapped).read_all()
            except pyarrow.ArrowInvalid:
                mapped.seek(0)
                table = pyarrow.ipc.open_stream(mapped).read_all()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{str(path)!r} is not an Arrow file: {error}") from None
    made = _of_arrow(table, path.name, file=path.name)
    return Table(path.name, made.names, made.read, path.stem, path.parent)


def _of_arrow(
    table: Any,
    name: str,
    classes: Mapping[str, Sequence[str]] | None = None,
    file: str | None = None,
) -> Table:
    """Open a table of pyarrow, which may be that of a file."""
    _refuse_same(name, table.column_names)

    def read(wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
        columns = {}
        for column in wanted:
            chunks = table.column(column)
            kind = _Addresses if file and _is_packed(chunks.type) else _Collected
            collect = kind(chunks.type, len(chunks), column)
            for chunk in chunks.chunks:
                for start in range(0, len(chunk), _BATCH):
                    collect.add(chunk.slice(start, _BATCH))
            columns[column] = collect.made(file)
        return columns

    return Table(name, list(table.column_names), read, classes=classes or {})


class _UnevenError(ValueError):
    """Error for lists of numbers of different lengths."""


class _Collected:
    """The entries of an Arrow column, batch by batch: vectors in one array, others as objects."""

    def __init__(self, kind: Any, n: int, name: str) -> None:
        from pyarrow import types

        self.n, self.name, self.at = n, name, 0
        self.depth = 0
        inner = kind
        while _is_list(inner):
            inner, self.depth = inner.value_type, self.depth + 1
        floats = types.is_floating(inner) or types.is_integer(inner)
        self.numbers = self.depth > 0 and floats
        self.text = types.is_string(kind) or types.is_large_string(kind)
        self.dtype = inner.to_pandas_dtype() if self.numbers else object
        self.held: NDArray[Any] | None = None if self.numbers else np.empty(n, dtype=object)

    def add(self, column: Any) -> None:
        """Append the entries of an Arrow array."""
        if self.numbers:
            try:
                block = self._vectors(column)
                if self.held is None:
                    self.held = np.empty((self.n, *block.shape[1:]), self.dtype)
                if block.shape[1:] != self.held.shape[1:]:
                    raise self._uneven(block.shape[1:], self.held.shape[1:])
                self.held[self.at : self.at + len(block)] = block
            except _UnevenError:
                if np.dtype(self.dtype).kind == "f":
                    raise
                # Lists of classes, for instance.
                before = [] if self.held is None else self.held[: self.at].tolist()
                self.numbers, self.held = False, np.empty(self.n, dtype=object)
                self._put(before, 0)
        if not self.numbers:
            found = column.to_numpy(zero_copy_only=False) if self.text else column.to_pylist()
            self._put(found, self.at)
        self.at += len(column)

    def _put(self, entries: Iterable[Any], start: int) -> None:
        assert self.held is not None
        for i, entry in enumerate(entries, start):
            self.held[i] = entry

    def _vectors(self, column: Any) -> NDArray[Any]:
        shape = [len(column)]
        for _ in range(self.depth):
            if column.null_count:
                raise ValueError(
                    f"column {self.name!r} has no vector in {column.null_count} rows; fill them, "
                    "or leave these rows out"
                )
            lengths = np.unique(column.value_lengths().to_numpy(zero_copy_only=False)) if (
                hasattr(column, "value_lengths")
            ) else np.array([column.type.list_size])  # fmt: skip
            if len(lengths) > 1:
                raise self._uneven(*lengths[:2].tolist())
            shape.append(int(lengths[0]) if len(lengths) else 0)
            column = column.flatten()
        if column.null_count:
            raise ValueError(
                f"column {self.name!r} holds vectors with missing numbers, {column.null_count} of "
                "them; fill them, or leave these rows out"
            )
        return column.to_numpy(zero_copy_only=False).reshape(shape)

    def _uneven(self, one: Any, other: Any) -> ValueError:
        return _UnevenError(
            f"column {self.name!r} must hold vectors of one size, got sizes {one} and {other}"
        )

    def complete(self, file: Any) -> bool:
        """Return False: the entries have to be read."""
        return False

    def made(self, file: str | None) -> NDArray[Any]:
        """Return the column."""
        return np.empty((self.n, 0), self.dtype) if self.held is None else self.held


class _Addresses:
    """The addresses of the encoded files in a column of a parquet or Arrow file, or their paths.

    `datasets` stores a picture as ``{"bytes": ..., "path": ...}``, of which one may be missing.
    """

    def __init__(self, kind: Any, n: int, name: str) -> None:
        from pyarrow import types

        self.name, self.struct = name, types.is_struct(kind)
        self.n = n
        self.paths: list[str | None] = []
        self.lacks: list[NDArray[np.bool_]] = []

    def complete(self, file: Any) -> bool:
        """Return True if the statistics of a parquet file show that every row has its file."""
        inner = f"{self.name}.bytes" if self.struct else self.name
        for group in range(file.num_row_groups):
            row_group = file.metadata.row_group(group)
            parts = [row_group.column(i) for i in range(row_group.num_columns)]
            own = next(part for part in parts if part.path_in_schema == inner)
            known = own.statistics
            if known is None or not known.has_null_count or known.null_count:
                return False
        return True

    def add(self, column: Any) -> None:
        """Append the entries of an Arrow array."""
        import pyarrow.compute as compute

        held = compute.struct_field(column, "bytes") if self.struct else column
        self.lacks.append(held.is_null().to_numpy(zero_copy_only=False))
        if self.struct:
            self.paths += compute.struct_field(column, "path").to_pylist()

    def made(self, file: str | None) -> NDArray[Any]:
        """Return the column."""
        lacks = np.concatenate(self.lacks) if self.lacks else np.zeros(self.n, dtype=bool)
        paths = self.paths or [None] * self.n
        return objects(
            paths[row] if lacks[row] else cell_address(file or "", self.name, row)
            for row in range(self.n)
        )


def _is_packed(kind: Any) -> bool:
    """Return True for a column of encoded files: binary, or a record of bytes and a path."""
    from pyarrow import types

    if types.is_struct(kind):
        return {kind.field(i).name for i in range(kind.num_fields)} == {"bytes", "path"}
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


# -- objects of libraries --------------------------------------------------------------------------


def _of_frame(source: Any) -> Table:
    """Open a DataFrame of pandas or polars, a table of Arrow, or a data set of `datasets`."""
    package = type(source).__module__.partition(".")[0]
    if package == "pyarrow" and hasattr(source, "column_names"):
        table = source if hasattr(source, "column") else source.read_all()
        return _of_arrow(table, "the table")
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
        return _of_records(list(source), "the table")
    keys = list(given)
    names = [str(name) for name in keys]
    _refuse_same("the table", names)
    by_name = dict(zip(names, keys))

    def read(wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
        return {name: _entries(source[by_name[name]]) for name in wanted}

    return Table("the table", names, read)


def _of_datasets(source: Any, classes: Mapping[str, Sequence[str]]) -> Table:
    """Open a data set of `datasets`; the pictures and sounds in its files stay there."""
    # In this format they are not decoded.
    table = source.with_format("arrow")[:]
    files = [Path(file["filename"]).absolute() for file in source.cache_files]
    packed = [name for name in table.column_names if _is_packed(table.schema.field(name).type)]
    made = _of_arrow(table, "the data set", classes)
    if not packed or not files or source._indices is not None:
        return made
    folder = Path(os.path.commonpath([file.parent for file in files]))
    parts = [_open_arrow(file) for file in files]

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
    columns = {str(name): _entries(column) for name, column in source.items()}
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
    joined = _joined(list(parts.values()))

    def read(wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
        own = [name for name in joined.names if name in wanted]
        sizes = [len(next(iter(part.read(own[:1]).values()))) for part in parts.values()]
        names = np.repeat(objects(parts), sizes)
        return {**joined.read(own), "__split__": names}

    names = [*joined.names, "__split__"]
    return Table("the tables", names, read, joined.stem, joined.folder, joined.classes)


def _of_records(records: Sequence[Mapping[str, Any]], name: str) -> Table:
    names: dict[str, None] = {}
    for row in records:
        names.update(dict.fromkeys(map(str, row)))
    return Table(name, list(names), lambda wanted: _picked(records, wanted))


def _entries(column: Any) -> NDArray[Any]:
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


def _refuse_same(name: str, header: Sequence[str]) -> None:
    if len(set(header)) < len(header):
        raise ValueError(f"{name} has columns of the same name: {', '.join(header)}")
