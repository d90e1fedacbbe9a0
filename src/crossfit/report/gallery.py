"""The retrieval gallery: queries with the items that a method found for them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossfit._packed import is_file
from crossfit._pictures import data_uri, is_picture
from crossfit.experiment.records import CellRecord
from crossfit.labels import is_unlabelled
from crossfit.report.format import (
    clipped,
)

__all__ = [
    "Found",
    "Gallery",
    "GalleryRow",
    "can_be_shown",
    "describer",
    "galleries",
    "shower",
    "verdicts",
]

#: Number of queries of each kind in a gallery.
_HITS, _FAILURES = 3, 3
#: Default number of items per query; pictures share a line, and every text has its own.
_PICTURES, _TEXTS = 9, 5


@dataclass(frozen=True)
class Found:
    """An item that was retrieved for a query.

    Parameters
    ----------
    text : str
        Text of the item, or the caption of its picture.
    picture : str
        A data URI, or empty.
    verdict : {"pair", "relevant", "wrong"}
        Whether it is the paired item, another item of the same class, or neither.
    label : str, default=""
        Class of a text; that of a picture follows its own text.
    """

    text: str
    picture: str
    verdict: str
    label: str = ""


@dataclass(frozen=True)
class GalleryRow:
    """A query with the retrieved items, best first, and the rank of its first relevant item."""

    text: str
    picture: str
    rank: float
    found: Sequence[Found]
    label: str = ""


@dataclass(frozen=True)
class Gallery:
    """Queries of one direction with the retrieved items.

    Parameters
    ----------
    title : str
        Heading.
    rows : sequence of GalleryRow
        The queries.
    own : str
        Name of the item whose rank is shown: "own picture".
    note : str, default=""
        Note on how the queries were chosen.
    """

    title: str
    rows: Sequence[GalleryRow]
    own: str
    note: str = ""


def galleries(cell: CellRecord, test: Any, names: Any, items: int | None = None) -> list[Gallery]:
    """Return the galleries of a cell, with hits and worst failures in each direction.

    Parameters
    ----------
    cell : CellRecord
        A cell that is done.
    test : Split
        The test split of the cell.
    names : sequence of str or None
        Names of the classes.
    items : int, optional
        Number of items per query, up to the number that is stored; by default 9 pictures or 5
        texts.

    Returns
    -------
    list of Gallery
    """
    arrays = cell.arrays()
    rng = np.random.RandomState(0)
    found = []
    for direction in cell.directions:
        query, gallery = direction.query, direction.gallery
        top = arrays.get(f"{direction}|top")
        first = arrays.get(f"{direction}|first")
        if top is None or first is None:
            continue
        verdict = verdicts(test, query, gallery)
        shown = {name: shower(test, name, names) for name in (query, gallery)}
        hits = np.flatnonzero(first <= 1)
        chosen = rng.permutation(hits)[:_HITS]
        late = np.flatnonzero(first > 1)
        worst = late[np.argsort(-first[late], kind="stable")][:_FAILURES]
        n = np.isfinite(first).sum()  # the other queries do not have a relevant item
        own = "own" if cell.relevant.get("first", "pair") == "pair" else "first relevant"
        for kind, queries, note in (
            ("hits", chosen, f"Drawn at random (seed 0) from the {len(hits)} of {n} queries "
             "whose first item is relevant."),
            ("worst failures", worst, "Queries whose first relevant item has the largest rank."),
        ):  # fmt: skip
            rows = []
            for q in queries.tolist():
                answers = []
                for item in top[q].tolist():
                    text, picture, label = shown[gallery](item)
                    answers.append(Found(text, picture, verdict(q, item), label))
                answers = answers[: items or (_PICTURES if answers[0].picture else _TEXTS)]
                text, picture, label = shown[query](q)
                rows.append(GalleryRow(text, picture, float(first[q]), answers, label))
            if rows:
                title = f"{direction.label}: {kind}"
                found.append(Gallery(title, rows, f"{own} {gallery}", note))
    return found


def verdicts(test: Any, query: str, gallery: str) -> Any:
    """Return a function of a query and an item that returns the verdict on the item."""
    pairs = test.views.relevance(query, gallery)
    labels = None
    if test.y is not None:
        labels = [test.views.item_labels(name, test.y) for name in (query, gallery)]

    def verdict(q: int, item: int) -> str:
        if item in pairs.indices[pairs.indptr[q] : pairs.indptr[q + 1]]:
            return "pair"
        if labels is None:
            return "wrong"
        a, b = labels[0][q], labels[1][item]
        same = bool((a * b).any()) if np.ndim(a) else bool(a == b and not is_unlabelled(a))
        return "relevant" if same else "wrong"

    return verdict


def can_be_shown(test: Any, name: str) -> bool:
    """Return True if items of a view are texts or pictures."""
    value = test.views.distinct(name)[0][0]
    return isinstance(value, str) or is_picture(value)


def shower(test: Any, name: str, classes: Any) -> Any:
    """Return a function that returns text, picture and class of an item, each empty if missing.

    A picture has its name in the data set, or else its own text, followed by its class.
    """
    describe = describer(test, name, classes)

    def shower(item: int) -> tuple[str, str, str]:
        value, words, label = describe(item)
        picture = data_uri(value) if is_picture(value) else ""
        if isinstance(value, str) and not picture:
            return words, "", label
        return f"{words}, {label}" if label else words, picture, ""

    return shower


def describer(test: Any, name: str, classes: Any) -> Any:
    """Return a function that returns an item itself, its text or name, and its class.

    Parameters
    ----------
    test : Split
        The pairs.
    name : str
        A view.
    classes : sequence of str or None
        Names of the classes.
    """
    values, _ = test.views.distinct(name)
    rows = test.views.first_rows(name)

    def describe(item: int) -> tuple[Any, str, str]:
        value = values[item]
        label = ""
        if test.y is not None and np.ndim(test.y) == 1:
            y = test.y[rows[item]]
            label = "" if is_unlabelled(y) else str(y if classes is None else classes[int(y)])
        if isinstance(value, str):
            path = Path(value)
            if not is_picture(value):
                text = path.name if os.sep in value and path.is_file() else value
                return value, clipped(text), label
        words = name_of(test, rows[item], name)
        if is_picture(value):
            words = words or own_text(test, rows[item], name)
            words = words or (Path(value).stem if isinstance(value, str) else "")
        return value, words or f"{name} {item + 1}", label

    return describe


def own_text(test: Any, row: int, view: str) -> str:
    """Return the first text that is paired with an item of a view; empty if there is none."""
    for name in test.views.names:
        values, row_to_item = test.views.distinct(name)
        value = values[row_to_item[row]]
        if name != view and isinstance(value, str) and not (os.sep in value and is_file(value)):
            return clipped(value)
    return ""


def name_of(test: Any, row: int, view: str) -> str:
    """Return the name of a row in the data set, preferably in that view; empty if there is none."""
    named = {key: values for key, values in test.info.items() if isinstance(values[row], str)}
    order = sorted(named, key=lambda key: (view not in key, list(named).index(key)))
    return clipped(str(named[order[0]][row])) if order else ""
