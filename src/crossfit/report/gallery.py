"""The retrieval gallery: queries with the items that a method found for them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossfit.experiment.records import CellRecord
from crossfit.labels import is_unlabelled
from crossfit.report.format import (
    clipped,
)
from crossfit.report.pictures import data_uri, is_picture

__all__ = ["Found", "Gallery", "GalleryRow", "can_be_shown", "galleries"]

#: Queries of each kind in a gallery.
_HITS, _FAILURES = 3, 3
#: Default number of items per query: pictures stand in one line, texts have one each.
_PICTURES, _TEXTS = 9, 5


@dataclass(frozen=True)
class Found:
    """One item that a query found.

    Parameters
    ----------
    text : str
        The item's text, or the caption of its picture.
    picture : str
        A data URI, or empty.
    verdict : {"pair", "relevant", "wrong"}
        The paired item itself, another of the same class, or neither.
    """

    text: str
    picture: str
    verdict: str


@dataclass(frozen=True)
class GalleryRow:
    """A query with what it found, best first, and the rank of its first relevant item."""

    text: str
    picture: str
    rank: float
    found: Sequence[Found]


@dataclass(frozen=True)
class Gallery:
    """Queries of one direction with what they found.

    Parameters
    ----------
    title : str
        Heading.
    rows : sequence of GalleryRow
        The queries.
    own : str
        The item that the rank belongs to: "own picture".
    note : str
        How the queries were chosen.
    """

    title: str
    rows: Sequence[GalleryRow]
    own: str
    note: str = ""


def galleries(cell: CellRecord, test: Any, names: Any, items: int | None = None) -> list[Gallery]:
    """Return the galleries of a cell: hits and worst failures in each direction.

    Parameters
    ----------
    cell : CellRecord
        A cell that is done.
    test : Split
        Its test split.
    names : sequence of str or None
        Names of the classes.
    items : int, optional
        Items per query, at most those that the store has; by default 9 pictures or 5 texts.
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
        n = np.isfinite(first).sum()  # the others have nothing to find
        own = "own" if cell.relevant.get("first", "pair") == "pair" else "first relevant"
        for kind, queries, note in (
            ("hits", chosen, f"Drawn at random (seed 0) from the {len(hits)} of {n} queries "
             "whose first item is relevant."),
            ("worst failures", worst, "The queries with the largest rank of a relevant item."),
        ):  # fmt: skip
            rows = []
            for q in queries.tolist():
                answers = [(*shown[gallery](item), verdict(q, item)) for item in top[q].tolist()]
                pictures = bool(answers[0][1])
                answers = answers[: items or (_PICTURES if pictures else _TEXTS)]
                text, picture = shown[query](q)
                found_ = [Found(words, pixels, said) for words, pixels, said in answers]
                rows.append(GalleryRow(text, picture, float(first[q]), found_))
            if rows:
                title = f"{direction.label}: {kind}"
                found.append(Gallery(title, rows, f"{own} {gallery}", note))
    return found


def verdicts(test: Any, query: str, gallery: str) -> Any:
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
    """Return what shows an item of a view: its text and its picture, as far as there are any."""
    values, _ = test.views.distinct(name)
    rows = test.views.first_rows(name)

    def shower(item: int) -> tuple[str, str]:
        value = values[item]
        label = ""
        if test.y is not None and np.ndim(test.y) == 1:
            y = test.y[rows[item]]
            label = "" if is_unlabelled(y) else str(y if classes is None else classes[int(y)])
        if isinstance(value, str):
            path = Path(value)
            if is_picture(value):
                return known_as(test, rows[item], name) or path.stem, data_uri(path)
            return clipped(path.name if os.sep in value and path.is_file() else value), ""
        words = known_as(test, rows[item], name) or f"{name} {item + 1}"
        picture = data_uri(value) if is_picture(value) else ""
        return f"{words}, {label}" if label else words, picture

    return shower


def known_as(test: Any, row: int, view: str) -> str:
    """Return the name of a row in the data set: one of that view before any other."""
    named = {key: values for key, values in test.info.items() if isinstance(values[row], str)}
    order = sorted(named, key=lambda key: (view not in key, list(named).index(key)))
    return clipped(str(named[order[0]][row])) if order else ""
