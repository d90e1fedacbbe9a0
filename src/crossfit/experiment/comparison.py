"""Fit a method, evaluate it on held-out pairs, and keep everything a leaderboard shows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit.datasets import Split
from crossfit.metrics import Evaluation, chance_level, evaluate
from crossfit.querying import answering, similarity
from crossfit.scoring import direction, relevance_of
from crossfit.views import Views

__all__ = ["PAIR_METRICS", "Result", "chance", "fit_and_evaluate"]

PAIR_METRICS = ("r@1", "r@5", "r@10", "medr", "mrr")


@dataclass(frozen=True, eq=False)
class Result:
    """One method on one data set.

    Parameters
    ----------
    name : str
        What the leaderboard calls it.
    detail : str
        Features and settings, in words.
    by_label : Evaluation or None
        mAP, where items that share a label are relevant; None without labels.
    by_pair : Evaluation
        Recall and ranks, where only the paired items are relevant.
    scores : float32 array of shape (n_query_items, n_gallery_items), or None
        First view against second; None for chance.
    fit_seconds, score_seconds : float
        Wall time of the fit, and of encoding and scoring the test items.
    """

    name: str
    detail: str
    by_label: Evaluation | None
    by_pair: Evaluation
    scores: NDArray[np.float32] | None = None
    fit_seconds: float = float("nan")
    score_seconds: float = float("nan")


def fit_and_evaluate(
    name: str, estimator: Any, train: Split, test: Split, *, detail: str = ""
) -> Result:
    """Fit on one split and evaluate on another, both ways, with intervals.

    Parameters
    ----------
    name : str
        What the leaderboard calls it.
    estimator : CrossModalEstimator or Pipeline
        Fitted in place.
    train, test : Split
        Views and labels. Near-duplicates of the test queries (its groups) are resampled
        together for the intervals.
    detail : str
        Features and settings, in words.
    """
    if answering(estimator)[1].one_way:
        raise TypeError(
            f"{type(answering(estimator)[1]).__name__} ranks each direction by a matrix of its "
            "own: evaluate the directions one by one"
        )
    start = time.perf_counter()
    estimator.fit(train.views, train.y)
    fitted = time.perf_counter()
    scores = similarity(estimator, test.views)
    scored = time.perf_counter()
    query, gallery = direction(test.views.names, test.views, None, None)
    groups = tuple(test.views.groups[test.views.first_rows(name)] for name in (query, gallery))
    common: dict[str, Any] = {"groups": groups, "names": (query, gallery)}
    by_label = None
    if test.y is not None:
        relevant = relevance_of(test.views, query, gallery, test.y)
        by_label = evaluate(scores, relevant, ("map@all",), **common)
    pairs = relevance_of(test.views, query, gallery, None)
    return Result(
        name,
        detail,
        by_label,
        evaluate(scores, pairs, PAIR_METRICS, **common),
        scores,
        fitted - start,
        scored - fitted,
    )


def chance(views: Views, y: Any = None) -> Result:
    """Return what ranking at random would give, exactly, as a row of the leaderboard."""
    query, gallery = direction(views.names, views, None, None)
    names = (query, gallery)
    by_label = None
    if y is not None:
        by_label = chance_level(relevance_of(views, query, gallery, y), ("map@all",), names=names)
    pairs = relevance_of(views, query, gallery, None)
    return Result(
        "chance", "ranking at random", by_label, chance_level(pairs, PAIR_METRICS, names=names)
    )
