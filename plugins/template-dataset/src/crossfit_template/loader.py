"""The loader, which reads the files as distributed by their authors into a Dataset."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from crossfit import Views
from crossfit.datasets import Dataset, Split
from crossfit.datasets.record import (
    check_counts,
    choose_subsets,
    content_hash,
    require,
    stamps,
)
from crossfit_template.cards import TEMPLATE

__all__ = ["CLASSES", "load"]

CLASSES = ("animal", "plant", "thing")


def load(
    root: Path,
    split: str = "official",
    *,
    subsets: Iterable[str] | None = None,
    strict: bool = True,
) -> Dataset:
    """Load the data set.

    Parameters
    ----------
    root : path
        Folder that holds ``train.tsv`` and ``test.tsv``, each with the columns ``image``,
        ``caption`` and ``class``, and ``images/``.
    split : {"official"}, default="official"
        Name of the split; there is only the official one.
    subsets : iterable of str, optional
        Splits to load, of ``"train"`` and ``"test"``; only their files are needed.
    strict : bool, default=True
        Whether to check the official counts.

    Returns
    -------
    Dataset
        Views ``image``, paths, and ``text``, captions; labels 0 to 2.

    Raises
    ------
    FileNotFoundError
        If a file is missing; the message names it.
    ValueError
        If the number of items differs from the official counts.
    """
    chosen = choose_subsets(subsets, TEMPLATE.counts, TEMPLATE)
    tables = require(root, *(f"{name}.tsv" for name in chosen), card=TEMPLATE)
    splits, pictures = {}, []
    for name, table in zip(chosen, tables):
        with table.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        names = [f"images/{row['image']}" for row in rows]
        pictures += stamps(root, names, TEMPLATE)  # raises with the names of missing pictures
        views = Views(
            image=[str(root / name) for name in names], text=[row["caption"] for row in rows]
        )
        splits[name] = Split(views, np.array([CLASSES.index(row["class"]) for row in rows]))
    if strict:
        check_counts({name: len(part) for name, part in splits.items()}, TEMPLATE.counts, TEMPLATE)
    # A hash of everything that was read and of the split: results are stored under it.
    revision = content_hash(*tables, *pictures, split)
    return Dataset(TEMPLATE, splits, CLASSES, revision)
