"""People's own pairs: from a table (CSV or DataFrame) and from a folder."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit.cards import API, DatasetCard
from crossfit.datasets.record import Dataset, Split, content_hash, shortened
from crossfit.extraction.weights import file_sha256
from crossfit.views import Views

__all__ = ["from_csv", "from_folder"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_CELL_LIMIT = 2**24  # csv's own limit of 131,072 characters is less than a long article


def from_csv(
    source: Any,
    *,
    image: str = "image",
    text: str = "text",
    views: Mapping[str, str] | None = None,
    paths: Collection[str] = ("image", "audio"),
    label: str | None = None,
    group: str | None = None,
    split: str | None = None,
    root: str | os.PathLike[str] | None = None,
    sep: str | None = None,
) -> Dataset:
    """Make a data set from a table with one pair a row.

    Parameters
    ----------
    source : path or DataFrame
        A CSV file in UTF-8 with a header, or a table with named columns.
    image, text : str
        Columns of the pictures' paths and of the texts.
    views : mapping of str to str, optional
        View name to column, for other or more views than ``image`` and ``text``, for instance
        ``{"audio": "file", "text": "lyrics"}``.
    paths : collection of str
        The views that name files: their entries are looked up, relative ones in `root`.
    label : str, optional
        Column of the classes. An empty entry or -1 is unlabelled (-1).
    group : str, optional
        Column of what must stay on one side of a split, for instance the recording that several
        clips come from.
    split : str, optional
        Column that says which split a row belongs to (``train``, ``test``, ...). Without it
        there is one split, ``"all"``.
    root : path, optional
        Folder of relative paths: that of the CSV file by default, the current one for a
        DataFrame.
    sep : str, optional
        Separator: a tab for ``.tsv`` and ``.tab``, else a comma.

    Returns
    -------
    Dataset
        If there are two views and the same file is named in several rows, it is one item with
        several texts, stored once (`Views.from_captions`). The revision follows the table and
        the content of the files: they are read, each once in a process unless it changes.

    Raises
    ------
    FileNotFoundError
        If the table or some of the files are missing; the first few are named.
    ValueError
        If a column is missing, an entry is empty, or a group or file lies in two splits.
    """
    columns = _table(source, sep)
    named = {"image": image, "text": text} if views is None else dict(views)
    if len(named) < 2:
        raise ValueError(f"a pair needs two views or more, got {', '.join(named) or 'none'}")
    wanted = [*named.values(), *(name for name in (label, group, split) if name is not None)]
    absent = [name for name in wanted if name not in columns]
    if absent:
        raise ValueError(
            f"the table has no column {', '.join(map(repr, absent))}: it has "
            f"{', '.join(columns) or 'none'}"
        )
    table = {name: columns[name] for name in wanted}
    n = len(table[wanted[0]])
    if n == 0:
        raise ValueError("the table has no rows")
    for name in (*named.values(), *(part for part in (group, split) if part)):
        _refuse_empty(table[name], name)

    table_path = Path(source) if isinstance(source, (str, os.PathLike)) else Path("table")
    folder = table_path.parent if root is None else Path(root)
    files = [name for name in named if name in paths]
    values = {name: table[column] for name, column in named.items()}
    for name in files:
        values[name] = np.array([str(folder / str(path)) for path in values[name]], dtype=object)
    _refuse_missing([path for name in files for path in values[name]])

    y, target_names = (None, None) if label is None else _labels(table[label])
    parts = table[split] if split else np.full(n, "all", dtype=object)
    groups = table[group] if group else values[files[0]] if files else np.arange(n)
    for name in files:
        _refuse_straddling(values[name], parts, name)
    if group:
        _refuse_straddling(groups, parts, group)
    splits = {}
    for part in dict.fromkeys(str(name) for name in parts):
        at = np.flatnonzero(parts.astype(str) == part)
        made = _views({name: column[at] for name, column in values.items()}, files)
        splits[part] = Split(made.with_groups(_codes(groups[at])), None if y is None else y[at])
    hashed: list[str | bytes] = []
    for key, column in table.items():
        hashed += [key, *map(_as_bytes, column)]
    for key in files:
        hashed += [file_sha256(Path(path).absolute()) for path in dict.fromkeys(values[key])]
    card = _card(table_path.stem, "from_csv", splits, tuple(named))
    return Dataset(card, splits, target_names, content_hash(*hashed))


def from_folder(path: str | os.PathLike[str]) -> Dataset:
    """Make a data set from a folder of pictures with a text file beside each.

    Parameters
    ----------
    path : path
        Holds ``<name>.jpg`` (or another kind of picture) with ``<name>.txt``, either directly or
        in one folder per class. Each line of a text file that is not blank is a caption.

    Returns
    -------
    Dataset
        One split, ``"all"``, sorted by path; labels if there are class folders. A picture with
        several captions is one item (`Views.from_captions`). The revision follows the texts and
        the pictures' names and content, which is read, once in a process unless it changes.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If there are no pictures, if a picture has no text or a text no picture (the first few
        are named), if a text is empty, or if only some pictures lie in class folders.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {str(folder)!r}")
    found = [
        file.relative_to(folder)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not any(p.startswith(".") for p in file.relative_to(folder).parts)
    ]
    pictures = [file for file in found if file.suffix.lower() in IMAGE_SUFFIXES]
    if not pictures:
        raise ValueError(
            f"{str(folder)!r} holds no pictures ({', '.join(IMAGE_SUFFIXES)}), only "
            f"{len(found)} other files"
        )
    texts = {file.with_suffix(""): file for file in found if file.suffix.lower() == ".txt"}
    stems = Counter(file.with_suffix("") for file in pictures)
    problems = {
        "pictures without a text": [p for p in pictures if p.with_suffix("") not in texts],
        "texts without a picture": [texts[stem] for stem in texts if stem not in stems],
        "texts with several pictures": [t for stem, t in texts.items() if stems[stem] > 1],
    }
    told = [f"{what}: {shortened(map(str, files))}" for what, files in problems.items() if files]
    if told:
        raise ValueError(
            f"each picture in {str(folder)!r} needs one text of the same name (a.jpg and a.txt), "
            f"but there are {'; '.join(told)}"
        )
    nested = [len(file.parts) > 1 for file in pictures]
    if any(nested) and not all(nested):
        loose = [str(file) for file, inside in zip(pictures, nested) if not inside]
        raise ValueError(
            f"either all or no pictures in {str(folder)!r} lie in class folders, but these lie "
            f"outside: {shortened(loose)}"
        )
    captions = [_captions(folder / texts[file.with_suffix("")]) for file in pictures]
    index = np.repeat(np.arange(len(pictures)), [len(some) for some in captions])
    strings = [caption for some in captions for caption in some]
    y, target_names = None, None
    if all(nested):
        y, target_names = _labels(np.array([file.parts[0] for file in pictures], dtype=object))
    absolute = [str(folder / file) for file in pictures]
    views = (
        Views(image=absolute, text=strings)
        if len(strings) == len(pictures)
        else Views.from_captions(absolute, strings, index)
    )
    splits = {"all": Split(views, None if y is None else y[index])}
    hashed = [f"{file} {file_sha256((folder / file).absolute())}" for file in pictures] + strings
    card = _card(folder.resolve().name, "from_folder", splits)
    return Dataset(card, splits, target_names, content_hash(*hashed))


def _table(source: Any, sep: str | None) -> dict[str, NDArray[Any]]:
    if isinstance(source, (str, os.PathLike)):
        return _read_csv(Path(source), sep)
    if not hasattr(source, "columns"):
        raise TypeError(
            f"from_csv expects the path of a CSV file or a DataFrame, got {type(source).__name__}"
        )
    return {str(name): np.asarray(source[name], dtype=object) for name in source.columns}


def _read_csv(path: Path, sep: str | None) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no CSV file {str(path)!r}")
    if sep is None:
        sep = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    limit = csv.field_size_limit(_CELL_LIMIT)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=sep)
            header = next(reader, [])
            if len(set(header)) < len(header):
                raise ValueError(f"{path.name} has columns of the same name: {', '.join(header)}")
            rows = []
            for row in reader:
                if len(row) != len(header) and row:
                    raise ValueError(
                        f"{path.name}, line {reader.line_num}: expected {len(header)} entries as "
                        f"in the header, got {len(row)} (an entry that holds {sep!r} must be in "
                        "double quotes)"
                    )
                if row:
                    rows.append(row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is no CSV file in UTF-8: {error}") from None
    finally:
        csv.field_size_limit(limit)
    columns = np.array(rows, dtype=object).reshape(len(rows), len(header)).T
    return dict(zip(header, columns))


def _as_bytes(value: Any) -> bytes:
    return value.tobytes() if isinstance(value, np.ndarray) else str(value).encode()


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or str(value) in ("nan", "NaT", "<NA>")  # what pandas puts there


def _refuse_empty(column: NDArray[Any], name: str) -> None:
    rows = [row for row, value in enumerate(column) if _is_empty(value)]
    if rows:
        raise ValueError(
            f"column {name!r} is empty in {len(rows)} of {len(column)} rows (counted from 0): "
            f"{shortened(map(str, rows))}"
        )


def _refuse_missing(paths: Iterable[str]) -> None:
    missing = [path for path in dict.fromkeys(paths) if not os.path.isfile(path)]
    if missing:
        raise FileNotFoundError(f"the table names files that do not exist: {shortened(missing)}")


def _refuse_straddling(keys: NDArray[Any], parts: NDArray[Any], name: str) -> None:
    home: dict[str, str] = {}
    for key, part in zip(map(str, keys), map(str, parts)):
        if home.setdefault(key, part) != part:
            raise ValueError(
                f"{name} {key!r} lies in the splits {home[key]!r} and {part!r}: test rows would "
                "be known from training"
            )


def _labels(column: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    def class_name(value: Any) -> str:
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # pandas turns a column of whole numbers with gaps into floats
        return "" if _is_empty(value) or str(value).strip() == "-1" else str(value).strip()

    names = [class_name(value) for value in column]
    classes = {name for name in names if name}
    numeric = all(name.isdecimal() for name in classes)
    order = tuple(sorted(classes, key=int) if numeric else sorted(classes))
    code = {name: k for k, name in enumerate(order)} | {"": -1}
    return np.array([code[name] for name in names], dtype=np.int64), order


def _codes(keys: NDArray[Any]) -> NDArray[np.int64]:
    first: dict[str, int] = {}
    return np.array([first.setdefault(str(key), len(first)) for key in keys], dtype=np.int64)


def _views(values: Mapping[str, NDArray[Any]], files: Sequence[str]) -> Views:
    if len(values) == 2 and files:
        item = files[0]
        (other,) = (name for name in values if name != item)
        index = _codes(values[item])
        if index.max() + 1 < len(index):
            distinct = list(dict.fromkeys(values[item]))
            views = Views.from_captions(distinct, values[other], index, names=(item, other))
            return views.select(*values)
    return Views(**values)


def _captions(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(path)!r} is no text in UTF-8: {error}") from None
    captions = [line.strip() for line in lines if line.strip()]
    if not captions:
        raise ValueError(f"{str(path)!r} is empty: expected one caption a line")
    return captions


def _card(
    name: str,
    maker: str,
    splits: Mapping[str, Split],
    modalities: tuple[str, ...] = ("image", "text"),
) -> DatasetCard:
    return DatasetCard(
        api=API,
        name=name,
        target=f"crossfit.datasets.own:{maker}",
        summary=f"own pairs: {name}",
        modalities=modalities,
        labels="none" if any(split.y is None for split in splits.values()) else "single",
        counts={name: len(split) for name, split in splits.items()},
    )
