"""Galleries: the items that a search looks through, with what is known of each of them."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crossfit._arguments import one_of, shown, validated
from crossfit._frames import frame_of
from crossfit._html import Items, html_table, text_of
from crossfit._packed import file_size
from crossfit.datasets.columns import Table
from crossfit.datasets.folders import METADATA, files_of
from crossfit.datasets.opening import header_of, open_table
from crossfit.datasets.pairs import has_shards
from crossfit.datasets.record import shortened
from crossfit.datasets.shards import open_shards, shards_of
from crossfit.datasets.tables import KNOWN_AS
from crossfit.datasets.text_types import typed
from crossfit.extraction.formats import PICTURE_SUFFIXES, SOUND_SUFFIXES

__all__ = ["Gallery", "read_gallery"]

#: Kind of items to the view that holds such items by default.
KINDS = {"picture": "image", "sound": "audio", "text": "text"}
_SUFFIXES = {"picture": PICTURE_SUFFIXES, "sound": SOUND_SUFFIXES}
_PLURAL = {"picture": "pictures", "sound": "sounds", "text": "texts"}


@dataclass(frozen=True, eq=False, repr=False)
class Gallery:
    """Items to search in.

    Parameters
    ----------
    items : list
        Paths of pictures or sounds, or texts.
    ids : list of str
        A different name for each item.
    columns : mapping of str to list, default={}
        What is known of the items: a column ``path`` of files, ``text`` of texts, and the other
        columns of a table.
    kind : {"picture", "sound", "text"}, default="text"
        Kind of the items.

    See Also
    --------
    read_gallery : Read one from a folder, a table or a list.

    Examples
    --------
    >>> Gallery(["a red heart"], ["0"]).rows([0])
    [{'id': '0'}]
    """

    items: list[Any]
    ids: list[str]
    columns: Mapping[str, list[Any]] = field(default_factory=dict)
    kind: str = "text"

    def __post_init__(self) -> None:
        if not isinstance(self.columns, Mapping):
            raise TypeError(
                "Gallery takes columns as a mapping from names to lists, got "
                f"{type(self.columns).__name__}"
            )
        if not (isinstance(self.kind, str) and self.kind in KINDS):
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {shown(self.kind)}")
        for name, part in {"items": self.items, "ids": self.ids, **self.columns}.items():
            if not isinstance(part, list):
                raise TypeError(f"{name} must be a list, got {type(part).__name__}")
            if len(part) != len(self.items):
                raise ValueError(
                    f"{name} must have one entry per item ({len(self.items)}), got {len(part)}"
                )

    def __len__(self) -> int:
        return len(self.items)

    def to_frame(self) -> Any:
        """Return the items as a pandas DataFrame; pandas must be installed.

        Returns
        -------
        pandas.DataFrame
            Columns ``id``, ``item`` and those of the gallery.
        """
        more = {name: part for name, part in self.columns.items() if name not in ("id", "item")}
        return frame_of({"id": self.ids, "item": self.items, **more})

    def _repr_html_(self) -> str:
        names = [name for name in self.columns if name not in ("id", "path", "text")]
        items = Items()
        rows = [
            (
                self.ids[i],
                items.shown(self.items[i]),
                *(text_of(self.columns[name][i]) for name in names),
            )
            for i in range(min(len(self), 5))
        ]
        caption = f"Gallery of {len(self)} {_PLURAL[self.kind]}: {len(rows)} of {len(self)} items"
        return html_table(caption, ("id", self.kind, *names), rows)

    def __repr__(self) -> str:
        columns = f", columns: {', '.join(self.columns)}" if self.columns else ""
        return f"Gallery({len(self)} {_PLURAL[self.kind]}{columns})"

    def rows(self, at: Sequence[int]) -> list[dict[str, Any]]:
        """Return what is known of some items.

        Parameters
        ----------
        at : sequence of int
            Their positions.

        Returns
        -------
        list of dict
            ``id``, and the entry of each column that is not empty.
        """
        return [
            {"id": self.ids[i]}
            | {
                name: part[i]
                for name, part in self.columns.items()
                if name != "id" and part[i] is not None and part[i] != ""
            }
            for i in at
        ]


@validated(
    source=[str, os.PathLike, list, tuple, np.ndarray],
    view=[str, None],
    kind=[one_of(*KINDS), None],
    column=[str, None],
)
def read_gallery(
    source: str | os.PathLike[str] | Sequence[str],
    view: str | None = None,
    kind: str | None = None,
    *,
    column: str | None = None,
) -> Gallery:
    """Read the items that a search looks through.

    Parameters
    ----------
    source : path or list of str
        A folder of pictures or sounds, with all folders below it; a table in any form that
        `crossfit.datasets.from_table` reads; tar shards; or a list of texts.
    view : str, optional
        Name of the view that the items belong to. The names ``image``, ``audio`` and ``text``
        decide the kind if it is not given, and a column with this name is preferred.
    kind : {"picture", "sound", "text"}, optional
        Kind of the items. By default that of `view`, or pictures if there are any, or sounds, or
        texts.
    column : str, optional
        Column of a table that has the items. By default that with the name of `view`, or the first
        of the usual names of columns of this kind.

    Returns
    -------
    Gallery
        A file that several rows of a table name is one item, with the other columns of the first of
        them. The identifiers are the column ``id`` of a table if its entries differ, or the path of
        a file relative to the folder or the table, or the number of the row. Columns of a CSV file
        whose entries are all numbers, booleans, dates or moments have these types, except numbers
        with zeros in front, such as 007.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or table, or files that the table names do not exist; the message
        has the first few.
    ValueError
        If there are no such items, a text is empty, or the table has no column of this kind.

    See Also
    --------
    crossfit.search : Search in the items.

    Examples
    --------
    >>> read_gallery(["a red heart", "a dog"]).ids
    ['0', '1']
    """
    kind = kind or next((name for name, own in KINDS.items() if own == view), None)
    if not isinstance(source, (str, os.PathLike)):
        return _of_texts(source, kind)
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"the gallery must be a folder or a table; there is no {source!r}")
    if path.is_dir():
        if described := [path / name for name in METADATA if (path / name).exists()]:
            return _of_table(open_table(described[0]), view, kind, column)
        if has_shards(path):
            return _of_table(open_shards(*shards_of(path)), view, kind, column)
        return _of_folder(path, kind)
    return _of_table(_opened(path), view, kind, column)


def names_for_others(ids: Sequence[str]) -> list[str]:
    """Return names that do not show where files are on this machine.

    Parameters
    ----------
    ids : sequence of str
        Names of the items of a gallery.

    Returns
    -------
    list of str
        Absolute paths are replaced by those from the folder that they have in common, or all names
        by the numbers of the rows if two would be the same; others are unchanged.
    """
    absolute = [name for name in ids if os.path.isabs(name)]
    if not absolute:
        return list(ids)
    try:
        common = os.path.commonpath([os.path.dirname(name) for name in absolute])
    except ValueError:  # on several drives
        return [str(row) for row in range(len(ids))]
    found = [
        Path(os.path.relpath(name, common)).as_posix() if os.path.isabs(name) else name
        for name in ids
    ]
    return found if len(set(found)) == len(found) else [str(row) for row in range(len(ids))]


def gallery_of_features(
    folder: str | os.PathLike[str], view: str, kind: str | None
) -> tuple[Gallery, Any]:
    """Return the items in a folder of `crossfit embed`, and their features.

    Parameters
    ----------
    folder : path
        The folder.
    view : str
        The view of the items.
    kind : {"picture", "sound", "text"} or None
        Their kind, if it is known.

    Returns
    -------
    gallery : Gallery
        With the columns of a table of the format parquet.
    vectors : ndarray or Ragged
        A row per item.
    """
    from crossfit.datasets.features import items_of_view, manifest_of, rows_of_view
    from crossfit.datasets.vectors import VECTOR

    manifest = manifest_of(folder)
    if view not in manifest["views"]:
        raise ValueError(
            f"{str(folder)!r} has no view {view!r}: it has {', '.join(manifest['views'])}"
        )
    written = manifest["views"][view]
    items = items_of_view(Path(folder), manifest, view)
    if items is None:
        raise ValueError(f"the items of {view!r} in {str(folder)!r} are neither files nor texts")
    table = open_table(Path(folder) / Path(written["items"]).name)
    names = [name for name in table.names if name not in ("path", "text", "item", VECTOR)]
    columns = {name: [_plain(entry) for entry in part] for name, part in table.read(names).items()}
    ids = [str(name) for name in columns.pop("id")]
    own = "text" if kind == "text" else "path"
    gallery = Gallery(items, ids, {own: items, **columns}, kind or "text")
    return gallery, rows_of_view(Path(folder), manifest, view)


def kind_of_file(path: str | os.PathLike[str]) -> str | None:
    """Return the kind that the suffix of a file stands for, or None.

    Parameters
    ----------
    path : path
        The file.
    """
    suffix = Path(path).suffix.lower()
    return next((kind for kind, ends in _SUFFIXES.items() if suffix in ends), None)


def _opened(path: Path) -> Table:
    if kind_of_file(path) is not None:
        raise ValueError(
            f"the gallery must be a folder or a table; {str(path)!r} is a {kind_of_file(path)}"
        )
    sep, _ = header_of(path)
    return open_table(path, sep)


def _of_texts(texts: Any, kind: str | None) -> Gallery:
    found = list(texts)
    if not found or not all(isinstance(text, str) for text in found):
        raise ValueError(
            "a gallery must be a folder, a table or a list of texts, got "
            + (shown(texts) if found else "an empty list")
        )
    if kind not in (None, "text"):
        raise ValueError(f"a gallery of {_PLURAL[str(kind)]} is a folder or a table, not a list")
    _refuse_empty(found)
    return Gallery(found, [str(i) for i in range(len(found))], {"text": found}, "text")


def _refuse_empty(texts: Sequence[Any]) -> None:
    empty = [str(i) for i, text in enumerate(texts) if text is None or not str(text).strip()]
    if empty:
        raise ValueError(
            f"the gallery has an empty text in {len(empty)} of {len(texts)} rows (counted from "
            f"0): {shortened(empty)}; fill them, or remove these rows"
        )


def _of_folder(folder: Path, kind: str | None) -> Gallery:
    found = sorted(files_of(folder))
    if kind == "text":
        raise ValueError(
            f"the gallery must have texts, but {str(folder)!r} is a folder; give a table with a "
            "column of texts"
        )
    by_kind = {
        each: [file for file in found if file.suffix.lower() in ends]
        for each, ends in _SUFFIXES.items()
    }
    chosen = kind or next((each for each, files in by_kind.items() if files), "picture")
    if not by_kind[chosen]:
        other = next((each for each, files in by_kind.items() if files), None)
        what = f"{len(by_kind[other])} {_PLURAL[other]}" if other else f"{len(found)} other files"
        raise ValueError(
            f"the gallery must have {_PLURAL[chosen]}, but the folder {str(folder)!r} has {what}"
        )
    ids = [file.as_posix() for file in by_kind[chosen]]
    items = [os.path.abspath(folder / file) for file in by_kind[chosen]]
    return Gallery(items, ids, {"path": items}, chosen)


def _of_table(table: Table, view: str | None, kind: str | None, column: str | None) -> Gallery:
    named = {name.strip().casefold(): name for name in reversed(table.names)}
    wanted = [column] if column else [*([view] if view else []), *_usual(kind)]
    own = next((named[name.casefold()] for name in wanted if name.casefold() in named), None)
    if own is None:
        what = _PLURAL[kind] if kind else "pictures, sounds or texts"
        raise ValueError(
            f"the gallery {table.name} has no column of {what}: expected "
            f"{' or '.join(map(repr, dict.fromkeys(wanted)))}, it has {', '.join(table.names)}"
        )
    kind = kind or next(
        (each for each, known in KINDS.items() if own.strip().casefold() in KNOWN_AS[known]), "text"
    )
    columns = table.read(table.names)
    entries = list(columns[own])
    if not entries:
        raise ValueError(f"the gallery {table.name} has no rows")
    if any(not isinstance(entry, str | None) for entry in entries):
        raise ValueError(f"column {own!r} of {table.name} must have texts or paths in every row")
    _refuse_empty(entries)
    kept = list(range(len(entries)))
    if kind == "text":
        items, ids = entries, [str(i) for i in kept]
    else:
        kept = list({entry: i for i, entry in reversed(list(enumerate(entries)))}.values())[::-1]
        ids = [entries[i] for i in kept]
        items = _located(table, ids)
    if (given := named.get("id")) is not None and given != own:
        names = [str(columns[given][i]) for i in kept]
        ids = names if len(set(names)) == len(names) else ids
    payload = {
        name: typed(part[kept].tolist()) if table.texts else [_plain(part[i]) for i in kept]
        for name, part in columns.items()
        if part.ndim == 1 and name not in (own, given)
    }
    # Last, because the table may have another column of this name.
    return Gallery(items, ids, {**payload, "text" if kind == "text" else "path": items}, kind)


def _usual(kind: str | None) -> list[str]:
    return [name for each, own in KINDS.items() if kind in (None, each) for name in KNOWN_AS[own]]


def _located(table: Table, entries: Sequence[str]) -> list[str]:
    """Return the paths of files that a table names, after checking that they exist."""
    found, missing = [], []
    for entry in entries:
        path = next(
            (
                path
                for name in (entry, entry.replace("\\", "/"))  # as written on Windows
                if file_size(path := os.path.abspath(table.folder / name)) is not None
            ),
            None,
        )
        if path is None:
            missing.append(entry)
        else:
            found.append(path)
    if missing:
        raise FileNotFoundError(
            f"the gallery {table.name} names {len(missing)} of {len(entries)} files that do not "
            f"exist: {shortened(missing)}; relative paths start at {str(table.folder)!r}"
        )
    return found


def _plain(value: Any) -> Any:
    """Return an entry of a table as JSON has it, or as a date or moment."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    kept = (str, int, float, bool, type(None), list, datetime.date)
    return value if isinstance(value, kept) else str(value)
