"""Vectors in files, as other programs write and read them: arrays, tensors, tables."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfit._arguments import finite_array, integer, shown, validated
from crossfit._files import whole_file
from crossfit._packed import split_key
from crossfit.datasets.opening import open_table
from crossfit.datasets.record import shortened

__all__ = ["VECTOR", "read_vectors", "write_embeddings"]

VECTOR = "vector"  # the column of a table

#: Largest size in bytes of an array in a compressed file, which is decompressed in memory.
_DECOMPRESSED = 2**33
_RAW = (".dat", ".bin", ".raw", ".mmap", ".memmap")
_TABLES = (".parquet", ".pq", ".arrow", ".feather", ".jsonl", ".ndjson")
_ELSEWHERE = {
    ".pt": "save the tensor by numpy.save or safetensors",
    ".pth": "save the tensor by numpy.save or safetensors",
    ".pkl": "crossfit does not unpickle; save the array by numpy.save",
    ".pickle": "crossfit does not unpickle; save the array by numpy.save",
    ".h5": "save the array by numpy.save",
    ".hdf5": "save the array by numpy.save",
    ".mat": "save the array by numpy.save",
}


@validated(path=[str, os.PathLike], payload=[Mapping, None], key=[str])
def write_embeddings(
    path: str | os.PathLike[str],
    vectors: ArrayLike,
    ids: Sequence[Any] | None = None,
    payload: Mapping[str, Sequence[Any]] | None = None,
    *,
    key: str = VECTOR,
) -> Path:
    """Write vectors with their names and further columns as a parquet file.

    The vectors are a column of lists of one length, as pandas, polars, datasets and vector stores
    read it. `read_vectors` returns them.

    Parameters
    ----------
    path : path
        ``.parquet`` file, which is replaced if it exists.
    vectors : array-like of shape (n, d)
        Real numbers; float64 is written as float32.
    ids : sequence of length n, optional
        Names of the rows, written as strings in the column ``id``.
    payload : mapping of str to sequence of length n, optional
        Further columns.
    key : str, default="vector"
        Name of the column of vectors.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError
        If the lengths differ, a name is used twice, or the vectors are not finite.
    ImportError
        If pyarrow is not installed.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> path = write_embeddings(tempfile.mkdtemp() + "/a.parquet", np.eye(3), ids=["a", "b", "c"])
    >>> read_vectors(path, "vector").shape
    (3, 3)
    """
    target = Path(path)
    if target.suffix.lower() not in (".parquet", ".pq"):
        raise ValueError(f"the file must end in .parquet, got {target.name!r}")
    rows = finite_array(vectors, "vectors", 2)
    if not rows.size:
        raise ValueError(f"vectors must have rows and columns, got shape {rows.shape}")
    rows = rows.astype(np.float16 if rows.dtype == np.float16 else np.float32, copy=False)
    columns: dict[str, Any] = {}
    if ids is not None:
        columns["id"] = [str(name) for name in ids]
    for name, values in (payload or {}).items():
        if name in columns or name == key:
            raise ValueError(f"payload has a column {name!r}, which is taken; rename it")
        columns[name] = list(values)
    for name, values in columns.items():
        if len(values) != len(rows):
            raise ValueError(f"{name!r} has {len(values)} rows, but there are {len(rows)} vectors")
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            "write_embeddings needs pyarrow: pip install 'crossfit-retrieval[tables]'"
        ) from error
    if key in columns:
        raise ValueError(f"the column {key!r} is taken; choose another key")
    flat = pa.array(np.ascontiguousarray(rows).ravel())
    try:
        table = pa.table(columns | {key: pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])})
    except pa.ArrowException as error:
        raise ValueError(f"payload cannot be written: {error}") from error
    with whole_file(target, "the embeddings") as draft:
        pq.write_table(table, draft)
    return target


@validated(
    source=[str, os.PathLike, list, tuple],
    key=[str, None],
    dtype=[str, type, np.dtype, None],
    shape=[integer(1), tuple, list, None],
)
def read_vectors(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    key: str | None = None,
    *,
    dtype: str | type | np.dtype[Any] | None = None,
    shape: int | Sequence[int] | None = None,
) -> NDArray[Any]:
    """Return an array in a file, as a memory map where the form allows it.

    Parameters
    ----------
    source : path or sequence of paths
        ``.npy``, a memory map; ``.npz``, a memory map unless it is compressed; ``.safetensors``;
        a column of vectors in ``.parquet``, ``.arrow``, ``.feather`` or ``.jsonl``; or raw numbers
        (``.dat``, ``.bin``, ``.raw``, ``.mmap``, ``.memmap``), a memory map whose `dtype` and
        `shape` must be given. Several files are joined in memory. ``"features.npz::image"`` names
        the array in a file as `key` does.
    key : str, optional
        Name of the array or column; not needed if a file has one, or a table the column ``vector``.
    dtype : dtype, optional
        Type of raw numbers.
    shape : int or sequence of int, optional
        Shape of raw numbers: the number of columns, or all sizes, of which the first may be -1.

    Returns
    -------
    ndarray of shape (n, d) or (n, R, d)
        In the type of the file; bfloat16 becomes float32.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file does not hold such an array; the message names the arrays that it has.
    ImportError
        If the form requires a library that is not installed.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> np.savez(folder / "features.npz", image=np.eye(3), text=np.ones((3, 2)))
    >>> read_vectors(f"{folder}/features.npz::text").shape
    (3, 2)
    """
    if isinstance(source, (list, tuple)):
        if not source:
            raise ValueError("read_vectors needs a file, got an empty list")
        parts = [read_vectors(part, key, dtype=dtype, shape=shape) for part in source]
        shapes = {part.shape[1:] for part in parts}
        if len(shapes) > 1:
            raise ValueError(
                f"files that are joined must have vectors of one size, got {sorted(shapes)}"
            )
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
    name, inner = split_key(os.fspath(cast("str | os.PathLike[str]", source)))
    key = key if inner is None else inner
    path = Path(name)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    kind = path.suffix.lower()
    if kind in _RAW:
        return _raw(path, dtype, shape)
    if dtype is not None or shape is not None:
        raise ValueError(f"dtype and shape are for raw numbers ({', '.join(_RAW)}), not {kind}")
    if kind in _ELSEWHERE:
        raise ValueError(f"{str(path)!r} cannot be read: {_ELSEWHERE[kind]}")
    try:
        if not path.is_file():
            raise ValueError("not a regular file")
        if kind == ".npz":
            array = _of_npz(path, key)
        elif kind == ".safetensors":
            array = _of_safetensors(path, key)
        elif kind in _TABLES:
            array = _of_table(path, key)
        else:
            # np.load would suggest unpickling if the file is not an array.
            array = np.lib.format.open_memmap(path, mode="r")
        if array.ndim < 2 or array.dtype.kind not in "biuf":
            raise ValueError(
                f"it is of {array.dtype} and shape {array.shape}, not (n, d) or (n, R, d)"
            )
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{str(path)!r} does not hold rows of numbers: {error}") from None
    return array


def _raw(path: Path, dtype: Any, shape: int | Sequence[int] | None) -> NDArray[Any]:
    if dtype is None or shape is None:
        raise ValueError(
            f"{str(path)!r} has raw numbers: give their dtype=, such as 'float32', and their "
            "shape=, such as the number of columns"
        )
    try:
        kind = np.dtype(dtype)
    except TypeError:
        raise ValueError(f"dtype must be a type of numbers, got {shown(dtype)}") from None
    sizes = [-1, shape] if isinstance(shape, int) else list(shape)
    if kind.kind not in "biuf" or len(sizes) < 2 or min(sizes[1:]) < 1:
        raise ValueError(
            f"raw numbers need a numeric dtype and a shape of two sizes or more, got {kind} and "
            f"{tuple(sizes)}"
        )
    row = kind.itemsize * int(np.prod([int(size) for size in sizes[1:]]))
    n, rest = divmod(path.stat().st_size, row)
    if rest or not n or sizes[0] not in (-1, n):
        raise ValueError(
            f"{str(path)!r} has {path.stat().st_size:,} bytes, which is not the size of an array "
            f"of {kind} and shape {tuple(sizes)}, with {row:,} bytes per row"
        )
    return np.memmap(path, kind, "r", 0, (n, *sizes[1:]))


def _chosen(names: Sequence[str], key: str | None, what: str) -> str:
    """Return the name of the array to read."""
    if key is None and len(names) == 1:
        return names[0]
    if key is None or key not in names:
        asked = "give the key of one" if key is None else f"not {key!r}"
        raise ValueError(f"it has the {what} {shortened(names, 12) or 'none'}: {asked}")
    return key


def _of_npz(path: Path, key: str | None) -> NDArray[Any]:
    """Return an array of an archive: a memory map of a stored one, else decompressed."""
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        info = archive.getinfo(f"{_chosen(names, key, 'arrays')}.npy")
        with archive.open(info) as member:
            head = io.BytesIO(member.read(2**16))
        version = np.lib.format.read_magic(head)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(head)
        start = head.tell()
        size = dtype.itemsize * int(np.prod(shape, dtype=object))
        if dtype.hasobject:
            raise ValueError("its array holds Python objects, which are not unpickled")
        if start + size != info.file_size:
            raise ValueError(f"its array of shape {shape} does not fill {info.filename}")
        if info.compress_type == zipfile.ZIP_STORED:
            assert archive.fp is not None
            archive.fp.seek(info.header_offset + 26)
            lengths = np.frombuffer(archive.fp.read(4), "<u2")
            offset = info.header_offset + 30 + int(lengths.sum()) + start
            if offset + size > path.stat().st_size:
                raise ValueError(f"{info.filename} is cut short")
            return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")
        if size > _DECOMPRESSED:
            raise ValueError(
                f"{info.filename} has {size:,} bytes when decompressed, more than "
                f"{_DECOMPRESSED:,}; save it by numpy.savez or numpy.save, without compression"
            )
        with archive.open(info) as member:
            return np.lib.format.read_array(member, allow_pickle=False)


def _of_safetensors(path: Path, key: str | None) -> NDArray[Any]:
    import safetensors

    try:
        with safetensors.safe_open(path, "np") as file:
            name = _chosen(sorted(file.keys()), key, "tensors")
            if file.get_slice(name).get_dtype() != "BF16":
                return np.asarray(file.get_tensor(name))
        with safetensors.safe_open(path, "pt") as file:  # NumPy has no bfloat16
            return np.asarray(file.get_tensor(name).float().numpy())
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None


def _of_table(path: Path, key: str | None) -> NDArray[Any]:
    """Return a column of vectors."""
    table = open_table(path)
    if key is None and VECTOR in table.names:
        key = VECTOR
    name = _chosen(table.names, key, "columns")
    column = table.read([name])[name]
    if column.ndim > 1:
        return column
    sizes = {len(entry) if isinstance(entry, list) else 0 for entry in column}
    if len(sizes) != 1 or sizes == {0}:
        raise ValueError(f"column {name!r} does not have a vector of one size in every row")
    return np.array(column.tolist())
