"""Similarity, encode and search for methods and pipelines alike."""

from __future__ import annotations

from numbers import Integral
from os import PathLike
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from crossfit._arguments import is_word, shown
from crossfit._arrays import as_array
from crossfit._frames import aligned, frame_of
from crossfit._html import Items, html_table, text_of
from crossfit.base import CrossModalEstimator
from crossfit.protocols import Indexed, Scorer
from crossfit.scoring import score_views
from crossfit.similarities import Out, Scores
from crossfit.views import Views, can_be_shown, is_views, n_rows

__all__ = [
    "SearchResult",
    "answering",
    "check_k",
    "encode",
    "search",
    "similarity",
    "top_k",
    "view_names",
]


class _Best(NamedTuple):
    indices: NDArray[np.int64]
    scores: Scores


class SearchResult(_Best):
    """Result of a search, best first: a pair of indices and scores, with what they stand for.

    Parameters
    ----------
    indices : int array of shape (n_queries, k)
        Row numbers in the gallery.
    scores : float32 array of shape (n_queries, k)
        Similarities; higher is better.
    items : array of shape (n_queries, k), optional
        The items themselves, if they are texts or paths.
    ids : array of shape (n_queries, k), optional
        The names of the items, if they were given.

    See Also
    --------
    search : Returns it.

    Examples
    --------
    >>> found = SearchResult([[1, 0]], [[0.9, 0.2]], items=[["a red heart", "a dog"]])
    >>> indices, scores = found
    >>> found.rows()[0]
    {'query': 0, 'rank': 1, 'index': 1, 'score': 0.9, 'item': 'a red heart'}
    """

    items: Any
    ids: Any
    #: The gallery, if it consists of pictures, which a notebook shows.
    _pictures: Any = None

    def __new__(cls, indices: Any, scores: Any, items: Any = None, ids: Any = None) -> Self:
        """Return the pair."""
        made = super().__new__(cls, indices, scores)
        made.items, made.ids = items, ids
        return made

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per query and item, in order.

        Returns
        -------
        list of dict
            ``query`` (row number), ``rank`` (from 1), ``index`` (row number in the gallery) and
            ``score``; ``id`` and ``item`` if there are any.
        """
        found = []
        for query, (indices, scores) in enumerate(zip(self.indices, self.scores)):
            for at, (index, score) in enumerate(zip(indices, scores)):
                row: dict[str, Any] = {"query": query, "rank": at + 1, "index": int(index)}
                if self.ids is not None:
                    row["id"] = self.ids[query][at]
                row["score"] = float(score)
                if self.items is not None:
                    row["item"] = self.items[query][at]
                found.append(row)
        return found

    def to_frame(self) -> Any:
        """Return the rows as a pandas DataFrame; pandas must be installed."""
        return frame_of(self.rows())

    def _repr_html_(self) -> str:
        n, k = np.shape(self.indices)
        n_shown, k_shown = min(n, 20), min(k, 10)
        items = Items()

        def hit(query: int, at: int) -> Any:
            index, score = self.indices[query][at], self.scores[query][at]
            name = index if self.ids is None else text_of(self.ids[query][at], 40)
            words = f"{name} ({score:.3f})"
            if self._pictures is not None:
                return items.shown(self._pictures[index], words)
            return words if self.items is None else items.shown(self.items[query][at], words)

        rows = [(query, *(hit(query, at) for at in range(k_shown))) for query in range(n_shown)]
        what = "rows of the gallery" if self.ids is None else "items of the gallery"
        cut = f", the best {k_shown} of {k}" if k_shown < k else ""
        caption = f"{n_shown} of {n} queries: {what}, with their scores{cut}"
        return html_table(caption, ("query", *(f"{i}." for i in range(1, k_shown + 1))), rows)

    def __repr__(self) -> str:
        n, k = np.shape(self.indices)
        rows: list[list[Any]] = []
        for query in range(min(n, 5)):
            row: list[Any] = ["query", query]
            for at in range(min(k, 3)):
                name = self.ids if self.ids is not None else self.items
                named = self.indices[query][at] if name is None else text_of(name[query][at], 30)
                row += [f"{at + 1}.", named, f"({self.scores[query][at]:.3f})"]
            rows.append(row)
        more = ["  ..."] if n > 5 else []
        return "\n".join([f"SearchResult({n} queries, k={k})", *aligned(rows), *more])


def _split(estimator: Any) -> tuple[list[Any], Any]:
    """Return the steps that transform, and the step that scores."""
    estimator = getattr(estimator, "best_estimator_", estimator)  # of a finished search
    if not isinstance(estimator, Pipeline):
        return [], estimator
    steps: list[Any] = []
    for _, step in estimator.steps:
        if isinstance(step, Pipeline):
            inner, last = _split(step)
            steps += [*inner, last]
        elif step is not None and step != "passthrough":
            steps.append(step)
    return (steps[:-1], steps[-1]) if steps else ([], estimator)


def answering(estimator: Any) -> tuple[list[Any], Scorer]:
    """Return the steps of a pipeline that transform, and the step that scores.

    Parameters
    ----------
    estimator : CrossModalEstimator, Pipeline or finished search
        Pipelines may be nested; a search stands for its best estimator.

    Returns
    -------
    steps : list of transformers
    last : Scorer

    Raises
    ------
    TypeError
        If the last step is not a `crossfit.protocols.Scorer`.
    """
    steps, last = _split(estimator)
    if isinstance(last, type) or not isinstance(last, Scorer):
        raise TypeError(
            "expected a CrossModalEstimator, or a Pipeline that ends in one or in a "
            f"RetrievalScorer, got {type(last).__name__}"
        )
    return steps, last


def similarity(
    estimator: Any,
    X: Any,
    Y: Any = None,
    *,
    query: str | None = None,
    gallery: str | None = None,
    chunk_size: int | None = None,
    out: Out = None,
) -> Scores:
    """Score every item of one modality against every item of another.

    Parameters
    ----------
    estimator : CrossModalEstimator or Pipeline
        Fitted. The last step of a pipeline scores; the steps before it transform.
    X, Y, query, gallery, chunk_size, out
        As in `CrossModalEstimator.similarity`. A pipeline requires Views as X.

    Returns
    -------
    float32 array of shape (n_query_items, n_gallery_items)
        Higher is better. `out` itself if it is an array, a read-only memory map if it is a file.

    Raises
    ------
    TypeError
        If `estimator` cannot score, or a pipeline does not receive Views alone.

    See Also
    --------
    search : The best items for each query.
    crossfit.similarities.pairwise_similarity : Similarities of rows of two arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views, similarity
    >>> from crossfit.methods import CCA
    >>> Z = np.random.default_rng(0).normal(size=(20, 3))
    >>> views = Views(image=Z, text=Z[:, ::-1])
    >>> scores = similarity(CCA().fit(views), views)
    >>> scores.shape, bool(np.all(scores.argmax(axis=1) == np.arange(20)))
    ((20, 20), True)
    """
    steps, last = answering(estimator)
    if not steps and isinstance(last, CrossModalEstimator):
        return last.similarity(X, Y, query=query, gallery=gallery, chunk_size=chunk_size, out=out)
    if not is_views(X) or Y is not None:
        raise TypeError(
            "a pipeline expects Views alone, got "
            + (f"{type(X).__name__} and {type(Y).__name__}" if Y is not None else type(X).__name__)
        )
    for step in steps:
        X = step.transform(X)
    return score_views(last, view_names(last), X, query, gallery, chunk_size, out)


def encode(estimator: Any, values: Any, view: str) -> Any:
    """Map one modality alone into the common space of a method or a pipeline.

    Parameters
    ----------
    estimator : CrossModalEstimator or Pipeline
        Fitted.
    values : array-like of n rows
        Items of one modality, as the estimator takes them.
    view : str
        Name of the view that they belong to.

    Returns
    -------
    array of shape (n, n_components)

    Raises
    ------
    TypeError
        If `estimator` is not a method with a common space or a pipeline of steps that transform.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views, encode
    >>> from crossfit.methods import CCA
    >>> Z = np.random.default_rng(0).normal(size=(20, 3))
    >>> method = CCA(n_components=2).fit(Views(image=Z, text=Z[:, ::-1]))
    >>> encode(method, Z[:5], "image").shape
    (5, 2)
    """
    steps, last = _split(estimator)
    for step in (*steps, last):
        transforms = all(callable(getattr(step, name, None)) for name in ("fit", "transform"))
        if isinstance(step, type) or not transforms:
            raise TypeError(
                "expected a method with a common space, or a Pipeline of steps that transform, "
                f"got {type(step).__name__}"
            )
    if not isinstance(view, str):
        raise TypeError(f"view must be the name of a view, got {shown(view)}")
    if not steps and isinstance(last, CrossModalEstimator):
        return last.encode(values, view)
    views = Views({view: values})
    for step in (*steps, last):
        views = step.transform(views)
    return views[view]


def search(
    estimator: Any,
    queries: Any,
    *,
    view: str,
    gallery: Any = None,
    gallery_view: str | None = None,
    ids: Any = None,
    k: int = 10,
) -> SearchResult:
    """Find the best items of another modality for each query.

    Parameters
    ----------
    estimator : CrossModalEstimator or Pipeline
        Fitted.
    queries : array-like of n rows
        Items of the view named by `view`.
    view : str
        The view of the queries.
    gallery : array-like of m rows, optional
        Items to search in. Default: the gallery passed to ``RetrievalScorer.index``.
    gallery_view : str, optional
        The view of the gallery; required if the estimator was fitted on more than two views.
    ids : array-like of shape (m,), optional
        Names of the items of the gallery, which the result then has too.
    k : int, default=10
        Number of items to return per query; all items of a smaller gallery.

    Returns
    -------
    SearchResult
        ``indices`` into the gallery and ``scores``, both of shape (n, k), best first. Items with
        equal scores are in gallery order. Texts and paths are in ``items``.

    Raises
    ------
    ValueError, TypeError
        If a view is unknown, `gallery_view` is needed, there is no gallery, `k` is not a positive
        integer, `estimator` cannot score, a query is an empty text, or a single item is given in
        place of a list.

    See Also
    --------
    similarity : All scores.
    crossfit.RetrievalScorer.index : Set the gallery of a pipeline.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views, search
    >>> from crossfit.methods import CCA
    >>> Z = np.random.default_rng(0).normal(size=(20, 3))
    >>> method = CCA().fit(Views(image=Z, text=Z[:, ::-1]))
    >>> found = search(method, Z[4:6], view="image", gallery=Z[:, ::-1], k=3)
    >>> found.indices[:, 0].tolist()
    [4, 5]
    """
    check_k(k)
    steps, last = answering(estimator)
    names = view_names(last)
    check_independent(last)
    for name in (view, *([] if gallery_view is None else [gallery_view])):
        if not is_word(name, names):
            raise ValueError(f"no view {shown(name)}: the views of the fit are {', '.join(names)}")
    for given, what in ((queries, "queries"), (gallery, "gallery")):
        if is_views(given):
            raise TypeError(f"{what} must be the items of one view, got {type(given).__name__}")
        if isinstance(given, (str, bytes, PathLike)):
            raise TypeError(
                f"{what} must be a list of items, got {shown(given)}; write [{shown(given)}]"
            )
    found = Views({view: queries})
    texts = _texts(found[view])
    for row, query in enumerate(() if texts is None else texts):
        if not str(query).strip():
            raise ValueError(f"queries: row {row} is an empty text; leave it out")
    named: Any = None
    pictures: Any = None
    if gallery is None:
        if not isinstance(last, Indexed):
            raise ValueError(
                f"{type(last).__name__} has no gallery; pass gallery=, or end the pipeline in a "
                "RetrievalScorer and call its index(values, view)"
            )
        items, gallery_view = last.index_
    else:
        if gallery_view is None:
            others = [name for name in names if name != view]
            if len(others) != 1:
                raise ValueError(
                    f"gallery_view must name the view of the gallery, one of {', '.join(names)}"
                )
            gallery_view = others[0]
        items = Views({gallery_view: gallery})
        named = _texts(items[gallery_view])
        if named is None and can_be_shown(items[gallery_view]):
            pictures = items[gallery_view]
        for step in steps:
            items = step.transform(items)
        items = items[gallery_view]
    for step in steps:
        found = step.transform(found)
    names_of = None if ids is None else _ids(ids, n_rows(items))
    indices, scores = top_k(last.score_items(found[view], view, items, gallery_view), k)
    result = SearchResult(
        indices,
        scores,
        None if named is None else named[indices],
        None if names_of is None else names_of[indices],
    )
    result._pictures = pictures
    return result


def _texts(values: Any) -> NDArray[Any] | None:
    """Return the items of a view that are texts or paths, and None for others."""
    found = np.asarray(values) if isinstance(values, (list, np.ndarray)) else None
    if found is None or found.ndim != 1 or found.dtype.kind not in "OU":
        return None
    return found if all(isinstance(item, (str, PathLike)) for item in found.flat) else None


def _ids(ids: Any, n: int) -> NDArray[Any]:
    """Return the names of the items of a gallery, checked."""
    found = as_array(ids, "ids")
    if found.shape != (n,):
        raise ValueError(f"ids must name the {n} items of the gallery, got shape {found.shape}")
    return found


def view_names(last: Any) -> tuple[str, ...]:
    """Return the names of the views that a method or scorer was fitted on, in order.

    Parameters
    ----------
    last : Scorer
        A method, a RetrievalScorer or a Reranker.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    """
    check_is_fitted(last, "views_in_")
    return tuple(last.views_in_.values())


def top_k(scores: Scores, k: int) -> SearchResult:
    """Return the k best columns of each row, best first; equal scores in column order.

    Parameters
    ----------
    scores : array-like of shape (n_queries, n_gallery)
        Higher is better.
    k : int
        Number of columns; all if there are fewer.

    Returns
    -------
    SearchResult

    Raises
    ------
    ValueError
        If `scores` is not a numeric array of this shape, or `k` is not a positive integer.
    """
    check_k(k)
    scores = as_array(scores, "scores", numbers=True)
    if scores.ndim != 2 or scores.dtype.kind not in "biuf" or not scores.shape[1]:
        raise ValueError(
            f"scores must be numbers of shape (n_queries, n_gallery), got shape {scores.shape} of "
            f"type {scores.dtype}"
        )
    if scores.dtype.kind in "bu":  # negating them fails or wraps around
        scores = scores.astype(np.float64)
    n, m = scores.shape
    k = min(k, m)
    order = None
    if 4 * k < m:
        # Sort only the scores that reach the k-th best, ties included.
        least = np.partition(scores, m - k, axis=1)[:, m - k, None]
        rows, columns = np.nonzero(scores >= least)
        counts = np.bincount(rows, minlength=n)
        if n and counts.min() >= k:  # otherwise there are NaN
            best = columns[np.lexsort((-scores[rows, columns], rows))]
            starts = np.cumsum(counts) - counts
            order = best[starts[:, None] + np.arange(k)]
    if order is None:
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return SearchResult(order, np.take_along_axis(scores, order, axis=1))


def check_independent(last: Any) -> None:
    """Raise if the scores of a query depend on the other queries, as for a test set.

    Parameters
    ----------
    last : Scorer
        A fitted method, RetrievalScorer or Reranker.

    Raises
    ------
    ValueError
        If its similarity is transductive, such as ``"dual_softmax"``.

    Examples
    --------
    >>> from crossfit.methods import CCA
    >>> check_independent(CCA())
    """
    similarity = getattr(last, "similarity_", None)
    if getattr(similarity, "transductive", False):
        raise ValueError(
            f"{type(similarity).__name__} compares all queries of a test set with each other and "
            "cannot search for single ones; use nnn, csls or inverted_softmax"
        )


def check_k(k: Any) -> None:
    """Check that a number of results is a positive integer.

    Parameters
    ----------
    k : object
        As given by the user.

    Raises
    ------
    ValueError
        If it is not a positive integer.
    """
    if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
        raise ValueError(f"k must be an integer of at least 1, got {shown(k)}")
