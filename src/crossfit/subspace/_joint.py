"""Joint covariance of views and class labels, which is all that linear supervised methods need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit.base import CrossModalEstimator
from crossfit.labels import class_codes
from crossfit.subspace._linalg import CHUNK, Matrix, Moments, check_range
from crossfit.subspace._span import Span, narrowed
from crossfit.views import Views

__all__ = ["Joint", "indicator", "joint_covariance", "machine_memory"]


@dataclass(frozen=True)
class Joint:
    """Covariance of stacked views, standardised where requested.

    Attributes
    ----------
    n : int or float
        Number of rows, or the sum of their weights.
    S : array of shape (d, d)
        Joint covariance, normalised by n - 1.
    blocks : dict of str to slice
        Columns of each part in S.
    means, scales : dict of str to array of shape (d_i,)
        S is the covariance of ``(x - means) / scales``; for a wide view, in the coordinates of
        its span.
    eps : float
        Machine epsilon of the least precise dtype among the views.
    rounding : dict of str to float
        For each part, the share of a variance below which it may be rounding error.
    """

    n: float
    S: Matrix
    blocks: Mapping[str, slice]
    means: dict[str, Matrix]
    scales: dict[str, Matrix]
    eps: float
    rounding: dict[str, float]

    spans: dict[str, Span]

    def weights(self, role: str, W: Matrix) -> Matrix:
        """Return the weights for ``x - mean`` that correspond to weights for the columns of S."""
        if role in self.spans:
            return self.spans[role].weights(W)
        return W / self.scales[role][:, None]

    def mean(self, role: str) -> Matrix:
        """Return the mean of a view's columns."""
        return self.spans[role].mean if role in self.spans else self.means[role]

    def __call__(self, part: str, other: str | None = None) -> Matrix:
        """Return the covariance of one part, or the cross-covariance of two."""
        return self.S[self.blocks[part], self.blocks[part if other is None else other]]


def joint_covariance(
    method: CrossModalEstimator,
    views: Views,
    extra: Mapping[str, NDArray[Any]] | None = None,
    *,
    standardize: bool = False,
    ridge: float = 0.0,
    center: bool = True,
    apart: bool = False,
    weights: NDArray[np.float64] | None = None,
) -> Joint:
    """Compute the joint covariance of the views and of additional columns, in chunks of rows.

    Parameters
    ----------
    method : CrossModalEstimator
        The method, for error messages.
    views : Views
        Views by role, with arrays of shape (n, d_i), dense or CSR.
    extra : mapping of str to array of shape (n, c), optional
        Additional parts, such as class indicators. They are never scaled.
    standardize : bool, default=False
        Whether to divide each column of the views by its standard deviation.
    ridge : float, default=0.0
        Share of the mean variance that the method adds to all variances; see `Moments.update`.
    center : bool, default=True
        Whether the method subtracts the means.
    apart : bool, default=False
        Whether the method treats columns individually. If not, views with more columns than
        items are represented in the coordinates of their span.
    weights : array of shape (n,), optional
        Weights of the rows: a row of weight 2 counts as two rows.

    Returns
    -------
    Joint

    Raises
    ------
    ValueError
        If a view is constant.
    MemoryError
        If `apart` is True and the covariances do not fit into memory.
    """
    extra = extra or {}
    spans: dict[str, Span] = {}
    check_range(method, views)
    if apart:
        _check_room(method, views)
    else:
        views, spans = narrowed(views, standardize, center=center, weights=weights)
    # A more precise dtype would double the cost, a less precise one would lose digits.
    types = {str(views.distinct(name)[0].dtype).removeprefix("torch.") for name in views.names}
    dtype = np.result_type(*types)
    moments = Moments()
    for start in range(0, len(views), CHUNK):
        rows = slice(start, start + CHUNK)
        chunk = views[rows]
        given = {name: chunk[name] for name in chunk.names}
        more = {name: part[rows].astype(dtype) for name, part in extra.items()}
        of_rows = None if weights is None else weights[rows]
        moments.update(Views(given | more), ridge, len(given), of_rows)
    S, names = moments.covariance(), (*views.names, *extra)
    blocks = dict(zip(names, moments.blocks()))
    scale = np.ones(len(S))
    for role in views.names:
        deviations = np.sqrt(np.diag(S)[blocks[role]])
        if not np.any(deviations > 0):
            raise ValueError(
                f"{type(method).__name__}: view {method.views_in_[role]!r} is constant: it has "
                "no variance to learn from"
            )
        if standardize and role not in spans:
            scale[blocks[role]] = np.where(deviations > 0, deviations, 1.0)
    return Joint(
        moments.n,
        S / np.outer(scale, scale),
        blocks,
        dict(zip(names, moments.means())),
        {name: scale[block] for name, block in blocks.items()},
        moments.eps,
        dict(zip(names, moments.rounding())),
        spans,
    )


def _check_room(method: CrossModalEstimator, views: Views) -> None:
    """Raise a MemoryError before the covariances of all columns exceed the machine's memory."""
    d = sum(views.distinct(name)[0].shape[1] for name in views.names)
    needed, there = 3 * 8 * d**2, machine_memory()
    if needed > there:
        raise MemoryError(
            f"{type(method).__name__}: needs the covariances of all {d} columns, "
            f"{needed / 1e9:.0f} GB, but there are {there / 1e9:.0f} GB of memory; reduce the "
            "number of columns first, for instance by TruncatedSVD"
        )


def machine_memory() -> float:
    """Return the size of this machine's memory in bytes."""
    import psutil

    return float(psutil.virtual_memory().total)


def indicator(
    method: CrossModalEstimator, y: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Return the classes and the rows' membership in them, 0 or 1, of shape (n, n_classes).

    Parameters
    ----------
    method : CrossModalEstimator
        The method, for error messages.
    y : array of shape (n,) or (n, n_classes)
        One class per row, or an indicator, whose empty columns are dropped.

    Raises
    ------
    ValueError
        If there is only one class, or a row is unlabelled (-1).
    """
    name = type(method).__name__
    if y.ndim == 2:
        classes = np.flatnonzero(y.any(axis=0))
        Y = y[:, classes].astype(np.float32)
    else:
        classes, codes = class_codes(y)
        unlabelled = np.count_nonzero(codes == -1)
        if unlabelled:
            raise ValueError(
                f"{name}: needs a label for every row, got {unlabelled} rows with the label "
                "-1 (unlabelled); leave them out"
            )
        Y = np.eye(len(classes), dtype=np.float32)[codes]
    if not np.ptp(Y, axis=0).any():
        raise ValueError(f"{name} needs at least 2 classes, got {len(classes)}")
    return classes, Y
