"""Data sets from precomputed features: folders of other programs, arrays, and files of arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfit._arguments import one_of, shown, validated
from crossfit.cards import API, DatasetCard
from crossfit.datasets.captions import PER_IMAGE, check_per_image, precomputed_set
from crossfit.datasets.columns import Table, objects
from crossfit.datasets.features import MANIFEST, is_features, read_features
from crossfit.datasets.opening import open_table
from crossfit.datasets.record import Dataset, Split, hash_of, read_lines, shortened
from crossfit.datasets.tables import Roles, build, labels_of, own_card, parts_of
from crossfit.datasets.vectors import read_vectors
from crossfit.views import Views

__all__ = ["from_precomputed"]


@validated(
    source=[str, os.PathLike, Mapping],
    index=[str, os.PathLike, "array-like", None],
    label=[str, os.PathLike, "array-like", None],
    split=[str, os.PathLike, "array-like", None],
    text=[one_of("auto", "vectors", "strings")],
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
        target="crossfit.datasets.precomputed:from_precomputed",
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
    return build(table, roles, "precomputed:from_precomputed")


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
    card = own_card("precomputed", "precomputed:from_precomputed", splits, tuple(columns))
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
