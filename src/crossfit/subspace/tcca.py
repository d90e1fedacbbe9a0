"""Tensor canonical correlation analysis: one moment of all views at once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import integer, mapping_of, one_of, real
from crossfit._warnings import warn
from crossfit.subspace import cards
from crossfit.subspace._joint import machine_memory
from crossfit.subspace._linalg import (
    CHUNK,
    REG_STYLES,
    Matrix,
    Moments,
    affine,
    check_range,
    dense,
    eigh,
    fix_signs,
    kept_components,
    leading_svd,
    regularised,
    warn_of_perfect_fit,
    whiten,
)
from crossfit.subspace._span import narrowed
from crossfit.subspace._weighted import Weighted
from crossfit.views import Views, as_numpy

__all__ = ["TCCA"]

# Default number of terms.
_N_TERMS = 20

# Numbers held by the products of a chunk of rows.
_ROOM = 2**24


class TCCA(Weighted):
    """Tensor canonical correlation analysis (TCCA).

    CCA of more than two views adds up the correlations of pairs of views. TCCA takes the moment of
    all views at once: with the whitened rows ``z_i = W_i'(x_i - mean)``, where ``W_i`` whitens
    ``S_ii + r I``, the tensor ``M = Σ z_1 ∘ z_2 ∘ ... ∘ z_m / (n - 1)`` is approximated by the sum
    of k terms ``ρ u_1 ∘ u_2 ∘ ... ∘ u_m`` with unit vectors u, the CP decomposition, and the
    directions of a view are ``W_i u_i``. For two views M is the whitened cross-covariance, its
    terms are singular vectors, and the result is that of `CCA`.

    Parameters
    ----------
    n_components : int, optional
        Number of terms, at most the smallest rank of a view; by default 20, or the rank if it is
        smaller. With more than two views the terms depend on their number.
    reg : float or mapping of str to float, default=1.0
        Amount of regularisation, for all views or for each by role (or view name); by default, as
        much as the mean variance of the view's columns.
    reg_style : {"relative", "ridge", "shrink", "spectral"}, default="relative"
        As in `CCA`.
    power : float, default=0.0
        Scale every dimension by the size of its term, ``|ρ|``, raised to this power.
    standardize : bool, default=False
        Scale every column by its training standard deviation first.
    max_iter : int, default=500
        Largest number of rounds of alternating least squares, with more than two views.
    tol : float, default=1e-06
        The rounds end when one reduces the error of the approximation by less than this share of
        the size of M.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    correlations_ : array of shape (n_components,)
        ρ of every term, by descending size; for two views the canonical correlations. With an odd
        number of views ρ may be negative, because the signs of the directions are those with which
        the scores of all views correlate positively with those of the first.
    weights_ : dict of str to array of shape (d, n_components)
        By role; ``transform`` is ``(x - mean) @ weights``.
    means_ : dict of str to array of shape (d,)
        Training means by role.
    n_components_ : int
        Dimensions of the common space.
    n_iter_ : int
        Rounds of alternating least squares; 0 for two views.

    Raises
    ------
    MemoryError
        If the tensor, of as many numbers as the product of the numbers of columns, does not fit
        into memory.

    See Also
    --------
    CCA : Correlations of pairs of views.
    GCCA : One representation that every view predicts.

    Notes
    -----
    The tensor costs O(n d_1 d_2 ... d_m) and as much memory as its size. Reduce views of many
    columns by PCA first: with 100 columns each, three views take 8 MB. Rows are read twice, in
    chunks. Moments of three views are zero for symmetric distributions, so that TCCA needs skewed
    features, such as histograms, activations or class indicators. The least squares start at the
    leading singular vectors of the unfolded tensor and find a local optimum.

    References
    ----------
    Y. Luo, D. Tao, K. Ramamohanarao, C. Xu and Y. Wen, Tensor canonical correlation analysis for
    multi-view dimension reduction, IEEE TKDE 27(11), 2015. Alternating least squares: T. G. Kolda
    and B. W. Bader, Tensor decompositions and applications, SIAM Review 51, 2009, section 3.4.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> from crossfit.subspace import TCCA
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.exponential(size=(300, 2))
    >>> parts = [Z @ rng.normal(size=(2, d)) for d in (4, 3, 2)]
    >>> views = Views(image=parts[0], text=parts[1], sound=parts[2])
    >>> tcca = TCCA(n_components=2, reg=0).fit(views[:200])
    >>> bool(tcca.score(views[200:]) > 0.99)
    True
    """

    card = cards.TCCA

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [integer(1), None],
        "reg": [real(0, closed="left"), mapping_of(real(0, closed="left"))],
        "reg_style": [one_of(*REG_STYLES)],
        "power": [real(0, closed="left")],
        "standardize": ["boolean"],
        "max_iter": [integer(1)],
        "tol": [real(0, closed="left")],
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        reg: float | Mapping[str, float] = 1.0,
        reg_style: str = "relative",
        power: float = 0.0,
        standardize: bool = False,
        max_iter: int = 500,
        tol: float = 1e-6,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.reg = reg
        self.reg_style = reg_style
        self.power = power
        self.standardize = standardize
        self.max_iter = max_iter
        self.tol = tol
        self.views = views

    def _fit(
        self, views: Views, y: NDArray[Any] | None, weights: NDArray[np.float64] | None = None
    ) -> None:
        roles = list(views.names)
        amounts = {role: float(self._of_view("reg", role)) for role in roles}
        self._check_room(views)
        check_range(self, views)
        narrow, spans = narrowed(views, self.standardize, weights=weights)
        moments = Moments()
        least = min(amounts.values()) if self.reg_style in ("relative", "spectral") else 0.0
        moments.update(narrow, least, weights=weights)
        S, blocks = moments.covariance(), dict(zip(roles, moments.blocks()))
        means, W = dict(zip(roles, moments.means())), {}
        for role, rounding in zip(roles, moments.rounding()):
            own = S[blocks[role], blocks[role]]
            if not np.any(np.diag(own) > 0):
                raise ValueError(
                    f"TCCA: view {self._view_name(role)!r} is constant: it has no variance to "
                    "correlate"
                )
            scale = np.ones(len(own))
            if self.standardize and role not in spans:  # a span was scaled before it was mapped
                scale = np.sqrt(np.where(np.diag(own) > 0, np.diag(own), 1.0))
            own = own / np.outer(scale, scale)
            ridged = regularised(own, amounts[role], self.reg_style, self.n_features_in_[role])
            W[role] = whiten(ridged, tol=10 * rounding) / scale[:, None]

        def crossed(a: str, b: str) -> Matrix:
            return np.asarray(W[a].T @ S[blocks[a], blocks[b]] @ W[b])

        ranks = {role: w.shape[1] for role, w in W.items()}
        k = kept_components(self, min(ranks.values()))
        k = min(k, _N_TERMS) if self.n_components is None else k
        warn_of_perfect_fit(
            self, moments.n, ranks, lambda a, b: float(np.linalg.norm(crossed(a, b), 2))
        )
        self.n_iter_ = 0
        if len(roles) == 2:
            u, rho, v = leading_svd(crossed(*roles), k)
            factors = [u, v]
        else:
            rho, factors = self._terms(_moment(narrow, means, W, weights), k)
            # The signs of two directions of a term may change together.
            first = roles[0]
            for i, role in enumerate(roles[1:], 1):
                agreement = np.sum(factors[0] * (crossed(first, role) @ factors[i]), axis=0)
                signs = np.where(agreement < 0, -1.0, 1.0)
                factors[i], rho = factors[i] * signs, rho * signs
        maps = [W[role] @ u for role, u in zip(roles, factors)]
        for i, role in enumerate(roles):
            if role in spans:
                maps[i], means[role] = spans[role].weights(maps[i]), spans[role].mean
        self.correlations_, self.n_components_, self.means_ = rho, k, means
        weighting = np.abs(rho) ** self.power
        self.weights_ = {role: w * weighting for role, w in zip(roles, fix_signs(maps))}

    def _check_room(self, views: Views) -> None:
        """Raise a MemoryError before the tensor exceeds the machine's memory."""
        sizes = [min(views.distinct(name)[0].shape) for name in views.names]
        # The tensor, and a copy unfolded.
        needed, there = 2 * 8 * float(np.prod(sizes, dtype=float)), machine_memory()
        if len(sizes) > 2 and needed > there:
            raise MemoryError(
                f"TCCA: needs a tensor of {' x '.join(map(str, sizes))} numbers, "
                f"{needed / 1e9:.0f} GB, but there are {there / 1e9:.0f} GB of memory; reduce the "
                "columns of each view first, by ViewTransformer([(name, PCA(100)), ...])"
            )

    def _terms(self, M: NDArray[Any], k: int) -> tuple[Matrix, list[Matrix]]:
        """Return ρ, by descending size, and unit vectors of every axis."""
        m, size = M.ndim, float(np.linalg.norm(M))
        unfolded = [np.moveaxis(M, i, 0).reshape(len(M) if i == 0 else M.shape[i], -1)
                    for i in range(m)]  # fmt: skip
        U = [eigh(part @ part.T)[1][:, ::-1][:, :k] for part in unfolded]
        rho, before = np.ones(k), np.inf
        for n_iter in range(1, self.max_iter + 1):
            self.n_iter_ = n_iter
            for i in range(m):
                others = [U[j] for j in range(m) if j != i]
                G = np.prod([u.T @ u for u in others], axis=0)
                R = unfolded[i] @ reduce(_khatri_rao, others)
                u = R @ np.linalg.pinv(G, hermitian=True)
                rho = np.linalg.norm(u, axis=0)
                U[i] = u / np.where(rho > 0, rho, 1.0)
            # ‖M - M̂‖² without M̂; R is that of the last axis, and u = U ρ.
            error = size**2 - 2 * np.sum(R * u) + np.sum(G * (u.T @ u))
            if before - error <= self.tol * size**2:
                break
            before = error
        else:
            warn(
                f"TCCA: the terms were still changing after {self.max_iter} rounds; increase "
                "max_iter or tol, or decrease n_components"
            )
        order = np.argsort(-rho, kind="stable")
        return rho[order], [u[:, order] for u in U]

    def _encode(self, values: Any, view: str) -> Any:
        return affine(values, self.means_[view], self.weights_[view])


def _khatri_rao(A: Matrix, B: Matrix) -> Matrix:
    """Return the products of all entries of matching columns, shape (a * b, k)."""
    return np.asarray((A[:, None] * B).reshape(-1, A.shape[1]))


def _moment(
    views: Views,
    means: Mapping[str, Matrix],
    W: Mapping[str, Matrix],
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the moment of all whitened views, in float64."""
    shape = [W[name].shape[1] for name in views.names]
    M = np.zeros((int(np.prod(shape[:-1])), shape[-1]))
    step = max(1, min(CHUNK, _ROOM // len(M)))
    for start in range(0, len(views), step):
        chunk = views[start : start + step]
        parts: list[Matrix] = [
            ((as_numpy(dense(chunk[name])) - means[name]) @ W[name]).T for name in views.names
        ]
        if weights is not None:
            parts[-1] *= weights[start : start + step]
        M += reduce(_khatri_rao, parts[:-1]) @ parts[-1].T
    n = len(views) if weights is None else weights.sum()
    return (M / (n - 1)).reshape(shape)
