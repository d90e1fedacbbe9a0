"""Average precision of classifiers as in PASCAL VOC: 11-point and all-point interpolation."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfit._arguments import is_word, shown
from crossfit._arrays import as_array, in_rows


def voc_average_precision(
    y_true: ArrayLike, y_score: ArrayLike, *, interpolation: str = "all", ignore: Any = None
) -> float:
    """Compute the average precision of one class over n images.

    Tied scores enter together, as if by one threshold.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Positive where > 0.
    y_score : array-like of shape (n,)
        Higher is more confident.
    interpolation : {"all", "11", "none"}
        ``"all"`` is VOC2010 and later: the area under the envelope of precision over recall.
        ``"11"`` is VOC2007: the mean, over recalls 0, .1, ..., 1, of the highest precision at
        that recall or more. ``"none"`` is scikit-learn's.
    ignore : array-like of shape (n,), bool, optional
        Images that count neither way, as VOC's "difficult" ones. Taken as negatives, as some
        codes do, they lower the figure.

    Returns
    -------
    float
        NaN without a positive.

    Raises
    ------
    ValueError
        On misshapen or NaN input or an unknown interpolation.

    References
    ----------
    Everingham et al., The Pascal Visual Object Classes Challenge, IJCV 2010 and 2015.

    Examples
    --------
    >>> y = [0, 1, 0, 0, 1, 1, 0, 0, 1, 0]
    >>> [round(voc_average_precision(y, range(10, 0, -1), interpolation=i), 4)
    ...  for i in ("11", "all", "none")]
    [0.4848, 0.4861, 0.4611]
    """
    from sklearn.metrics import precision_recall_curve

    positive, score = _positive(y_true), _confidences(y_score)
    if positive.ndim != 1 or positive.shape != score.shape or not len(score):
        raise ValueError(
            "y_true and y_score must be 1-D, of one length and not empty, got shapes "
            f"{positive.shape} and {score.shape}"
        )
    _check_scores(score)
    if not is_word(interpolation, ("all", "11", "none")):
        raise ValueError(f"interpolation must be 'all', '11' or 'none', got {shown(interpolation)}")
    if ignore is not None:
        kept = ~_flags(ignore)
        if kept.shape != positive.shape:
            raise ValueError(f"ignore must have shape {positive.shape}, got {kept.shape}")
        positive, score = positive[kept], score[kept]
    n_positive = int(positive.sum())
    if not n_positive:
        return float("nan")
    precision, recall, _ = precision_recall_curve(positive, score)
    # Ascending recall, without the point (recall 0, precision 1) that scikit-learn adds.
    precision, recall = precision[-2::-1], recall[-2::-1]
    gained = np.diff(recall, prepend=0.0)
    if interpolation == "none":
        return float(gained @ precision)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if interpolation == "all":
        return float(gained @ envelope)
    # In integers: a recall of 3/10 falls short of 3 * 0.1 in floating point.
    hits = np.rint(recall * n_positive).astype(np.int64)
    return float(envelope[np.searchsorted(hits, -(-np.arange(11) * n_positive // 10))].mean())


def voc_mean_average_precision(
    y_true: ArrayLike, y_score: ArrayLike, *, interpolation: str = "all", ignore: Any = None
) -> float:
    """Compute the mean over classes of the average precision: VOC's mAP.

    This is a mean over categories, not over queries.

    Parameters
    ----------
    y_true, y_score : array-like of shape (n, c)
        Indicators and confidences.
    interpolation : {"all", "11", "none"}
        As in `voc_average_precision`.
    ignore : array-like of shape (n, c), bool, optional
        Entries that count neither way.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        On misshapen input, or when no class has a positive.

    Warns
    -----
    UserWarning
        When classes without a positive are left out.
    """
    truth, score = _positive(y_true), _confidences(y_score)
    if truth.ndim != 2 or truth.shape != score.shape or 0 in truth.shape:
        raise ValueError(
            "y_true and y_score must both be (n, c) and not empty, got shapes "
            f"{truth.shape} and {score.shape}"
        )
    _check_scores(score)
    skipped = np.zeros(truth.shape, bool) if ignore is None else _flags(ignore)
    if skipped.shape != truth.shape:
        raise ValueError(f"ignore must have shape {truth.shape}, got {skipped.shape}")
    values = np.array(
        [
            voc_average_precision(t, s, interpolation=interpolation, ignore=i)
            for t, s, i in zip(truth.T, score.T, skipped.T, strict=True)
        ]
    )
    missing = int(np.isnan(values).sum())
    if missing == len(values):
        raise ValueError("no class has a positive")
    if missing:
        warnings.warn(
            f"{missing} of {len(values)} classes have no positive and are left out", stacklevel=2
        )
    return float(np.nanmean(values))


def _numbers(given: Any, name: str) -> NDArray[Any]:
    array = as_array(given, name, numbers=True)
    if array.dtype.kind not in "biuf" or not array.ndim:
        raise ValueError(
            f"{name} must be an array of real numbers, got shape {array.shape} of type "
            f"{array.dtype}"
        )
    return array


def _positive(y_true: Any) -> NDArray[np.bool_]:
    truth = _numbers(y_true, "y_true")
    missing = np.argwhere(np.isnan(truth))
    if len(missing):
        raise ValueError(f"y_true must not be NaN, got it in {in_rows(missing[:, 0], len(truth))}")
    return np.asarray(truth > 0)


def _confidences(y_score: Any) -> NDArray[np.float64]:
    return _numbers(y_score, "y_score").astype(np.float64)


def _check_scores(score: NDArray[np.float64]) -> None:
    rows = np.unique(np.argwhere(~np.isfinite(score))[:, 0])
    if len(rows):
        raise ValueError(
            f"y_score must not be NaN or infinity, got some in {in_rows(rows, len(score))}"
        )


def _flags(ignore: Any) -> NDArray[np.bool_]:
    flags = _numbers(ignore, "ignore")
    if not np.isin(flags, (0, 1)).all():
        raise ValueError("ignore must hold true and false, or 1 and 0")
    return flags.astype(bool)
