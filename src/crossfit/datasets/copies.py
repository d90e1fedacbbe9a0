"""Checks of local copies of data sets: the splits that are there, and the missing files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossfit import registry
from crossfit.cards import DatasetCard
from crossfit.datasets.loading import GROUP, folder_of, load, options_of
from crossfit.datasets.record import Dataset, MissingFilesError
from crossfit.views import n_rows

__all__ = ["Part", "check_copy"]


@dataclass(frozen=True)
class Part:
    """A split of a local copy: its size, or what is wrong with it.

    Parameters
    ----------
    way : str
        The way to split the data set, a value of ``split`` in `crossfit.datasets.load`.
    name : str
        Name of the split; empty if the problem concerns all.
    rows : int
        Number of rows.
    items : mapping of str to int
        Number of distinct items of each view.
    problem : str
        The error of the loader, or empty.
    missing : tuple of str
        All files that it named as missing.
    """

    way: str
    name: str
    rows: int = 0
    items: Mapping[str, int] | None = None
    problem: str = ""
    missing: tuple[str, ...] = ()


def check_copy(
    name: str,
    root: str | os.PathLike[str] | None = None,
    split: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[Path | None, list[Part]]:
    """Load the splits of a data set one by one, and collect what is missing.

    Parameters
    ----------
    name : str
        Name of an installed data set.
    root, split
        As in `crossfit.datasets.load`; by default all ways to split it are checked.
    options : mapping of str to object, optional
        Options of the loader.

    Returns
    -------
    folder : pathlib.Path or None
        Folder of the copy; None if the data set is part of a distribution.
    parts : list of Part

    Raises
    ------
    FileNotFoundError
        If there is no folder.
    ValueError, TypeError, crossfit.registry.RegistryError
        If the data set, the split or an option does not exist.
    """
    card: DatasetCard = registry.get(name, GROUP)
    folder = None if card.embedded else folder_of(card, root)
    ways = card.splits if split is None else (split,)
    found = [part for way in ways for part in _parts(card, name, root, way, dict(options or {}))]
    return folder, found


def _parts(
    card: DatasetCard,
    name: str,
    root: str | os.PathLike[str] | None,
    way: str,
    options: dict[str, Any],
) -> Iterator[Part]:
    try:
        yield from _described(load(name, root, split=way, **options), way)
        return
    except (ImportError, TypeError):
        raise
    except (OSError, ValueError) as error:
        whole = _problem(way, "", error)
    known = options_of(registry.load(name, GROUP)) or []
    if "subsets" in options or "subsets" not in known:
        yield whole
        return
    # Each split needs its own files only.
    for part in card.counts:
        try:
            yield from _described(load(name, root, split=way, subsets=(part,), **options), way)
        except (OSError, ValueError) as error:
            if "subsets of data set" in str(error):  # not a split of this way
                yield whole
                return
            yield _problem(way, part, error)


def _described(ds: Dataset, way: str) -> Iterator[Part]:
    for name, split in ds.splits.items():
        views = split.views
        items = {view: n_rows(views.distinct(view)[0]) for view in views.names}
        yield Part(way, name, len(split), items)


def _problem(way: str, name: str, error: Exception) -> Part:
    missing = error.names if isinstance(error, MissingFilesError) else ()
    return Part(way, name, problem=str(error), missing=missing)
