"""RetrievalScorer: the last step of a pipeline, for ranking, scoring and search."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Self

from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import check_is_fitted

from crossfit._arguments import CheckedParameters, is_word, not_views, shown
from crossfit._warnings import warn_of_missing_labels
from crossfit.base import EncodedViews, ViewsTransformerMixin
from crossfit.metrics.names import parse_metric
from crossfit.querying import SearchResult, check_independent, check_k, top_k
from crossfit.retrieval.hubs import CORRECTIONS, HubCorrection
from crossfit.scoring import mean_over_directions, score_views
from crossfit.similarities import (
    Out,
    Scores,
    Similarity,
    check_chunk,
    fill_blocks,
    in_order,
    resolve,
    write_scores,
)
from crossfit.views import Views, is_tensor, n_rows

__all__ = ["RetrievalScorer"]


class RetrievalScorer(ViewsTransformerMixin, CheckedParameters, BaseEstimator):
    """Rank views in a common space by a similarity.

    Use it as the last step of a pipeline, after a method's transform, so that the similarity and
    the metric can be tuned like any other parameter.

    Parameters
    ----------
    similarity : str, callable or object, optional
        A name in `crossfit.similarities.MEASURES`; a hub correction, ``"nnn"``, ``"csls"``,
        ``"inverted_softmax"``, ``"qb_norm"`` or ``"dual_softmax"`` (see
        `crossfit.retrieval.HubCorrection`) with its defaults, or an object of its class; a callable
        ``(A, B) -> scores`` of shape (n, m), higher is better; or an object with ``fit(views, y)``
        that is called in the same way, for instance `crossfit.similarities.KNNPosterior`. A is
        always of the earlier view.
        By default, the similarity of the method whose ``transform`` returned the views in `fit`,
        so that the pipeline ranks as the method alone does, or the cosine if the views come from
        elsewhere or were changed by a later step.
    metric : str, default="auto"
        The metric that `score` returns, see `crossfit.metrics`; ``"auto"`` is mAP with labels and
        MRR of the paired item without.

    Attributes
    ----------
    views_in_ : dict of str to str
        Names of the views, in the order in `fit`.
    labelled_ : bool
        Whether `fit` was given labels.
    similarity_ : callable
        The fitted similarity; ``(A, B) -> scores`` with A of the earlier view.
    index_ : tuple
        The gallery set by `index`, and its view.

    See Also
    --------
    ExactIndex : An index of large galleries that is independent of a pipeline.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from crossfit import Views, search
    >>> from crossfit.methods import CCA
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal(size=(60, 3))
    >>> views = Views(image=Z @ rng.normal(size=(3, 8)), text=Z @ rng.normal(size=(3, 5)))
    >>> cca = CCA(n_components=3, reg=0.001)
    >>> pipe = make_pipeline(cca, RetrievalScorer("l2", metric="r@1")).fit(views)
    >>> pipe.score(views)
    1.0
    >>> search(pipe, views["image"][:2], view="image", gallery=views["text"], k=1).indices.tolist()
    [[0], [1]]
    """

    @property
    def one_way(self) -> bool:
        """True if the transpose of one direction's scores is not the other direction's."""
        return getattr(getattr(self, "similarity_", self._object()), "one_way", False)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "similarity": [str, callable, HasMethods("fit"), None],
        "metric": [str],
    }

    def __init__(self, similarity: str | Similarity | None = None, metric: str = "auto") -> None:
        self.similarity = similarity
        self.metric = metric

    def fit(self, X: Views, y: ArrayLike | None = None) -> Self:
        """Store the order of the views, and fit the similarity if it is fitted on training rows.

        Parameters
        ----------
        X : Views
            Views in the common space.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels of the rows.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If no similarity is given and that of the method needs more than rows of its common
            space.
        """
        self._validate_params()
        _require_views(X)
        self.similarity_ = resolve(self._chosen(X, y))
        order = X.order if isinstance(X, EncodedViews) else X.names
        self.views_in_ = {name: name for name in order if name in X}
        self.labelled_ = y is not None
        return self

    def _chosen(self, X: Views, y: ArrayLike | None) -> str | Similarity:
        if self.similarity is None:
            if not isinstance(X, EncodedViews):
                return "cosine"
            if X.similarity is None:
                raise TypeError(
                    "the method before RetrievalScorer compares more than rows of its common "
                    "space; set similarity=, or end the pipeline with the method"
                )
            return X.similarity
        similarity = self._object()
        if isinstance(similarity, str) or not hasattr(similarity, "fit"):
            return similarity
        fitted: Similarity = clone(similarity, safe=False).fit(X, y)
        return fitted

    def _object(self) -> Any:
        """Return the similarity, a new object for the name of a hub correction."""
        if isinstance(self.similarity, str) and self.similarity in CORRECTIONS:
            return CORRECTIONS[self.similarity]()
        return self.similarity

    def _validate_params(self) -> None:
        if self.similarity is not None and not is_word(self.similarity, CORRECTIONS):
            resolve(self.similarity)
        if not is_word(self.metric, ("auto",)):
            parse_metric(self.metric)
        super()._validate_params()

    def transform(self, X: Views) -> Views:
        """Return X as it is: the scorer maps nothing.

        Parameters
        ----------
        X : Views
            In the common space.
        """
        return X

    def compare(
        self,
        X: Views,
        *,
        query: str | None = None,
        gallery: str | None = None,
        chunk_size: int | None = None,
        out: Out = None,
    ) -> Scores:
        """Score every distinct item of one view against every distinct item of another.

        Parameters
        ----------
        X : Views
            Views in the common space.
        query, gallery : str, optional
            Names of the views; the first two views in `fit` by default.
        chunk_size : int, optional
            Number of rows and columns scored at a time.
        out : path or float32 array of shape (n_query_items, n_gallery_items), optional
            Destination of the scores, see `CrossModalEstimator.similarity`.

        Returns
        -------
        float32 array of shape (n_query_items, n_gallery_items)
        """
        check_is_fitted(self)
        _require_views(X)
        return score_views(self, tuple(self.views_in_), X, query, gallery, chunk_size, out)

    def fitted_views(self, X: Views) -> Views:
        """Return X as it is: all its views are in the common space.

        Parameters
        ----------
        X : Views
            In the common space.
        """
        return X

    def prepared(
        self, queries: Any, query: str, gallery: Any, view: str
    ) -> tuple[Any, Any, Similarity]:
        """Return queries and gallery, and the similarity that compares their rows.

        Parameters
        ----------
        queries, query, gallery, view
            As in `score_items`.

        Returns
        -------
        queries, gallery : array
            With what a hub correction adds to them.
        similarity : callable
            Takes rows of the view that was earlier in the fit first.

        See Also
        --------
        crossfit.protocols.PairScorer : What has this method.
        """
        if not isinstance(self.similarity_, HubCorrection):
            return queries, gallery, self.similarity_
        queries, gallery, block = self.similarity_.prepared(queries, query, gallery, view)
        return queries, gallery, partial(_turned, block) if self._later(query, view) else block

    def _later(self, query: str, view: str) -> bool:
        names = list(self.views_in_)
        return names.index(query) > names.index(view)

    def score_items(
        self,
        queries: Any,
        query: str,
        gallery: Any,
        view: str,
        chunk_size: int | None = None,
        out: Out = None,
    ) -> Scores:
        """Score rows of the view `query` against rows of the view `view`.

        Parameters
        ----------
        queries : array of shape (n, n_components)
            Items of one view.
        query : str
            The view of the queries.
        gallery : array of shape (m, n_components)
            Items of another view.
        view : str
            The view of the gallery.
        chunk_size, out
            As in `compare`.

        Returns
        -------
        float32 array of shape (n, m)
            A tensor for two tensors and a plain similarity.

        Raises
        ------
        ValueError
            If there is no such view.
        TypeError
            If a hub correction is given a tensor that is not on the CPU.
        """
        names = list(self.views_in_)
        for name in (query, view):
            if not is_word(name, names):
                raise ValueError(
                    f"no view {shown(name)}: the views of the fit are {', '.join(names)}"
                )

        queries, gallery = (
            Views({name: values})[name] for name, values in ((query, queries), (view, gallery))
        )

        shape = n_rows(queries), n_rows(gallery)
        if isinstance(self.similarity_, HubCorrection):
            for values in (queries, gallery):
                if is_tensor(values) and values.device.type != "cpu":
                    raise TypeError(
                        f"{type(self.similarity_).__name__} corrects hubs in NumPy, got a tensor "
                        f"on {values.device}; pass it by cpu(), or use a plain similarity"
                    )
            given = queries, query, gallery, view, check_chunk(chunk_size)
            return write_scores(partial(self.similarity_.fill, *given), shape, out)
        queries, gallery, similarity = self.prepared(queries, query, gallery, view)
        if out is None and is_tensor(queries) and is_tensor(gallery):
            turned = self._later(query, view)
            return in_order(similarity, queries, gallery, turned, chunk_size)

        def fill(scores: Scores) -> None:
            if self._later(query, view):
                fill_blocks(similarity, gallery, queries, chunk_size, scores.T)
            else:
                fill_blocks(similarity, queries, gallery, chunk_size, scores)

        return write_scores(fill, shape, out)

    def score(self, X: Views, y: ArrayLike | None = None) -> float:
        """Rank X against itself (never against the fitted rows) and return the metric.

        Parameters
        ----------
        X : Views
            Views in the common space.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels of the rows; without them only the paired item is relevant.

        Returns
        -------
        float
            The mean over both directions of every pair of views.
        """
        check_is_fitted(self)
        _require_views(X)
        metric = None if self.metric == "auto" else self.metric
        if y is None and getattr(self, "labelled_", False):  # bundles of 0.1.0 lack it
            warn_of_missing_labels("RetrievalScorer")
        return mean_over_directions(self, X, y, metric)

    def index(self, values: NDArray[Any], view: str) -> Self:
        """Set the gallery for `search`.

        Parameters
        ----------
        values : array of shape (m, n_components)
            Items in the common space, for instance from ``crossfit.encode(pipeline, ...)``.
        view : str
            Name of their view.

        Returns
        -------
        self
        """
        check_is_fitted(self)
        if not is_word(view, self.views_in_):
            raise ValueError(
                f"no view {shown(view)}: the views of the fit are {', '.join(self.views_in_)}"
            )
        self.index_ = (Views({view: values})[view], view)
        return self

    def search(self, values: NDArray[Any], view: str, k: int = 10) -> SearchResult:
        """Find the best items of the indexed gallery for queries in the common space.

        Parameters
        ----------
        values : array of shape (n, n_components)
            Queries in the common space.
        view : str
            Name of their view.
        k : int, default=10
            Number of items to return.

        Returns
        -------
        SearchResult

        Raises
        ------
        ValueError
            If no gallery was set by `index`, or the similarity ranks whole test sets only.
        """
        check_is_fitted(self)
        check_k(k)
        check_independent(self)
        if not hasattr(self, "index_"):
            raise ValueError("the scorer has no gallery; call index(values, view) first")
        gallery, gallery_view = self.index_
        return top_k(self.score_items(values, view, gallery, gallery_view), k)


def _turned(block: Similarity, A: Any, B: Any) -> Any:
    """Compare rows of the gallery, which is of the earlier view, with queries."""
    return block(B, A).T


def _require_views(X: Any) -> None:
    if not isinstance(X, Views):
        raise not_views("RetrievalScorer", X)
