"""Average precision of classifiers as in PASCAL VOC, with 11-point or all-point interpolation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfit._arguments import is_word, shown
from crossfit._arrays import as_array, in_rows
from crossfit._warnings import warn


def voc_average_precision(
    y_true: ArrayLike, y_score: ArrayLike, *, interpolation: str = "all", ignore: Any = None
) -> float:
    """Compute the average precision of one class over n images.

    Images with the same score are added together, as if by one threshold.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels; an image is positive if its label is greater than 0.
    y_score : array-like of shape (n,)
        Confidences; higher is more confident.
    interpolation : {"all", "11", "none"}, default="all"
        ``"all"`` is VOC2010 and later: the area under the envelope of precision over recall.
        ``"11"`` is VOC2007: the mean, over recalls 0, .1, ..., 1, of the highest precision at
        that recall or more. ``"none"`` is the average precision of scikit-learn.
    ignore : array-like of shape (n,), bool, optional
        Images to leave out, such as those that VOC marks as "difficult". Some implementations
        use them as negatives, which lowers the result.

    Returns
    -------
    float
        NaN if there are no positive images.

    Raises
    ------
    ValueError
        If the input is misshapen or has NaN, or the interpolation is unknown.

    See Also
    --------
    voc_mean_average_precision : The mean over classes.

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
            "y_true and y_score must be 1-D, of the same length and not empty, got shapes "
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
    # In integers, because 3/10 is less than 3 * 0.1 in floating point.
    hits = np.rint(recall * n_positive).astype(np.int64)
    return float(envelope[np.searchsorted(hits, -(-np.arange(11) * n_positive // 10))].mean())


def voc_mean_average_precision(
    y_true: ArrayLike, y_score: ArrayLike, *, interpolation: str = "all", ignore: Any = None
) -> float:
    """Compute the mean over classes of the average precision, which VOC calls mAP.

    This is a mean over classes, while `mean_average_precision` is a mean over queries.

    Parameters
    ----------
    y_true, y_score : array-like of shape (n, c)
        Indicators and confidences.
    interpolation : {"all", "11", "none"}, default="all"
        As in `voc_average_precision`.
    ignore : array-like of shape (n, c), bool, optional
        Entries to leave out.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the input is misshapen or has NaN, or no class has a positive.

    Warns
    -----
    UserWarning
        If classes without a positive are left out.

    See Also
    --------
    voc_average_precision : The average precision of one class.

    Examples
    --------
    >>> y_true = [[1, 0], [0, 1], [1, 0], [0, 1]]
    >>> y_score = [[0.9, 0.2], [0.6, 0.7], [0.5, 0.8], [0.1, 0.9]]
    >>> round(voc_mean_average_precision(y_true, y_score), 4)
    0.8333
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
        raise ValueError("y_true: no class has a positive")
    if missing:
        warn(f"{missing} of {len(values)} classes have no positive and are left out")
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
        raise ValueError(f"y_true must not be NaN, got NaN in {in_rows(missing[:, 0], len(truth))}")
    return np.asarray(truth > 0)


def _confidences(y_score: Any) -> NDArray[np.float64]:
    return _numbers(y_score, "y_score").astype(np.float64)


def _check_scores(score: NDArray[np.float64]) -> None:
    rows = np.unique(np.argwhere(~np.isfinite(score))[:, 0])
    if len(rows):
        raise ValueError(
            f"y_score must be finite, got NaN or infinity in {in_rows(rows, len(score))}"
        )


def _flags(ignore: Any) -> NDArray[np.bool_]:
    flags = _numbers(ignore, "ignore")
    if not np.isin(flags, (0, 1)).all():
        raise ValueError("ignore must have only the values True and False, or 1 and 0")
    return flags.astype(bool)
