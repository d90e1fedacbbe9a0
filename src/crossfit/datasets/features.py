"""Folders of features that `crossfit.embedding.embed` writes, read as data sets."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit.cards import API, DatasetCard
from crossfit.datasets.opening import open_table
from crossfit.datasets.record import Dataset, Split, content_hash
from crossfit.datasets.text_tables import open_csv
from crossfit.datasets.vectors import VECTOR, read_vectors
from crossfit.views import Ragged, Views

__all__ = ["FORMAT", "LABELS", "MANIFEST", "PAIRS", "is_features", "items_of_view",
           "manifest_of", "read_features", "rows_of_view"]  # fmt: skip

MANIFEST = "features.json"
PAIRS = "pairs.csv"
LABELS = "labels.npy"
FORMAT = 1


def is_features(folder: str | os.PathLike[str]) -> bool:
    """Return True for a folder that `crossfit.embedding.embed` has written."""
    return (Path(folder) / MANIFEST).is_file()


def manifest_of(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the manifest of a folder of features, checked.

    Raises
    ------
    ValueError
        If it is damaged or of a newer format, or a file that it names is missing or of another
        size.
    """
    path = Path(folder) / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        number, views = found["format"], found["views"]
        files = [
            (str(file["name"]), int(file["size"])) for view in views.values()
            for file in view["files"]
        ]  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}); embed the pairs again") from None
    if number != FORMAT:
        raise ValueError(
            f"{str(path)!r} has the format {number}, this version of crossfit reads {FORMAT}"
        )
    for name, size in files:
        file = Path(folder) / name
        if Path(name).name != name or not file.is_file() or file.stat().st_size != size:
            raise ValueError(
                f"{str(folder)!r} is not complete: {name} must have {size:,} bytes; embed the "
                "pairs again"
            )
    return dict(found)


def read_features(folder: str | os.PathLike[str]) -> Dataset:
    """Build a data set from a folder that `crossfit.embedding.embed` has written.

    Parameters
    ----------
    folder : path
        The folder.

    Returns
    -------
    Dataset
        With the splits, groups and labels of the pairs. Features in one file are a memory map.

    Raises
    ------
    ValueError
        If the folder is damaged or not complete.
    """
    folder = Path(folder)
    manifest = manifest_of(folder)
    values = {view: rows_of_view(folder, manifest, view) for view in manifest["views"]}
    try:
        table = open_csv(folder / PAIRS)
        columns = table.read(table.names)
        index = {view: columns[view].astype(np.int64) for view in values}
        part_of, groups = columns["split"], columns["group"].astype(np.int64)
        y = None
        if manifest["labels"]:
            y = np.load(folder / LABELS, allow_pickle=False)
        splits = {
            name: _split(values, index, groups, y, np.flatnonzero(part_of == name))
            for name in dict.fromkeys(part_of.tolist())
        }
    except (KeyError, IndexError) as error:
        raise ValueError(f"{str(folder)!r} is damaged: {error}; embed the pairs again") from None
    name = manifest["name"]
    card = DatasetCard(
        api=API,
        name=name,
        target="crossfit.datasets.features:read_features",
        summary=f"features of own pairs: {name}",
        modalities=tuple(values),
        labels="none" if y is None else "multi" if y.ndim == 2 else "single",
        counts={part: len(split) for part, split in splits.items()},
    )
    names = manifest["labels"]
    revision = content_hash(folder / MANIFEST, folder / PAIRS)
    return Dataset(card, splits, tuple(names) if isinstance(names, list) else None, revision)


def rows_of_view(folder: Path, manifest: Mapping[str, Any], view: str) -> Any:
    """Return the features of the items of a view, or the items themselves if it has none."""
    files = [str(folder / file["name"]) for file in manifest["views"][view]["files"]]
    if not files:
        return np.array(items_of_view(folder, manifest, view), dtype=object)
    if files[0].endswith(".parquet"):
        return read_vectors(files, VECTOR)
    try:
        parts = [np.lib.format.open_memmap(file, mode="r") for file in files]
    except ValueError as error:
        raise ValueError(f"{files[0]!r} does not hold features: {error}") from None
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if offsets := manifest["views"][view].get("offsets"):
        return Ragged(rows, np.load(folder / Path(offsets).name, allow_pickle=False))
    return rows


def items_of_view(folder: Path, manifest: Mapping[str, Any], view: str) -> list[str] | None:
    """Return the paths or texts that the features of a view were made from, if it had any."""
    name = manifest["views"][view].get("items")
    if name is None:
        return None
    column = manifest["views"][view].get("column", "item")
    found: list[str] = open_table(folder / Path(name).name).read([column])[column].tolist()
    return found


def _split(
    values: Mapping[str, Any],
    index: Mapping[str, NDArray[np.int64]],
    groups: NDArray[np.int64],
    y: NDArray[Any] | None,
    rows: NDArray[np.int64],
) -> Split:
    own = {view: index[view][rows] for view in values}
    alone = {view: np.array_equal(at, at[0] + np.arange(len(at))) for view, at in own.items()}

    def taken(view: str, at: NDArray[np.int64]) -> Any:
        """Return rows, as part of the memory map if they follow one another."""
        if len(at) and np.array_equal(at, at[0] + np.arange(len(at))):
            return values[view][int(at[0]) : int(at[0]) + len(at)]
        return values[view][at]

    shared = [view for view in own if not alone[view]]
    if len(own) == 2 and len(shared) == 1:
        (view,) = shared
        (other,) = (name for name in own if name != view)
        items, inverse = np.unique(own[view], return_inverse=True)
        views = Views.from_captions(
            taken(view, items), taken(other, own[other]), inverse, names=(view, other)
        ).select(*own)
    else:
        views = Views({view: taken(view, at) for view, at in own.items()})
    return Split(views.with_groups(groups[rows]), None if y is None else y[rows])
