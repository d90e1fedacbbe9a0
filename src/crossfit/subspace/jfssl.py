"""Joint feature selection and subspace learning with a multimodal graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit._arguments import integer, real
from crossfit.base import CrossModalEstimator
from crossfit.subspace import cards
from crossfit.subspace._graph import (
    gaussian,
    neighbor_graph,
    quadratic_form,
    standardized,
)
from crossfit.subspace._joint import indicator, joint_covariance
from crossfit.subspace._linalg import (
    Matrix,
    affine,
    feature_weight,
    irls21,
    ridge_solve,
)
from crossfit.views import Views

__all__ = ["JFSSL"]

# Added inside the roots of the l21 norm to make it differentiable.
EPS = 1e-8
LABELS = "label indicator"


class JFSSL(CrossModalEstimator):
    """Joint feature selection and subspace learning (JFSSL).

    Maps every view p to the class indicators Y. Whole rows of the map (features) are switched
    off, and items that are joined in a graph over all views are kept close together:

    ``min Σ_p ‖X_p W_p - Y‖² + l1 Σ_p ‖W_p‖₂,₁ + l2 Σ_pq tr(W_p' X_p' L_pq X_q W_q)``.

    ``L = D - W`` is the Laplacian of the graph of all items. Within a view, each item is joined to
    its nearest neighbours with Gaussian weights times `beta`; items of different views are joined
    with weight 1 if they have the same label. The degrees D sum over both kinds of edges.

    Given the reweighting R_p of the ℓ2,1 norm (half-quadratic optimisation), each map in turn is
    the solution of

    ``(X_p'X_p + l1 R_p + l2 X_p'L_pp X_p) W_p = X_p'Y - l2 Σ_{q≠p} X_p'L_pq X_q W_q``,

    which decreases the objective in every step.

    Parameters
    ----------
    l1 : float, optional
        Weight of the ℓ2,1 norms: feature selection. By default, a tenth of the smallest weight that
        would switch off all features of a view (without the graph), ``2 max_i ‖(X_p'Y)_i‖``.
    l2 : float, default=0.1
        Weight of the graph.
    beta : float, default=1.0
        Weight of the edges within a view, relative to the edges across views.
    n_neighbors : int, default=10
        Number of nearest neighbours within a view.
    max_iter : int, default=30
        Maximum number of rounds over the views.
    tol : float, default=1e-06
        Stop if a round decreases the objective by less than this share.
    standardize : bool, default=True
        Divide every column by its training standard deviation first, since the sparsity and the
        distances compare columns.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    weights_ : dict of str to array of shape (d, n_classes)
        By role; ``transform`` is ``(x - mean) @ weights``.
    means_ : dict of str to array of shape (d,)
        Training means by role.
    l1_ : float
        The weight of the ℓ2,1 norms.
    classes_ : array of shape (n_classes,)
        Classes, in the order of the common space's dimensions.
    objective_ : array of shape (n_rounds + 1,)
        The objective with smoothed norms, at the least-squares start and after each round; it
        never increases.

    See Also
    --------
    LCFS : Label regression with a trace norm in place of the graph.
    JRL : Graphs within each view, and unlabelled rows.

    Notes
    -----
    Views and Y are centred. The width of the Gaussian, which the paper leaves open, is the mean
    distance between neighbours. An edge has half the weight if only one of its items is a
    neighbour of the other. The graph joins distinct items, so that an image with five captions is
    not its own neighbour.

    The covariances cost O(n d²), the neighbours up to O(n² d), and each round O(d³); edges across
    views are summed by class instead of one by one. O(n d + n k) numbers are held in memory.

    References
    ----------
    K. Wang, R. He, L. Wang, W. Wang and T. Tan, Joint feature selection and subspace learning for
    cross-modal retrieval, IEEE TPAMI 38, 2016.
    """

    card = cards.JFSSL

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "l1": [real(0, closed="left"), None],
        "l2": [real(0, closed="left")],
        "beta": [real(0, closed="left")],
        "n_neighbors": [integer(1)],
        "max_iter": [integer(1)],
        "tol": [real(0, closed="left")],
        "standardize": ["boolean"],
    }

    def __init__(
        self,
        l1: float | None = None,
        l2: float = 0.1,
        *,
        beta: float = 1.0,
        n_neighbors: int = 10,
        max_iter: int = 30,
        tol: float = 1e-6,
        standardize: bool = True,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.l1 = l1
        self.l2 = l2
        self.beta = beta
        self.n_neighbors = n_neighbors
        self.max_iter = max_iter
        self.tol = tol
        self.standardize = standardize
        self.views = views

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        assert y is not None
        self.classes_, Y = indicator(self, y)
        joint = joint_covariance(self, views, {LABELS: Y}, standardize=self.standardize, apart=True)
        n, roles = joint.n - 1, views.names
        XX = {p: n * joint(p) for p in roles}
        XY = {p: n * joint(p, LABELS) for p in roles}
        self.l1_ = min(map(feature_weight, XY.values())) if self.l1 is None else float(self.l1)
        # L_pq = -W_pq = -S S' for the memberships S: X_p'L_pq X_q = -(X_p'S)(S'X_q), and X_p'S is
        # X_p'Y as X_p is centred.
        cross_degree = (len(roles) - 1) * (Y @ Y.sum(axis=0, dtype=np.float64))
        XLX = {}
        for p in roles:
            items, row_to_item = views.distinct(p)
            X = standardized(items, joint.means[p], joint.scales[p])
            edges = self.beta * neighbor_graph(X, self.n_neighbors, gaussian)
            degree = edges.sum(axis=1) + np.bincount(row_to_item, weights=cross_degree)
            XLX[p] = quadratic_form(X, sp.diags_array(degree).tocsr() - edges)

        W = {p: ridge_solve(XX[p], np.zeros(len(XX[p])), XY[p]) for p in roles}
        energy = n * np.trace(joint(LABELS))

        def objective() -> float:
            projected = [XY[p].T @ W[p] for p in roles]  # S'X_p W_p
            total = sum(projected)
            cross = np.sum(total**2) - sum(np.sum(part**2) for part in projected)
            return sum(
                np.sum(W[p] * (XX[p] @ W[p] - 2 * XY[p])) + energy
                + self.l1_ * np.sum(np.sqrt(np.sum(W[p] ** 2, axis=1) + EPS))
                + self.l2 * np.sum(W[p] * (XLX[p] @ W[p]))
                for p in roles
            ) - self.l2 * cross  # fmt: skip

        objectives = [objective()]
        for _ in range(self.max_iter):
            for p in roles:
                R = self.l1_ * irls21(W[p], EPS)
                coupling = sum(XY[p] @ (XY[q].T @ W[q]) for q in roles if q != p)
                W[p] = ridge_solve(XX[p], np.diag(R) + self.l2 * XLX[p], XY[p] + self.l2 * coupling)
            objectives.append(objective())
            if objectives[-2] - objectives[-1] <= self.tol * abs(objectives[-2]):
                break
        self.objective_ = np.array(objectives)
        self.means_: dict[str, Matrix] = {p: joint.means[p] for p in roles}
        self.weights_: dict[str, Matrix] = {p: W[p] / joint.scales[p][:, None] for p in roles}

    def _encode(self, values: Any, view: str) -> Any:
        return affine(values, self.means_[view], self.weights_[view])
