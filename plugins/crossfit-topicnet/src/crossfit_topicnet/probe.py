"""Linear probing of visual features: one linear SVM per class of a multi-label data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from crossfit.metrics import voc_average_precision

__all__ = ["Probe", "linear_probe"]

COSTS = tuple(2.0**-power for power in range(18, 12, -1))
"""The values of C in TextTopicNet's code."""


@dataclass(frozen=True)
class Probe:
    """Result of a probe.

    Parameters
    ----------
    average_precision : ndarray of shape (n_classes,)
        Average precision of each class on the test images; NaN for a class without positives.
    C : ndarray of shape (n_classes,)
        The value of C chosen on the validation images.
    scores : ndarray of shape (n_test, n_classes)
        Distances to the decision planes.
    """

    average_precision: NDArray[np.float64]
    C: NDArray[np.float64]
    scores: NDArray[np.float64]

    @property
    def mean_average_precision(self) -> float:
        """Mean over the classes that have positives, which is VOC's mAP."""
        return float(np.nanmean(self.average_precision))


def linear_probe(
    train: tuple[ArrayLike, ArrayLike],
    val: tuple[ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike],
    *,
    difficult: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    costs: Sequence[float] = COSTS,
    interpolation: str = "11",
    random_state: int = 0,
) -> Probe:
    """Classify images by their features with one-vs-rest linear SVMs.

    For every class, C is chosen by the average precision on the validation images; the SVM is then
    fitted on training and validation images together. Features are standardised by the mean and
    deviation of training and validation images.

    Parameters
    ----------
    train, val, test : pair of features (n, d) and labels (n, n_classes)
        Labels are positive if > 0.
    difficult : three bool arrays of shape (n, n_classes), optional
        Images that are ignored for a class, in training, validation and test, as in VOC's official
        evaluation.
    costs : sequence of float, default=COSTS
        Values of C to choose from.
    interpolation : {"11", "all", "none"}, default="11"
        Interpolation of the average precision, 11 for VOC2007; see
        `crossfit.metrics.voc_average_precision`.
    random_state : int, default=0
        Seed of the solver of the SVM.

    Returns
    -------
    Probe

    Raises
    ------
    ValueError
        If shapes disagree, or a class has no positive or no negative examples.

    References
    ----------
    L. Gomez et al., Self-supervised learning of visual features through embedding images into
    text topic spaces, CVPR 2017, section 4.1 and code.
    """
    X, Y = zip(*(_checked(*part, where) for part, where in zip((train, val, test), _PARTS)))
    skipped = [np.zeros(y.shape, bool) for y in Y]
    if difficult is not None:
        skipped = [np.asarray(part, bool) for part in difficult]
    for y, skip, where in zip(Y, skipped, _PARTS):
        if y.shape != skip.shape or y.shape[1] != Y[0].shape[1]:
            raise ValueError(
                f"labels and difficult of {where} must have shape (n, {Y[0].shape[1]}), got "
                f"{y.shape} and {skip.shape}"
            )
    if not len(costs):
        raise ValueError("costs must hold at least one value of C")
    features = np.concatenate(X[:2])
    scaler = StandardScaler().fit(features)
    inside = [scaler.transform(part) for part in X]
    found, chosen, scores = [], [], []
    for k in range(Y[0].shape[1]):
        positive = [y[:, k] > 0 for y in Y]
        kept = [~skip[:, k] for skip in skipped]
        for where, pos, keep in zip(_PARTS[:2], positive, kept):
            if len(np.unique(pos[keep])) < 2:
                raise ValueError(
                    f"class {k} needs images with and without it in {where}, got "
                    f"{int(pos[keep].sum())} of {int(keep.sum())}"
                )

        def fitted(C: float, rows: int, pos: list[NDArray[np.bool_]] = positive,
                   keep: list[NDArray[np.bool_]] = kept) -> LinearSVC:  # fmt: skip
            svm = LinearSVC(C=C, random_state=random_state)
            X_fit = np.concatenate([part[use] for part, use in zip(inside[:rows], keep)])
            return svm.fit(X_fit, np.concatenate([p[use] for p, use in zip(pos[:rows], keep)]))

        def precision(scored: NDArray[np.float64], part: int, k: int = k) -> float:
            return voc_average_precision(
                Y[part][:, k], scored, interpolation=interpolation, ignore=skipped[part][:, k]
            )

        reached = [precision(fitted(C, 1).decision_function(inside[1]), 1) for C in costs]
        chosen.append(costs[int(np.argmax(reached))])
        scores.append(fitted(chosen[-1], 2).decision_function(inside[2]))
        found.append(precision(scores[-1], 2))
    return Probe(np.array(found), np.array(chosen), np.stack(scores, axis=1))


_PARTS = ("train", "val", "test")


def _checked(X: ArrayLike, y: ArrayLike, where: str) -> tuple[NDArray[np.float64], NDArray[Any]]:
    features, labels = np.asarray(X, np.float64), np.asarray(y)
    if features.ndim != 2 or labels.ndim != 2 or len(features) != len(labels):
        raise ValueError(
            f"{where} must be features (n, d) and labels (n, n_classes), got shapes "
            f"{features.shape} and {labels.shape}"
        )
    return features, labels
