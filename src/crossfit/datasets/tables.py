"""Data sets from your own pairs: a table (CSV or DataFrame) or a folder."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import one_of, shown, validated
from crossfit.cards import API, DatasetCard
from crossfit.datasets.record import (
    Dataset,
    Split,
    content_hash,
    read_lines,
    read_text,
    shortened,
)
from crossfit.extraction.formats import PICTURE_SUFFIXES
from crossfit.extraction.weights import file_sha256
from crossfit.views import Views

__all__ = ["from_csv", "from_folder", "header_of"]

#: Names of folders that are splits instead of classes, in the order of the splits.
SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")

_CELL_LIMIT = 2**24  # csv's own limit of 131,072 characters is less than a long article
_SEPARATORS = (";", "\t", "|", ",")


@validated(
    image=[str],
    text=[str],
    views=[Mapping, None],
    paths=[Collection],
    label=[str, None],
    group=[str, None],
    split=[str, None],
    root=[str, os.PathLike, None],
    sep=[str, None],
    encoding=[str],
)
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
    encoding: str = "utf-8-sig",
) -> Dataset:
    """Build a data set from a table with one pair per row.

    Parameters
    ----------
    source : path or DataFrame
        A CSV file with a header, or a table with named columns. Quotes are parsed strictly: an
        unclosed quote is an error instead of swallowing rows.
    image, text : str, default="image" and "text"
        Columns of the pictures' paths and of the texts. Here and below, columns are found by exact
        name, or else ignoring case and surrounding spaces.
    views : mapping of str to str, optional
        View name to column, for other views than ``image`` and ``text``, for instance
        ``{"audio": "file", "text": "lyrics"}``.
    paths : collection of str, default=("image", "audio")
        Views whose entries are names of files, relative to `root`. The entries of other views are
        texts, even if they look like numbers.
    label : str, optional
        Column of the classes. Empty entries, ``nan`` and -1 (or -1.0) are unlabelled (-1).
    group : str, optional
        Column of groups, which must not be divided between splits, for instance the recording
        that several clips come from.
    split : str, optional
        Column of the split of each row (``train``, ``test``, ...). Without it there is one split,
        ``"all"``.
    root : path, optional
        Folder of relative paths; by default that of the CSV file, or the current one for a
        DataFrame.
    sep : str, optional
        Separator, one character; by default a tab for ``.tsv`` and ``.tab``, otherwise a comma.
    encoding : str, default="utf-8-sig"
        Encoding of the CSV file; by default UTF-8, with or without a byte order mark. Spreadsheets
        also write ``"cp1252"`` or ``"utf-16"``.

    Returns
    -------
    Dataset
        If there are two views and a file is named in several rows, it is one item with several
        texts, stored once (`Views.from_captions`). The revision depends on the table and on the
        content of the files, which are read once per process unless they change.

    Raises
    ------
    FileNotFoundError
        If the table or some of the files are missing; the message names the first few.
    ValueError
        If the table cannot be parsed (the message gives the line), a column is missing, an entry
        is empty, or a group or file is in two splits.
    TypeError
        If `source` is neither a path nor a table.
    """
    named = {"image": image, "text": text} if views is None else dict(views)
    if not all(isinstance(part, str) for pair in named.items() for part in pair):
        raise ValueError(f"views must map the names of views to those of columns, got {views!r}")
    if len(named) < 2:
        raise ValueError(f"a pair needs two views or more, got {', '.join(named) or 'none'}")
    if isinstance(paths, str):
        raise ValueError(f"paths must be a collection of names of views, got the text {paths!r}")
    collected = isinstance(paths, list | tuple | set | frozenset)
    if not collected or not all(isinstance(name, str) for name in paths):
        raise TypeError(f"paths must be a list or set of names of views, got {shown(paths)}")
    if sep is not None and (len(sep) != 1 or sep in '"\r\n'):
        raise ValueError(f"sep must be one character, not a quote or newline, got {sep!r}")
    columns = _table(source, sep, encoding)
    wanted = [*named.values(), *(name for name in (label, group, split) if name is not None)]
    table = _columns(columns, wanted)
    table |= {name: _tidied(table[name]) for name in (group, split) if name and name != label}
    n = len(table[wanted[0]])
    if n == 0:
        raise ValueError("the table has no rows")
    for name in (*named.values(), *(part for part in (group, split) if part)):
        _refuse_empty(table[name], name)

    table_path = Path(source) if isinstance(source, (str, os.PathLike)) else Path("table")
    folder = table_path.parent if root is None else Path(root)
    files = [name for name in named if name in paths]
    values = {name: table[column] for name, column in named.items()}
    for name, column in values.items():
        if name in files:
            values[name] = _objects(str(folder / str(path)) for path in column)
        elif not any(isinstance(entry, (np.ndarray, list, tuple)) for entry in column):
            # Entries that look like numbers are texts here, in a DataFrame as in a file.
            values[name] = _objects(map(str, column))
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


@validated(path=[str, os.PathLike], captions=[one_of("lines", "whole")])
def from_folder(path: str | os.PathLike[str], *, captions: str = "lines") -> Dataset:
    """Build a data set from a folder of pictures with a text file for each.

    Parameters
    ----------
    path : path
        Folder with ``<name>.jpg`` (or another picture format) and ``<name>.txt``, either directly
        or in one folder per class. If all top-level folders have names of splits (``train``,
        ``val``, ``test``, ``dev``, ``training``, ``valid``, ``validation``, ``testing``), they are
        the splits, and contain the pictures or the folders of classes. Links to files and folders
        are followed.
    captions : {"lines", "whole"}, default="lines"
        Whether each non-blank line of a text file is a caption, or the whole file is one text, such
        as an article.

    Returns
    -------
    Dataset
        One split, ``"all"``, or those of the folders, sorted by path; with labels if there are
        class folders, the same in all splits. A picture with several captions is one item
        (`Views.from_captions`). The revision depends on the texts and on the names and content of
        the pictures, which are read once per process unless they change.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    ValueError
        If there are no pictures, if a picture has no text or a text no picture (the message names
        the first few), if a text is empty, if a link is broken or circular, or if only some
        pictures are in class folders.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {str(folder)!r}")
    found = sorted(_files(folder))
    pictures = [file for file in found if file.suffix.lower() in PICTURE_SUFFIXES]
    if not pictures:
        raise ValueError(
            f"{str(folder)!r} holds no pictures ({', '.join(PICTURE_SUFFIXES)}), only "
            f"{len(found)} other files"
        )
    texts = {file.with_suffix(""): file for file in found if file.suffix.lower() == ".txt"}
    stems = Counter(file.with_suffix("") for file in pictures)
    # Other files with the name of a text may be pictures in a format that is not supported.
    beside = {file.with_suffix(""): file for file in found if file not in set(pictures)
              and file.suffix.lower() != ".txt"}  # fmt: skip
    problems: dict[str, list[Any]] = {
        "pictures without a text": [p for p in pictures if p.with_suffix("") not in texts],
        "texts without a picture": [
            f"{texts[stem]} (next to {beside[stem].name}, which is not among "
            f"{', '.join(PICTURE_SUFFIXES)})"
            if stem in beside
            else texts[stem]
            for stem in texts
            if stem not in stems
        ],
        "texts with several pictures": [t for stem, t in texts.items() if stems[stem] > 1],
        "links or pipes that are not files": [
            file
            for file in found
            if file.suffix.lower() in (*PICTURE_SUFFIXES, ".txt") and not (folder / file).is_file()
        ],
    }
    wrong = [f"{what}: {shortened(map(str, files))}" for what, files in problems.items() if files]
    if wrong:
        raise ValueError(
            f"each picture in {str(folder)!r} needs one text of the same name (a.jpg and a.txt), "
            f"but there are {'; '.join(wrong)}"
        )
    found_texts = [_captions(folder / texts[file.with_suffix("")], captions) for file in pictures]
    part_of, class_of = _places(pictures, folder)
    y, target_names = None, None
    if class_of:
        y, target_names = _labels(_objects(class_of), names=True)
    splits = {}
    for part in sorted(set(part_of), key=_split_order):
        at = [i for i, name in enumerate(part_of) if name == part]
        index = np.repeat(np.arange(len(at)), [len(found_texts[i]) for i in at])
        strings = [caption for i in at for caption in found_texts[i]]
        absolute = [str(folder / pictures[i]) for i in at]
        views = (
            Views(image=absolute, text=strings)
            if len(strings) == len(absolute)
            else Views.from_captions(absolute, strings, index)
        )
        splits[part] = Split(views, None if y is None else y[at][index])
    hashed = [f"{file} {file_sha256((folder / file).absolute())}" for file in pictures]
    hashed += [caption for own in found_texts for caption in own]
    card = _card(folder.resolve().name, "from_folder", splits)
    return Dataset(card, splits, target_names, content_hash(*hashed))


def _files(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder that are not hidden, following links, as relative paths."""

    def within(inner: Path, above: frozenset[str]) -> Iterator[Path]:
        here = os.path.realpath(inner)
        if here in above:
            raise ValueError(f"{str(inner)!r} is a link to a folder that contains it")
        for entry in os.scandir(inner):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from within(inner / entry.name, above | {here})
            else:
                yield (inner / entry.name).relative_to(folder)

    return within(folder, frozenset())


def _places(pictures: Sequence[Path], folder: Path) -> tuple[list[str], list[str]]:
    """Return the split of each picture, and its class, or an empty list if there are no classes."""
    top = {file.parts[0].lower() if len(file.parts) > 1 else "" for file in pictures}
    by_split = top <= set(SPLIT_FOLDERS)
    part_of = [file.parts[0].lower() if by_split else "all" for file in pictures]
    depth = 2 if by_split else 1
    nested = [len(file.parts) > depth for file in pictures]
    if any(nested) and not all(nested):
        loose = [str(file) for file, inside in zip(pictures, nested) if not inside]
        raise ValueError(
            f"either all or no pictures in {str(folder)!r} lie in class folders"
            + (f" of {', '.join(sorted(top))}" if by_split else "")
            + f", but these lie outside: {shortened(loose)}"
        )
    return part_of, [file.parts[depth - 1] for file in pictures] if all(nested) else []


def _split_order(name: str) -> int:
    return SPLIT_FOLDERS.index(name) if name in SPLIT_FOLDERS else -1


def _objects(values: Iterable[Any]) -> NDArray[Any]:
    listed = list(values)
    held = np.empty(len(listed), dtype=object)
    held[:] = listed
    return held


def _table(source: Any, sep: str | None, encoding: str) -> dict[str, NDArray[Any]]:
    if isinstance(source, (str, os.PathLike)):
        return _read_csv(Path(source), sep, encoding)
    if not hasattr(source, "columns") or not hasattr(source, "__getitem__"):
        raise TypeError(
            f"from_csv expects the path of a CSV file or a DataFrame, got {type(source).__name__}"
        )
    names = [str(name) for name in source.columns]
    _refuse_same("the table", names)
    return {
        name: np.asarray(source[column], dtype=object)
        for name, column in zip(names, source.columns)
    }


def _columns(columns: dict[str, NDArray[Any]], wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the requested columns, by exact name or ignoring case and surrounding spaces."""
    near: dict[str, list[str]] = {}
    for name in columns:
        near.setdefault(name.strip().casefold(), []).append(name)
    found, absent = {}, []
    for name in wanted:
        exact = [name] if name in columns else near.get(name.strip().casefold(), [])
        if len(exact) > 1:
            raise ValueError(
                f"the table has several columns that may be {name!r}: {', '.join(map(repr, exact))}"
            )
        if exact:
            found[name] = columns[exact[0]]
        else:
            absent.append(name)
    if absent:
        other = _other_separator(list(columns))
        hint = ""
        if other:
            hint = (
                f"; its one column holds {other!r}: is that the separator? Then give sep={other!r}"
            )
        raise ValueError(
            f"the table has no column {', '.join(map(repr, absent))}: it has "
            f"{', '.join(columns) or 'none'}{hint}"
        )
    return found


def _other_separator(header: Sequence[str]) -> str:
    """Return the likely separator of a header that is one column; empty if there are several."""
    marks = (mark for mark in _SEPARATORS if len(header) == 1 and mark in header[0])
    return next(marks, "")


def header_of(path: Path) -> tuple[str | None, list[str]]:
    """Return the separator and the columns of a table, whose name and header reveal the separator.

    Parameters
    ----------
    path : pathlib.Path
        A CSV or TSV file in UTF-8.

    Returns
    -------
    sep : str or None
        The separator, if it is not that which `from_csv` assumes.
    columns : list of str

    Raises
    ------
    FileNotFoundError, ValueError
        As in `from_csv`.
    """
    header = list(_read_csv(path, None, "utf-8-sig"))
    sep = _other_separator(header) or None
    return sep, header if sep is None else list(_read_csv(path, sep, "utf-8-sig"))


def _read_csv(path: Path, sep: str | None, encoding: str) -> dict[str, NDArray[Any]]:
    if not path.exists():
        raise FileNotFoundError(f"there is no CSV file {str(path)!r}")
    if sep is None:
        sep = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    try:
        content = read_text(path, encoding)
    except LookupError:
        raise ValueError(f"encoding must be one that Python has, got {encoding!r}") from None
    except ValueError as error:
        if not path.is_file():
            raise
        raise ValueError(
            f"{error}; save the table as UTF-8, or pass its encoding= to from_csv, such as "
            "'gb18030' (Chinese), 'cp932' (Japanese) or 'cp1252' (Western Europe)"
        ) from None
    limit = csv.field_size_limit(_CELL_LIMIT)
    try:
        return _parsed(content, path.name, sep)
    finally:
        csv.field_size_limit(limit)


def _parsed(content: str, name: str, sep: str) -> dict[str, NDArray[Any]]:
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=sep, strict=True)
    rows: list[list[str]] = []
    header: list[str] = []
    line = 0
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
            break
        if not header:
            header = row
            # Spreadsheets end lines with separators where there once were more columns.
            while header and not header[-1].strip():
                header = header[:-1]
            _refuse_same(name, [part.strip() for part in header])
            if _other_separator(header):
                break  # the rows would be cut at the wrong places
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
        rows.append(row)
    columns = np.array(rows, dtype=object).reshape(len(rows), len(header)).T
    return dict(zip(header, columns))


def _refuse_same(name: str, header: Sequence[str]) -> None:
    if len(set(header)) < len(header):
        raise ValueError(f"{name} has columns of the same name: {', '.join(header)}")


def _as_bytes(value: Any) -> bytes:
    return value.tobytes() if isinstance(value, np.ndarray) else str(value).encode()


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or str(value) in ("nan", "NaT", "<NA>")  # pandas' missing values


def _tidied(column: NDArray[Any]) -> NDArray[Any]:
    """Return entries without surrounding spaces; ``nan`` becomes empty, as in labels."""
    entries = [entry.strip() if isinstance(entry, str) else entry for entry in column]
    return _objects("" if str(entry).lower() == "nan" else entry for entry in entries)


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
                f"{name} {key!r} is in the splits {home[key]!r} and {part!r}: test rows would "
                "be known from training"
            )


def _labels(
    column: NDArray[Any], *, names: bool = False
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return codes and class names; -1 for missing labels.

    With `names`, every entry is the name of a class, since a folder may be called ``nan``.
    """
    found = [str(value).strip() if not _is_empty(value) else "" for value in column]
    if not names:
        found = ["" if name.lower() == "nan" else name for name in found]
        found = ["" if _whole(name) == -1 else name for name in found]
        if all(_whole(name) is not None for name in found if name):
            # Whole numbers with gaps become floats in pandas, so 1.0 is the class 1.
            found = [name.partition(".")[0] for name in found]
    classes = {name for name in found if name}
    numeric = all(_whole(name) is not None for name in classes)
    order = tuple(sorted(classes, key=int) if numeric else sorted(classes))
    code = {name: k for k, name in enumerate(order)} | {"": -1}
    return np.array([code[name] for name in found], dtype=np.int64), order


def _whole(name: str) -> int | None:
    """Return the integer that a label represents, as 3 or 3.0, or None."""
    match = re.fullmatch(r"([+-]?[0-9]+)(\.0*)?", name)
    return int(match[1]) if match else None


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


def _captions(path: Path, how: str) -> list[str]:
    lines = [line.strip() for line in read_lines(path)]
    captions = [line for line in lines if line]
    if not captions:
        raise ValueError(f"{str(path)!r} is empty: expected one caption per line, or a text")
    return ["\n".join(lines).strip()] if how == "whole" else captions


def _card(
    name: str,
    maker: str,
    splits: Mapping[str, Split],
    modalities: tuple[str, ...] = ("image", "text"),
) -> DatasetCard:
    return DatasetCard(
        api=API,
        name=name,
        target=f"crossfit.datasets.tables:{maker}",
        summary=f"own pairs: {name}",
        modalities=modalities,
        labels="none" if any(split.y is None for split in splits.values()) else "single",
        counts={name: len(split) for name, split in splits.items()},
    )
