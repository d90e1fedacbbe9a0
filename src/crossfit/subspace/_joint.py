"""Joint covariance of views and class labels, all that the linear supervised methods read."""

from __future__ import annotations

import os
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

__all__ = ["Joint", "indicator", "joint_covariance"]


@dataclass(frozen=True)
class Joint:
    """Covariance of stacked views, those standardised that were to be.

    Attributes
    ----------
    n : int
        Rows seen.
    S : array of shape (d, d)
        Joint covariance, with n - 1.
    blocks : dict of str to slice
        Where the columns of each part are in S.
    means, scales : dict of str to array of shape (d_i,)
        ``(x - means) / scales`` is what S is the covariance of; of a wide view, in the
        coordinates of its span.
    eps : float
        Machine epsilon of the coarsest type seen.
    rounding : dict of str to float
        Share of a variance up to which it may be rounding.
    """

    n: int
    S: Matrix
    blocks: Mapping[str, slice]
    means: dict[str, Matrix]
    scales: dict[str, Matrix]
    eps: float
    rounding: dict[str, float]

    spans: dict[str, Span]

    def weights(self, role: str, W: Matrix) -> Matrix:
        """Return weights of the columns of ``x - mean`` for those of what S is about."""
        if role in self.spans:
            return self.spans[role].weights(W)
        return W / self.scales[role][:, None]

    def mean(self, role: str) -> Matrix:
        """Return the mean of a view's columns."""
        return self.spans[role].mean if role in self.spans else self.means[role]

    def __call__(self, part: str, other: str | None = None) -> Matrix:
        """Return the covariance of one part, or of one with another."""
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
) -> Joint:
    """Sum up the covariances of the views and of more columns, in chunks of rows.

    Parameters
    ----------
    method : CrossModalEstimator
        Named in errors.
    views : Views
        Named by role, with arrays of shape (n, d_i), dense or CSR.
    extra : mapping of str to array of shape (n, c), optional
        More parts, class indicators for instance. They are never scaled.
    standardize : bool, default=False
        Whether to divide each column of the views by its standard deviation.
    ridge : float, default=0.0
        How exact small variances must be; see `Moments.update`.
    center : bool, default=True
        Whether the method subtracts the means.
    apart : bool, default=False
        Whether the method tells columns apart. If not, views of more columns than items are
        taken in the coordinates of their span.

    Raises
    ------
    ValueError
        If a view has no variance.
    """
    extra = extra or {}
    spans: dict[str, Span] = {}
    check_range(method, views)
    if apart:
        _check_room(method, views)
    else:
        views, spans = narrowed(views, standardize, center=center)
    # In the type of the views: finer would double the cost, coarser would cost digits.
    types = {str(views.distinct(name)[0].dtype).removeprefix("torch.") for name in views.names}
    dtype = np.result_type(*types)
    moments = Moments()
    for start in range(0, len(views), CHUNK):
        rows = slice(start, start + CHUNK)
        chunk = views[rows]
        given = {name: chunk[name] for name in chunk.names}
        more = {name: part[rows].astype(dtype) for name, part in extra.items()}
        moments.update(Views(given | more), ridge, len(given))
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
    """Refuse what would be killed for its memory."""
    d = sum(views.distinct(name)[0].shape[1] for name in views.names)
    needed, there = 3 * 8 * d**2, _memory()
    if needed > there:
        raise MemoryError(
            f"{type(method).__name__} weighs every column by itself and holds the covariances of "
            f"all {d} columns, {needed / 1e9:.0f} GB of {there / 1e9:.0f} GB of memory: bring the "
            "columns down first, by TruncatedSVD for instance"
        )


def _memory() -> float:
    """Return the bytes of memory of this machine."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # of Unix alone
        return float("inf")


def indicator(
    method: CrossModalEstimator, y: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Return the classes and the rows' membership in them, 0 or 1, of shape (n, n_classes).

    Parameters
    ----------
    method : CrossModalEstimator
        Named in errors.
    y : array of shape (n,) or (n, n_classes)
        One class a row, or an indicator, whose empty columns are left out.

    Raises
    ------
    ValueError
        If there is only one class, or a row is -1, unlabelled.
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
                f"{name} learns from labelled rows alone, got {unlabelled} rows with the label "
                "-1 (unlabelled): leave them out"
            )
        Y = np.eye(len(classes), dtype=np.float32)[codes]
    if not np.ptp(Y, axis=0).any():
        raise ValueError(f"{name} needs at least 2 classes to tell apart, got {len(classes)}")
    return classes, Y
