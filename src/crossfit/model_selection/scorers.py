"""Retrieval scorers: ``(estimator, X, y=None) -> float`` for ``scoring=`` in scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from crossfit.base import answering, direction, mean_over_directions
from crossfit.metrics.names import parse_metric
from crossfit.views import Views

__all__ = ["DIRECTION_ALIASES", "RetrievalMetric", "make_retrieval_scorer"]

DIRECTION_ALIASES = {
    "i2t": "image2text",
    "t2i": "text2image",
    "a2t": "audio2text",
    "t2a": "text2audio",
}


@dataclass(frozen=True)
class RetrievalMetric:
    """A picklable scorer; make it with `make_retrieval_scorer`."""

    metric: str
    direction: str
    ties: str

    def __call__(self, estimator: Any, X: Views, y: ArrayLike | None = None) -> float:
        """Score a fitted method or pipeline on Views; larger is better."""
        steps, last = answering(estimator)
        for step in steps:
            X = step.transform(X)
        wanted = DIRECTION_ALIASES.get(self.direction, self.direction)
        only = None
        if wanted != "both":
            query, _, gallery = wanted.partition("2")
            only = direction(X.names, X, query, gallery)
        return mean_over_directions(last, X, y, self.metric, ties=self.ties, only=only)


def make_retrieval_scorer(
    metric: str = "map@all", direction: str = "both", ties: str = "expected"
) -> RetrievalMetric:
    """Make a scorer for ``scoring=`` of scikit-learn's cross-validation and searches.

    Parameters
    ----------
    metric : str
        A name of `crossfit.metrics`, for instance ``"map@all"`` or ``"r@5"``. Ranks, where less
        is better, are negated.
    direction : str
        ``"both"`` (the mean over both directions of every pair of views), or one direction
        such as ``"image2text"`` or ``"i2t"``.
    ties : {"expected", "stable", "worst"}
        How equal scores are ranked.

    Returns
    -------
    RetrievalMetric
        Picklable, ``(estimator, X, y=None) -> float``. With ``y`` an item is relevant if it
        shares a label, without it only the paired item is.

    Raises
    ------
    ValueError
        If the metric is unknown.
    """
    parse_metric(metric)
    if direction != "both" and "2" not in direction:
        raise ValueError(f"direction must be 'both' or like 'image2text', got {direction!r}")
    return RetrievalMetric(metric, direction, ties)
