"""Pairs in whatever form they are: what the commands read that take the path of a user's pairs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossfit._arguments import shown, validated
from crossfit.datasets.features import is_features, read_features
from crossfit.datasets.folders import METADATA, from_folder
from crossfit.datasets.opening import header_of
from crossfit.datasets.record import Dataset
from crossfit.datasets.tables import KNOWN_AS, default_views, from_table
from crossfit.datasets.webdataset import from_webdataset

__all__ = ["columns_read", "has_shards", "read_pairs"]

_PARTS = ("label", "group", "split")


@validated(source=[str, os.PathLike])
def read_pairs(source: str | os.PathLike[str], **options: Any) -> Dataset:
    """Build a data set from pairs in any form, with the columns of their usual names.

    Parameters
    ----------
    source : path
        A folder of features as ``crossfit embed`` writes it; a table as `from_table` reads it; tar
        shards, or a folder of them, as `from_webdataset` does; or another folder, as `from_folder`
        does. The columns ``label``, ``group`` and ``split`` of a table have these roles if it has
        them, in any case. If it has no columns of pictures or sounds and of texts with the names
        that `from_table` looks for, every other column is a view. The separator of a CSV file is
        seen from its header.
    **options
        Arguments of the function that reads this form, which replace these choices.

    Returns
    -------
    Dataset

    Raises
    ------
    FileNotFoundError, ValueError, ImportError, TypeError
        As in these functions.
    """
    path = Path(source)
    if is_features(path):
        if options:
            raise ValueError(
                f"{str(path)!r} has features, so that it has no {shown(next(iter(options)))}"
            )
        return read_features(path)
    if path.suffix.lower() == ".tar" or (path.is_dir() and has_shards(path)):
        return from_webdataset(source, **options)
    if path.is_dir():
        return from_folder(source, **options)
    if path.exists() and not path.is_file():  # opening a pipe would block
        raise ValueError(f"the table {str(path)!r} is not a regular file")
    return from_table(source, **{**_chosen(path, options), **options})


def columns_read(source: str | os.PathLike[str], **options: Any) -> dict[str, Any] | None:
    """Return the columns that `read_pairs` reads the views of a table from, by view.

    Parameters
    ----------
    source : path
        The pairs.
    **options
        Those of `read_pairs`.

    Returns
    -------
    dict of str to str or list of str, or None
        None if the pairs are not a table.
    """
    path = Path(source)
    if options.get("views"):
        return dict(options["views"])
    if path.is_dir() or path.suffix.lower() == ".tar":
        return None
    chosen = {**_chosen(path, options), **options}
    if "views" in chosen:
        return dict(chosen["views"])
    names = header_of(path)[1]
    return dict(default_views(names, chosen.get("image"), chosen.get("text")))


def _chosen(path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the header of a table stands for."""
    sep, header = header_of(path)
    names = {column.strip().casefold(): column.strip() for column in header}
    chosen: dict[str, Any] = {"sep": sep} | {part: part for part in _PARTS if part in names}
    usual = [any(name in names for name in KNOWN_AS[view]) for view in ("image", "audio", "text")]
    named = {"image", "text", "views"} & set(options)
    if not named and not (usual[2] and (usual[0] or usual[1])):
        chosen["views"] = {own: own for name, own in names.items() if name not in chosen}
    return chosen


def has_shards(folder: Path) -> bool:
    """Return True for a folder with tar files, in itself or one folder below, and no metadata."""
    if any((folder / name).exists() for name in METADATA):
        return False
    return any(next(folder.glob(pattern), None) for pattern in ("*.tar", "*/*.tar"))
