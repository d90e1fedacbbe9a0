"""The base class of embedding networks that rank: hinges over the pairs of a batch."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from skorch.callbacks import GradientNormClipping, LRScheduler
from torch import Tensor

from crossfit.neural.batching import Batch
from crossfit.neural.estimator import NeuralEstimator
from crossfit.neural.losses import triplet_loss
from crossfit.views import Views

__all__ = [
    "HingeEstimator",
    "RankingEstimator",
    "check_groups",
    "ranked",
]


def ranked(
    scores: Tensor,
    batch: Batch,
    *,
    margin: float,
    mining: str,
    k: int = 1,
    weights: tuple[float, float] = (1.0, 1.0),
) -> dict[str, Tensor]:
    """Return the hinges of both directions between the two views of a batch.

    An item's other partners, such as the captions of an image, are never its negatives, and
    neither are rows of the same group.

    Parameters
    ----------
    scores : Tensor of shape (b, b)
        Scores of the first items of the rows against their second items.
    batch : Batch
        The pairs.
    margin, mining, k
        See `crossfit.neural.triplet_loss`.
    weights : (float, float), default=(1.0, 1.0)
        Weights of the hinges whose anchors are the first items, and the second items. A direction
        of weight 0 is left out.

    Returns
    -------
    dict of str to Tensor of shape ()
        By direction, for instance ``image2text``, whose anchors are images.
    """
    first, second = batch.views
    settings: dict[str, Any] = {"margin": margin, "mining": mining, "k": k}
    forward, back = weights
    terms = {}
    if forward:
        loss = triplet_loss(scores, batch.positives, batch.negatives, **settings)
        terms[f"{first}2{second}"] = forward * loss
    if back:
        loss = triplet_loss(scores.T, batch.positives.T, batch.negatives.T, **settings)
        terms[f"{second}2{first}"] = back * loss
    return terms


def check_groups(views: Views, name: str) -> None:
    """Raise a ValueError if there are no negatives, because all rows are of one group.

    Parameters
    ----------
    views : Views
        Training pairs.
    name : str
        Name of the method.

    Raises
    ------
    ValueError
        If they are.
    """
    if len(np.unique(views.groups)) < 2:
        raise ValueError(
            f"{name}: ranks matching pairs above others, so it needs rows of at least two groups, "
            f"got {len(views)} rows of one group"
        )


class HingeEstimator(NeuralEstimator):
    """Base class of networks that are trained by hinges over the negatives of a batch.

    Parameters
    ----------
    margin : float, default=0.2
        Margin of the hinges, in units of the scores.
    clip : float or None, default=None
        Largest norm of the gradient of all weights; longer ones are scaled down to it.
    lr_step : int or None, default=None
        Number of epochs after which the learning rate is multiplied by `lr_gamma`, repeatedly.
    lr_gamma : float, default=0.1
        Factor of the learning rate.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralEstimator._parameter_constraints,
        "margin": [Interval(Real, 0, None, closed="left")],
        "clip": [Interval(Real, 0, None, closed="neither"), None],
        "lr_step": [Interval(Integral, 1, None, closed="left"), None],
        "lr_gamma": [Interval(Real, 0, 1, closed="right")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],  # one pair has no negatives
    }

    def __init__(
        self,
        *,
        margin: float = 0.2,
        clip: float | None = None,
        lr_step: int | None = None,
        lr_gamma: float = 0.1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.margin = margin
        self.clip = clip
        self.lr_step = lr_step
        self.lr_gamma = lr_gamma

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        check_groups(views, self._name())
        super()._fit(views, y)

    def _scores(self, outputs: Any) -> Tensor:
        """Return the scores (b, b) of the first items of the rows against the second ones."""
        first, second = outputs.values()
        return first @ second.T

    def _schedule(self) -> list[Any]:
        callbacks: list[Any] = []
        if self.clip is not None:
            callbacks.append(GradientNormClipping(self.clip))
        if self.lr_step is not None:
            callbacks.append(LRScheduler("StepLR", step_size=self.lr_step, gamma=self.lr_gamma))
        return callbacks


class RankingEstimator(HingeEstimator):
    """Base class of networks with one branch per view that are trained to rank.

    A subclass implements `_build_module`. The score of a pair is the dot product of the two
    encodings; override `_scores` for another. The loss is the sum of the hinges of both directions
    over the negatives of a batch, in which another caption of the same image is never a negative;
    override `_loss`, with `ranked`, for other weights or further terms.

    Parameters
    ----------
    mining : {"sum", "all", "hardest", "top-k", "random"}, default="sum"
        Negatives of a matched pair: all of the batch, whose hinges are added up or averaged, the
        one with the highest score, the mean of the `k_negatives` with the highest scores, or one
        drawn at random; see `crossfit.neural.triplet_loss`.
    k_negatives : int, default=10
        Number of negatives for ``mining="top-k"``.
    **kwargs
        See `HingeEstimator`.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **HingeEstimator._parameter_constraints,
        "mining": [StrOptions({"sum", "all", "hardest", "top-k", "random"})],
        "k_negatives": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, *, mining: str = "sum", k_negatives: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mining = mining
        self.k_negatives = k_negatives

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        return ranked(
            self._scores(outputs),
            batch,
            margin=self.margin,
            mining=self._mining(batch),
            k=self.k_negatives,
        )

    def _mining(self, batch: Batch) -> str:
        """Return the mining for a batch, which may depend on its ``progress``."""
        return self.mining
