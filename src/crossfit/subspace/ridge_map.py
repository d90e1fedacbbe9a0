"""Ridge regression of one view on the other, in one direction or in both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from crossfit._arguments import mapping_of, one_of, real
from crossfit.subspace import cards
from crossfit.subspace._joint import joint_covariance
from crossfit.subspace._linalg import Matrix, affine, centred, unit_rows
from crossfit.subspace._weighted import Weighted
from crossfit.views import Views, is_tensor

__all__ = ["RidgeMap"]


class RidgeMap(Weighted):
    """Predict one view from the other by ridge regression, and compare in the predicted space.

    The map from x to z is ``W = (S_xx + r I)⁻¹ S_xz`` with ``r = reg * mean variance of x``. An x
    is compared with a z by the cosine of ``(x - mean) W`` and ``z - mean``; in the other direction,
    of ``x - mean`` and the prediction from z; with both, by the mean of the two cosines.

    Parameters
    ----------
    direction : {"both", "forward", "backward"}, default="both"
        ``"forward"`` predicts the second role (texts) from the first (pictures), ``"backward"`` the
        first from the second, and ``"both"`` averages.
    reg : float or mapping of str to float, default=0.1
        Ridge as a share of the mean variance of the view from which the other is predicted, also
        by role, ``{"image": 1.0, "text": 0.1}``.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.

    Attributes
    ----------
    maps_ : dict of str to array of shape (d, d_other)
        The maps W that are used, by the role that they predict from.
    bases_ : dict of str to array of shape (d, n_items)
        Of predicted views with more columns than items, and more than 1024: an orthonormal basis of
        the training items, whose coordinates are predicted.
    means_ : dict of str to array of shape (d,)
        Training means, by role.
    n_components_ : int
        Dimensions of the common space: the columns of the predicted views.

    See Also
    --------
    CCA : Uses both directions at once.
    ReducedRank : Predicts few directions of the other view.

    Notes
    -----
    Regression shrinks towards what many targets share, so that predictions lie close to few of
    them; a hub correction such as ``RetrievalScorer("nnn")`` helps.
    Costs O(n d² + d³), where d is the number of columns of both views together. For a view with
    more columns than items, and more than 1024, d is the number of items. Rows are read in chunks.

    References
    ----------
    A. E. Hoerl and R. W. Kennard, Ridge regression: biased estimation for nonorthogonal problems,
    Technometrics 12, 1970.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit.subspace import RidgeMap
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(50, 4))
    >>> Z = X @ rng.normal(size=(4, 3))
    >>> mapped, targets = RidgeMap("forward", reg=1e-9).fit(X, Z).transform(X, Z)
    >>> bool(np.allclose(mapped, targets))
    True
    """

    card = cards.RIDGE_MAP

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "direction": [one_of("both", "forward", "backward")],
        "reg": [real(0, closed="left"), mapping_of(real(0, closed="left"))],
    }

    def __init__(
        self,
        direction: str = "both",
        reg: float | Mapping[str, float] = 0.1,
        *,
        views: Mapping[str, str] | None = None,
    ) -> None:
        self.direction = direction
        self.reg = reg
        self.views = views

    def _fit(
        self, views: Views, y: NDArray[Any] | None, weights: NDArray[np.float64] | None = None
    ) -> None:
        x, z = views.names
        least = min(self._ridge(x), self._ridge(z))
        S = joint_covariance(self, views, ridge=least, weights=weights)
        self.means_ = {role: S.mean(role) for role in (x, z)}
        sources = {"forward": [x], "backward": [z], "both": [x, z]}[self.direction]
        self.maps_, self.bases_ = {}, {}
        for source in sources:
            target = z if source == x else x
            variances = S(source)
            ridge = self._ridge(source) * np.trace(variances) / self.n_features_in_[source]
            W = scipy.linalg.solve(
                variances + ridge * np.eye(len(variances)), S(source, target), assume_a="pos"
            )
            basis = self._basis(W, variances)
            self.maps_[source] = S.weights(source, W if basis is None else W @ basis)
            if basis is not None:
                self.bases_[target] = S.weights(target, basis)
            elif target in S.spans:
                self.bases_[target] = S.weights(target, np.eye(len(S(target))))
        self.n_components_ = sum(W.shape[1] for W in self.maps_.values())

    def _basis(self, W: Matrix, variances: Matrix) -> Matrix | None:
        """Return the directions of the target that are predicted; None for all of them."""
        return None

    def _ridge(self, role: str) -> float:
        return float(self._of_view("reg", role))

    def _encode(self, values: Any, view: str) -> Any:
        parts = []
        for source, W in self.maps_.items():
            mean, weights = self.means_[view], W if source == view else self.bases_.get(view)
            part = centred(values, mean) if weights is None else affine(values, mean, weights)
            parts.append(unit_rows(part) if len(self.maps_) > 1 else part)
        if len(parts) == 1:
            return parts[0]
        if is_tensor(values):
            import torch

            return torch.cat(parts, dim=1)
        return np.hstack(parts)
