"""Cross-modal factor analysis: orthonormal maps that bring two views close together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import integer
from crossfit.subspace import cards
from crossfit.subspace._joint import joint_covariance
from crossfit.subspace._linalg import (
    affine,
    fix_signs,
    kept_components,
    leading_svd,
)
from crossfit.subspace._weighted import Weighted
from crossfit.views import Views

__all__ = ["CFA"]


class CFA(Weighted):
    """Cross-modal factor analysis (CFA).

    The objective is ``min ||X A - Z B||²`` subject to ``A'A = B'B = I``; the published solution
    is ``X'Z = U S V'``, ``A = U_k`` and ``B = V_k``.

    Parameters
    ----------
    n_components : int, optional
        Dimensions of the common space; by default the rank of ``X'Z``.
    center : bool, default=True
        Subtract the training means first; the method is then ``PLS(mode="svd")``. Without
        centring, the first direction is mostly that of the means.
    standardize : bool, default=True
        Divide every column by its training standard deviation, as the paper recommends.
        ``CFA(center=False, standardize=False)`` is the method on raw data.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    singular_values_ : array of shape (n_components,)
        The largest singular values of ``X'Z / (n - 1)``, descending.
    weights_ : dict of str to array of shape (d, n_components)
        By role; ``transform`` is ``(x - mean) @ weights``.
    means_ : dict of str to array of shape (d,)
        Vectors subtracted, by role: the training means, or zeros with ``center=False``.
    n_components_ : int
        Dimensions of the common space.

    See Also
    --------
    PLS : The same directions without standardisation, or with deflation.

    Notes
    -----
    The solution minimises the objective only if A and B are square: then both norms are
    constant and ``||X||² + ||Z||² - 2 Σ S`` is minimal. With fewer components, directions of
    low variance come closer together but carry less information; the truncated decomposition is
    what was published.

    Costs O(n d²), where d is the number of columns of both views together, and O(p q min(p, q)).
    For a view with more columns than items, and more than 1024, d is the number of items. Rows are
    read in chunks. Tensors are processed on their device and returned as tensors.

    References
    ----------
    D. Li, N. Dimitrova, M. Li and I. K. Sethi, Multimedia content processing through cross-modal
    association, ACM Multimedia, 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit.subspace import CFA, PLS
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 5))
    >>> Y = X @ rng.normal(size=(5, 4)) + rng.normal(size=(100, 4))
    >>> cfa, pls = CFA(standardize=False).fit(X, Y), PLS().fit(X, Y)
    >>> bool(np.allclose(cfa.weights_["text"], pls.weights_["text"]))
    True
    """

    card = cards.CFA

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [integer(1), None],
        "center": ["boolean"],
        "standardize": ["boolean"],
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        center: bool = True,
        standardize: bool = True,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.center = center
        self.standardize = standardize
        self.views = views

    def _fit(
        self, views: Views, y: NDArray[Any] | None, weights: NDArray[np.float64] | None = None
    ) -> None:
        S = joint_covariance(
            self,
            views,
            standardize=self.standardize,
            ridge=1.0,
            center=self.center,
            weights=weights,
        )
        x, z = views.names
        # By role: X'Z and the two traces that determine the size of rounding errors.
        products = {pair: S(*pair) for pair in ((x, z), (x, x), (z, z))}
        self.means_ = {role: S.mean(role) for role in (x, z)}
        centred = {role: np.trace(S(role)) for role in (x, z)}
        if not self.center:
            means = {role: S.means[role] / S.scales[role] for role in (x, z)}
            share = S.n / (S.n - 1)
            for a, b in products:
                products[a, b] = products[a, b] + share * np.outer(means[a], means[b])
            self.means_ = {role: np.zeros(self.n_features_in_[role]) for role in (x, z)}
        # The sums, and so their rounding errors, are centred; the means are added in float64.
        whole = {role: np.trace(products[role, role]) for role in (x, z)}
        crossed = max(centred[x] * whole[z], centred[z] * whole[x])
        double = np.finfo(float).eps * np.sqrt(whole[x] * whole[z])
        floor = 10 * max(S.eps * np.sqrt(crossed), double)

        U, s, V = leading_svd(products[x, z], self.n_components)
        rank = int(np.sum(s > floor))
        if rank == 0:
            raise ValueError("CFA: the two views have no covariance")
        k = kept_components(self, rank)
        A, B = fix_signs([S.weights(x, U[:, :k]), S.weights(z, V[:, :k])])
        self.singular_values_ = s[:k]
        self.n_components_ = k
        self.weights_ = {x: A, z: B}

    def _encode(self, values: Any, view: str) -> Any:
        return affine(values, self.means_[view], self.weights_[view])
