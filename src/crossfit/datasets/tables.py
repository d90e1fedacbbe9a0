"""Data sets from your own pairs: a table in any form, with one pair or one item per row."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import one_of, shown, validated
from crossfit._packed import container_of, file_size
from crossfit._warnings import warn
from crossfit.cards import API, DatasetCard
from crossfit.datasets.columns import Table, objects
from crossfit.datasets.opening import open_table
from crossfit.datasets.record import Dataset, Split, hash_of, shortened
from crossfit.datasets.text_tables import open_csv, other_separator
from crossfit.extraction.weights import file_sha256
from crossfit.views import Ragged, Views, n_rows

__all__ = [
    "ROLES",
    "Roles",
    "build",
    "class_labels",
    "columns_of_views",
    "default_views",
    "from_csv",
    "from_table",
    "labels_of",
    "own_card",
    "parts_of",
    "states_of",
]

#: Names that the columns of a view have in tables of other programs, in order of preference.
KNOWN_AS = {
    "image": ("image", "file_name", "filepath", "image_path", "filename", "file", "path"),
    "audio": ("audio", "sound", "audio_path"),
    "text": ("text", "caption", "captions", "title", "sentence", "sentences"),
}
#: Files of up to this size together (in bytes) are read for the revision.
READ_AT_MOST = 2**30

#: Constraints of the arguments that the readers of pairs share.
ROLES: dict[str, list[Any]] = {
    "views": [Mapping, None],
    "paths": [Collection],
    "key": [str, None],
    "label": [str, None],
    "group": [str, None],
    "split": [str, None],
    "info": [Collection],
    "root": [str, os.PathLike, None],
    "sep": [str, None],
    "encoding": [str],
    "invalid": [one_of("raise", "skip")],
    "revision": [one_of("auto", "content", "sizes", "names")],
}


@dataclass(frozen=True)
class Roles:
    """The columns of a table and what they are for.

    Parameters
    ----------
    views : mapping of str to tuple of str
        View name to its columns; several are captions of the same row.
    paths : collection of str
        Views whose strings are names of files.
    key, label, group, split : str, optional
    info : tuple of str
        See `from_table`.
    channels : mapping of str to tuple of str
        View name to the views that become its channels.
    """

    views: Mapping[str, tuple[str, ...]]
    paths: Collection[str] = ("image", "audio")
    key: str | None = None
    label: str | None = None
    group: str | None = None
    split: str | None = None
    info: tuple[str, ...] = ()
    channels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def of_views(self) -> list[str]:
        """Columns of all views."""
        return [column for columns in self.views.values() for column in columns]

    @property
    def columns(self) -> list[str]:
        """All columns, each once, in the order in which they are hashed."""
        others = (self.label, self.group, self.split, self.key, *self.info)
        return list(dict.fromkeys([*self.of_views, *(name for name in others if name)]))


@validated(
    image=[str, list, tuple, None], text=[str, list, tuple, None], **ROLES
)  # fmt: skip
def from_table(
    source: Any,
    *,
    image: str | None = None,
    text: str | Sequence[str] | None = None,
    views: Mapping[str, str | Sequence[str] | Mapping[str, str]] | None = None,
    paths: Collection[str] = ("image", "audio"),
    key: str | None = None,
    label: str | None = None,
    group: str | None = None,
    split: str | None = None,
    info: Collection[str] = (),
    root: str | os.PathLike[str] | None = None,
    sep: str | None = None,
    encoding: str = "utf-8-sig",
    invalid: str = "raise",
    revision: str = "auto",
) -> Dataset:
    """Build a data set from a table of pairs in any form.

    Files that the table names are not decoded: a view contains their paths.

    Parameters
    ----------
    source : path, sequence of paths, or table
        A file: CSV or TSV with a header (any other suffix is read as CSV), JSONL (``.jsonl``,
        ``.ndjson``), JSON (a list of records; ``images`` or ``audio`` with ``annotations`` as in
        COCO; Karpathy's ``dataset_<name>.json``), parquet, or Arrow (``.arrow``, ``.feather``);
        several files of one form as a list or as a pattern such as ``"train-*.parquet"``. Or an
        object: a DataFrame of pandas or polars, a table of pyarrow, a ``datasets.Dataset``, a
        ``datasets.DatasetDict`` or another mapping of splits to tables, a mapping of names to
        columns, a list of mappings, or any other object that has
        ``column_names`` or ``columns`` and returns a column for its name. Parquet and Arrow files
        require pyarrow, ``pip install crossfit-retrieval[tables]``.
    image : str, optional
        Column of the pictures' paths. By default the first of ``image``, ``file_name``,
        ``filepath``, ``image_path``, ``filename``, ``file`` and ``path`` that the table has; if it
        has none of these but a column ``audio``, ``sound`` or ``audio_path``, the views are
        ``audio`` and ``text``. Here and below, columns are found by exact name, or else ignoring
        case and surrounding spaces.
    text : str or sequence of str, optional
        Column of the texts, or several columns with a caption each, of which some may be empty. By
        default the first of ``text``, ``caption``, ``captions``, ``title``, ``sentence`` and
        ``sentences`` that the table has. An entry may also be a list of captions.
    views : mapping of str to str, sequence of str or mapping of str to str, optional
        View name to column or columns, for other views than ``image`` and ``text``, for instance
        ``{"audio": "file", "text": "lyrics"}``. A mapping of names to columns makes a view of
        several channels, ``{"image": "file", "recipe": {"title": "name", "steps": "method"}}``.
    paths : collection of str, default=("image", "audio")
        Views whose strings are names of files, relative to `root`. The entries of other views are
        texts, even if they look like numbers. In every view, entries that are lists of numbers are
        feature vectors; arrays and PIL images are kept.
    key : str, optional
        Column that identifies the item of the first view with files, or else of the first view:
        rows with equal entries are captions of one item, whose value is taken from the first of
        them. By default, a file is identified by its path.
    label : str, optional
        Column of the classes. Empty entries, ``nan`` and -1 (or -1.0) are unlabelled (-1). If the
        entries are lists of classes, ``y`` is an indicator matrix.
    group : str, optional
        Column of groups, which must not be divided between splits, for instance the recording
        that several clips come from.
    split : str, optional
        Column of the split of each row (``train``, ``test``, ...). Without it there is one split,
        ``"all"``.
    info : collection of str, default=()
        Columns to keep in ``Split.info``, such as identifiers.
    root : path, optional
        Folder of relative paths; by default that of the table's file, or the current one.
    sep : str, optional
        Separator of a CSV file, one character; by default a tab for ``.tsv`` and ``.tab``,
        otherwise a comma. Quotes are parsed strictly: an unclosed quote is an error instead of
        swallowing rows.
    encoding : str, default="utf-8-sig"
        Encoding of a CSV, JSON or JSONL file; by default UTF-8, with or without a byte order mark,
        or UTF-16 if the file begins with its mark. Spreadsheets also write ``"cp1252"``.
    invalid : {"raise", "skip"}, default="raise"
        What to do with rows that have an empty entry or name a missing file: raise an error that
        gives the first few, or leave them out and warn of their number.
    revision : {"auto", "content", "sizes", "names"}, default="auto"
        What the revision depends on besides the table: the content of the files, which are read
        once per process unless they change; their sizes; or nothing, in which case the files need
        not exist yet. ``"auto"`` is ``"content"`` for files of up to 1 GiB in total, otherwise
        ``"sizes"``.

    Returns
    -------
    Dataset
        A file that is named in several rows, and every entry of a row with several captions, is one
        item, stored once, whatever the number of views (`Views.from_items`). Rows that share an
        item are one group, unless there is a column of groups.

    Raises
    ------
    FileNotFoundError
        If the table or some of the files are missing; the message names the first few.
    ValueError
        If the table cannot be parsed (the message gives the line), a column is missing, an entry
        is empty, or a group or file is in two splits.
    TypeError
        If `source` is neither a path nor a table.
    ImportError
        If the form of the table requires a library that is not installed.

    Warns
    -----
    UserWarning
        If rows are left out or repeated, or files with different names have the same content; the
        message gives their number.

    See Also
    --------
    from_folder : Build a data set from a folder of files with texts.

    Examples
    --------
    >>> from crossfit.datasets import from_table
    >>> songs = {"lyrics": ["la la", "na na"], "mood": [[0.1, 0.9], [0.7, 0.2]]}
    >>> ds = from_table(songs, views={"audio": "mood", "text": "lyrics"})
    >>> ds["all"].views["audio"].shape
    (2, 2)
    """
    table = open_table(source, _checked_sep(sep), encoding)
    if split is None and isinstance(source, Mapping) and "__split__" in table.names:
        split = "__split__"
    if views is None:
        views = default_views(table.names, image, text)
    views, channels = _flat(views)
    roles = Roles(columns_of_views(views), _checked_paths(paths), key, label, group, split,
                  _checked_info(info), channels)  # fmt: skip
    return build(table, roles, "tables:from_table", root, invalid, revision)


@validated(image=[str], text=[str], **{name: ROLES[name] for name in (
    "views", "paths", "label", "group", "split", "root", "sep", "encoding"
)})  # fmt: skip
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
    """Build a data set from a CSV file, whatever its suffix, or from a DataFrame.

    Parameters
    ----------
    source : path or DataFrame
        A CSV file with a header, or a table with named columns.
    image, text : str, default="image" and "text"
        Columns of the pictures' paths and of the texts.
    views, paths, label, group, split, root, sep, encoding
        As in `from_table`.

    Returns
    -------
    Dataset

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        As in `from_table`.

    See Also
    --------
    from_table : The same for all forms of tables, with more options.
    """
    if isinstance(source, (str, os.PathLike)):
        table = open_csv(Path(source), _checked_sep(sep), encoding)
    elif isinstance(source, (list, tuple, Mapping)):
        raise TypeError(
            f"from_csv expects the path of a CSV file or a DataFrame, got {type(source).__name__}"
        )
    else:
        table = open_table(source)
    named = columns_of_views({"image": image, "text": text} if views is None else views)
    roles = Roles(named, _checked_paths(paths), None, label, group, split)
    return build(table, roles, "tables:from_csv", root)


def _checked_sep(sep: str | None) -> str | None:
    if sep is not None and (len(sep) != 1 or sep in '"\r\n'):
        raise ValueError(f"sep must be one character, not a quote or newline, got {sep!r}")
    return sep


def _checked_paths(paths: Collection[str]) -> tuple[str, ...]:
    if isinstance(paths, str):
        raise ValueError(f"paths must be a collection of names of views, got the text {paths!r}")
    collected = isinstance(paths, list | tuple | set | frozenset)
    if not collected or not all(isinstance(name, str) for name in paths):
        raise TypeError(f"paths must be a list or set of names of views, got {shown(paths)}")
    return tuple(paths)


def _checked_info(info: Collection[str]) -> tuple[str, ...]:
    if isinstance(info, str) or not all(isinstance(name, str) for name in info):
        raise ValueError(f"info must be a list of names of columns, got {shown(info)}")
    return tuple(info)


def _flat(
    views: Mapping[str, Any],
) -> tuple[dict[str, str | Sequence[str]], dict[str, tuple[str, ...]]]:
    """Return views of which none has channels, and the names of those that become channels."""
    flat: dict[str, str | Sequence[str]] = {}
    channels: dict[str, tuple[str, ...]] = {}
    for name, part in views.items():
        if not isinstance(part, Mapping):
            flat[name] = part
            continue
        if len(part) < 2 or not all(isinstance(one, str) for pair in part.items() for one in pair):
            raise ValueError(
                f"view {name!r} must have two channels or more, each with the name of a column, "
                f"got {shown(dict(part))}"
            )
        parts = {f"{name}.{channel}": column for channel, column in part.items()}
        flat |= parts
        channels[name] = tuple(parts)
    if len(views) < 2:
        raise ValueError(f"a pair needs two views or more, got {', '.join(map(str, views))}")
    return flat, channels


def columns_of_views(views: Mapping[str, str | Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the columns of each view, after checking that there are two views or more."""
    named = {
        name: (part,) if isinstance(part, str) else tuple(part)
        for name, part in views.items()
        if isinstance(name, str) and isinstance(part, (str, list, tuple))
    }
    parts = [column for columns in named.values() for column in columns]
    if len(named) < len(views) or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"views must map the names of views to those of columns, got {views!r}")
    empty = [name for name, columns in named.items() if not columns]
    if empty:
        raise ValueError(f"view {empty[0]!r} needs a column, got none")
    if len(named) < 2:
        raise ValueError(f"a pair needs two views or more, got {', '.join(named) or 'none'}")
    return named


def default_views(
    names: Sequence[str], image: str | None, text: str | Sequence[str] | None
) -> dict[str, str | Sequence[str]]:
    """Return the columns of ``image`` or ``audio``, and of ``text``, by their usual names."""
    there = {name.strip().casefold() for name in names}
    first = {
        view: next((name for name in usual if name in there), None)
        for view, usual in KNOWN_AS.items()
    }
    words = text if text is not None else first["text"] or "text"
    if image is None and first["image"] is None and first["audio"] is not None:
        return {"audio": first["audio"], "text": words}
    return {"image": image or first["image"] or "image", "text": words}


def build(
    table: Table,
    roles: Roles,
    maker: str,
    root: str | os.PathLike[str] | None = None,
    invalid: str = "raise",
    revision: str = "auto",
) -> Dataset:
    """Build a data set from an opened table; see `from_table`.

    Parameters
    ----------
    table : Table
        The table.
    roles : Roles
        Its columns.
    maker : str
        Module and function for the card.
    root, invalid, revision
        See `from_table`.
    """
    found = _found(table.names, roles.columns)
    data = table.read(list(dict.fromkeys(found.values())))
    columns = {name: data[own] for name, own in found.items()}
    del data
    for name in (roles.group, roles.split, roles.key):
        if name and name != roles.label:
            columns[name] = _tidied(columns[name])
    n = len(next(iter(columns.values())))
    if n == 0:
        raise ValueError("the table has no rows")

    folder = table.folder if root is None else Path(root)
    values = {
        view: _entries_of(view, [columns[name] for name in parts], view in roles.paths)
        for view, parts in roles.views.items()
    }
    wrong: dict[str, NDArray[np.bool_]] = {}
    for view, parts in roles.views.items():
        if isinstance(values[view], Ragged) or values[view].ndim > 1:
            columns[parts[0]] = values[view]
        wrong[f"column {' or '.join(map(repr, parts))} is empty"] = _empties(values[view])
    for name in (roles.group, roles.split, roles.key):
        if name:
            wrong[f"column {name!r} is empty"] = _empties(columns[name])
    if invalid == "raise":
        _refuse_empty(wrong, n)
    files = _Files(folder, check=revision != "names")
    for view in roles.views:
        if view in roles.paths and _are_strings(values[view]):
            values[view] = files.located(values[view])
            if invalid == "skip":
                lost = np.array([path in files.missing for path in values[view]], dtype=bool)
                wrong[f"the file of view {view!r} does not exist"] = lost
    if invalid == "raise":
        files.refuse_missing()
    else:
        kept = _kept(wrong, n, table.name)
        if len(kept) < n:
            values = {name: part[kept] for name, part in values.items()}
            columns = {name: part[kept] for name, part in columns.items()}

    hashed = hash_of(_hashed(columns, values, files, revision))
    listed = [view for view, column in values.items() if _is_listed(column)]
    values, row = _exploded(values, listed)
    n = n_rows(next(iter(values.values())))
    if row is not None:
        columns = {name: part[row] for name, part in columns.items()}
    of_files = [view for view in values if view in roles.paths and _are_strings(values[view])]
    # What identifies the items of the views whose items several rows may share.
    items = {view: values[view] for view in of_files}
    if row is not None:
        items = {view: row for view in values if view not in listed} | items
    if roles.key:
        first = next((view for view in values if view in roles.paths), next(iter(values)))
        _refuse_different(values[first], columns[roles.key], roles.key, first)
        items[first] = columns[roles.key]
    _warn_of_repeats(values, next(iter(items.values()), None), table.name)

    y, target_names = None, None
    if roles.label:
        classes = table.classes.get(found[roles.label])
        y, target_names = labels_of(columns[roles.label], classes)
    part_names = columns[roles.split] if roles.split else None
    groups = columns[roles.group] if roles.group else None
    splits = {}
    for part, at in parts_of(part_names, n):
        made = _views(values, items, at, roles.channels)
        splits[part] = Split(
            made if groups is None else made.with_groups(_codes(groups[at])),
            None if y is None else y[at],
            {name: columns[name][at] for name in roles.info},
        )
    if part_names is not None:
        for view in of_files:
            _refuse_straddling(values[view], part_names, view)
        for column in (roles.key, roles.group):
            if column:
                _refuse_straddling(columns[column], part_names, column)
    card = own_card(table.stem, maker, splits, made.names)
    return Dataset(card, splits, target_names, hashed)


def _found(names: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """Return the requested columns, by exact name or ignoring case and surrounding spaces."""
    near: dict[str, list[str]] = {}
    for name in names:
        near.setdefault(name.strip().casefold(), []).append(name)
    found, absent = {}, []
    for name in wanted:
        exact = [name] if name in names else near.get(name.strip().casefold(), [])
        if len(exact) > 1:
            raise ValueError(
                f"the table has several columns that may be {name!r}: {', '.join(map(repr, exact))}"
            )
        if exact:
            found[name] = exact[0]
        else:
            absent.append(name)
    if absent:
        other = other_separator(names)
        hint = ""
        if other:
            hint = (
                f"; its one column holds {other!r}: is that the separator? Then give sep={other!r}"
            )
        raise ValueError(
            f"the table has no column {', '.join(map(repr, absent))}: it has "
            f"{', '.join(names) or 'none'}{hint}"
        )
    return found


# -- entries ---------------------------------------------------------------------------------------


def _entries_of(view: str, columns: Sequence[NDArray[Any]], are_paths: bool) -> Any:
    """Return the entries of a view: strings, lists of captions, vectors or pictures."""
    if len(columns) > 1:
        if are_paths or any(column.ndim > 1 for column in columns):
            raise ValueError(f"view {view!r} must have one column; only captions may have several")
        rows = zip(*columns)
        return objects([str(entry) for entry in row if not _is_empty(entry)] for row in rows)
    (column,) = columns
    if column.ndim > 1:
        return column
    one = next((entry for entry in column if not _is_empty(entry)), None)
    if one is not None and _is_sequence(one) and not _is_picture(one):
        first = next((entry for entry in one if not _is_empty(entry)), None)
        if not isinstance(first, (str, type(None))):
            return _vectors(column, view)
        if are_paths:
            raise ValueError(
                f"view {view!r} must have one path per row, got lists; give each its own row"
            )
        return objects(_strings(entry, view, row) for row, entry in enumerate(column))
    if are_paths:
        return objects(map(_file_entry, column))
    return objects(entry if _is_empty(entry) else str(entry) for entry in column)


def _is_sequence(entry: Any) -> bool:
    return isinstance(entry, (list, tuple)) or (isinstance(entry, np.ndarray) and entry.ndim > 0)


def _is_picture(entry: Any) -> bool:
    return isinstance(entry, np.ndarray) and entry.dtype == np.uint8 and entry.ndim > 1


def _strings(entry: Any, view: str, row: int) -> list[str]:
    """Return the captions of a row, without empty ones."""
    if _is_empty(entry):
        return []
    if not _is_sequence(entry):
        raise ValueError(
            f"view {view!r} must have a list of captions in every row or in none, got "
            f"{type(entry).__name__} in row {row}"
        )
    return [str(caption) for caption in entry if not _is_empty(caption)]


def _vectors(column: NDArray[Any], view: str) -> Any:
    """Return vectors, or regions of equal width, as an array or as Ragged rows."""
    empty = [row for row, entry in enumerate(column) if _is_empty(entry)]
    if empty:
        raise ValueError(
            f"view {view!r} has no vector in {len(empty)} rows (counted from 0): "
            f"{shortened(map(str, empty))}"
        )
    try:
        rows = [np.asarray(entry) for entry in column]
        if any(row.dtype.kind not in "biuf" for row in rows):
            raise ValueError("an entry is not of numbers")
        if len({row.shape for row in rows}) == 1:
            return np.stack(rows)
        if all(row.ndim > 1 for row in rows):
            return Ragged.from_list(rows)
        sizes = sorted({len(row) for row in rows})
        raise ValueError(f"got sizes {sizes[0]} to {sizes[-1]}")
    except (ValueError, TypeError) as error:
        raise ValueError(f"view {view!r} must hold vectors of one size: {error}") from None


def _file_entry(entry: Any) -> Any:
    """Return what a row has of a file: a string, or the encoded or decoded file itself."""
    if isinstance(entry, Mapping) and {"bytes", "path"} <= set(entry):  # as `datasets` stores it
        return entry["path"] if entry["bytes"] is None else entry["bytes"]
    if isinstance(entry, (np.ndarray, bytes)) or hasattr(entry, "getbands"):
        return entry
    return entry if _is_empty(entry) else str(entry)


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    # Missing values of pandas; a long array is not written out to find that it is none.
    return value is None or (not _is_sequence(value) and str(value) in ("nan", "NaT", "<NA>"))


def _empties(column: Any) -> NDArray[np.bool_]:
    if isinstance(column, Ragged) or column.ndim > 1:
        return np.zeros(len(column), dtype=bool)
    held = ((not entry) if isinstance(entry, list) else _is_empty(entry) for entry in column)
    return np.fromiter(held, dtype=bool, count=len(column))


def _are_strings(column: Any) -> bool:
    return (
        isinstance(column, np.ndarray)
        and column.ndim == 1
        and all(isinstance(entry, str) or entry is None for entry in column)
    )


def _tidied(column: NDArray[Any]) -> NDArray[Any]:
    """Return entries without surrounding spaces; ``nan`` becomes empty, as in labels."""
    entries = [entry.strip() if isinstance(entry, str) else entry for entry in column]
    return objects("" if str(entry).lower() == "nan" else entry for entry in entries)


def _refuse_empty(wrong: Mapping[str, NDArray[np.bool_]], n: int) -> None:
    for what, mask in wrong.items():
        if mask.any():
            rows = np.flatnonzero(mask).tolist()
            raise ValueError(
                f"{what} in {len(rows)} of {n} rows (counted from 0): "
                f"{shortened(map(str, rows))}; fill them, or remove these rows (from_table leaves "
                "them out with invalid='skip')"
            )


def _kept(wrong: Mapping[str, NDArray[np.bool_]], n: int, name: str) -> NDArray[np.int64]:
    """Return the rows that are right, and warn of the number of the others."""
    left_out = np.zeros(n, dtype=bool)
    reasons = []
    for what, mask in wrong.items():
        if mask.any():
            rows = shortened(map(str, np.flatnonzero(mask).tolist()))
            reasons.append(f"{what} in {int(mask.sum())} (rows {rows}, counted from 0)")
            left_out |= mask
    if left_out.all():
        raise ValueError(f"{name} has no row that can be used: {'; '.join(reasons)}")
    if reasons:
        warn(f"{name}: left out {int(left_out.sum())} of {n} rows: {'; '.join(reasons)}")
    return np.flatnonzero(~left_out)


# -- files -----------------------------------------------------------------------------------------


class _Files:
    """The files that a table names: where they are, how large, and which are missing."""

    def __init__(self, folder: Path, check: bool) -> None:
        self.folder, self.check = folder, check
        self.sizes: dict[str, int] = {}
        self.missing: dict[str, str] = {}
        self.holders: dict[str, str] = {}
        """The tar, parquet or Arrow file of each file that is inside one."""

    def located(self, column: NDArray[Any]) -> NDArray[Any]:
        """Return the paths of a column; each file is looked up once."""
        known: dict[str, str] = {}
        for entry in column:
            if entry is not None and entry not in known:
                known[entry] = self._find(entry)
        return objects("" if entry is None else known[entry] for entry in column)

    def on_disk(self, column: NDArray[Any]) -> list[str]:
        """Return the files that hold those of a column, each once, if they have been checked."""
        paths = dict.fromkeys(self.holders.get(path, path) for path in column)
        return [path for path in paths if path in self.sizes]

    def _find(self, entry: str) -> str:
        path = str(self.folder / entry)
        if not self.check or path in self.sizes or path in self.missing:
            return path
        holder = container_of(path)
        size = file_size(path)
        if holder is not None and size is not None:
            self.holders[path] = holder
            self.sizes[holder] = os.path.getsize(holder)
            return path
        if size is None and "\\" in entry:  # written on Windows
            other = str(self.folder / entry.replace("\\", "/"))
            size = file_size(other)
            path = path if size is None else other
        if size is None:
            self.missing[path] = entry
        else:
            self.sizes[path] = size
        return path

    def refuse_missing(self) -> None:
        """Raise a FileNotFoundError if files are missing."""
        if not self.missing:
            return
        entries = list(self.missing.values())
        if any(entry.startswith(("http://", "https://", "s3://")) for entry in entries):
            hint = "addresses on the web are not read; download the files first"
        elif os.name != "nt" and any(PureWindowsPath(entry).drive for entry in entries):
            hint = "paths with the letter of a drive are found only on their own machine; give " \
                "paths relative to the table or to root="  # fmt: skip
        else:
            hint = f"relative paths start at {str(self.folder)!r}, unless root= is given"
        raise FileNotFoundError(
            f"the table names files that do not exist: {shortened(self.missing)}; {hint} "
            "(from_table leaves such rows out with invalid='skip')"
        )


def _hashed(
    columns: Mapping[str, NDArray[Any]],
    values: Mapping[str, Any],
    files: _Files,
    revision: str,
) -> Iterator[str | bytes]:
    for name, column in columns.items():
        yield name
        yield from map(_as_bytes, column)
    used = [
        path for column in values.values() if _are_strings(column) for path in files.on_disk(column)
    ]
    states = states_of({path: files.sizes[path] for path in used}, revision)
    yield from (states[path] for path in used if path in states)


def states_of(sizes: Mapping[str, int], revision: str) -> dict[str, str]:
    """Return what a revision depends on of each file: its hash, its size, or nothing.

    Parameters
    ----------
    sizes : mapping of str to int
        Paths and sizes.
    revision : str
        See `from_table`.

    Warns
    -----
    UserWarning
        If files were read and some have the same content.
    """
    if revision == "names":
        return {}
    if revision == "sizes" or (revision == "auto" and sum(sizes.values()) > READ_AT_MOST):
        return {path: str(size) for path, size in sizes.items()}
    digests = {path: file_sha256(os.path.abspath(path)) for path in sizes}
    same = len(digests) - len(set(digests.values()))
    if same:
        seen: dict[str, str] = {}
        pairs = [(seen.setdefault(digest, path), path) for path, digest in digests.items()]
        one, other = next(pair for pair in pairs if pair[0] != pair[1])
        warn(
            f"{same} of {len(digests)} files have the same content as another one, for instance "
            f"{one} and {other}: they count as different items; give them the same path"
        )
    return digests


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
        return value.tobytes() if isinstance(value, np.ndarray) else str(value).encode()
    if isinstance(value, bytes):
        return value
    if hasattr(value, "getbands"):  # a picture of PIL, whose repr has an address
        return f"{value.mode} {value.size} ".encode() + value.tobytes()
    return str(value).encode(errors="surrogatepass")


# -- rows ------------------------------------------------------------------------------------------


def _is_listed(column: Any) -> bool:
    """Return True for a column of lists of captions."""
    return isinstance(column, np.ndarray) and column.ndim == 1 and isinstance(column[0], list)


def _exploded(
    values: dict[str, Any], listed: list[str]
) -> tuple[dict[str, Any], NDArray[np.int64] | None]:
    """Return one row per caption, and the row of the table that each comes from.

    The latter is None if no view has lists of captions.
    """
    if not listed:
        return values, None
    if len(listed) > 1:
        raise ValueError(f"only one view may have several entries per row, got {', '.join(listed)}")
    lists = values[listed[0]]
    row = np.repeat(np.arange(len(lists)), [len(entry) for entry in lists])
    made = {name: None if name in listed else column[row] for name, column in values.items()}
    made[listed[0]] = objects(caption for entry in lists for caption in entry)
    return made, row


def _refuse_different(column: Any, keys: NDArray[Any], name: str, view: str) -> None:
    """Raise a ValueError if rows with the same key have different items."""
    if isinstance(column, Ragged):
        return
    codes = _codes(keys)
    first = np.unique(codes, return_index=True)[1]
    own = column[first[codes]]
    if column.ndim == 1:
        differs = np.array([not _same(a, b) for a, b in zip(own, column)], dtype=bool)
    else:
        differs = (own != column).reshape(len(column), -1).any(axis=1)
    if differs.any():
        at = int(np.flatnonzero(differs)[0])
        raise ValueError(
            f"rows with the same {name!r} must have the same {view}, but row {at} (counted from "
            f"0), with {str(keys[at])!r}, differs from row {int(first[codes[at]])}"
        )


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return bool(np.array_equal(one, other))
    return bool(one is other or one == other)


def _warn_of_repeats(values: Mapping[str, Any], items: NDArray[Any] | None, name: str) -> None:
    """Warn of rows that say the same as an earlier one."""
    columns = [column for column in values.values() if _are_strings(column)]
    if len(columns) < len(values):
        columns = [] if items is None else [items, *columns]
    if not columns:
        return
    n = len(columns[0])
    same = n - len({hash(row) for row in zip(*columns)})
    if same:
        warn(
            f"{name}: {same} of {n} rows repeat the pair of an earlier row; they are kept, and "
            "weigh more than others"
        )


def parts_of(column: NDArray[Any] | None, n: int) -> Iterator[tuple[str, Any]]:
    """Yield the splits and their rows."""
    if column is None:
        yield "all", slice(None)
        return
    names = column.astype(str)
    for part in dict.fromkeys(names.tolist()):
        yield part, np.flatnonzero(names == part)


def _refuse_straddling(keys: NDArray[Any], parts: NDArray[Any], name: str) -> None:
    home: dict[str, str] = {}
    for key, part in zip(map(str, keys), map(str, parts)):
        if home.setdefault(key, part) != part:
            raise ValueError(
                f"{name} {key!r} is in the splits {home[key]!r} and {part!r}: test rows would "
                "be known from training"
            )


def labels_of(
    column: NDArray[Any], classes: Sequence[str] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return labels, or an indicator matrix if the entries are lists, and the class names."""
    indicator = _indicator(column)
    if indicator is not None and (classes is None or len(classes) == indicator.shape[1]):
        names = classes or map(str, range(indicator.shape[1]))
        return indicator, tuple(names)
    if column.ndim > 1:
        column = objects(row.tolist() for row in column)
    lists = any(_is_sequence(entry) for entry in column)
    if classes is not None:
        by_code = dict(enumerate(classes))
        column = objects(
            [by_code[code] for code in entry] if _is_sequence(entry) else by_code.get(entry)
            for entry in column
        )
    if lists:
        rows = [[str(one).strip() for one in ([] if _is_empty(row) else row)] for row in column]
        found = tuple(classes or sorted({name for row in rows for name in row if name}))
        place = {name: k for k, name in enumerate(found)}
        y = np.zeros((len(rows), len(found)), dtype=np.int64)
        for i, row in enumerate(rows):
            y[i, [place[name] for name in row if name]] = 1
        return y, found
    if classes is not None:
        code = {name: k for k, name in enumerate(classes)}
        return np.array([code.get(name, -1) for name in column], np.int64), tuple(classes)
    return class_labels(column)


def _indicator(column: NDArray[Any]) -> NDArray[np.int64] | None:
    """Return rows of 0 and 1 of one length as an indicator matrix, else None."""
    if column.ndim == 1:
        if not all(isinstance(entry, np.ndarray) and entry.ndim == 1 for entry in column):
            return None
        if len({len(entry) for entry in column}) > 1:
            return None
        column = np.stack(list(column))
    right = column.ndim == 2 and column.dtype.kind in "biuf" and np.isin(column, (0, 1)).all()
    return column.astype(np.int64) if right else None


def class_labels(
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


def _codes(keys: Iterable[Any]) -> NDArray[np.int64]:
    first: dict[str, int] = {}
    return np.fromiter((first.setdefault(str(key), len(first)) for key in keys), dtype=np.int64)


def _views(
    values: Mapping[str, Any],
    items: Mapping[str, NDArray[Any]],
    at: Any,
    channels: Mapping[str, tuple[str, ...]],
) -> Views:
    """Return Views of some rows, in which rows with equal entries in `items` share an item."""
    made, index = {name: column[at] for name, column in values.items()}, {}
    for name, keys in items.items():
        index[name] = _codes(keys[at])
        made[name] = made[name][np.unique(index[name], return_index=True)[1]]
    views = Views.from_items(made, index=index)
    if not channels:
        return views
    return views.with_channels(**channels).map(
        lambda part, name: part.rename({own: own[len(name) + 1 :] for own in part.names}),
        *channels,
    )


def own_card(
    name: str,
    maker: str,
    splits: Mapping[str, Split],
    modalities: tuple[str, ...] = ("image", "text"),
) -> DatasetCard:
    """Return the card of a data set of the user's own pairs."""
    y = next(iter(splits.values())).y
    return DatasetCard(
        api=API,
        name=name,
        target=f"crossfit.datasets.{maker}",
        summary=f"own pairs: {name}",
        modalities=modalities,
        labels="none" if y is None else "multi" if y.ndim == 2 else "single",
        counts={name: len(split) for name, split in splits.items()},
    )
