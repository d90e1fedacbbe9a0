"""Partial least squares between two views, by SVD (Bookstein) or canonical deflation (Wold)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import integer, one_of
from crossfit.subspace import cards
from crossfit.subspace._joint import joint_covariance
from crossfit.subspace._linalg import (
    Matrix,
    affine,
    fix_signs,
    kept_components,
    leading_svd,
)
from crossfit.subspace._weighted import Weighted
from crossfit.views import Views

__all__ = ["PLS"]


class PLS(Weighted):
    """Partial least squares (PLS).

    Finds unit vectors a, b of two views that maximise the covariance ``a' Sxz b`` of the scores,
    whereas CCA maximises their correlation.

    Parameters
    ----------
    n_components : int, optional
        Dimensions of the common space; as many as the ranks allow by default.
    mode : {"svd", "canonical"}, default="svd"
        ``"svd"`` (Bookstein, 1994): ``Sxz = U S V'``, ``A = U_k`` and ``B = V_k``; the directions
        of a view are orthonormal. ``"canonical"`` (Wold's mode A): one pair at a time, each view
        deflated by the regression on its own score, ``X <- X - t p'`` with ``t = X a`` and
        ``p = X't / t't``; the scores of a view are uncorrelated. The first pair is the same.
    standardize : bool, default=False
        Scale every column by its training standard deviation first.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    covariances_ : array of shape (n_components,)
        Covariance of each pair of training scores; descending with ``mode="svd"``.
    weights_ : dict of str to array of shape (d, n_components)
        By role; ``transform`` is ``(x - mean) @ weights``.
    means_ : dict of str to array of shape (d,)
        Training means by role.
    n_components_ : int
        Dimensions of the common space.

    See Also
    --------
    CCA : Maximises the correlation instead of the covariance.
    CFA : The same directions on standardised columns.

    Notes
    -----
    The covariances cost O(n d²), where d is the number of columns of both views together, and the
    decomposition O(p q min(p, q)), for each component with ``mode="canonical"``: deflation acts on
    the covariances and does not return to the rows. For a view with more columns than items, and
    more than 1024, d is the number of items. Rows are read in chunks. Tensors are processed on
    their device and returned as tensors.

    References
    ----------
    R. Rosipal and N. Krämer, Overview and recent advances in partial least squares, LNCS 3940,
    2006, sections 2 and 2.2. H. Wold, Path models with latent variables: the NIPALS approach,
    1975. F. L. Bookstein, Partial least squares: a dose-response model for measurement in the
    behavioral and brain sciences, Psycoloquy 5, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit.subspace import PLS
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal(size=(100, 2))
    >>> X, Y = Z @ rng.normal(size=(2, 5)), Z @ rng.normal(size=(2, 4))
    >>> pls = PLS().fit(X, Y)
    >>> pls.n_components_
    2
    >>> A = pls.weights_["image"]
    >>> bool(np.allclose(A.T @ A, np.eye(2)))
    True
    """

    card = cards.PLS

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [integer(1), None],
        "mode": [one_of("svd", "canonical")],
        "standardize": ["boolean"],
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        mode: str = "svd",
        standardize: bool = False,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.mode = mode
        self.standardize = standardize
        self.views = views

    def _fit(
        self, views: Views, y: NDArray[Any] | None, weights: NDArray[np.float64] | None = None
    ) -> None:
        S = joint_covariance(
            self,
            views,
            standardize=self.standardize,
            ridge=float(self.mode == "svd"),
            weights=weights,
        )
        x, z = views.names
        # Rounding produces covariances of about this size even if the true ones are zero.
        floor = 10 * S.eps * np.sqrt(np.trace(S(x)) * np.trace(S(z)))
        if self.mode == "svd":
            U, s, V = leading_svd(S(x, z), self.n_components)
            rank = int(np.sum(s > floor))
            A, B, s = U[:, :rank], V[:, :rank], s[:rank]
        else:
            A, B, s = _canonical(S(x), S(x, z), S(z), self.n_components, floor)
        if len(s) == 0:
            raise ValueError("PLS: the two views have no covariance")
        k = kept_components(self, len(s))
        A, B = fix_signs([S.weights(x, A), S.weights(z, B)])
        self.covariances_ = s
        self.n_components_ = k
        self.means_ = {role: S.mean(role) for role in (x, z)}
        self.weights_ = {x: A, z: B}

    def _encode(self, values: Any, view: str) -> Any:
        return affine(values, self.means_[view], self.weights_[view])


def _canonical(
    Sxx: Matrix, Sxz: Matrix, Szz: Matrix, k: int | None, floor: float
) -> tuple[Matrix, Matrix, Matrix]:
    """Return the directions of both views, for the original data, and the covariances."""
    k = min(Sxz.shape) if k is None else min(k, *Sxz.shape)
    A, B, covariances = np.empty((len(Sxz), 0)), np.empty((Sxz.shape[1], 0)), []
    P, Q = A, B
    for _ in range(k):
        U, s, V = leading_svd(Sxz, 1)
        if s[0] <= floor:
            break
        covariances.append(s[0])
        u, v = U[:, 0], V[:, 0]
        # The scores are computed from the deflated data; for the original data, the direction is
        # u minus the part explained by the earlier scores.
        A, B = np.c_[A, u - A @ (P.T @ u)], np.c_[B, v - B @ (Q.T @ v)]
        p, q = Sxx @ u / (u @ Sxx @ u), Szz @ v / (v @ Szz @ v)
        P, Q = np.c_[P, p], np.c_[Q, q]
        Sxz = Sxz - np.outer(p, u @ Sxz)
        Sxz = Sxz - np.outer(Sxz @ v, q)
        Sxx = Sxx - np.outer(p, p) * (u @ Sxx @ u)
        Szz = Szz - np.outer(q, q) * (v @ Szz @ v)
    return A, B, np.array(covariances)
