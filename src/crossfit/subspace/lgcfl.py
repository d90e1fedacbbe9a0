"""Label regression with group sparsity, inspired by LGCFL (experimental)."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import integer, mapping_of, real
from crossfit._arrays import as_array
from crossfit._warnings import warn
from crossfit.base import CrossModalEstimator
from crossfit.subspace import cards
from crossfit.subspace._joint import indicator, joint_covariance
from crossfit.subspace._linalg import (
    affine,
    feature_weight,
    irls21,
    ridge_solve,
)
from crossfit.views import Views

__all__ = ["LGCFL"]

LABELS = "label indicator"

# Types in which the group numbers of columns may be given.
_NUMBERS = (np.ndarray, list, tuple)


class LGCFL(CrossModalEstimator):
    """Label regression with group sparsity, inspired by local group based feature learning (LGCFL).

    .. warning:: **Experimental.** Only the abstract of the published method (Kang et al., 2015)
       was available: supervised, for paired and unpaired data, with a "local group-based priori"
       that treats features in blocks. The objective below is our guess. Do not report its results
       as those of the published method.

    ``min ‖XU - Y‖² + ‖ZV - Y‖² + l1 Σ_g ‖U_g‖_F + l2 Σ_g ‖V_g‖_F``

    with class indicators Y and groups g of features (columns of X, rows of U), which are switched
    on and off together. It is solved by iteratively reweighted least squares:
    ``U ← (X'X + l1 R)⁻¹ X'Y`` with ``R = diag(1 / (2 ‖U_g(i)‖_F))``. The two views are fitted
    independently, so pairs are not used.

    Parameters
    ----------
    l1, l2 : float, optional
        Weight of the group norms of the first and the second view; suitable values depend on the
        number of rows n. By default, a tenth of the smallest weight that would switch off all
        features of the view, ``2 max_g ‖(X'Y)_g‖_F``.
    groups : int, array of int, mapping of str to these, or None
        Groups of features: the size of blocks of consecutive columns, or the group number of each
        column; for both views, or for each by role (or view name). By default, each column is
        its own group.
    max_iter : int, default=30
        Maximum number of steps per view.
    tol : float, default=1e-06
        Stop if a step decreases the objective by less than this share.
    standardize : bool, default=True
        Divide every column by its training standard deviation first.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    l1_, l2_ : float
        Weight of the group norms of the first and the second view.
    classes_ : array of shape (n_classes,)
        Classes, or columns of the indicator, one per dimension of the common space.
    objective_ : array of shape (n_iter + 1,)
        The objective of both views with smoothed norms at the start, which is a ridge solution,
        and after every step.
    weights_ : dict of str to array of shape (d, n_classes)
        By role; ``transform`` is ``(x - mean) @ weights``.
    means_ : dict of str to array of shape (d,)
        Training means by role.

    See Also
    --------
    LCFS : Label regression that couples the views.

    Notes
    -----
    Rows are read once, at O(n d²) for the covariances; each step costs O(d³) for d columns.
    With groups of one column, ``LGCFL(2 l, 2 l)`` is ``LCFS(l, l2=0)``.

    References
    ----------
    C. Kang, S. Xiang, S. Liao, C. Xu and C. Pan, Learning consistent feature representation for
    cross-modal multimedia retrieval, IEEE Trans. Multimedia 17, 2015.
    """

    card = cards.LGCFL

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "l1": [real(0, closed="left"), None],
        "l2": [real(0, closed="left"), None],
        "groups": [integer(1), *_NUMBERS, mapping_of(integer(1), *_NUMBERS, None), None],
        "max_iter": [integer(1)],
        "tol": [real(0, closed="left")],
        "standardize": ["boolean"],
    }

    def __init__(
        self,
        l1: float | None = None,
        l2: float | None = None,
        *,
        groups: Any = None,
        max_iter: int = 30,
        tol: float = 1e-6,
        standardize: bool = True,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.l1 = l1
        self.l2 = l2
        self.groups = groups
        self.max_iter = max_iter
        self.tol = tol
        self.standardize = standardize
        self.views = views

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        group = {role: self._group_numbers(role) for role in views.names}
        assert y is not None
        self.classes_, Y = indicator(self, y)
        joint = joint_covariance(self, views, {LABELS: Y}, standardize=self.standardize, apart=True)
        n = joint.n - 1
        YY = n * np.trace(joint(LABELS))

        of_views: list[list[float]] = []
        self.means_ = {role: joint.means[role] for role in views.names}
        self.weights_ = {}
        weights = []
        for role, given in zip(views.names, (self.l1, self.l2)):
            XX, XY, g = n * joint(role), n * joint(role, LABELS), group[role]
            weight = feature_weight(XY, g) if given is None else float(given)
            weights.append(weight)
            first = np.unique(g, return_index=True)[1]
            W = ridge_solve(XX, np.full(len(XX), weight / 2), XY)
            objectives: list[float] = []
            while True:
                R = irls21(W, groups=g)
                # irls21 is 1 / (2 norm), for every row of a group.
                norms = np.sum(0.5 / R[first])
                residual = np.sum(W * (XX @ W - 2 * XY)) + YY
                objectives.append(float(residual + weight * norms))
                if len(objectives) > self.max_iter or (
                    len(objectives) > 1
                    and objectives[-2] - objectives[-1] <= self.tol * abs(objectives[-2])
                ):
                    break
                W = ridge_solve(XX, weight * R, XY)
            if np.sum(W * (XX @ W)) < 1e-6 * YY:
                warn(
                    f"LGCFL: no feature of view {self._view_name(role)!r} is left; decrease the "
                    f"weight {weight}, which is too large for its units"
                )
            self.weights_[role] = W / joint.scales[role][:, None]
            of_views.append(objectives)
        self.l1_, self.l2_ = weights
        # The view that converges first keeps its last value.
        steps = max(map(len, of_views))
        padded = [part + part[-1:] * (steps - len(part)) for part in of_views]
        self.objective_ = np.sum(padded, axis=0)

    def _encode(self, values: Any, view: str) -> Any:
        return affine(values, self.means_[view], self.weights_[view])

    def _validate_params(self) -> None:
        super()._validate_params()
        given = self.groups.values() if isinstance(self.groups, Mapping) else [self.groups]
        for groups in given:
            if isinstance(groups, _NUMBERS):
                numbers = as_array(groups, "groups of LGCFL")
                if numbers.ndim != 1 or numbers.size == 0 or numbers.dtype.kind not in "iu":
                    raise ValueError(
                        "The 'groups' parameter of LGCFL must be a positive block size or "
                        f"integers, one for each column. Got {groups!r} instead."
                    )

    def _group_numbers(self, role: str) -> NDArray[np.intp]:
        d = self.n_features_in_[role]
        groups = self._of_view("groups", role)
        if groups is None:
            return np.arange(d)
        if isinstance(groups, Integral):
            return np.arange(d) // min(int(groups), d)
        numbers = np.asarray(groups)
        if len(numbers) != d:
            raise ValueError(
                f"The 'groups' parameter of LGCFL must be a positive block size or {d} integers "
                f"for {role!r}, one for each column. Got {len(numbers)} instead."
            )
        return np.unique(numbers, return_inverse=True)[1]
