"""Retrieval scorers: ``(estimator, X, y=None) -> float`` for ``scoring=`` in scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from numpy.typing import ArrayLike
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import check_is_fitted

from crossfit._arguments import is_word, not_views, shown
from crossfit.metrics.directions import Direction
from crossfit.metrics.names import parse_metric
from crossfit.metrics.ranking import TIES
from crossfit.querying import answering
from crossfit.scoring import mean_over_directions
from crossfit.views import Views

__all__ = ["RetrievalMetric", "make_retrieval_scorer"]


@dataclass(frozen=True)
class RetrievalMetric:
    """A picklable retrieval scorer, as made by `make_retrieval_scorer`.

    Parameters
    ----------
    metric, direction, ties : str
        As in `make_retrieval_scorer`.
    sample_weight : bool or str, default=False
        Whether scikit-learn's metadata routing passes weights of rows to the scorer, see
        `set_score_request`.

    Raises
    ------
    TypeError, ValueError
        If the metric or the tie rule is unknown, or the direction is malformed.

    See Also
    --------
    make_retrieval_scorer : Make a scorer with default settings.

    Examples
    --------
    >>> scorer = RetrievalMetric(metric="r@1", direction="both", ties="expected")
    >>> scorer == make_retrieval_scorer("r@1")
    True
    """

    metric: str
    direction: str
    ties: str
    sample_weight: bool | str | None = False

    def __post_init__(self) -> None:
        parse_metric(self.metric)
        if not is_word(self.ties, TIES):
            raise ValueError(f"ties must be one of {', '.join(TIES)}, got {shown(self.ties)}")
        one = self.direction
        if not isinstance(one, str) or (one != "both" and "2" not in one):
            raise ValueError(f"direction must be 'both' or like 'image2text', got {shown(one)}")

    def __getstate__(self) -> dict[str, Any]:
        # Studies hash their scorer; without weights the hash is that of before there were any.
        return {k: v for k, v in vars(self).items() if k != "sample_weight" or v is not False}

    def set_score_request(self, *, sample_weight: bool | str | None) -> Self:
        """Return the same scorer, to which metadata routing passes weights of rows.

        Parameters
        ----------
        sample_weight : bool, str or None
            True for the weights, a string for those under another name, False for none; None
            raises an error if there are weights.

        Returns
        -------
        RetrievalMetric
        """
        return replace(self, sample_weight=sample_weight)

    def get_metadata_routing(self) -> MetadataRequest:
        """Return the request for weights of rows, as scikit-learn reads it."""
        request = MetadataRequest(owner=self)
        request.score.add_request(param="sample_weight", alias=self.sample_weight)
        return request

    def __call__(
        self,
        estimator: Any,
        X: Views,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Return the score of a fitted method or pipeline on Views; larger is better.

        With weights of rows, the measure is the weighted mean over the queries; the weight of an
        item that several rows share is the sum of theirs.
        """
        if not isinstance(X, Views):
            raise not_views("a retrieval scorer", X)
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
        return mean_over_directions(
            last, X, y, self.metric, ties=self.ties, only=only, sample_weight=sample_weight
        )


def make_retrieval_scorer(
    metric: str = "map@all", direction: str = "both", ties: str = "expected"
) -> RetrievalMetric:
    """Make a scorer for the ``scoring=`` of scikit-learn's cross-validation and searches.

    Parameters
    ----------
    metric : str, default="map@all"
        Name of a measure of `crossfit.metrics`, for instance ``"map@all"`` or ``"r@5"``. Ranks,
        for which smaller is better, are negated.
    direction : str, default="both"
        ``"both"`` (the mean over both directions of every pair of views), or one direction
        such as ``"image2text"`` or ``"i2t"``.
    ties : {"expected", "stable", "worst", "best"}, default="expected"
        How items with equal scores are ranked, see `crossfit.metrics.evaluate`.

    Returns
    -------
    RetrievalMetric
        A picklable function ``(estimator, X, y=None) -> float``. With ``y`` an item is relevant
        if it shares a label with the query; without ``y`` only the paired item is relevant.

    Raises
    ------
    TypeError, ValueError
        If the metric or the tie rule is unknown, or the direction is malformed.

    See Also
    --------
    crossfit.metrics.evaluate : Evaluate a matrix of scores.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import cross_val_score
    >>> from crossfit import Views
    >>> from crossfit.methods import CCA
    >>> Z = np.random.default_rng(0).normal(size=(60, 3))
    >>> views = Views(image=Z @ np.ones((3, 4)) + Z[:, :1], text=Z)
    >>> scores = cross_val_score(CCA(1), views, scoring=make_retrieval_scorer("mrr"), cv=3)
    >>> scores.shape
    (3,)
    """
    return RetrievalMetric(metric, direction, ties)
