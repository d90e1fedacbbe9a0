"""Protocols: the attributes by which crossfit recognises scorers, indexes and trained weights.

`crossfit.similarity`, `crossfit.search`, the retrieval scorers, tuning and the runner accept
methods, pipelines and re-rankers alike, because all of them have the attributes defined here. A
class that has these attributes is accepted too; it need not inherit from a class of crossfit.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from crossfit.similarities import Out, Scores, Similarity
from crossfit.views import Views

__all__ = ["Indexed", "PairScorer", "Scorer", "Weighted"]


@runtime_checkable
class Scorer(Protocol):
    """A part that scores items of one view against items of another.

    Methods (`crossfit.CrossModalEstimator`), `crossfit.RetrievalScorer` and
    `crossfit.retrieval.Reranker` are scorers. A fitted scorer also has ``views_in_``, a mapping
    whose values are the names of its views in order.
    """

    one_way: bool
    """True if the query determines which pairs are scored, so that the scores of one direction are
    not the transpose of those of the other."""

    def fitted_views(self, X: Views) -> Views:
        """Return the views that the scorer was fitted on, in the order of the fit.

        Parameters
        ----------
        X : Views
            The views passed to the scorer, which may include others.
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
        """Compute the scores of queries of one view and items of another.

        Parameters
        ----------
        queries : array-like of n rows
            Items of the view `query`.
        query : str
            Name of the view of the queries.
        gallery : array-like of m rows
            Items of the view `view`.
        view : str
            Name of the view of the gallery.
        chunk_size, out
            As in `CrossModalEstimator.similarity`.

        Returns
        -------
        float32 array of shape (n, m)
            The scores.
        """
        ...


@runtime_checkable
class PairScorer(Scorer, Protocol):
    """A scorer that can prepare items once and then score any pairs of them."""

    def prepared(
        self, queries: Any, query: str, gallery: Any, view: str
    ) -> tuple[Any, Any, Similarity]:
        """Return prepared queries, the prepared gallery and a function that scores their rows.

        Parameters
        ----------
        queries, query, gallery, view
            As in `score_items`.

        Returns
        -------
        queries, gallery : objects with rows
            The prepared items.
        similarity : callable
            Function of two sets of rows. Its first argument are rows of the view that comes first
            in ``views_in_``, even if the queries are of the other view.
        """
        ...


@runtime_checkable
class Indexed(Protocol):
    """A scorer that contains a gallery: its items and the name of their view."""

    index_: tuple[Any, str]
    """Items of the gallery, and the name of their view."""


@runtime_checkable
class Weighted(Protocol):
    """An extractor whose features depend on weights that were trained elsewhere.

    The identifier of the weights is part of the keys of the feature cache and of the cells of an
    experiment, so that results of other weights are not mixed up. Authors of extractors override
    ``_weights_id`` (see the plugin API).
    """

    def _weights_id(self) -> str:
        """Return an identifier of the weights, such as their SHA-256; empty without weights."""
        ...
