"""Precomputed features as other programs write them: arrays in files, and folders of such files."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfit._arguments import finite_array, integer, shown, validated
from crossfit._files import whole_file
from crossfit._packed import split_key
from crossfit.cards import API, DatasetCard
from crossfit.datasets.captions import PER_IMAGE, check_per_image, precomputed_set
from crossfit.datasets.columns import Table, objects, open_table
from crossfit.datasets.features import MANIFEST, VECTOR, is_features, read_features
from crossfit.datasets.record import Dataset, Split, hash_of, read_lines, shortened
from crossfit.datasets.tables import Roles, build, labels_of, own_card, parts_of
from crossfit.views import Views

__all__ = ["from_precomputed", "read_vectors", "write_embeddings"]

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
                f"it is of {array.dtype} and shape {array.shape}, not vectors (n, d) or (n, R, d)"
            )
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{str(path)!r} does not hold features: {error}") from None
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


# -- data sets -------------------------------------------------------------------------------------


@validated(
    source=[str, os.PathLike, Mapping],
    index=[str, os.PathLike, "array-like", None],
    label=[str, os.PathLike, "array-like", None],
    split=[str, os.PathLike, "array-like", None],
)
def from_precomputed(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    captions_per_image: int = PER_IMAGE,
    index: ArrayLike | str | os.PathLike[str] | None = None,
    label: ArrayLike | str | os.PathLike[str] | None = None,
    split: ArrayLike | str | os.PathLike[str] | None = None,
    text: str = "auto",
) -> Dataset:
    """Build a data set from precomputed features.

    Parameters
    ----------
    source : path or mapping of str to path or array
        A folder in one of three layouts, or a file for each view.

        A folder that `crossfit.embedding.embed` or ``crossfit embed`` has written.

        VSE++ and SCAN: ``<split>_caps.txt`` (one caption per line in UTF-8, the same number for
        each picture, grouped by picture) and ``<split>_ims.npy``: features (n, d), or of regions
        (n, R, d), with one row per picture or, with five captions per picture, every row five
        times.

        clip-retrieval: ``img_emb/img_emb_<k>.npy``, ``text_emb/text_emb_<k>.npy`` and
        ``metadata/metadata_<k>.parquet``, of which one of the first two may be missing.

        A mapping of view names to files as `read_vectors` reads them, to text files with one text
        per line, or to arrays or lists: ``{"image": "features.npz::image", "text":
        "captions.txt"}``.
    captions_per_image : int, default=5
        Number of captions per picture in the layout of VSE++, from the first.
    index : array-like of int or path, optional
        For a mapping: the row of the first view that each row of the second belongs to. By default
        row by row, or, if the second has k times as many rows, k in succession for each of the
        first.
    label : array-like or path, optional
        For a mapping: classes of the rows, or an indicator matrix; an array or a text file with
        one class per line.
    split : array-like or path, optional
        For a mapping: name of the split of each row; an array or a text file.
    text : {"auto", "vectors", "strings"}, default="auto"
        For clip-retrieval: whether the texts are the vectors of ``text_emb`` or the captions of the
        metadata; by default vectors if there are any.

    Returns
    -------
    Dataset
        One split per pair of files in the layout of VSE++, otherwise ``"all"`` or those of `split`.
        Features are memory maps where the files allow it and are one file. The revision depends on
        the content of arrays, except in the layout of VSE++, where it depends on their sizes.

    Raises
    ------
    FileNotFoundError
        If the folder has no such files, or one file of a pair is missing.
    ValueError
        If the numbers of rows do not match, or a file cannot be read; the message names it.

    See Also
    --------
    from_table : Build a data set from a table with columns of vectors.

    Examples
    --------
    >>> import numpy as np
    >>> ds = from_precomputed({"image": np.eye(2), "text": ["a", "b", "c", "d"]})
    >>> ds["all"].views.distinct("image")[1].tolist()
    [0, 0, 1, 1]
    """
    if isinstance(source, Mapping):
        return _of_views(source, index, label, split)
    given = {"index": index, "label": label, "split": split}
    if unused := [name for name, value in given.items() if value is not None]:
        raise ValueError(f"{unused[0]} is for a mapping of views to files, got a folder")
    if text not in ("auto", "vectors", "strings"):
        raise ValueError(f"text must be 'auto', 'vectors' or 'strings', got {shown(text)}")
    folder = Path(source)
    if is_features(folder):
        return read_features(folder)
    if (folder / "metadata").is_dir() or any(folder.glob("*_emb")):
        return _of_clip_retrieval(folder, text)
    begins = [file.name.removesuffix("_caps.txt") for file in sorted(folder.glob("*_caps.txt"))]
    if not begins:
        raise FileNotFoundError(
            f"{str(folder)!r} holds no <split>_caps.txt, as VSE++ writes it, no metadata/, as "
            f"clip-retrieval does, and no {MANIFEST}, as crossfit embed does"
        )
    card = DatasetCard(
        api=API,
        name=folder.resolve().name,
        target="crossfit.datasets.vectors:from_precomputed",
        summary=f"precomputed features: {folder.resolve().name}",
    )
    check_per_image(captions_per_image, card)
    files = dict(zip(begins, begins))
    return precomputed_set(folder, files, per_image=captions_per_image, card=card, counts=None)


def _of_clip_retrieval(folder: Path, text: str) -> Dataset:
    shards = {
        kind: sorted((folder / f"{kind}_emb").glob(f"{kind}_emb_*.npy")) for kind in ("img", "text")
    }
    described = sorted((folder / "metadata").glob("metadata_*.parquet"))
    if not described:
        raise FileNotFoundError(f"{str(folder)!r} holds no metadata/metadata_<k>.parquet")
    numbers = [path.stem.rpartition("_")[2] for path in described]
    for kind, files in shards.items():
        lacking = sorted({*numbers} ^ {path.stem.rpartition("_")[2] for path in files})
        if files and lacking:
            raise FileNotFoundError(
                f"{str(folder)!r} must have {kind}_emb_<k>.npy and metadata_<k>.parquet for the "
                f"same numbers, but {shortened(lacking)} is only in one of them"
            )
    if not shards["img"]:
        raise FileNotFoundError(f"{str(folder)!r} holds no img_emb/img_emb_<k>.npy")
    if text == "vectors" and not shards["text"]:
        raise FileNotFoundError(f"{str(folder)!r} holds no text_emb/text_emb_<k>.npy")
    metadata = open_table(described)
    vectors = {
        kind: read_vectors(files)
        for kind, files in shards.items()
        if files and (kind == "img" or text != "strings")
    }
    if "text" not in vectors and "caption" not in metadata.names:
        raise ValueError(
            f"{str(folder)!r} has no texts: neither text_emb/ nor a column caption in the metadata"
        )
    others = [name for name in ("image_path", "caption") if name in metadata.names]
    columns: dict[str, Any] = metadata.read(others)
    n = len(next(iter(columns.values()))) if columns else len(vectors["img"])
    for kind, array in vectors.items():
        if len(array) != n:
            raise ValueError(
                f"{str(folder)!r} has {len(array)} rows of {kind}_emb and {n} rows of metadata"
            )
    columns["image"] = vectors["img"]
    columns["text"] = vectors.get("text", columns.get("caption"))
    paths = columns.get("image_path")
    repeated = paths is not None and len(set(paths)) < n
    table = Table(
        folder.name, list(columns), lambda wanted: {name: columns[name] for name in wanted},
        folder.resolve().name,
    )  # fmt: skip
    roles = Roles(
        {"image": ("image",), "text": ("text",)},
        ("image",),
        "image_path" if repeated else None,
        info=tuple(others),
    )
    return build(table, roles, "vectors:from_precomputed")


def _of_views(source: Mapping[str, Any], index: Any, label: Any, split: Any) -> Dataset:
    if len(source) < 2 or not all(isinstance(name, str) for name in source):
        raise ValueError(f"a pair needs two named views or more, got {shown(list(source))}")
    columns: dict[str, Any] = {name: _column(part, name) for name, part in source.items()}
    sizes = {name: len(column) for name, column in columns.items()}
    first, second = list(columns)[:2]
    n = sizes[second]
    rows = None if index is None else _rows_of(_column(index, "index"), n, sizes[first])
    if rows is None and sizes[first] and n > sizes[first] and n % sizes[first] == 0:
        rows = np.repeat(np.arange(sizes[first]), n // sizes[first])
    if len({size for name, size in sizes.items() if rows is None or name != first}) > 1 or not n:
        raise ValueError(
            "views must have the same number of rows, or an index of the first for the rows of the "
            f"second, got {', '.join(f'{name}: {size}' for name, size in sizes.items())}"
        )
    if rows is not None and len(columns) > 2:
        raise ValueError(f"an index is for two views, got {', '.join(columns)}")
    views = (
        Views(columns)
        if rows is None
        else Views.from_captions(columns[first], columns[second], rows, names=(first, second))
    )
    others = {name: _column(part, name) for name, part in (("label", label), ("split", split))
              if part is not None}  # fmt: skip
    for name, column in others.items():
        if len(column) != n:
            raise ValueError(f"{name} must have one entry per row ({n}), got {len(column)}")
    y, target_names = labels_of(others["label"], None) if "label" in others else (None, None)
    splits = {
        part: Split(views[at], None if y is None else y[at])
        for part, at in parts_of(others.get("split"), n)
    }
    hashed = hash_of(
        block
        for column in (*columns.values(), *others.values(), *([] if rows is None else [rows]))
        for block in _blocks(column)
    )
    card = own_card("precomputed", "vectors:from_precomputed", splits, tuple(columns))
    return Dataset(card, splits, target_names, hashed)


def _blocks(column: NDArray[Any]) -> Iterator[bytes]:
    """Yield the content of an array, a few megabytes at a time."""
    yield f"{column.dtype} {column.shape}".encode()
    if column.dtype == object:
        yield from (str(entry).encode(errors="surrogatepass") for entry in column)
        return
    step = max(1, 2**22 // max(1, column[:1].nbytes))
    for start in range(0, len(column), step):
        yield np.ascontiguousarray(column[start : start + step]).tobytes()


def _column(given: Any, name: str) -> NDArray[Any]:
    """Return the rows of a view or of labels, from an array or a file."""
    if isinstance(given, (str, os.PathLike)):
        path = os.fspath(given)
        if path.lower().endswith(".txt"):
            if not os.path.exists(path):
                raise FileNotFoundError(f"there is no file {path!r}")
            return objects(read_lines(Path(path)))
        if name in ("index", "label", "split"):
            try:
                return np.lib.format.open_memmap(path, mode="r")
            except ValueError as error:
                raise ValueError(f"{path!r} does not hold an array: {error}") from None
        return read_vectors(path)
    if isinstance(given, np.ndarray) and given.ndim > 1:
        return given
    try:
        return objects(given)
    except TypeError:
        raise TypeError(
            f"{name} must be a file, an array or a list, got {type(given).__name__}"
        ) from None


def _rows_of(rows: NDArray[Any], n: int, n_items: int) -> NDArray[np.int64]:
    """Return an index, after checking it."""
    try:
        whole = np.array([int(row) for row in rows], dtype=np.int64)
    except (TypeError, ValueError):
        raise ValueError("index must hold integers") from None
    if len(whole) != n:
        raise ValueError(
            f"index must have one entry per row of the second view ({n}), got {len(whole)}"
        )
    if n and (whole.min() < 0 or whole.max() >= n_items):
        raise ValueError(
            f"index must lie between 0 and {n_items - 1}, got values from {whole.min()} to "
            f"{whole.max()}"
        )
    return whole
