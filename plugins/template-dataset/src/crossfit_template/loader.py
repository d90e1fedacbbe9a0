"""The loader: from the files as their authors distribute them to a Dataset."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from crossfit import Views
from crossfit.datasets.record import (
    Dataset,
    Split,
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
        The one that its authors made.
    subsets : iterable of str, optional
        Splits to load, of ``"train"`` and ``"test"``; only their files are needed.
    strict : bool, default=True
        Compare with the official counts.

    Returns
    -------
    Dataset
        Views ``image``, paths, and ``text``, captions; labels 0 to 2.

    Raises
    ------
    FileNotFoundError
        If a file is missing; the message says which.
    ValueError
        If there are more or fewer items than there should be.
    """
    chosen = choose_subsets(subsets, TEMPLATE.counts, TEMPLATE)
    tables = require(root, *(f"{name}.tsv" for name in chosen), card=TEMPLATE)
    splits, pictures = {}, []
    for name, table in zip(chosen, tables):
        with table.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        names = [f"images/{row['image']}" for row in rows]
        pictures += stamps(root, names, TEMPLATE)  # names the pictures that are missing
        views = Views(
            image=[str(root / name) for name in names], text=[row["caption"] for row in rows]
        )
        splits[name] = Split(views, np.array([CLASSES.index(row["class"]) for row in rows]))
    if strict:
        check_counts({name: len(part) for name, part in splits.items()}, TEMPLATE.counts, TEMPLATE)
    # Of everything that was read, and of how it was split: results are keyed by it.
    revision = content_hash(*tables, *pictures, split)
    return Dataset(TEMPLATE, splits, CLASSES, revision)
