"""Sparse canonical correlation analysis by penalised matrix decomposition (PMD)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from sklearn.utils.validation import check_is_fitted

from crossfit._arguments import integer, mapping_of, real, shown
from crossfit._warnings import warn
from crossfit.subspace import cards
from crossfit.subspace._joint import joint_covariance
from crossfit.subspace._linalg import Matrix, affine, eigh, fix_signs, kept_components, leading_svd
from crossfit.subspace._weighted import Weighted
from crossfit.views import Views

__all__ = ["SparseCCA"]

# Default number of components.
_N_COMPONENTS = 32


class SparseCCA(Weighted):
    """Sparse canonical correlation analysis by penalised matrix decomposition (PMD).

    One component at a time, finds unit vectors u_i of all views that maximise
    ``Σ_{i<j} u_i' K_ij u_j`` subject to ``‖u_i‖₁ ≤ c_i sqrt(d_i)``, where K is the correlation (or
    covariance) of the columns of two views and d_i the number of columns. The bounds make most
    entries of u_i zero, so that a component consists of a few features of every view. The
    u_i are updated in turn, ``u_i = S(Σ_j K_ij u_j, Δ)`` scaled to unit length, where S
    thresholds softly by the smallest Δ ≥ 0 that meets the bound; then the component is subtracted,
    ``K_ij <- K_ij - (u_i' K_ij u_j) u_i u_j'``. Within a view, columns are treated as
    uncorrelated, as published.

    Parameters
    ----------
    n_components : int, optional
        Dimensions of the common space, at most the smallest number of columns of a view; by default
        32, or that number if it is smaller.
    l1 : float or mapping of str to float, default=0.5
        Bound c, larger than 0 and at most 1, for all views or for each by role (or view name). 1
        sets nothing to zero; a bound below 1 / sqrt(d) keeps one column, as 1 / sqrt(d) does.
    power : float, default=0.0
        Scale every dimension by its covariance raised to this power.
    standardize : bool, default=True
        Scale every column by its training standard deviation first, as published.
    max_iter : int, default=500
        Largest number of rounds per component.
    tol : float, default=1e-06
        The rounds end when no u_i changes by more than this.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    covariances_ : array of shape (n_components,)
        ``u_i' K_ij u_j`` of each component, the mean over the pairs of views.
    directions_ : dict of str to array of shape (d, n_components)
        u, by role: unit columns, zero for the features that were not chosen.
    weights_ : dict of str to array of shape (d, n_components)
        By role; ``transform`` is ``(x - mean) @ weights``.
    means_ : dict of str to array of shape (d,)
        Training means by role.
    n_components_ : int
        Dimensions of the common space.
    n_iter_ : int
        Most rounds of a component.

    See Also
    --------
    features : The chosen features of a component.
    PLS : The same without bounds, on covariances.
    CCA : Regularised by a ridge; every feature has a weight.

    Notes
    -----
    The correlations cost O(n d²), where d is the number of columns of all views together; O(d²)
    numbers are held in memory. A round costs O(d²). Rows are read once, in chunks. The start is the
    leading singular vectors; a local optimum is found. Tensors are processed on their device and
    returned as tensors.

    References
    ----------
    D. M. Witten, R. Tibshirani and T. Hastie, A penalized matrix decomposition, with applications
    to sparse principal components and canonical correlation analysis, Biostatistics 10, 2009,
    algorithms 2 and 3. More than two views: D. M. Witten and R. Tibshirani, Extensions of sparse
    canonical correlation analysis with applications to genomic data, SAGMB 8, 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit.subspace import SparseCCA
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(200, 20)), rng.normal(size=(200, 10))
    >>> X[:, 3] += 3 * Y[:, 7]
    >>> sparse = SparseCCA(n_components=1, l1=0.3).fit(X, Y)
    >>> sparse.features("image")[0][0], sparse.features("text")[0][0]
    (3, 7)
    """

    card = cards.SPARSE_CCA

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [integer(1), None],
        "l1": [real(0, 1, closed="right"), mapping_of(real(0, 1, closed="right"))],
        "power": [real(0, closed="left")],
        "standardize": ["boolean"],
        "max_iter": [integer(1)],
        "tol": [real(0, closed="left")],
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        l1: float | Mapping[str, float] = 0.5,
        power: float = 0.0,
        standardize: bool = True,
        max_iter: int = 500,
        tol: float = 1e-6,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.l1 = l1
        self.power = power
        self.standardize = standardize
        self.max_iter = max_iter
        self.tol = tol
        self.views = views

    def _fit(
        self, views: Views, y: NDArray[Any] | None, weights: NDArray[np.float64] | None = None
    ) -> None:
        roles = list(views.names)
        share = {role: float(self._of_view("l1", role)) for role in roles}
        joint = joint_covariance(
            self, views, standardize=self.standardize, ridge=1.0, apart=True, weights=weights
        )
        bounds = {r: max(1.0, share[r] * np.sqrt(len(joint(r)))) for r in roles}
        K = {(a, b): joint(a, b).copy() for a, b in combinations(roles, 2)}
        # Rounding produces covariances of about this size even if the true ones are zero.
        traces = [np.trace(joint(role)) for role in roles]
        floor = 10 * joint.eps * max(a * b for a, b in combinations(traces, 2)) ** 0.5
        found: dict[str, list[Matrix]] = {role: [] for role in roles}
        covariances: list[float] = []
        self.n_iter_ = 0
        k = kept_components(self, min(len(joint(role)) for role in roles))
        k = min(k, _N_COMPONENTS) if self.n_components is None else k
        while len(covariances) < k:
            u = self._component(K, bounds)
            d = {(a, b): float(u[a] @ K[a, b] @ u[b]) for a, b in K}
            if sum(d.values()) <= floor * len(K):
                break
            for a, b in K:
                K[a, b] -= d[a, b] * np.outer(u[a], u[b])
            covariances.append(float(np.mean(list(d.values()))))
            for role in roles:
                found[role].append(u[role])
        if not covariances:
            raise ValueError("SparseCCA: the views have no covariance")
        self.n_components_ = len(covariances)
        self.covariances_ = np.array(covariances)
        self.means_ = {role: joint.mean(role) for role in roles}
        directions = fix_signs([np.stack(found[role], axis=1) for role in roles])
        self.directions_ = dict(zip(roles, directions))
        weighting = self.covariances_**self.power
        self.weights_ = {
            role: joint.weights(role, u) * weighting for role, u in self.directions_.items()
        }

    def _component(
        self, K: Mapping[tuple[str, str], Matrix], bounds: Mapping[str, float]
    ) -> dict[str, Matrix]:
        """Return the unit vectors of the next component."""
        u = _start(K, list(bounds))
        for n_iter in range(1, self.max_iter + 1):
            self.n_iter_ = max(self.n_iter_, n_iter)
            changed = 0.0
            for role in bounds:
                pull = np.zeros(len(u[role]))
                for a, b in K:
                    if role == a:
                        pull += K[a, b] @ u[b]
                    elif role == b:
                        pull += K[a, b].T @ u[a]
                new = _bounded(pull, bounds[role])
                changed = max(changed, float(np.linalg.norm(new - u[role])))
                u[role] = new
            if changed <= self.tol:
                break
        else:
            warn(
                f"SparseCCA: a component was still changing after {self.max_iter} rounds; "
                "increase max_iter or tol"
            )
        return u

    def _encode(self, values: Any, view: str) -> Any:
        return affine(values, self.means_[view], self.weights_[view])

    def features(self, view: str, component: int = 0) -> list[tuple[int | str, float]]:
        """Return the chosen features of a component, by descending size of their entries in u.

        Parameters
        ----------
        view : str
            Name of a view.
        component : int, default=0
            Number of the component, from 0.

        Returns
        -------
        list of (column, entry)
            The column's number, or its name if the view was a DataFrame in `fit`.

        Raises
        ------
        ValueError
            If there is no such view or component.
        """
        check_is_fitted(self, "views_in_")
        role = self._role_of(view)
        if not isinstance(component, (int, np.integer)) or not (
            0 <= component < self.n_components_
        ):
            raise ValueError(
                f"component must be a number from 0 to {self.n_components_ - 1}, got "
                f"{shown(component)}"
            )
        u = self.directions_[role][:, component]
        names = getattr(self, "feature_names_in_", {}).get(role)
        order = np.argsort(-np.abs(u), kind="stable")[: np.count_nonzero(u)]
        return [(names[i] if names else int(i), float(u[i])) for i in order]


def _start(K: Mapping[tuple[str, str], Matrix], roles: list[str]) -> dict[str, Matrix]:
    """Return the unit vectors that maximise the sum of covariances without bounds."""
    if len(roles) == 2:
        U, _, V = leading_svd(K[roles[0], roles[1]], 1)
        return {roles[0]: U[:, 0], roles[1]: V[:, 0]}
    sizes = {a: len(part) for (a, _), part in K.items()}
    sizes |= {b: part.shape[1] for (_, b), part in K.items()}
    stops = np.cumsum([sizes[role] for role in roles])
    parts = {r: slice(int(stop) - sizes[r], int(stop)) for r, stop in zip(roles, stops)}
    M = np.zeros((stops[-1], stops[-1]))
    for a, b in K:
        M[parts[b], parts[a]] = K[a, b].T
    v = eigh(M, lower=True, subset_by_index=(len(M) - 1, len(M) - 1))[1][:, 0]
    return {r: v[part] / max(float(np.linalg.norm(v[part])), 1e-300) for r, part in parts.items()}


def _bounded(x: Matrix, bound: float) -> Matrix:
    """Return x, thresholded softly and scaled to unit length, with an ℓ1 norm up to `bound`."""
    size = float(np.linalg.norm(x))
    if size == 0:
        return x
    x = x / size

    def thresholded(delta: float) -> Matrix:
        made = np.sign(x) * np.maximum(np.abs(x) - delta, 0)
        norm = float(np.linalg.norm(made))
        return made / norm if norm else made

    if np.abs(x).sum() <= bound:
        return x
    top = float(np.abs(x).max())
    delta = brentq(lambda d: np.abs(thresholded(d)).sum() - bound, 0.0, top, xtol=1e-15)
    # At the largest entry nothing would be left.
    return thresholded(min(delta, np.nextafter(top, 0.0)))
