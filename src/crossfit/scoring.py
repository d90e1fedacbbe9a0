"""Scoring of views by a scorer: directions, relevance, and metrics averaged over directions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfit._arguments import is_word, shown
from crossfit.labels import check_labels, row_weights
from crossfit.metrics import Evaluation, evaluate
from crossfit.metrics.directions import Direction
from crossfit.metrics.names import parse_metric
from crossfit.protocols import Scorer
from crossfit.similarities import Out, Scores
from crossfit.views import Views, item_weights

__all__ = [
    "direction",
    "mean_over_directions",
    "relevance_of",
    "score_views",
]


def direction(
    names: Sequence[str], views: Views, query: str | None, gallery: str | None
) -> tuple[str, str]:
    """Return the names of the query view and the gallery view.

    Parameters
    ----------
    names : sequence of str
        Names of the views of the fit.
    views : Views
        Views to score.
    query, gallery : str or None
        Names as given by the user. By default the query view is the first of `names`, and the
        gallery view is the first of the others.

    Returns
    -------
    query, gallery : str

    Raises
    ------
    ValueError
        If a view is unknown or missing.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> views = Views(image=np.eye(2), text=np.eye(2))
    >>> direction(["image", "text"], views, query="text", gallery=None)
    ('text', 'image')
    """
    for name in (query, gallery):
        if name is not None and not is_word(name, names):
            raise ValueError(f"no view {shown(name)}: the views of the fit are {', '.join(names)}")
    q = names[0] if query is None else query
    g = next((name for name in names if name != q), q) if gallery is None else gallery
    for name in (q, g):
        if name not in views:
            raise ValueError(f"the view {name!r} is missing, got only {', '.join(views.names)}")
    return q, g


def score_views(
    scorer: Scorer,
    names: Sequence[str],
    views: Views,
    query: str | None = None,
    gallery: str | None = None,
    chunk_size: int | None = None,
    out: Out = None,
) -> Scores:
    """Return the scores of the distinct items of one view against those of another.

    Parameters
    ----------
    scorer : Scorer
        Scorer that was fitted on the views `names`.
    names : sequence of str
        Names of the views, in the order of the fit.
    views : Views
        Input of the scorer, after the earlier steps of a pipeline.
    query, gallery, chunk_size, out
        As in `CrossModalEstimator.similarity`.

    Returns
    -------
    float32 array of shape (n_query_items, n_gallery_items)

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> from crossfit.methods import CCA
    >>> rng = np.random.default_rng(0)
    >>> views = Views(image=rng.normal(size=(20, 4)), text=rng.normal(size=(20, 3)))
    >>> score_views(CCA(2).fit(views), ["image", "text"], views, query="text").shape
    (20, 20)
    """
    q, g = direction(names, views, query, gallery)
    return scorer.score_items(views.distinct(q)[0], q, views.distinct(g)[0], g, chunk_size, out)


def relevance_of(views: Views, query: str, gallery: str, y: ArrayLike | None) -> Any:
    """Return relevance for `crossfit.metrics.evaluate`, by labels or by pairs.

    Parameters
    ----------
    views : Views
        Views that include both.
    query, gallery : str
        Names of the views.
    y : array-like of shape (n,) or (n, n_classes), or None
        Labels of the rows; if None, only the paired item is relevant.

    Returns
    -------
    sparse array of shape (n_query_items, n_gallery_items), or pair of arrays
        Relevance by pairs, or the labels of the distinct items of both views.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> views = Views(image=np.eye(2), text=np.eye(2))
    >>> relevance_of(views, "image", "text", None).toarray().tolist()
    [[1, 0], [0, 1]]
    """
    if y is None:
        return views.relevance(query, gallery)
    labels = check_labels(y)
    return views.item_labels(query, labels), views.item_labels(gallery, labels)


def mean_over_directions(
    last: Scorer,
    views: Views,
    y: ArrayLike | None,
    metric: str | None = None,
    *,
    ties: str = "expected",
    only: Direction | None = None,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Compute the mean of a metric over both directions of every pair of views.

    Parameters
    ----------
    last : Scorer
        A fitted method, RetrievalScorer or Reranker.
    views : Views
        Input of `last`, after the earlier steps of a pipeline.
    y : array-like of shape (n,) or (n, n_classes), optional
        Labels of the rows.
    metric : str, optional
        Name of a measure; by default ``"map@all"`` with labels and ``"mrr"`` without.
    ties : {"expected", "stable", "worst", "best"}, default="expected"
        How items with equal scores are ranked.
    only : Direction, optional
        The only direction to score.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows in the mean over the queries. The weight of an
        item that several rows share is the sum of theirs.

    Returns
    -------
    float
        Larger is better; ranks are negated.

    Raises
    ------
    ValueError
        If there is only one view, or an argument is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> from crossfit.methods import CCA
    >>> Z = np.random.default_rng(0).normal(size=(20, 3))
    >>> views = Views(image=Z, text=Z[:, ::-1])
    >>> mean_over_directions(CCA(3).fit(views), views, None, "r@1")
    1.0
    """
    metric = metric or ("mrr" if y is None else "map@all")
    views = last.fitted_views(views)
    if len(views.names) < 2:
        raise ValueError(f"retrieval is scored between two views, got only {views.names[0]!r}")
    weights = None if sample_weight is None else row_weights(sample_weight, len(views))
    values = []
    # If the query decides which pairs are scored, the transpose is not the other direction.
    one_way = only is not None or last.one_way
    pairs: list[tuple[str, str]] = list((permutations if one_way else combinations)(views.names, 2))
    for q, g in pairs if only is None else [(only.query, only.gallery)]:
        relevance = relevance_of(views, q, g, y)
        found = evaluate(
            last.score_items(views.distinct(q)[0], q, views.distinct(g)[0], g),
            relevance,
            (metric,),
            directions="forward" if one_way else "both",
            ties=ties,
            ci=None,
        )
        if weights is None:
            values.append(found.mean(None, metric))
        else:
            sides = [item_weights(views, view, weights) for view in (q, g)]
            values.append(_weighted_mean(found, metric, sides))
    mean = float(np.mean(values))
    return mean if parse_metric(metric).greater_is_better else -mean


def _weighted_mean(found: Evaluation, metric: str, weights: Sequence[NDArray[Any]]) -> float:
    """Return the mean over directions of the weighted mean over their queries."""
    if parse_metric(metric).statistic != "mean":
        raise ValueError(f"{metric} is a median over the queries, which has no weights")
    means = []
    for one, own in zip(found.directions, weights):
        values = found.per_query[one, metric]
        has = ~np.isnan(values)
        if not own[has].sum() > 0:
            raise ValueError(f"sample_weight: every query of {one} that is scored has weight 0")
        means.append(np.average(values[has], weights=own[has]))
    return float(np.mean(means))
