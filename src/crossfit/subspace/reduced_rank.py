"""Reduced-rank regression: prediction of the directions of a view that the other can predict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from crossfit._arguments import integer
from crossfit.subspace import cards
from crossfit.subspace._linalg import Matrix, eigh, fix_signs, kept_components
from crossfit.subspace.ridge_map import RidgeMap

__all__ = ["ReducedRank"]


class ReducedRank(RidgeMap):
    """Reduced-rank regression of one view on the other, and comparison of the predicted directions.

    With the ridge map ``W = (S_xx + r I)⁻¹ S_xz``, ``r = reg * mean variance of x``, and the k
    leading right singular vectors V of its fitted values, that is, the leading eigenvectors of
    ``W' S_xx W``, an x is compared with a z by the cosine of ``(x - mean) W V`` and
    ``(z - mean) V``. W V V' is the map of rank k whose predictions are the closest to those of W,
    and without a ridge to z [1]_. In the other direction the roles are exchanged; with both, the
    mean of the two cosines is taken.

    Parameters
    ----------
    n_components : int, optional
        Number k of directions per predicted view; by default as many as can be predicted, and the
        scores are those of `RidgeMap` without the directions that cannot.
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
    maps_ : dict of str to array of shape (d, n_components)
        W V, by the role that is predicted from.
    bases_ : dict of str to array of shape (d, n_components)
        V, by the role that is predicted.
    means_ : dict of str to array of shape (d,)
        Training means, by role.
    n_components_ : int
        Dimensions of the common space: k, or the sum over both directions.

    See Also
    --------
    RidgeMap : Predicts all directions.
    CCA : Takes the directions that correlate the most, whatever their variance.

    Notes
    -----
    Costs O(n d² + d³), where d is the number of columns of both views together. For a view with
    more columns than items, and more than 1024, d is the number of items. Rows are read in chunks.

    References
    ----------
    .. [1] A. J. Izenman, Reduced-rank regression for the multivariate linear model, Journal of
           Multivariate Analysis 5, 1975.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit.subspace import ReducedRank
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(50, 4))
    >>> Z = X[:, :1] @ rng.normal(size=(1, 3))
    >>> mapped, targets = ReducedRank(1, "forward", reg=1e-9).fit(X, Z).transform(X, Z)
    >>> mapped.shape, bool(np.allclose(mapped, targets))
    ((50, 1), True)
    """

    card = cards.REDUCED_RANK

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **RidgeMap._parameter_constraints,
        "n_components": [integer(1), None],
    }

    def __init__(
        self,
        n_components: int | None = None,
        direction: str = "both",
        reg: float | Mapping[str, float] = 0.1,
        *,
        views: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(direction, reg, views=views)
        self.n_components = n_components

    def _basis(self, W: Matrix, variances: Matrix) -> Matrix | None:
        values, vectors = eigh(W.T @ variances @ W)  # ascending
        rank = int((values > 1e-12 * values.max()).sum())
        k = kept_components(self, max(1, rank))
        return fix_signs([vectors[:, ::-1][:, :k]])[0]
