"""The embedded data set: emoji pictures with their keywords, in the classes of Unicode.

``build.py`` builds ``images.npz`` and ``table.csv`` from two published packages; LICENCES.md lists
their authors and licences.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crossfit.datasets.record import Dataset

CATEGORIES = (
    "Smileys & Emotion",
    "People & Body",
    "Animals & Nature",
    "Food & Drink",
    "Travel & Places",
    "Activities",
    "Objects",
    "Symbols",
)
IMAGES = "images.npz"
TABLE = "table.csv"


def load(
    root: Path | None = None, split: str = "official", *, subsets: Iterable[str] | None = None
) -> Dataset:
    """Load the emoji set.

    1,636 pictures of 64 x 64 pixels with the keywords of each as text. Words that name a
    category are removed from the texts, because they would reveal the label. Near-duplicates
    (professions by gender, clock faces, phases of the moon, keycaps, coloured squares) are one
    group, which is never divided between splits.

    Parameters
    ----------
    root : path, optional
        Not used: the set is part of crossfit.
    split : {"official"}, default="official"
        About 70 % for training, 10 % for validation and 20 % for testing, stratified by class.
    subsets : iterable of str, optional
        Splits to load, of ``"train"``, ``"val"`` and ``"test"``.

    Returns
    -------
    Dataset
        Views ``image``, uint8 of shape (n, 64, 64, 3) on white, and ``text``, keywords separated
        by commas; labels 0 to 7. In ``info``: ``short_name``, ``unicode`` (code points in
        hexadecimal) and ``group``, numbered over the whole set (``views.groups`` starts at 0 in
        each split).
    """
    import csv
    import io

    import numpy as np

    from crossfit.datasets.cards import EMOJI
    from crossfit.datasets.record import Dataset, Split, choose_subsets, content_hash
    from crossfit.views import Views

    chosen = choose_subsets(subsets, EMOJI.counts, EMOJI)
    folder = resources.files(__package__)
    table, packed = (folder / TABLE).read_bytes(), (folder / IMAGES).read_bytes()
    rows = list(csv.DictReader(io.StringIO(table.decode())))
    column = {name: np.array([row[name] for row in rows], dtype=object) for name in rows[0]}
    with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
        images = archive["image"]
    labels = np.array([CATEGORIES.index(name) for name in column["category"]])
    groups = column["group"].astype(np.int64)
    splits = {}
    for name in chosen:
        at = np.flatnonzero(column["split"] == name)
        splits[name] = Split(
            Views(image=images[at], text=column["text"][at]).with_groups(groups[at]),
            labels[at],
            {"group": groups[at], **{key: column[key][at] for key in ("short_name", "unicode")}},
        )
    return Dataset(EMOJI, splits, CATEGORIES, content_hash(table, packed, split))
