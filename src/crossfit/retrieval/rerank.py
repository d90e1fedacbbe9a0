"""Two-stage search: a cheap method proposes items, an expensive one ranks them."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import HasMethods, Interval

from crossfit._arguments import CheckedParameters, not_views, validated
from crossfit._arrays import NUMPY_DEFAULTS
from crossfit._frames import frame_of
from crossfit._html import html_table
from crossfit.metrics.intervals import bootstrap_interval
from crossfit.protocols import PairScorer, Scorer
from crossfit.querying import answering, check_k, top_k, view_names
from crossfit.scoring import direction, mean_over_directions
from crossfit.similarities import Out, Scores, check_chunk, check_out, fill_blocks, write_scores
from crossfit.views import Views, as_numpy, is_views, n_rows, take_rows

__all__ = ["Exactness", "Reranker", "exactness"]


class Reranker(CheckedParameters, BaseEstimator):
    """Search in two stages: the first proposes k items for each query, the second ranks them.

    For methods that score pairs, whose full matrix costs a pass of a network for each pair. It is
    used like any method, by `crossfit.similarity`, `crossfit.search` and the scorers, alone or at
    the end of a pipeline. Each stage receives the original items and may itself be a pipeline.

    Parameters
    ----------
    first : CrossModalEstimator or Pipeline
        The cheap stage: a method with a common space, or a cheap variant of the second stage.
    second : CrossModalEstimator or Pipeline
        The stage whose scores rank the k items.
    k : int, default=100
        Number of items that the first stage proposes per query. If it is at least the size of the
        gallery, the scores are those of the second stage.
    prefit : bool, default=False
        Whether both stages are fitted already. They are then used unchanged, and `fit` is not
        needed.

    Attributes
    ----------
    first_, second_ : estimator
        The fitted stages.
    views_in_ : dict of str to str
        Names of the views of the second stage, in its order.

    See Also
    --------
    exactness : Measure the agreement with the full matrix of the second stage.

    Notes
    -----
    The scores of the k items are those of the second stage. The other items keep the order of the
    first stage, including ties, and get values below the lowest score of the k items; only their
    order is meaningful. Since the k items depend on the query, the matrix of one direction is not
    the transpose of that of the other: pass ``query=`` and ``gallery=`` to `crossfit.similarity`,
    and ``directions="forward"`` to `crossfit.evaluate`. The scorers do so automatically.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> from crossfit.subspace import CCA, KCCA
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal(size=(60, 3))
    >>> views = Views(image=Z @ rng.normal(size=(3, 8)), text=Z @ rng.normal(size=(3, 6)))
    >>> two = Reranker(CCA(n_components=2), KCCA(n_components=3), k=5).fit(views)
    >>> exactness(two, views).share_scored
    0.08333333333333333
    """

    one_way: bool = True
    """The transpose of one direction's scores is not the other direction's."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "first": [HasMethods("fit")],
        "second": [HasMethods("fit")],
        "k": [Interval(Integral, 1, None, closed="left")],
        "prefit": ["boolean"],
    }

    def __init__(self, first: Any, second: Any, k: int = 100, *, prefit: bool = False) -> None:
        self.first = first
        self.second = second
        self.k = k
        self.prefit = prefit

    def fit(self, X: Views, y: ArrayLike | None = None) -> Self:
        """Fit both stages on the same pairs.

        Parameters
        ----------
        X : Views
            The training pairs.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels of the rows.

        Returns
        -------
        self
        """
        _require_views(X)
        check_k(self.k)
        self._validate_params()
        for stage in (self.first, self.second):
            last = answering(stage)[1]
            if self.prefit:
                view_names(last)  # raises if it is not fitted
        self.first_ = self.first if self.prefit else clone(self.first).fit(X, y)
        self.second_ = self.second if self.prefit else clone(self.second).fit(X, y)
        return self

    def _stages(self) -> tuple[Any, Any]:
        if self.prefit:
            return self.first, self.second
        if not hasattr(self, "second_"):
            raise NotFittedError("this Reranker is not fitted yet")
        return self.first_, self.second_

    @property
    def views_in_(self) -> dict[str, str]:
        """Names of the views of the second stage, in its order."""
        return {name: name for name in view_names(answering(self._stages()[1])[1])}

    def fitted_views(self, X: Views) -> Views:
        """Return those of the views that the second stage was fitted on.

        Parameters
        ----------
        X : Views
            As they reach the re-ranker.
        """
        return X.select(*(name for name in X.names if name in self.views_in_))

    def score_items(
        self,
        queries: Any,
        query: str,
        gallery: Any,
        view: str,
        chunk_size: int | None = None,
        out: Out = None,
    ) -> Scores:
        """Score items of the view `query` against items of the view `view`, in two stages.

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
        check_k(self.k)
        step = check_chunk(chunk_size)
        first, second = self._stages()
        given = (queries, query, gallery, view)
        if self.k >= n_rows(gallery):
            return _scores(second, *given, chunk_size, out)
        check_out(out, (n_rows(queries), n_rows(gallery)))
        cheap = as_numpy(_scores(first, *given, chunk_size))
        pairs = _Pairs(second, *given, chunk_size)

        def fill(scores: Scores) -> None:
            for start in range(0, len(scores), step):
                rows = slice(start, start + step)
                order = np.argsort(-cheap[rows], axis=1, kind="stable")
                for i, proposed in enumerate(order[:, : self.k], start):
                    scores[i, proposed] = pairs.of_query(i, proposed)
                _put_below(scores[rows], cheap[rows], order, self.k)

        return write_scores(fill, cheap.shape, out)

    def score(self, X: Views, y: ArrayLike | None = None) -> float:
        """Return the mean over both directions of mAP with labels, or of MRR without.

        Parameters
        ----------
        X : Views
            The pairs, ranked against each other.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels of the rows.

        Returns
        -------
        float
        """
        _require_views(X)
        return mean_over_directions(self, X, y)


class _Pairs:
    """The second stage with its prepared items."""

    def __init__(
        self, stage: Any, queries: Any, query: str, gallery: Any, view: str, chunk: int | None
    ) -> None:
        last, queries, gallery = _through(stage, queries, query, gallery, view)
        if not isinstance(last, PairScorer):
            raise TypeError(
                "the second stage must score single pairs: expected a CrossModalEstimator or a "
                f"RetrievalScorer, got {type(last).__name__}"
            )
        self.queries, self.gallery, self.block = last.prepared(queries, query, gallery, view)
        names = view_names(last)
        # Methods score the earlier role against the later one, whichever is the query.
        self.turned = names.index(query) > names.index(view)
        self.chunk = chunk

    def of_query(self, i: int, items: NDArray[np.intp]) -> Scores:
        """Return the scores of one query against some items of the gallery."""
        one, some = take_rows(self.queries, slice(i, i + 1)), take_rows(self.gallery, items)
        if self.turned:
            found = as_numpy(fill_blocks(self.block, some, one, self.chunk))[:, 0]
        else:
            found = as_numpy(fill_blocks(self.block, one, some, self.chunk))[0]
        if not np.isfinite(found).all():
            raise ValueError("the second stage must give finite scores, got NaN or infinity")
        return found


@np.errstate(**NUMPY_DEFAULTS)
def _put_below(scores: Scores, cheap: Scores, order: NDArray[np.intp], k: int) -> None:
    """Fill in the columns from the k-th on, in the order of the first stage, below the others."""
    ranked = np.take_along_axis(cheap, order, axis=1)
    # 1 for the best of them and equal for ties; only the order matters.
    rank = np.cumsum(np.diff(ranked[:, k - 1 :], axis=1) != 0, axis=1)
    rank += 1 - rank[:, :1]
    worst = np.take_along_axis(scores, order[:, :k], axis=1).min(axis=1).astype(np.float64)
    # Fewer than 2**24 multiples of a power of two are exact in float32, so no new ties arise.
    largest = np.abs(worst) + rank[:, -1] + 2
    step = np.maximum(1.0, 2.0 ** np.ceil(np.log2(largest / 2**22)))
    below = (np.ceil(worst / step)[:, None] - rank) * step[:, None]
    np.put_along_axis(scores, order[:, k:], below.astype(np.float32), axis=1)


def _through(
    stage: Any, queries: Any, query: str, gallery: Any, view: str
) -> tuple[Scorer, Any, Any]:
    """Return the step of a stage that scores, and the items transformed by the earlier steps."""
    steps, last = answering(stage)
    found, shown = Views({query: queries}), Views({view: gallery})
    for step in steps:
        found, shown = step.transform(found), step.transform(shown)
    return last, found[query], shown[view]


def _scores(
    stage: Any,
    queries: Any,
    query: str,
    gallery: Any,
    view: str,
    chunk_size: int | None,
    out: Out = None,
) -> Scores:
    last, queries, gallery = _through(stage, queries, query, gallery, view)
    return last.score_items(queries, query, gallery, view, chunk_size, out)


def _require_views(X: Any) -> None:
    if not is_views(X):
        raise not_views("Reranker", X)


def _or_none(value: Any) -> Any:
    return "" if isinstance(value, float) and np.isnan(value) else value


@dataclass(frozen=True, eq=False)
class Exactness:
    """Agreement of a two-stage search with the second stage alone.

    Parameters
    ----------
    at : int
        Length of the lists that are compared.
    overlap : array of shape (n_queries,)
        Share of the best `at` items of the full matrix that are among the best `at` of the
        two-stage search.
    top1 : bool array of shape (n_queries,)
        Whether the best item is the same.
    overlap_mean, top1_mean : tuple of float
        Mean and the ends of its bootstrap interval over queries; groups are drawn together.
    share_scored : float
        Share of the pairs that the second stage scored.
    """

    at: int
    overlap: NDArray[np.float64]
    top1: NDArray[np.bool_]
    overlap_mean: tuple[float, float, float]
    top1_mean: tuple[float, float, float]
    share_scored: float

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per figure.

        Returns
        -------
        list of dict
            Keys ``measure, value, low, high, n_queries``; `low` and `high` of the share of pairs
            that were scored are NaN, since it is exact.
        """
        nan = float("nan")
        figures = {
            f"overlap@{self.at}": self.overlap_mean,
            "top-1 agreement": self.top1_mean,
            "share of pairs scored": (self.share_scored, nan, nan),
        }
        n = len(self.overlap)
        return [
            {"measure": name, "value": value, "low": low, "high": high, "n_queries": n}
            for name, (value, low, high) in figures.items()
        ]

    def to_frame(self) -> Any:
        """Return the rows as a pandas DataFrame; pandas must be installed."""
        return frame_of(self.rows())

    def _repr_html_(self) -> str:
        rows = self.rows()
        head = [name for name in rows[0] if name != "n_queries"]
        caption = f"Two stages against the second alone, {len(self.overlap)} queries"
        return html_table(caption, head, [[_or_none(row[name]) for name in head] for row in rows])

    def __repr__(self) -> str:
        def shown(interval: tuple[float, float, float]) -> str:
            return "{:.3f} [{:.3f}, {:.3f}]".format(*interval)

        return (
            f"Exactness(overlap@{self.at} {shown(self.overlap_mean)}, top-1 agreement "
            f"{shown(self.top1_mean)}, {self.share_scored:.1%} of the pairs scored)"
        )


@validated(random_state=["random_state"])
def exactness(
    estimator: Any,
    X: Views,
    *,
    query: str | None = None,
    gallery: str | None = None,
    at: int = 10,
    ci: float = 0.95,
    n_resamples: int = 1000,
    random_state: Any = 0,
) -> Exactness:
    """Measure the agreement of a two-stage search with the full matrix of its second stage.

    Parameters
    ----------
    estimator : Reranker or Pipeline
        A fitted Reranker, or a pipeline that ends in one.
    X : Views
        The pairs. Use a sample, since the full matrix is computed for them.
    query, gallery : str, optional
        Names of the views; the first two of the second stage by default.
    at : int, default=10
        Length of the lists that are compared; the whole gallery if it is smaller.
    ci : float, default=0.95
        Level of the intervals, see `crossfit.metrics.bootstrap_interval`.
    n_resamples : int, default=1000
        Number of bootstrap samples.
    random_state : int, RandomState or None, default=0
        Seed of the bootstrap samples.

    Returns
    -------
    Exactness

    Raises
    ------
    TypeError
        If the estimator is not a Reranker.
    """
    check_k(at)
    _require_views(X)
    steps, last = answering(estimator)
    if not isinstance(last, Reranker):
        raise TypeError(f"exactness expects a Reranker, got {type(last).__name__}")
    for step in steps:
        X = step.transform(X)
    q, g = direction(view_names(last), X, query, gallery)
    given = (X.distinct(q)[0], q, X.distinct(g)[0], g)
    exact = top_k(_scores(last._stages()[1], *given, None), at).indices
    found = top_k(last.score_items(*given), at).indices
    overlap = (exact[:, :, None] == found[:, None, :]).any(axis=2).mean(axis=1)
    top1 = exact[:, 0] == found[:, 0]
    groups = X.groups[X.first_rows(q)]

    def summary(values: NDArray[Any]) -> tuple[float, float, float]:
        low, high = bootstrap_interval(
            values, groups=groups, ci=ci, n_resamples=n_resamples, random_state=random_state
        )
        return float(values.mean()), low, high

    m = n_rows(given[2])
    return Exactness(
        at=exact.shape[1],
        overlap=overlap,
        top1=top1,
        overlap_mean=summary(overlap),
        top1_mean=summary(top1.astype(np.float64)),
        share_scored=min(last.k, m) / m,
    )
