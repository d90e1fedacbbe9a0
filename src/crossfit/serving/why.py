"""Why an item was found: what its score consists of, what was attended to, what is like it."""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossfit.extraction import grid_boxes
from crossfit.querying import answering
from crossfit.retrieval import RetrievalScorer
from crossfit.retrieval.hubs import HubCorrection
from crossfit.serving.gallery import Searchable
from crossfit.serving.searcher import Searcher
from crossfit.similarities import MEASURES
from crossfit.views import Views

__all__ = ["Parts", "contributions", "explain"]

_DIRECTIONS = 5
_ALIKE = 5
_WORDS = 24
_PRODUCTS = ("cosine", "dot", "correlation")


class Parts(NamedTuple):
    """A score as a sum over the dimensions of the common space.

    Parameters
    ----------
    score : float
        The score.
    parts : array of shape (n_components,)
        What each dimension adds to it.
    rest : float
        What is not of one dimension: the correction of a hub, or the entropy of a divergence.
        ``parts.sum() + rest`` is the score.
    """

    score: float
    parts: NDArray[np.float64]
    rest: float


def contributions(
    scorer: Any, query: Any, query_view: str, item: Any, item_view: str
) -> Parts | None:
    r"""Return a score as a sum over the dimensions of the common space.

    A product of unit, centred or plain rows is the sum of the products of their entries. A distance
    is decomposed as :math:`\|p-q\| = \sum_d (p_d-q_d)^2 / \|p-q\|`.

    Parameters
    ----------
    scorer : RetrievalScorer
        Fitted.
    query, item : array-like of shape (n_components,)
        Rows of the common space.
    query_view, item_view : str
        Their views. Two rows of one view are compared without the correction of hubs.

    Returns
    -------
    Parts or None
        None if the similarity is not one of `crossfit.similarities.MEASURES`, or a hub correction
        of one.
    """
    if not isinstance(scorer, RetrievalScorer):
        return None
    similarity = scorer.similarity_
    corrects = isinstance(similarity, HubCorrection)
    measure = _measure_of(similarity)
    if measure is None:
        return None
    names = list(scorer.views_in_)
    one, other = (np.array(row, np.float64, ndmin=2) for row in (query, item))
    if names.index(query_view) > names.index(item_view):
        one, other = other, one
    prepared = MEASURES[measure]
    left, right = prepared.left(one)[0], prepared.right(other)[0]
    rest = 0.0
    if measure == "l2":
        parts = -((left - right) ** 2) / max(float(np.linalg.norm(left - right)), 1e-300)
    elif measure == "l1":
        parts = -np.abs(left - right)
    else:
        parts = left * right
    if measure in ("kl", "kl_reversed"):
        rest, parts = float(parts[0]), parts[1:]
    score = float(parts.sum()) + rest
    if corrects and query_view != item_view:
        rows = (np.array(row, np.float32, ndmin=2) for row in (query, item))
        q, g = rows
        corrected = float(scorer.score_items(q, query_view, g, item_view)[0, 0])
        score, rest = corrected, corrected - float(parts.sum())
    return Parts(score, parts, rest)


def explain(
    searcher: Searcher, gallery: Searchable, value: Any, view: str, name: str
) -> dict[str, Any]:
    """Return why an item of the gallery was found.

    Parameters
    ----------
    searcher : Searcher
        The model.
    gallery : Searchable
        What is searched.
    value : object
        The query: a text, pixels, or samples of a sound with their rate.
    view : str
        The view of the query.
    name : str
        Name of the item.

    Returns
    -------
    dict
        ``score`` and ``rest`` as in `Parts`, or None; ``directions`` that add most, each with
        ``number``, ``part`` and ``ids``, the items of the gallery at its end; ``words`` of the
        query with the ``change`` of the score that each makes; ``attention``, a list of ``words``
        or ``regions`` with their ``weight`` as shares of the largest; ``alike``, the ids of the
        items that are closest to this one.
    """
    found: dict[str, Any] = {
        "score": None, "rest": None, "dimensions": 0, "directions": [], "words": [],
        "attention": _attention(searcher, value, view, gallery.items([name])[0], gallery.view),
        "alike": [],
    }  # fmt: skip
    if not searcher.embeds:
        return found
    query, item = _rows(searcher.features(_column([value]), view)), _rows(gallery.features([name]))
    alike = gallery.search(item, gallery.view, _ALIKE + 1, None)[0]
    found["alike"] = [hit.id for hit in alike if hit.id != name][:_ALIKE]
    parts = contributions(searcher.scorer, query[0], view, item[0], gallery.view)
    if parts is None:
        return found
    found |= {"score": parts.score, "rest": parts.rest, "dimensions": len(parts.parts)}
    order = np.argsort(-parts.parts, kind="stable")[:_DIRECTIONS]
    ends = _ends(searcher, gallery, item[0], order)
    found["directions"] = [
        {"number": int(at) + 1, "part": float(parts.parts[at]), "ids": ids}
        for at, ids in zip(order, ends)
    ]
    if isinstance(value, str):
        found["words"] = _words(searcher, value, view, item, gallery.view, parts.score)
    return found


def _measure_of(similarity: Any) -> str | None:
    if isinstance(similarity, HubCorrection):
        return similarity.measure
    words = getattr(similarity, "keywords", None) or {}
    measure = words.get("measure")
    return measure if measure in MEASURES else None


def _column(values: list[Any]) -> Any:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


def _rows(values: Any) -> NDArray[Any]:
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values)


def _ends(searcher: Searcher, gallery: Searchable, item: Any, order: Any) -> list[list[str]]:
    """Return the items of the gallery that lie most along directions, on the side of an item."""
    scorer: Any = searcher.scorer
    measure = _measure_of(scorer.similarity_)
    if measure not in _PRODUCTS:
        return [[] for _ in order]
    along = np.zeros((len(order), len(item)), np.float32)
    along[np.arange(len(order)), order] = np.where(item[order] < 0, -1, 1)
    return [[hit.id for hit in hits] for hits in gallery.search(along, gallery.view, _ALIKE, None)]


def _words(
    searcher: Searcher, text: str, view: str, item: Any, item_view: str, score: float
) -> list[dict[str, Any]]:
    """Return the words of a text, and by how much the score falls without each of them."""
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    if not 2 <= len(spans) <= _WORDS:
        return []
    without = [f"{text[:begin]}{text[end:]}".strip() for begin, end in spans]
    rows = _rows(searcher.features(_column(without), view))
    changed = [contributions(searcher.scorer, row, view, item[0], item_view) for row in rows]
    return [
        {"word": text[begin:end], "change": score - parts.score}
        for (begin, end), parts in zip(spans, changed)
        if parts is not None
    ]


def _attention(
    searcher: Searcher, value: Any, view: str, item: Any, item_view: str
) -> list[dict[str, Any]]:
    """Return what a method with ``explain`` attends to in a query and an item of another view."""
    model = searcher.model if searcher.second is None else searcher.second
    steps, last = answering(model)
    # A scorer compares what the method before it encoded.
    *steps, last = [step for step in (*steps, last) if not isinstance(step, RetrievalScorer)]
    if view == item_view or not hasattr(last, "explain"):
        return []
    views = Views({view: _column([value]), item_view: _column([item])})
    for step in steps:
        views = step.transform(views)
    explained = last.explain(views)
    found = []
    for name in explained.names:
        weights = explained[name][[0]]
        info = getattr(weights, "info", {})
        matrix = np.atleast_2d(np.asarray(weights[0], np.float64))
        found += _maps(matrix, info, name if name in (view, item_view) else "")
    return found


def _maps(weights: NDArray[np.float64], info: Any, view: str) -> list[dict[str, Any]]:
    """Return shares of words and regions from weights, as far as their places are known."""
    columns = weights.mean(axis=0)
    words = [str(word) for word in info.get("words", ())]
    boxes = info.get("boxes")
    if boxes is None and not (words and len(words) == len(columns)):
        side = math.isqrt(len(columns))
        shape = info.get("grid", (side, side))
        boxes = grid_boxes(*(int(n) for n in shape))
    found: list[dict[str, Any]] = []
    for labels, share in ((words, columns), (words, weights.mean(axis=1))):
        if labels and len(labels) == len(share) > 1 and np.ptp(share) > 0:
            scaled = share / max(float(np.abs(share).max()), 1e-12)
            found.append(
                {"view": view, "words": [[word, float(w)] for word, w in zip(labels, scaled)]}
            )
            break
    if boxes is not None and len(boxes) == len(columns) > 1:
        scaled = columns / max(float(np.abs(columns).max()), 1e-12)
        regions = [[*map(float, box), float(w)] for box, w in zip(np.asarray(boxes), scaled)]
        found.append({"view": view, "regions": regions})
    return found
