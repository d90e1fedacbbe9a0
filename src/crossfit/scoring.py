"""Scores of a scorer on views: directions, relevance, and metrics averaged over both ways."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from crossfit._arguments import is_word, shown
from crossfit.labels import check_labels
from crossfit.metrics import evaluate
from crossfit.metrics.directions import Direction
from crossfit.metrics.names import parse_metric
from crossfit.protocols import Scorer
from crossfit.similarities import Out, Scores
from crossfit.views import Views

__all__ = ["direction", "mean_over_directions", "relevance_of", "score_views"]


def direction(
    names: Sequence[str], views: Views, query: str | None, gallery: str | None
) -> tuple[str, str]:
    """Return query and gallery view: by default the first two of `names`, in that order.

    Parameters
    ----------
    names : sequence of str
        Views of the fit.
    views : Views
        Those to be scored.
    query, gallery : str or None
        As given by the user.

    Raises
    ------
    ValueError
        If a view is unknown or missing.
    """
    for name in (query, gallery):
        if name is not None and not is_word(name, names):
            raise ValueError(f"no view {shown(name)}: the views of the fit are {', '.join(names)}")
    q = names[0] if query is None else query
    g = next((name for name in names if name != q), q) if gallery is None else gallery
    for name in (q, g):
        if name not in views:
            raise ValueError(f"the view {name!r} is needed, got {', '.join(views.names)}")
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
    """Score the distinct items of one view against those of another.

    Parameters
    ----------
    scorer : Scorer
        Fitted on the views `names`.
    names : sequence of str
        In the order of the fit.
    views : Views
        As they reach the scorer.
    query, gallery, chunk_size, out
        As in `CrossModalEstimator.similarity`.

    Returns
    -------
    float32 array of shape (n_query_items, n_gallery_items)
    """
    q, g = direction(names, views, query, gallery)
    return scorer.score_items(views.distinct(q)[0], q, views.distinct(g)[0], g, chunk_size, out)


def relevance_of(views: Views, query: str, gallery: str, y: ArrayLike | None) -> Any:
    """Return relevance for `crossfit.metrics.evaluate`: labels of items, or pairs.

    Parameters
    ----------
    views : Views
        With both views.
    query, gallery : str
        Names of the views.
    y : array-like of shape (n,) or (n, n_classes), or None
        Labels of the rows; by pairs if None.
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
) -> float:
    """Average a metric over both directions of every pair of views; larger is better.

    Parameters
    ----------
    last : Scorer
        A method, a RetrievalScorer or a Reranker.
    views : Views
        As they reach `last`.
    y : array-like of shape (n,) or (n, n_classes), optional
        Labels of the rows.
    metric : str, optional
        ``"map@all"`` with labels and ``"mrr"`` without, by default. Ranks are negated.
    ties : {"expected", "stable", "worst"}
        How equal scores are ranked.
    only : Direction, optional
        The one direction to score.

    Returns
    -------
    float
    """
    metric = metric or ("mrr" if y is None else "map@all")
    views = last.fitted_views(views)
    if len(views.names) < 2:
        raise ValueError(f"retrieval is scored between two modalities, got only {views.names[0]!r}")
    values = []
    # Where the query decides which pairs are scored, the transpose is not the other direction.
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
        values.append(found.mean(None, metric))
    mean = float(np.mean(values))
    return mean if parse_metric(metric).greater_is_better else -mean
