"""Retrieval scorers: ``(estimator, X, y=None) -> float`` for ``scoring=`` in scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from crossfit._arguments import is_word, shown
from crossfit.metrics.directions import Direction
from crossfit.metrics.names import parse_metric
from crossfit.metrics.ranking import TIES
from crossfit.querying import answering
from crossfit.scoring import mean_over_directions
from crossfit.views import Views

__all__ = ["RetrievalMetric", "make_retrieval_scorer"]


@dataclass(frozen=True)
class RetrievalMetric:
    """A picklable scorer; make it with `make_retrieval_scorer`.

    Parameters
    ----------
    metric, direction, ties : str
        As in `make_retrieval_scorer`.
    """

    metric: str
    direction: str
    ties: str

    def __post_init__(self) -> None:
        parse_metric(self.metric)
        if not is_word(self.ties, TIES):
            raise ValueError(f"ties must be one of {', '.join(TIES)}, got {shown(self.ties)}")
        one = self.direction
        if not isinstance(one, str) or (one != "both" and "2" not in one):
            raise ValueError(f"direction must be 'both' or like 'image2text', got {shown(one)}")

    def __call__(self, estimator: Any, X: Views, y: ArrayLike | None = None) -> float:
        """Score a fitted method or pipeline on Views; larger is better."""
        if not isinstance(X, Views):
            raise TypeError(f"a retrieval scorer expects Views, got {type(X).__name__}")
        if isinstance(estimator, type):
            raise TypeError(
                f"a retrieval scorer expects a fitted method, got the class {estimator.__name__}"
            )
        only = None
        if self.direction != "both":
            only = Direction.parse(self.direction, X.names)
        steps, last = answering(estimator)
        check_is_fitted(last)
        for step in steps:
            X = step.transform(X)
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
    TypeError, ValueError
        If the metric or the tie rule is unknown, or the direction is malformed.
    """
    return RetrievalMetric(metric, direction, ties)
