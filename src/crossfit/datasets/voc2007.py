"""PASCAL VOC2007 (Everingham et al., IJCV 2010): photographs with several labels each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossfit.datasets.cards import VOC2007 as CARD
from crossfit.datasets.record import (
    Dataset,
    Split,
    check_counts,
    choose_subsets,
    content_hash,
    read_lines,
    require,
    stamps,
)
from crossfit.views import Views

KIT = "VOCdevkit/VOC2007"
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
COUNTS = {
    "official": CARD.counts,
    "train-val-test": {"train": 2501, "val": 2510, "test": CARD.counts["test"]},
}


def load(
    root: Path,
    split: str = "official",
    *,
    subsets: Iterable[str] | None = None,
    strict: bool = True,
) -> Dataset:
    """Load VOC2007.

    Parameters
    ----------
    root : path
        Folder with ``VOCdevkit/VOC2007/JPEGImages`` and ``VOCdevkit/VOC2007/ImageSets/Main``,
        where ``<class>_<split>.txt`` lists whether each picture contains the class.
    split : {"official", "train-val-test"}, default="official"
        ``"official"`` has ``trainval`` and ``test``; the other ``train``, ``val`` and ``test``.
    subsets : iterable of str, optional
        Splits to load.
    strict : bool, default=True
        Whether to check the official counts.

    Returns
    -------
    Dataset
        One view, ``image``: paths of the pictures, in the order of the official lists. ``y`` is
        an indicator (n, 20) of the classes. ``info`` contains ``image_id``, and ``difficult``,
        (n, 20): True where the official lists have 0, because all objects of the class in the
        picture are hard to recognise. ``y`` is 0 there, and the official evaluation of the class
        ignores the picture.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a list is malformed, or the counts differ.
    """
    chosen = choose_subsets(subsets, COUNTS[split], CARD)
    lists = {
        (name, cls): f"{KIT}/ImageSets/Main/{cls}_{name}.txt" for name in chosen for cls in CLASSES
    }
    paths = dict(zip(lists, require(root, *lists.values(), card=CARD)))
    require(root, f"{KIT}/JPEGImages", card=CARD)
    splits = {}
    hashed: list[str | Path] = list(paths.values())
    for name in chosen:
        ids, states = _read_lists({cls: paths[name, cls] for cls in CLASSES})
        if strict:
            check_counts({name: len(ids)}, COUNTS[split], CARD)
        pictures = [f"{KIT}/JPEGImages/{one}.jpg" for one in ids]
        hashed += stamps(root, pictures, CARD)
        splits[name] = Split(
            Views(image=[str(root / picture) for picture in pictures]),
            (states == 1).astype(np.int64),
            {"image_id": np.array(ids, dtype=object), "difficult": states == 0},
        )
    return Dataset(CARD, splits, CLASSES, content_hash(split, *hashed))


def _read_lists(paths: dict[str, Path]) -> tuple[list[str], NDArray[np.int64]]:
    """Return ids, and states -1, 0 or 1 by id and class; every class must list the same ids."""
    ids: list[str] = []
    columns = []
    for path in paths.values():
        rows = [line.split() for line in read_lines(path) if line.strip()]
        for number, row in enumerate(rows, 1):
            if len(row) != 2 or row[1] not in ("-1", "0", "1"):
                raise ValueError(
                    f"{path.name}, row {number}: expected a picture's id and -1, 0 or 1, got "
                    f"{' '.join(row)!r}"
                )
        ids = ids or [row[0] for row in rows]
        if [row[0] for row in rows] != ids:
            raise ValueError(
                f"{path.name} does not list the same pictures as {next(iter(paths.values())).name}"
            )
        columns.append([int(row[1]) for row in rows])
    return ids, np.array(columns, dtype=np.int64).T
