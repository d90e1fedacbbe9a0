"""Protocols: what crossfit needs of the part that scores, a method or what stands behind it.

`crossfit.similarity`, `crossfit.search`, the retrieval scorers, tuning and the runner take methods,
pipelines and re-rankers alike. What they have in common is written down here; a class takes part
by having these attributes, without inheriting anything but scikit-learn's BaseEstimator.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from crossfit.similarities import Out, Scores, Similarity
from crossfit.views import Views

__all__ = ["Indexed", "PairScorer", "Scorer"]


@runtime_checkable
class Scorer(Protocol):
    """A part that scores items of one view against items of another.

    Methods (`crossfit.CrossModalEstimator`), `crossfit.RetrievalScorer` and
    `crossfit.retrieval.Reranker` are scorers. A fitted one also has ``views_in_``, a mapping whose
    values are the names of its views in order.
    """

    one_way: bool
    """Whether the query decides which pairs are scored, so that the transpose of the scores of one
    direction is not the other direction's."""

    def fitted_views(self, X: Views) -> Views:
        """Return the views that the scorer was fitted on, in its order, out of those given.

        Parameters
        ----------
        X : Views
            As they reach the scorer.
        """
        ...

    def score_items(
        self,
        queries: Any,
        query: str,
        gallery: Any,
        view: str,
        chunk_size: int | None = None,
        out: Out = None,
    ) -> Scores:
        """Score items of the view `query` against items of the view `view`.

        Parameters
        ----------
        queries : array-like of n rows
            Items of one view.
        query : str
            The view of the queries.
        gallery : array-like of m rows
            Items of another view.
        view : str
            The view of the gallery.
        chunk_size, out
            As in `CrossModalEstimator.similarity`.

        Returns
        -------
        float32 array of shape (n, m)
        """
        ...


@runtime_checkable
class PairScorer(Scorer, Protocol):
    """A scorer that can prepare items once and then score any of their pairs."""

    def prepared(
        self, queries: Any, query: str, gallery: Any, view: str
    ) -> tuple[Any, Any, Similarity]:
        """Return prepared queries, the prepared gallery and a function that compares their rows.

        Parameters
        ----------
        queries, query, gallery, view
            As in `score_items`.

        Returns
        -------
        queries, gallery : objects with rows
        similarity : callable
            Takes rows of the view that comes earlier in ``views_in_`` first, whichever of the two
            holds the queries.
        """
        ...


@runtime_checkable
class Indexed(Protocol):
    """A scorer that holds a gallery: its items and the name of their view."""

    index_: tuple[Any, str]
