"""Learning coupled feature spaces: label regression with coupled feature selection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import integer, real
from crossfit._warnings import warn
from crossfit.base import CrossModalEstimator
from crossfit.subspace import cards
from crossfit.subspace._joint import indicator, joint_covariance
from crossfit.subspace._linalg import (
    affine,
    eigh,
    feature_weight,
    irls21,
    ridge_solve,
)
from crossfit.views import Views

__all__ = ["LCFS"]

LABELS = "label indicator"

# Added to the eigenvalues of M M' inside the root, which makes the trace norm smooth. Outside
# the span of M it acts as a ridge of l2 / sqrt(MU).
MU = 1e-6


class LCFS(CrossModalEstimator):
    """Learning coupled feature spaces (LCFS).

    Maps both views to the class indicators Y. The ℓ2,1 norms switch off whole features, and
    the trace norm of the stacked projections makes the projections of the two views similar:

    ``min ½ (‖XU - Y‖² + ‖ZV - Y‖²) + l1 (‖U‖₂,₁ + ‖V‖₂,₁) + l2 ‖[XU ZV]‖_*``.

    The solution takes half-quadratic steps: with ``M = [XU ZV]``, ``Q = (MM' + μI)^-½`` and
    ``R = diag(1 / (2 ‖u_i‖))``, alternate ``U ← (X'X + 2 l1 R + l2 X'QX)⁻¹ X'Y`` and the same
    for V with the same Q. The objective with smoothed norms never increases.

    Parameters
    ----------
    l1 : float, optional
        Weight of feature selection; a suitable value depends on the number of rows n. By default,
        a tenth of the smallest weight that would switch off all features of a view,
        ``max_i ‖(X'Y)_i‖``.
    l2 : float, default=0.001
        Weight of the trace norm.
    max_iter : int, default=30
        Maximum number of steps.
    tol : float, default=1e-06
        Stop if a step decreases the objective by less than this share.
    standardize : bool, default=True
        Divide every column by its training standard deviation first; without it the weights of
        the norms have little meaning.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    l1_ : float
        The weight of feature selection.
    classes_ : array of shape (n_classes,)
        Classes, or columns of the indicator, one per dimension of the common space.
    objective_ : array of shape (n_iter + 1,)
        The smoothed objective (without a constant) at the start, which is a ridge solution, and
        after every step.
    weights_ : dict of str to array of shape (d, n_classes)
        By role; ``transform`` is ``(x - mean) @ weights``.
    means_ : dict of str to array of shape (d,)
        Training means by role.

    See Also
    --------
    JFSSL : A graph over the items of all views in place of the trace norm.

    Notes
    -----
    Views and indicators are centred. Q is n x n and never formed: with ``M'M = Rot s² Rot'``
    only ``X'M Rot`` enters ``X'QX``. Rows are therefore read once, at O(n d²) for the covariances,
    and each step costs O(d³) for d columns of a view, whatever n. `fit` raises a MemoryError if
    O(d²) numbers do not fit into memory.

    References
    ----------
    K. Wang, R. He, W. Wang, L. Wang and T. Tan, Learning coupled feature spaces for cross-modal
    matching, ICCV 2013. That the trace norm applies to the concatenated projections is our reading.
    """

    card = cards.LCFS

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "l1": [real(0, closed="left"), None],
        "l2": [real(0, closed="left")],
        "max_iter": [integer(1)],
        "tol": [real(0, closed="left")],
        "standardize": ["boolean"],
    }

    def __init__(
        self,
        l1: float | None = None,
        l2: float = 1e-3,
        *,
        max_iter: int = 30,
        tol: float = 1e-6,
        standardize: bool = True,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.l1 = l1
        self.l2 = l2
        self.max_iter = max_iter
        self.tol = tol
        self.standardize = standardize
        self.views = views

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        assert y is not None
        self.classes_, Y = indicator(self, y)
        joint = joint_covariance(self, views, {LABELS: Y}, standardize=self.standardize, apart=True)
        n, roles = joint.n - 1, views.names
        x, z = roles
        XX = {p: n * joint(p) for p in roles}
        XY = {p: n * joint(p, LABELS) for p in roles}
        XZ = n * joint(x, z)
        YY = n * np.trace(joint(LABELS))
        # Half, because half the squared errors are minimised.
        self.l1_ = min(map(feature_weight, XY.values())) / 2 if self.l1 is None else float(self.l1)

        W = {p: ridge_solve(XX[p], np.full(len(XX[p]), self.l1_), XY[p]) for p in roles}
        objectives: list[float] = []
        while True:
            # M'M = Rot s² Rot' and X'M Rot for M = [XU ZV].
            XM = {
                x: np.hstack([XX[x] @ W[x], XZ @ W[z]]),
                z: np.hstack([XZ.T @ W[x], XX[z] @ W[z]]),
            }
            s2, Rot = eigh(np.vstack([W[p].T @ XM[p] for p in roles]))
            s = np.sqrt(np.maximum(s2, 0) + MU)
            R = {p: irls21(W[p]) for p in roles}
            residual = sum(np.sum(W[p] * (XX[p] @ W[p] - 2 * XY[p])) + YY for p in roles)
            # irls21 is 1 / (2 norm).
            norms = sum(np.sum(0.5 / R[p]) for p in roles)
            objectives.append(float(residual / 2 + self.l1_ * norms + self.l2 * np.sum(s)))
            if len(objectives) > self.max_iter or (
                len(objectives) > 1
                and objectives[-2] - objectives[-1] <= self.tol * abs(objectives[-2])
            ):
                break
            # Q = P diag(1 / s) P' + (I - PP') / √μ, with P = M Rot / singular values.
            inside = 1 / (np.sqrt(MU) * s * (np.sqrt(MU) + s))
            for p in roles:
                N = XM[p] @ Rot
                XQX = XX[p] / np.sqrt(MU) - (N * inside) @ N.T
                penalty = np.diag(2 * self.l1_ * R[p]) + self.l2 * XQX
                W[p] = ridge_solve(XX[p], penalty, XY[p])
        for p in roles:
            if np.sum(W[p] * (XX[p] @ W[p])) < 1e-6 * YY:
                warn(
                    f"LCFS: no feature of view {self._view_name(p)!r} is left; decrease l1 or l2, "
                    "which are too large for its units"
                )
        self.objective_ = np.array(objectives)
        self.means_ = {p: joint.means[p] for p in roles}
        self.weights_ = {p: W[p] / joint.scales[p][:, None] for p in roles}

    def _encode(self, values: Any, view: str) -> Any:
        return affine(values, self.means_[view], self.weights_[view])
