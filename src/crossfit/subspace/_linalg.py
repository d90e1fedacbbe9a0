"""Linear algebra shared by the closed-form methods."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from itertools import combinations
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
import scipy.linalg
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit._arrays import RangeError
from crossfit._threads import few_threads
from crossfit._warnings import warn
from crossfit.views import Views, as_numpy, is_tensor, n_rows

__all__ = [
    "REG_STYLES",
    "Moments",
    "affine",
    "centred",
    "check_range",
    "dense",
    "eigh",
    "feature_weight",
    "fix_signs",
    "generalized_eigh",
    "irls21",
    "kept_components",
    "leading_svd",
    "mean_of_rows",
    "regularised",
    "ridge_solve",
    "rounding",
    "svd",
    "unit_rows",
    "warn_of_perfect_fit",
    "whiten",
]

if TYPE_CHECKING:
    from crossfit.base import CrossModalEstimator

P = ParamSpec("P")
R = TypeVar("R")

Matrix = NDArray[np.float64]

# Rows per chunk: large enough for the matrix product to run at full speed, small enough that
# float32 products lose nothing before they are summed in float64.
CHUNK = 4096


# Beyond this condition number, float32 products lose digits that matter.
_CONDITION = 1e5

REG_STYLES = ("relative", "ridge", "shrink", "spectral")


@dataclass
class Moments:
    """Means and joint covariance of several views, summed over chunks of rows.

    Products are computed in the precision of the data, on the device of a tensor, and summed in
    float64. If float32 would lose a direction of small variance next to one of large variance,
    products are computed in float64 too. Rows may come from memory-mapped arrays and over any
    number of calls; sums from several workers can be merged. The attributes are plain numbers and
    arrays: ``Moments(**vars(moments))`` is a copy.

    Attributes
    ----------
    n : int or float
        Number of rows so far, or the sum of their weights.
    eps : float
        Machine epsilon of the least precise dtype so far.
    sizes : tuple of int
        Number of columns of each view, d in total.
    shift : array of shape (d,)
        Vector subtracted from the rows, close to their mean.
    sums, products : array of shape (d,) and (d, d)
        Sums and products of the shifted rows.
    rounded : array of shape (d,)
        Part of the diagonal of `products` that was computed with precision `eps`.
    """

    n: float = 0
    eps: float = 0.0
    sizes: tuple[int, ...] = ()
    shift: NDArray[Any] = field(default_factory=lambda: np.empty(0))
    sums: Matrix = field(default_factory=lambda: np.empty(0))
    products: Matrix = field(default_factory=lambda: np.empty((0, 0)))
    rounded: Matrix = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        if len(self.rounded) < len(self.sums):  # sums kept by an earlier version
            self.rounded = np.diag(self.products).copy()

    def update(
        self,
        views: Views,
        ridge: float = 0.0,
        n_watched: int | None = None,
        weights: NDArray[Any] | None = None,
    ) -> None:
        """Add the rows of views with arrays of shape (n, d_i), dense or CSR.

        Parameters
        ----------
        views : Views
        ridge : float, default=0.0
            Share of a view's mean variance that will be added to all its variances; variances
            below it need not be exact.
        n_watched : int, optional
            Number of views, from the first, that must be exact; all of them by default.
        weights : array of shape (n,), optional
            Weights of the rows: a row of weight 2 counts as two rows.
        """
        room = np.empty((0, 0))
        fine, looked_at = False, 0
        widths = [views.distinct(name)[0].shape[1] for name in views.names]
        # Fewer, larger chunks run faster; in float32 a chunk of wide views takes at most 64 MiB.
        for rows in _chunks(len(views), max(CHUNK, min(4 * CHUNK, 2**24 // sum(widths)))):
            chunk = views[rows]
            parts = [dense(chunk[name]) for name in chunk.names]
            if not all(is_tensor(part) for part in parts):
                parts = [as_numpy(part) for part in parts]
            if self.n == 0:
                self._begin(parts)
            self.eps = max(self.eps, *(_eps(part) for part in parts))
            roots = None if weights is None else np.sqrt(weights[rows])
            room, products = self._products(parts, room, fine, roots)
            d, n = sum(self.sizes), len(parts[0])
            total: float = n if weights is None else _whole(float(np.sum(weights[rows])))
            if _eps(room) > np.finfo(float).eps:
                squares = np.diag(products)[:d]
                fine = not np.isfinite(squares).all() or _vanish(squares, room[:n, :d])
                # Checked rarely, because a check costs a few per cent of the products of a chunk.
                has_moved = not fine and np.any(products[d, :d] ** 2 > 0.9 * total * squares)
                if not fine and (rows.start >= looked_at or has_moved):
                    looked_at = 2 * (rows.start + n)
                    fine = _is_coarse(products, self.blocks()[:n_watched], n, ridge)
                if fine:
                    room, products = self._products(parts, room, fine, roots)
                else:
                    self.rounded += squares
            self.sums += products[d, :d]
            self.products += products[:d, :d]
            self.n += total

    def _products(
        self, parts: list[Any], room: Any, fine: bool, roots: NDArray[Any] | None
    ) -> tuple[Any, NDArray[Any]]:
        """Return the shifted rows, stored in the buffer `room` if they fit, and their products.

        A column of ones is appended: its products are the sums, which would otherwise cost about
        a tenth of the time of all products. Rows are multiplied by the roots of their weights.
        """
        d = sum(self.sizes)
        if is_tensor(parts[0]):
            torch = _namespace(parts[0])
            room = torch.concat([*parts, torch.ones_like(parts[0][:, :1])], dim=1)
            room = room.double() if fine else room
            room[:, :d] -= torch.asarray(self.shift, device=room.device)
            if roots is not None:
                room *= torch.asarray(roots, device=room.device)[:, None].to(room.dtype)
            return room, as_numpy(room.T @ room)
        # The buffer is reused for every chunk: copies cost as much as small products.
        dtype = np.result_type(*parts, np.float64) if fine else np.result_type(*parts)
        if len(room) < len(parts[0]) or room.dtype != dtype:
            room = np.empty((len(parts[0]), d + 1), dtype)
            room[:, d] = 1
        joined = room[: len(parts[0])]
        for part, block in zip(parts, self.blocks()):
            np.subtract(
                part, self.shift[block], out=joined[:, block], casting="same_kind", dtype=dtype
            )
        if roots is not None:
            joined[:, d] = 1
            joined *= roots.astype(dtype)[:, None]
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            return room, joined.T @ joined

    def _begin(self, parts: list[Any]) -> None:
        self.sizes = tuple(part.shape[1] for part in parts)
        # Centring near the mean keeps the products free of cancellation, and centring on its
        # value makes a constant column exactly zero.
        shifts = [
            _namespace(part).where((part == part[0]).all(axis=0), part[0], part.mean(axis=0))
            for part in parts
        ]
        self.shift = np.concatenate([as_numpy(shift) for shift in shifts])
        self.sums = np.zeros(len(self.shift))
        self.products = np.zeros((len(self.shift), len(self.shift)))
        self.rounded = np.zeros(len(self.shift))

    def merge(self, other: Moments) -> None:
        """Add the rows of another `Moments` over views with the same columns."""
        if other.n == 0:
            return
        if self.n == 0:
            self.sizes, self.shift = other.sizes, other.shift
            self.sums, self.products = other.sums.copy(), other.products.copy()
            self.rounded = other.rounded.copy()
        else:
            if self.sizes != other.sizes:
                raise ValueError(
                    "expected sums over views with the same numbers of columns, got "
                    f"{self.sizes} and {other.sizes}"
                )
            # The other's rows about this shift: (x - s) = (x - s') + (s' - s).
            gap = other.shift.astype(np.float64) - self.shift
            # Not in place: arrays sent by another process may be read-only.
            self.products = self.products + other.about(self.shift.astype(np.float64))
            self.sums = self.sums + other.sums + other.n * gap
            self.rounded = self.rounded + other.rounded
        self.n += other.n
        self.eps = max(self.eps, other.eps)

    def select(self, *positions: int) -> Moments:
        """Return the moments of some of the views, by position."""
        kept = np.concatenate([np.arange(len(self.shift))[self.blocks()[i]] for i in positions])
        return Moments(
            self.n,
            self.eps,
            tuple(self.sizes[i] for i in positions),
            self.shift[kept],
            self.sums[kept],
            self.products[np.ix_(kept, kept)],
            self.rounded[kept],
        )

    def about(self, centre: Matrix) -> Matrix:
        """Return the sum of the products of ``row - centre``, shape (d, d)."""
        gap = self.shift.astype(np.float64) - centre
        across = np.outer(gap, self.sums)
        products = self.products + across + across.T + self.n * np.outer(gap, gap)
        return np.asarray((products + products.T) / 2)

    def means(self) -> list[Matrix]:
        """Return the mean of each view, shapes (d_i,)."""
        joined = self.shift.astype(np.float64) + self.sums / self.n
        return [joined[block] for block in self.blocks()]

    def covariance(self) -> Matrix:
        """Return the joint covariance of the stacked views, normalised by n - 1, shape (d, d)."""
        mean = self.sums / self.n
        joint = (self.products - self.n * np.outer(mean, mean)) / (self.n - 1)
        joint = (joint + joint.T) / 2
        # Rounding can leave a tiny negative value where a variance is zero.
        np.fill_diagonal(joint, np.maximum(np.diag(joint), 0.0))
        return joint

    def rounding(self) -> list[float]:
        """Return, for each view, the share of a variance below which it may be rounding error."""
        mean = self.sums / self.n
        squares = np.diag(self.products) - self.n * mean**2
        found = []
        for block in self.blocks():
            values = rounding(
                self.eps, self.shift[block] + mean[block], squares[block] / max(self.n - 1, 1)
            )
            varying = squares[block] > 0
            rounded = self.rounded[block][varying] / squares[block][varying]
            found.append(max(values, self.eps * min(1.0, np.max(rounded, initial=0.0))))
        return found

    def blocks(self) -> list[slice]:
        """Return the columns of each view in the joint covariance."""
        stops = np.cumsum(self.sizes)
        return [slice(int(stop) - size, int(stop)) for size, stop in zip(self.sizes, stops)]


def _whole(number: float) -> float:
    """Return an int for a whole number, so that weights of 1 count rows."""
    return int(number) if number.is_integer() else number


def _vanish(squares: NDArray[Any], rows: Any) -> bool:
    """Return True if columns vary so little that their squares underflow in float32."""
    low = squares < np.sqrt(np.finfo(np.float32).tiny)
    return bool(low.any() and as_numpy(rows)[:, low].any())


def _is_coarse(products: NDArray[Any], blocks: Sequence[slice], n: int, ridge: float) -> bool:
    """Return True if float32 products may have lost directions of small variance."""
    for block in blocks:
        size = block.stop - block.start
        if n <= size and ridge == 0:
            return True
        variances = np.diag(products)[block]
        # Constant columns need not be exact.
        scale = np.sqrt(np.where(variances > 0, variances, 1.0))
        C = products[block, block] / scale
        C /= scale[:, None]
        np.fill_diagonal(C, 1 + ridge * np.mean(variances) / scale**2)
        norm = np.linalg.norm(C, 1)
        with few_threads(size**3):
            factor, failed = scipy.linalg.lapack.spotrf(C.T, overwrite_a=True)
        if failed or scipy.linalg.lapack.spocon(factor, norm)[0] * _CONDITION < 1:
            return True
    return False


def _eps(values: Any) -> float:
    return float(_namespace(values).finfo(values.dtype).eps)


def rounding(eps: float, means: Matrix, variances: Matrix) -> float:
    """Return the share of a variance below which it may be rounding error of the values.

    Values that were computed or stored in float32 are accurate to a few units in the last place,
    relative to their absolute size (not to their deviation from the mean).

    Parameters
    ----------
    eps : float
        Machine epsilon of the dtype of the values.
    means, variances : array of shape (d,)
        Means and variances of the columns.
    """
    varying = variances > 0
    squares = 1 + np.max(means[varying] ** 2 / variances[varying], initial=0.0)
    return max(float(np.finfo(float).eps), min(eps, 10 * eps**2 * squares))


def affine(values: Any, mean: Matrix, weights: Matrix) -> Any:
    """Return ``(values - mean) @ weights`` in the dtype of the values, a tensor for a tensor.

    Parameters
    ----------
    values : array, CSR or tensor of shape (n, d)
        Memory-mapped rows are read in chunks.
    mean : array of shape (d,)
    weights : array of shape (d, k)
    """
    if is_tensor(values):
        torch = _namespace(values)
        shift, W = (torch.asarray(part, device=values.device) for part in (mean, weights))
        return ((values - shift) @ W).to(values.dtype)
    mapped = np.empty((values.shape[0], weights.shape[1]), dtype=values.dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # values are checked for finiteness later
        for rows in _chunks(len(mapped)):
            # Centred in float64: with a large mean a float32 difference would lose digits.
            mapped[rows] = (dense(values[rows]) - mean) @ weights
    return mapped


def centred(values: Any, mean: Matrix) -> Any:
    """Return dense ``values - mean`` in the dtype of the values, a tensor for a tensor.

    Parameters
    ----------
    values : array, CSR or tensor of shape (n, d)
        Memory-mapped rows are read in chunks.
    mean : array of shape (d,)
    """
    if is_tensor(values):
        torch = _namespace(values)
        return (values - torch.asarray(mean, device=values.device)).to(values.dtype)
    found = np.empty(values.shape, dtype=values.dtype)
    for rows in _chunks(len(found)):
        found[rows] = dense(values[rows]) - mean
    return found


def mean_of_rows(items: Any, index: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the mean of the rows that an index takes from items, summed in float64."""
    counts = np.bincount(index, minlength=n_rows(items)).astype(np.float64)
    total: NDArray[np.float64] = np.zeros(items.shape[1])
    for start in range(0, len(counts), CHUNK):
        rows = slice(start, start + CHUNK)
        total += counts[rows] @ as_numpy(dense(items[rows])).astype(np.float64)
    return total / counts.sum()


def unit_rows(values: Any) -> Any:
    """Return dense rows divided by their lengths, a tensor for a tensor; rows of zeros stay."""
    xp = _namespace(values)
    for order in (xp.inf, 2):  # by the largest entry first, whose square may leave the range
        norms = xp.linalg.norm(values, order, axis=1)[:, None]
        values = values / xp.where(norms > 0, norms, xp.ones_like(norms))
    return values


def _chunks(n: int, rows: int = CHUNK) -> Iterator[slice]:
    for start in range(0, n, rows):
        yield slice(start, start + rows)


def _namespace(array: Any) -> Any:
    return sys.modules["torch"] if is_tensor(array) else np


def dense(rows: Any) -> Any:
    """Return rows as an array, CSR or not."""
    return rows.toarray() if sp.issparse(rows) else rows


def _on_few_threads(decompose: Callable[P, R]) -> Callable[P, R]:
    """Return a decomposition that runs on one thread if its first matrix is small."""

    @wraps(decompose)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        matrix: Any = args[0]
        with few_threads(float(max(matrix.shape)) ** 3):
            return decompose(*args, **kwargs)

    return run


eigh = _on_few_threads(scipy.linalg.eigh)
svd = _on_few_threads(scipy.linalg.svd)


@_on_few_threads
def whiten(S: Matrix, tol: float) -> Matrix:
    """Return W of shape (d, rank) with W'SW = I, excluding the null space of S.

    Parameters
    ----------
    S : array of shape (d, d)
        Symmetric, positive semi-definite.
    tol : float
        Eigenvalues up to `tol` times the largest count as zero. S is scaled to a unit diagonal
        first, so that the result does not depend on the units of the columns.
    """
    variances = np.diag(S)
    # Rounding can leave a tiny negative value where a variance is zero.
    scale = np.sqrt(np.where(variances > 0, variances, 1.0))
    C = S / np.outer(scale, scale)
    _check_size(C)
    try:
        inverse = scipy.linalg.lapack.dtrtri(np.linalg.cholesky(C, upper=True))[0]
        # The smallest eigenvalue is at least 1 / ||inverse||², the largest at most ||C||: if S has
        # no null space, this is ten times faster.
        if np.sum(inverse**2) * np.linalg.norm(C) * tol < 1:
            return inverse / scale[:, None]
    except np.linalg.LinAlgError:
        pass
    values, vectors = scipy.linalg.eigh(C)
    kept = values > max(tol * values[-1], 0.0)
    return vectors[:, kept] / np.sqrt(values[kept]) / scale[:, None]


def regularised(S: Matrix, r: float, style: str, n_columns: int) -> Matrix:
    """Return a covariance with a ridge.

    Parameters
    ----------
    S : array of shape (d, d)
    r : float
        Amount of regularisation.
    style : {"relative", "ridge", "shrink", "spectral"}
        As in `crossfit.subspace.CCA`.
    n_columns : int
        Number of columns of the view, which is more than d in the coordinates of its span.
    """
    identity = np.eye(len(S))
    if style == "shrink":
        return (1 - r) * S + r * identity
    if style == "relative":
        r *= np.trace(S) / n_columns
    elif style == "spectral":
        r *= scipy.linalg.eigvalsh(S)[-1]
    return S + r * identity


def _check_size(*matrices: Matrix) -> None:
    """Raise a ValueError if a matrix is not finite, since LAPACK would fail on it."""
    if not all(np.isfinite(matrix).all() for matrix in matrices):
        raise ValueError(
            "the matrix to be decomposed is not finite: regularisation or weights are too large"
        )


def fix_signs(weights: Sequence[Matrix]) -> list[Matrix]:
    """Flip matching columns so that the largest entry of each first-view column is positive."""
    first = weights[0]
    largest = first[np.argmax(np.abs(first), axis=0), np.arange(first.shape[1])]
    signs = np.where(largest < 0, -1.0, 1.0)
    return [w * signs for w in weights]


@_on_few_threads
def generalized_eigh(
    A: Matrix, B: Matrix, k: int | None = None, eps: float = 1e-10
) -> tuple[Matrix, Matrix]:
    """Solve ``A v = λ B v`` for symmetric A and positive semi-definite B.

    Parameters
    ----------
    A, B : array of shape (d, d)
        Both are symmetrised.
    k : int, optional
        Number of largest eigenvalues to return; all of them by default.
    eps : float, default=1e-10
        ``eps`` times the mean of B's diagonal is added to B's diagonal. This is a numerical floor
        only; a statistical ridge belongs in the matrices.

    Returns
    -------
    values : array of shape (k,)
        Descending.
    vectors : array of shape (d, k)
        Columns with v'Bv = 1 whose largest entry is positive.

    Raises
    ------
    ValueError
        If B is not positive definite even with the floor.
    """
    floor = eps * np.mean(np.diag(B))
    B = (B + B.T) / 2 + floor * np.eye(len(A))
    _check_size(A, B)
    try:
        # All eigenvalues are computed: LAPACK's search for part of the spectrum loses vectors if
        # many eigenvalues are equal.
        values, vectors = scipy.linalg.eigh((A + A.T) / 2, B)
    except np.linalg.LinAlgError:
        raise ValueError(
            "the constraint matrix of the eigenvalue problem is not positive definite: a view "
            "has no variance, or more regularisation is needed"
        ) from None
    return values[::-1][:k], fix_signs([vectors[:, ::-1][:, :k]])[0]


@_on_few_threads
def ridge_solve(gram: Matrix, R: Matrix, B: Matrix) -> Matrix:
    """Return the solution W of ``(gram + R) W = B``, the one of least norm if there are several.

    Parameters
    ----------
    gram : array of shape (d, d)
        X'X, positive semi-definite.
    R : array of shape (d,) or (d, d)
        Penalty, positive semi-definite; the diagonal suffices.
    B : array of shape (d, c)
        X'Y, plus coupling terms.

    Notes
    -----
    Uses Cholesky, O(d³), or an eigendecomposition if the sum is singular, as for constant or
    perfectly correlated columns without a penalty.
    """
    A = gram + (np.diag(R) if R.ndim == 1 else R)
    # With a unit diagonal the result does not depend on the units of the columns.
    scale = np.sqrt(np.where(np.diag(A) > 0, np.diag(A), 1.0))
    A, B = A / np.outer(scale, scale), B / scale[:, None]
    tol = 10 * len(A) * np.finfo(float).eps
    _check_size(A, B)
    try:
        factor, lower = scipy.linalg.cho_factor(A)
        if np.min(np.diag(factor)) ** 2 > tol:
            return scipy.linalg.cho_solve((factor, lower), B) / scale[:, None]
    except np.linalg.LinAlgError:
        pass
    values, vectors = scipy.linalg.eigh(A)
    kept = values > tol * values[-1]
    vectors = vectors[:, kept]
    return vectors @ (vectors.T @ B / values[kept, None]) / scale[:, None]


def irls21(W: Matrix, eps: float = 1e-8, groups: NDArray[np.intp] | None = None) -> Matrix:
    """Return the reweighting of the ℓ2,1 norm, the diagonal 1 / (2 √(Σⱼ wᵢⱼ² + eps)).

    With ``R = np.diag(irls21(W))``, ``tr(W'RW)`` is, up to a constant, an upper bound of the
    smoothed norm Σᵢ √(Σⱼ wᵢⱼ² + eps), with equality at W. The objective ``‖XW - Y‖² + l ‖W‖₂,₁``
    takes ``l R`` in ``(X'X + l R) W = X'Y``; with ``½ ‖XW - Y‖²`` it takes ``2 l R``.

    Parameters
    ----------
    W : array of shape (d, c)
    eps : float, default=1e-08
        Added inside the root, which makes the norm differentiable at 0.
    groups : int array of shape (d,), optional
        Group number of each row, starting at 0. The norm is then taken over whole groups, and
        every row gets the weight of its group. By default, each row is its own group.

    Returns
    -------
    array of shape (d,)
    """
    squares = np.sum(W**2, axis=1)
    if groups is not None:
        squares = np.bincount(groups, weights=squares)[groups]
    return 0.5 / np.sqrt(squares + eps)


# Default share of the weight from which on no feature is left. On the tasks of
# benchmarks/defaults.py, half and one and a half of it retrieve about as well.
_SHARE = 0.1


def feature_weight(XY: Matrix, groups: NDArray[np.intp] | None = None) -> float:
    """Return the default weight l of the ℓ2,1 norm in ``‖XW - Y‖² + l ‖W‖₂,₁``.

    W = 0 is the solution exactly if l is at least ``2 max_i ‖(X'Y)_i‖``; the default is a tenth of
    this. It grows with the number of rows and with the units of X, so that the solution depends on
    neither.

    Parameters
    ----------
    XY : array of shape (d, c)
        X'Y.
    groups : int array of shape (d,), optional
        As in `irls21`.

    Returns
    -------
    float
    """
    squares = np.sum(XY**2, axis=1)
    if groups is not None:
        squares = np.bincount(groups, weights=squares)
    return float(_SHARE * 2 * np.sqrt(squares.max()))


@_on_few_threads
def leading_svd(C: Matrix, k: int | None = None) -> tuple[Matrix, Matrix, Matrix]:
    """Return U, s and V of the k largest singular values: ``C ~ U diag(s) V'``.

    Parameters
    ----------
    C : array of shape (p, q)
    k : int, optional
        Number of singular values; all of them by default. A small share of them is computed
        several times faster than the whole decomposition.

    Returns
    -------
    U : array of shape (p, k)
    s : array of shape (k,)
        Descending.
    V : array of shape (q, k)
    """
    m = min(C.shape)
    k = m if k is None else min(k, m)
    if k <= m // 8:
        tall = C if len(C) >= C.shape[1] else C.T
        size = max(float(np.abs(tall).max()), np.finfo(float).tiny)  # keeps squares in range
        tall = tall / size
        _, V = scipy.linalg.eigh(tall.T @ tall, subset_by_index=(m - k, m - 1))
        Q, R = scipy.linalg.qr(tall @ V, mode="economic")
        u, s, vt = scipy.linalg.svd(R)
        # Squaring makes small singular values inaccurate, and LAPACK may return fewer than
        # requested if many are equal: then the matrix itself is decomposed.
        if len(s) == k and s[-1] > 1e-3 * s[0]:
            U, V = Q @ u, V @ vt.T
            return (U, s * size, V) if tall.shape == C.shape else (V, s * size, U)
    U, s, Vt = scipy.linalg.svd(C, full_matrices=False)
    return U[:, :k], s[:k], Vt[:k].T


def kept_components(method: Any, largest: int, limit: str = "the views' rank allows") -> int:
    """Return how many components a method keeps, with a warning if fewer than requested.

    Parameters
    ----------
    method : CrossModalEstimator
        Its ``n_components`` is the number requested; None requests `largest`.
    largest : int
        Number of components that there are at most.
    limit : str, default="the views' rank allows"
        The reason of the limit, as the warning states it.
    """
    wanted = method.n_components
    if wanted is not None and wanted > largest:
        warn(
            f"{type(method).__name__}: n_components={wanted} is more than {limit}; {largest} are "
            "kept"
        )
    return largest if wanted is None else min(int(wanted), largest)


# The products of products of larger values overflow in float64.
_LARGEST = 1e75


def check_range(method: CrossModalEstimator, views: Views) -> None:
    """Raise a RangeError if products of values would overflow; views are named by role."""
    for role in views.names:
        values = views.distinct(role)[0]
        data = values.data if sp.issparse(values) else values
        if np.prod(data.shape) and _eps(data) <= np.finfo(float).eps:
            largest = max(float(data.max()), -float(data.min()))
            if largest > _LARGEST:
                raise RangeError(
                    f"{type(method).__name__}: view {method.views_in_[role]!r} holds values up to "
                    f"{largest:.0e}, whose products leave the range of float64: divide its "
                    "columns by constants first"
                )


# Correlations closer to 1 than this count as perfect.
_PERFECT = 1e-4


def warn_of_perfect_fit(
    method: CrossModalEstimator,
    n: float,
    ranks: Mapping[str, int],
    largest: Callable[[str, str], float],
) -> None:
    """Warn if views correlate perfectly whatever their values because there are too few rows.

    After centring, n rows span n - 1 dimensions. Two views share directions in this space if
    their ranks add up to more than n - 1.

    Parameters
    ----------
    method : CrossModalEstimator
    n : int or float
        Number of rows in the fit, or the sum of their weights.
    ranks : dict of str to int
        Number of dimensions in which each view varies, by role, as far as it is known.
    largest : callable
        Function from two roles to their largest correlation. It is called only if the ranks allow
        a perfect one, which a ridge prevents.
    """
    for x, z in combinations(ranks, 2):
        p, q = (min(ranks[role], n - 1) for role in (x, z))
        if p + q > n - 1 and largest(x, z) > 1 - _PERFECT:
            warn(
                f"{type(method).__name__}: {n} rows are too few to learn from: views of rank {p} "
                f"({method.views_in_[x]}) and {q} ({method.views_in_[z]}) correlate perfectly in "
                f"{p + q - n + 1} directions whatever they hold; more rows, fewer columns or a "
                "larger ridge (reg) are needed"
            )
            return
