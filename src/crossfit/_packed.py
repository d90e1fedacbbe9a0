"""Files inside other files: members of tar files, and cells of parquet and Arrow files.

Such a file has an address, ``<file>::<member>`` or ``<file>::<column>[<row>]``, which is a string
and can be used wherever the path of a picture or a sound can. Members are read by their name and
never extracted, so that no name can lead elsewhere.
"""

from __future__ import annotations

import functools
import io
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

__all__ = [
    "MEMBER_LIMIT",
    "cell_address",
    "container_of",
    "file_size",
    "is_cell",
    "is_file",
    "member_address",
    "open_file",
    "read_file",
    "split_key",
    "tar_members",
]

#: Largest size in bytes of a member or a cell.
MEMBER_LIMIT = 2**28
#: Largest size in bytes of one column of a row group of a parquet file, when decompressed.
GROUP_LIMIT = 2**31

_ADDRESS = re.compile(r"(.+\.(tar|parquet|pq|arrow))::(.+)", re.IGNORECASE | re.DOTALL)
_CELL = re.compile(r"(.+)\[(\d{1,15})\]", re.DOTALL)
# Members that are not read by their address, which would only make the table of names larger.
_TEXTS = (".txt", ".json", ".cls", ".cls2", ".npy")


def member_address(path: str | os.PathLike[str], name: str) -> str:
    """Return the address of a member of a tar file."""
    return f"{os.fspath(path)}::{name}"


def cell_address(path: str | os.PathLike[str], column: str, row: int) -> str:
    """Return the address of a cell of a parquet or Arrow file."""
    return f"{os.fspath(path)}::{column}[{row}]"


def split_key(path: str) -> tuple[str, str | None]:
    """Return a file and the name of an array in it, of ``<file>::<name>``."""
    name, mark, key = path.rpartition("::")
    return (name, key) if mark and name and not os.path.exists(path) else (path, None)


def container_of(path: str) -> str | None:
    """Return the file that holds the file with this address, or None if the path is not one."""
    found = _ADDRESS.fullmatch(path) if "::" in path else None
    return None if found is None or os.path.exists(path) else found[1]


def is_cell(path: str) -> bool:
    """Return True for the address of a cell of a parquet or Arrow file."""
    container = container_of(path)
    return container is not None and not container.lower().endswith(".tar")


def is_file(path: str) -> bool:
    """Return True if there is a regular file, or a member or cell, with this path or address."""
    return file_size(path) is not None


def file_size(path: str) -> int | None:
    """Return the size of a file in bytes, or None if there is none; of a cell, of its container."""
    try:
        if os.path.isfile(path):
            return os.path.getsize(path)
        container = container_of(path)
        if container is None or not os.path.isfile(container):
            return None
        inner = path[len(container) + 2 :]
        if container.lower().endswith(".tar"):
            place = _index(*_stamp(container)).get(inner)
            return None if place is None else place[1]
        cell = _CELL.fullmatch(inner)
        there = cell is not None and int(cell[2]) < _n_rows(*_stamp(container))
        return os.path.getsize(container) if there else None
    except (OSError, ValueError):
        return None


def open_file(path: str) -> BinaryIO:
    """Open a file or the content of an address for reading."""
    return open(path, "rb") if container_of(path) is None else io.BytesIO(read_file(path))


def read_file(path: str) -> bytes:
    """Return the content of a file or of an address.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a member or cell is too large or damaged.
    """
    container = container_of(path)
    if container is None:
        return Path(path).read_bytes()
    inner = path[len(container) + 2 :]
    if not os.path.isfile(container):
        raise FileNotFoundError(f"there is no file {container!r}")
    if container.lower().endswith(".tar"):
        place = _index(*_stamp(container)).get(inner)
        if place is None:
            raise FileNotFoundError(f"{container!r} has no member {inner!r}")
        offset, size = place
        with open(container, "rb") as file:
            file.seek(offset)
            return file.read(size)
    return _cell(container, inner)


def _stamp(path: str) -> tuple[str, int, int]:
    status = os.stat(path)
    return os.path.abspath(path), status.st_mtime_ns, status.st_size


@functools.cache
def _index(path: str, modified: int, size: int) -> dict[str, tuple[int, int]]:
    """Return the place of each picture and sound in a tar file: its offset and its size."""
    return {
        name: (offset, length)
        for name, offset, length in tar_members(path)
        if not name.lower().endswith(_TEXTS)
    }


def tar_members(path: str | os.PathLike[str]) -> Iterator[tuple[str, int, int]]:
    """Yield the name, the offset and the size of the members of a tar file that are files.

    Parameters
    ----------
    path : path
        A tar file that is not compressed.

    Raises
    ------
    ValueError
        If it is not such a file, is cut short, or has a member of more than `MEMBER_LIMIT` bytes.
    """
    whole, end = os.path.getsize(path), 0
    cut = f"{str(path)!r} is cut short; copy or write it again"
    try:
        with tarfile.open(path, "r:") as tar:
            for info in tar:
                tar.members = []  # type: ignore[attr-defined]  # else all headers stay in memory
                end = info.offset_data + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                if not info.isreg() or info.issparse():
                    continue
                if info.size > MEMBER_LIMIT:
                    raise ValueError(
                        f"{str(path)!r} has the member {info.name!r} of {info.size:,} bytes, more "
                        f"than {MEMBER_LIMIT:,}; store it as a file of its own"
                    )
                if info.offset_data + info.size > whole:
                    raise ValueError(cut)
                yield info.name, info.offset_data, info.size
    except tarfile.TarError as error:
        raise ValueError(
            f"{str(path)!r} is not a tar file that can be read: {error}; a compressed one must be "
            "decompressed first, and one that is cut short copied again"
        ) from None
    with open(path, "rb") as file:  # between two members, tarfile does not see it
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise ValueError(cut)


# -- cells ---------------------------------------------------------------------------------------


def _cell(container: str, inner: str) -> bytes:
    place = _CELL.fullmatch(inner)
    if place is None:
        raise FileNotFoundError(f"{container!r} has no cell {inner!r}: expected 'column[row]'")
    column, row = place[1], int(place[2])
    stamp = _stamp(container)
    if container.lower().endswith(".arrow"):
        start, values = 0, _mapped(*stamp, column)
    else:
        group, start = _group_of(*stamp, row)
        values = _row_group(*stamp, column, group)
    if row - start >= len(values):
        raise FileNotFoundError(f"{container!r} has no row {row}")
    value = values[row - start].as_py()
    if value is None:
        raise ValueError(f"{container!r} has nothing in column {column!r} of row {row}")
    return bytes(value)


def _n_rows(path: str, modified: int, size: int) -> int:
    if path.lower().endswith(".arrow"):
        return int(_arrow_table(path, modified, size).num_rows)
    return int(_row_groups(path, modified, size)[-1])


@functools.cache
def _row_groups(path: str, modified: int, size: int) -> list[int]:
    """Return the row with which each row group ends."""
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    ends, total = [], 0
    for length in sizes:
        total += length
        ends.append(total)
    return ends or [0]


def _group_of(path: str, modified: int, size: int, row: int) -> tuple[int, int]:
    """Return the row group of a row, and the row with which the group begins."""
    import bisect

    ends = _row_groups(path, modified, size)
    group = bisect.bisect_right(ends, row)
    if group == len(ends):
        raise FileNotFoundError(f"{path!r} has no row {row}")
    return group, ends[group - 1] if group else 0


@functools.lru_cache(maxsize=2)
def _row_group(path: str, modified: int, size: int, column: str, group: int) -> Any:
    import pyarrow.parquet as parquet

    with parquet.ParquetFile(path) as file:
        metadata = file.metadata.row_group(group)
        chunks = [metadata.column(i) for i in range(metadata.num_columns)]
        own = [part for part in chunks if part.path_in_schema in (column, f"{column}.bytes")]
        total = sum(part.total_uncompressed_size for part in own)
        if total > GROUP_LIMIT:
            raise ValueError(
                f"{path!r} has a row group of {total:,} bytes in column {column!r}, more than "
                f"{GROUP_LIMIT:,}; write it with smaller row groups"
            )
        names = [part.path_in_schema for part in own]
        if not names:
            raise FileNotFoundError(f"{path!r} has no column {column!r} of files")
        return _bytes_of(file.read_row_group(group, columns=names).column(column))


@functools.cache
def _arrow_table(path: str, modified: int, size: int) -> Any:
    """Return the table in an Arrow file, which is a memory map."""
    import pyarrow

    mapped = pyarrow.memory_map(path)
    try:
        return pyarrow.ipc.open_file(mapped).read_all()
    except pyarrow.ArrowInvalid:
        mapped.seek(0)
        return pyarrow.ipc.open_stream(mapped).read_all()


def _mapped(path: str, modified: int, size: int, column: str) -> Any:
    table = _arrow_table(path, modified, size)
    if column not in table.column_names:
        raise FileNotFoundError(f"{path!r} has no column {column!r}")
    return _bytes_of(table.column(column))


def _bytes_of(column: Any) -> Any:
    """Return the encoded files of a column, which `datasets` stores with their paths."""
    import pyarrow.compute

    if pyarrow.types.is_struct(column.type):
        return pyarrow.compute.struct_field(column, "bytes")
    return column
