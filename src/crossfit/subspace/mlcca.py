"""Multi-label canonical correlation analysis: all pairs of items, weighted by their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from crossfit._arguments import integer, one_of, real
from crossfit.base import CrossModalEstimator
from crossfit.subspace import cards
from crossfit.subspace._joint import indicator
from crossfit.subspace._linalg import (
    CHUNK,
    Matrix,
    affine,
    check_range,
    dense,
    fix_signs,
    kept_components,
    rounding,
    svd,
    warn_of_perfect_fit,
    whiten,
)
from crossfit.subspace._span import narrowed
from crossfit.views import Views, as_numpy

__all__ = ["MLCCA"]

# Number of label similarities held at a time: 32 MiB.
BLOCK = 1 << 22


class MLCCA(CrossModalEstimator):
    """Multi-label canonical correlation analysis (ml-CCA), exact and fast variants.

    Instead of the given pairs, every x is correlated with every z, weighted by the similarity of
    their labels: maximises ``a' Cxz b`` subject to ``a' Cxx a = b' Czz b = 1`` with

    ``Cxz = 1/N Σ_ij f(y_i, y_j) (x_i - mx)(z_j - mz)'``, ``N = Σ_ij f(y_i, y_j)``,

    and the means and covariances of the same weighted pairs, in which x_i has the weight
    ``Σ_j f(y_i, y_j) / N``. The pairing is used only through the labels. If only ``f(y_i, y_i)``
    is not 0, this is CCA.

    Parameters
    ----------
    n_components : int, optional
        Dimensions of the common space; as many as the rank allows by default.
    label_similarity : {"exponential", "cosine"}, default="exponential"
        ``f = exp(-‖y_i - y_j‖² / sigma)`` (for 0/1 labels, of the number of labels that differ), or
        ``f = y_i'y_j / (‖y_i‖ ‖y_j‖)``, which ignores items without labels. With one label per
        row and ``"cosine"``, all pairs of a class have the same weight (cluster CCA).
    sigma : float, default=1.0
        Width of the exponential.
    n_neighbors : int, optional
        Selects the fast variant: f is 0 except between a label set and this number of nearest sets
        of the training data, including itself. All sets by default, which is the exact method.
    reg : float, default=0.25
        Multiple of the mean variance that is added to the variances of each view.
    standardize : bool, default=False
        Divide every column by its (weighted) training standard deviation first.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    correlations_ : array of shape (n_components,)
        Canonical correlations of the weighted pairs, descending.
    weights_ : dict of str to array of shape (d, n_components)
        By role; ``transform`` is ``(x - mean) @ weights``.
    means_ : dict of str to array of shape (d,)
        Weighted training means by role.
    classes_ : array of shape (n_classes,)
        Labels; for an indicator, the numbers of its columns, without empty ones.
    n_components_ : int
        Dimensions of the common space.

    See Also
    --------
    CCA : Correlates the given pairs only.
    CCA3V : Uses labels as a third view.

    Notes
    -----
    f depends only on the label sets, so sums over the items of each set suffice. The covariances
    cost O(n d²), then O(u² (c + d)) for u ≤ n distinct sets of c labels, and the decompositions
    O(d³). The fast variant costs O(u k d) plus the search for neighbours. Rows are read twice, in
    chunks; no n x n matrix is held. If only one of two sets is a neighbour of the other, their f
    is halved. For a view with more columns than items, and more than 1024, d is the number of
    items.

    References
    ----------
    V. Ranjan, N. Rasiwasia and C. V. Jawahar, Multi-label cross-modal retrieval, ICCV 2015. The
    covariances within a view, which we could not check against the paper, are those of the weighted
    pairs, so that the method is exactly the CCA of all pairs with their weights.
    """

    card = cards.MLCCA

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [integer(1), None],
        "label_similarity": [one_of("exponential", "cosine")],
        "sigma": [real(0)],
        "n_neighbors": [integer(1), None],
        "reg": [real(0, closed="left")],
        "standardize": ["boolean"],
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        label_similarity: str = "exponential",
        sigma: float = 1.0,
        n_neighbors: int | None = None,
        reg: float = 0.25,
        standardize: bool = False,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.label_similarity = label_similarity
        self.sigma = sigma
        self.n_neighbors = n_neighbors
        self.reg = reg
        self.standardize = standardize
        self.views = views

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        check_range(self, views)
        assert y is not None
        self.classes_, Y = indicator(self, y)
        sets, set_of_row, counts = np.unique(Y, axis=0, return_inverse=True, return_counts=True)
        set_of_row = set_of_row.ravel()
        F = self._weights_between(sets)
        mass = F(counts[:, None].astype(np.float64))[:, 0]  # of a row with these labels
        N = float(mass @ counts)
        # A row is a pair: an image with five captions counts five times in the covariances.
        row_weights = (mass / N)[set_of_row] * len(views)
        narrow, spans = narrowed(views, self.standardize, weights=row_weights)
        sums = {role: _Sums(narrow, role, set_of_row, mass / N) for role in views.names}
        T = {}
        for role, part in sums.items():
            deviations = np.sqrt(np.diag(part.covariance))
            if not np.any(deviations > 0):
                raise ValueError(
                    f"MLCCA: view {self._view_name(role)!r} is constant: it has no variance to "
                    "correlate"
                )
            scale = np.ones(len(deviations))
            if self.standardize and role not in spans:
                scale = np.where(deviations > 0, deviations, 1.0)
            S = part.covariance / np.outer(scale, scale)
            ridge = self.reg * np.trace(S) / self.n_features_in_[role]
            T[role] = whiten(S + ridge * np.eye(len(S)), tol=10 * part.rounding) / scale[:, None]
        first, second = views.names
        Cxz = sums[first].by_set.T @ F(sums[second].by_set) / N
        U, D, Vt = svd(T[first].T @ Cxz @ T[second], full_matrices=False)
        floor = 10 * max(part.rounding for part in sums.values())
        rank = int(np.sum(floor < D))
        if rank == 0:
            raise ValueError("MLCCA: the two views have no correlation within the labels")
        k = kept_components(self, rank)
        ranks = {role: part.shape[1] for role, part in T.items()}
        warn_of_perfect_fit(self, len(views), ranks, lambda x, z: float(D[0]))
        weights = {first: T[first] @ U[:, :k], second: T[second] @ Vt[:k].T}
        for role, span in spans.items():
            weights[role] = span.weights(weights[role])
        A, B = fix_signs([weights[first], weights[second]])
        self.means_: dict[str, Matrix] = {
            role: spans[role].mean if role in spans else part.mean for role, part in sums.items()
        }
        self.correlations_ = D[:k]
        self.n_components_ = k
        self.weights_: dict[str, Matrix] = {first: A, second: B}

    def _encode(self, values: Any, view: str) -> Any:
        return affine(values, self.means_[view], self.weights_[view])

    def _weights_between(self, sets: NDArray[Any]) -> Callable[[Matrix], Matrix]:
        """Return the function M -> F M, for label similarities F (u, u) and M of shape (u, q)."""
        sets = sets.astype(np.float64)
        if self.label_similarity == "cosine":
            norms = np.linalg.norm(sets, axis=1, keepdims=True)
            sets = np.divide(sets, norms, out=np.zeros_like(sets), where=norms > 0)
        if self.n_neighbors is not None:
            k = min(self.n_neighbors, len(sets))
            distances, nearest = NearestNeighbors(n_neighbors=k).fit(sets).kneighbors(sets)
            f = self._of_squares(distances**2)
            if self.label_similarity == "cosine":  # vectors have unit length or are all zeros
                some = np.any(sets > 0, axis=1)
                f = f * (some[:, None] & some[nearest])
            indptr = np.arange(0, len(sets) * k + 1, k)
            F = sp.csr_array((f.ravel(), nearest.ravel(), indptr), shape=(len(sets), len(sets)))
            F = (F + F.T) / 2
            return lambda M: F @ M

        def product(M: Matrix) -> Matrix:
            found = np.empty(M.shape)
            step = max(1, BLOCK // len(sets))
            for start in range(0, len(sets), step):
                some = slice(start, start + step)
                if self.label_similarity == "cosine":
                    f = sets[some] @ sets.T
                else:
                    f = self._of_squares(cdist(sets[some], sets, "sqeuclidean"))
                found[some] = f @ M
            return found

        return product

    def _of_squares(self, squares: Matrix) -> Matrix:
        """Return f for squared distances of label sets (of unit length for the cosine)."""
        if self.label_similarity == "cosine":
            return 1 - squares / 2
        return np.exp(-squares / self.sigma)


class _Sums:
    """Weighted mean and covariance of a view, and its centred sums over the rows of each label set.

    Centring on the first row's value makes a constant column exactly zero.
    """

    def __init__(
        self, views: Views, role: str, set_of_row: NDArray[np.intp], weight_of_set: Matrix
    ) -> None:
        u = len(weight_of_set)
        first = as_numpy(dense(views[:1][role]))[0]
        shift = first.astype(np.float64)

        def chunks() -> Iterator[tuple[Matrix, sp.csr_array]]:
            for start in range(0, len(views), CHUNK):
                rows = slice(start, start + CHUNK)
                values = as_numpy(dense(views[rows][role])) - shift
                sets = set_of_row[rows]
                ones = np.ones(len(sets))
                yield values, sp.csr_array((ones, (sets, np.arange(len(sets)))), (u, len(sets)))

        sums = sum(member @ values for values, member in chunks())
        offset = weight_of_set @ sums
        self.mean = shift + offset
        self.by_set = np.zeros((u, len(shift)))
        self.covariance = np.zeros((len(shift), len(shift)))
        for values, member in chunks():
            values = values - offset
            self.by_set += member @ values
            self.covariance += values.T @ ((member.T @ weight_of_set)[:, None] * values)
        eps = float(np.finfo(first.dtype).eps)
        self.rounding = rounding(eps, self.mean, np.diag(self.covariance))
