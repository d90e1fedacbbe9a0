"""Why an item was found: what its score consists of, what was attended to, what is like it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
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

__all__ = ["End", "Ends", "Parts", "contributions", "explain"]

_DIRECTIONS = 5
_ALIKE = 5
_WORDS = 24
_PRODUCTS = ("cosine", "dot", "correlation")
_DISTANCES = ("l2", "l1")
# Items at the end of a dimension whose words are counted, and words of an end.
_END = 24
_NAMES = 4
_NO_WORDS = ("path", "split")
# The nearest items of a point this far out are those that lie most in its direction.
_FAR = 100.0


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


class End(NamedTuple):
    """One end of a dimension of the common space.

    Parameters
    ----------
    ids : list of str
        The items of the gallery that lie most in this direction.
    words : list of str
        Words of the texts of such items that those at the other end do not have.
    """

    ids: list[str]
    words: list[str]


class Ends:
    """The ends of the dimensions of the common space, as the items of a gallery show them.

    They are found when they are needed first, and kept until the gallery changes.

    Parameters
    ----------
    searcher : Searcher
        The model.
    gallery : Searchable
        What is searched.
    """

    def __init__(self, searcher: Searcher, gallery: Searchable) -> None:
        self._gallery = gallery
        scorer: Any = searcher.scorer
        embeds = isinstance(scorer, RetrievalScorer)
        self._measure = _measure_of(scorer.similarity_) if embeds else None
        self._version = gallery.version
        self._known: dict[int, tuple[End, End]] = {}

    def of(self, numbers: Sequence[int], n_dimensions: int) -> list[tuple[End, End]]:
        """Return the positive and the negative end of dimensions.

        Parameters
        ----------
        numbers : sequence of int
            The dimensions, from 0.
        n_dimensions : int
            Their number in the common space.

        Returns
        -------
        list of (End, End)
            Without items and words if vectors are compared by a measure that has no ends.
        """
        if self._measure not in (*_PRODUCTS, "l2"):
            return [(End([], []), End([], []))] * len(numbers)
        if self._version != self._gallery.version:
            self._version, self._known = self._gallery.version, {}
        unknown = [at for at in numbers if at not in self._known]
        if unknown:
            along = np.zeros((2 * len(unknown), n_dimensions), np.float32)
            length = _FAR if self._measure == "l2" else 1.0
            along[np.arange(len(unknown)), unknown] = length
            along[len(unknown) + np.arange(len(unknown)), unknown] = -length
            # The two ends of a small gallery have no items in common.
            most = max(1, min(_END, len(self._gallery) // 2))
            found = self._gallery.search(along, self._gallery.view, most, None)
            ids = [[hit.id for hit in hits] for hits in found]
            for at, positive, negative in zip(unknown, ids, ids[len(unknown) :]):
                here, there = (self._counted(names) for names in (positive, negative))
                self._known[at] = (
                    End(positive[:_ALIKE], _distinctive(here, there)),
                    End(negative[:_ALIKE], _distinctive(there, here)),
                )
        return [self._known[at] for at in numbers]

    def _counted(self, names: list[str]) -> Counter[str]:
        """Return in how many items each word occurs."""
        texts = [
            " ".join(
                entry
                for name, entry in (row or {}).items()
                if isinstance(entry, str) and name not in _NO_WORDS
            )
            for row in self._gallery.rows(names)
        ]
        if self._gallery.kind == "text":
            items = self._gallery.items(names)
            texts = [f"{item} {text}" for item, text in zip(items, texts)]
        return Counter(word for text in texts for word in _distinct_words(text))


def explain(
    searcher: Searcher,
    gallery: Searchable,
    ends: Ends,
    value: Any,
    view: str,
    name: str,
    features: Any = None,
) -> dict[str, Any]:
    """Return why an item of the gallery was found.

    Parameters
    ----------
    searcher : Searcher
        The model.
    gallery : Searchable
        What is searched.
    ends : Ends
        The ends of the dimensions.
    value : object
        The query: a text, pixels, or samples of a sound with their rate.
    view : str
        The view of the query.
    name : str
        Name of the item.
    features : array of one row, optional
        Those of the query, if they are known.

    Returns
    -------
    dict
        ``score`` and ``rest`` as in `Parts`, or None; ``directions`` that add most to a product, or
        to a distance, each with ``number``, ``part``, ``towards``, its end on the side of the item,
        and ``away``, the other one; ``words`` of the query with the ``change`` of the score that
        each makes; ``attention``, a list of ``words`` or ``regions`` with their ``weight`` as
        shares of the largest; ``alike``, the ids of the items that are closest to this one.
    """
    found: dict[str, Any] = {
        "score": None, "rest": None, "dimensions": 0, "directions": [], "words": [],
        "attention": _attention(searcher, value, view, gallery.items([name])[0], gallery.view),
        "alike": [],
    }  # fmt: skip
    item = _rows(gallery.features([name]))
    if searcher.embeds:
        alike = gallery.search(item, gallery.view, _ALIKE + 1, None)[0]
        found["alike"] = [hit.id for hit in alike if hit.id != name][:_ALIKE]
        if features is None:
            features = searcher.features(_column([value]), view)
        query = _rows(features)
        parts = contributions(searcher.scorer, query[0], view, item[0], gallery.view)
        if parts is not None:
            found |= {"score": parts.score, "rest": parts.rest, "dimensions": len(parts.parts)}
            found["directions"] = _directions(searcher, parts, item[0], ends)
    if isinstance(value, str) and (found["score"] is not None or view != gallery.view):

        def scores(texts: list[str]) -> list[float]:
            rows = searcher.features(_column(texts), view)
            if found["score"] is None:
                scored = searcher.scorer.score_items(rows, view, item, gallery.view)
                return [float(score) for score in np.asarray(scored)[:, 0]]
            split = [
                contributions(searcher.scorer, row, view, item[0], gallery.view)
                for row in _rows(rows)
            ]
            return [parts.score for parts in split if parts is not None]

        found["words"] = _words(value, scores)
    return found


def _directions(searcher: Searcher, parts: Parts, item: Any, ends: Ends) -> list[dict[str, Any]]:
    """Return the dimensions that add most to a score, or to a distance."""
    scorer: Any = searcher.scorer
    distance = (_measure_of(scorer.similarity_) or "") in _DISTANCES
    order = np.argsort(parts.parts if distance else -parts.parts, kind="stable")[:_DIRECTIONS]
    numbers = [int(at) for at in order]
    return [
        {
            "number": at + 1,
            "part": float(parts.parts[at]),
            "towards": negative if item[at] < 0 else positive,
            "away": positive if item[at] < 0 else negative,
        }
        for at, (positive, negative) in zip(numbers, ends.of(numbers, len(item)))
    ]


def _distinct_words(text: str) -> list[str]:
    return list(dict.fromkeys(re.findall(r"[^\W\d_]{3,}", text.casefold())))


def _distinctive(here: Counter[str], there: Counter[str]) -> list[str]:
    """Return the words of several items here that are rare there, the most frequent first."""
    surplus = {word: n - there[word] for word, n in here.items() if n > 1 and n >= 2 * there[word]}
    return sorted(surplus, key=lambda word: -surplus[word])[:_NAMES]


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


def _words(text: str, scores: Callable[[list[str]], list[float]]) -> list[dict[str, Any]]:
    """Return the words of a text, and by how much the score falls without each of them."""
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    if not 2 <= len(spans) <= _WORDS:
        return []
    without = [f"{text[:begin]}{text[end:]}".strip() for begin, end in spans]
    whole, *changed = scores([text, *without])
    return [
        {"word": text[begin:end], "change": whole - score}
        for (begin, end), score in zip(spans, changed)
    ]


def _attention(
    searcher: Searcher, value: Any, view: str, item: Any, item_view: str
) -> list[dict[str, Any]]:
    """Return what a method with ``explain`` attends to in a query and an item of another view."""
    model = searcher.model if searcher.second is None else searcher.second
    steps, last = answering(model)
    # A scorer compares what the method before it encoded.
    parts = [step for step in (*steps, last) if not isinstance(step, RetrievalScorer)]
    if view == item_view or not parts or not hasattr(parts[-1], "explain"):
        return []
    *steps, last = parts
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
