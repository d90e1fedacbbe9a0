"""Tables of pyarrow: parquet files, Arrow files, and tables in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._packed import cell_address
from crossfit.datasets.columns import Table, objects, refuse_same

__all__ = ["is_packed", "of_arrow", "open_arrow", "open_parquet"]

_BATCH = 2**12  # rows of a parquet or Arrow file that are decoded at a time
_BUFFER = 2**20  # bytes of a column that are read at a time
_MOST_ROWS = 2**31


def _arrow(what: str) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise ImportError(
            f"reading {what} needs pyarrow: `pip install crossfit-retrieval[tables]`"
        ) from None
    return pyarrow


def open_parquet(path: Path) -> Table:
    """Open a parquet file, which is decoded in batches of rows."""
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
    refuse_same(path.name, names)

    def read(wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
        with opened() as file:
            schema = file.schema_arrow
            n = file.metadata.num_rows
            collect: dict[str, _Collected | _Addresses] = {}
            read = []
            for name in wanted:
                kind = schema.field(name).type
                collect[name] = (_Addresses if is_packed(kind) else _Collected)(kind, n, name)
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


def open_arrow(path: Path) -> Table:
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
    made = of_arrow(table, path.name, file=path.name)
    return Table(path.name, made.names, made.read, path.stem, path.parent)


def of_arrow(
    table: Any,
    name: str,
    classes: Mapping[str, Sequence[str]] | None = None,
    file: str | None = None,
) -> Table:
    """Open a table of pyarrow, which may be that of a file."""
    refuse_same(name, table.column_names)

    def read(wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
        columns = {}
        for column in wanted:
            chunks = table.column(column)
            kind = _Addresses if file and is_packed(chunks.type) else _Collected
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


def is_packed(kind: Any) -> bool:
    """Return True for a column of encoded files: binary, or a record of bytes and a path."""
    from pyarrow import types

    if types.is_struct(kind):
        return {kind.field(i).name for i in range(kind.num_fields)} == {"bytes", "path"}
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
